//! Tasks as records of the store.

use std::ops::ControlFlow;

use capsule_core::attempt::AttemptRecord;
use capsule_core::id::{AttemptNumber, TaskId};
use capsule_core::task::{Status, Task};
use capsule_core::time::Timestamp;
use minicbor::{Decode, Encode};

use super::EngineError;
use crate::store::{Batch, Change, KeyRange, Store, StoreError, Table};

/// The most attempts of one task that are kept, besides its last; the most that retries make, twice.
/// Only retries by hand and many restarts make more.
pub const ATTEMPTS_KEPT: u32 = 200;

/// What remains of a task that was removed or pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Tombstone {
    /// How it had ended.
    #[n(0)]
    pub status: Status,
    /// When it was removed.
    #[n(1)]
    pub removed: Timestamp,
}

/// Writes a task.
pub(super) fn put_task(task: &Task) -> Change {
    Change::put(Table::Task, task.id.0.to_be_bytes(), encode(task))
}

/// Writes an attempt that is no longer a task's last one.
pub(super) fn put_attempt(task: TaskId, attempt: &AttemptRecord) -> Change {
    Change::put(Table::Attempt, attempt_key(task, attempt.number), encode(attempt))
}

/// Takes a task and its attempts away.
pub(super) fn bury(task: &Task) -> impl Iterator<Item = Change> {
    let id = task.id;
    let attempts = stored_attempts(task).map(move |number| delete_attempt(id, number));
    std::iter::once(Change::delete(Table::Task, id.0.to_be_bytes())).chain(attempts)
}

/// The attempts of a task that have records of their own.
pub(super) fn stored_attempts(task: &Task) -> impl Iterator<Item = AttemptNumber> + use<> {
    (oldest_attempt(task.attempts).0..task.attempts.0).map(AttemptNumber)
}

/// The oldest attempt of which anything is kept when this one is the last.
pub fn oldest_attempt(last: AttemptNumber) -> AttemptNumber {
    AttemptNumber(last.0.saturating_sub(ATTEMPTS_KEPT).max(1))
}

/// Takes an attempt away.
pub(super) fn delete_attempt(task: TaskId, attempt: AttemptNumber) -> Change {
    Change::delete(Table::Attempt, attempt_key(task, attempt))
}

/// A record in the form that the store keeps: CBOR (RFC 8949), fields by number.
pub(super) fn encode<T: Encode<()>>(record: &T) -> Vec<u8> {
    // Room for a usual task, which would else be moved several times as it grows.
    let mut bytes = Vec::with_capacity(512);
    minicbor::encode(record, &mut bytes).expect("writing to memory does not fail");
    bytes
}

/// Reads one task.
pub fn task(store: &dyn Store, id: TaskId) -> Result<Option<Task>, EngineError> {
    store.get(Table::Task, &id.0.to_be_bytes())?.map(|bytes| decode(id, &bytes)).transpose()
}

/// Reads what remains of a removed task.
pub fn tombstone(store: &dyn Store, id: TaskId) -> Result<Option<Tombstone>, EngineError> {
    store.get(Table::Tombstone, &id.0.to_be_bytes())?.map(|bytes| decode(id, &bytes)).transpose()
}

/// All attempts of a task, oldest first.
pub fn attempts(store: &dyn Store, task: &Task) -> Result<Vec<AttemptRecord>, EngineError> {
    let (from, to) =
        (attempt_key(task.id, AttemptNumber(0)), attempt_key(task.id, AttemptNumber(u32::MAX)));
    let mut found = Vec::new();
    let mut failed = None;
    store.scan(Table::Attempt, KeyRange::between(&from, &to), &mut |_, value| {
        match decode(task.id, value) {
            Ok(attempt) => found.push(attempt),
            Err(error) => failed = Some(error),
        }
        if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    found.extend(task.last.clone());
    Ok(found)
}

/// The task under a key.
pub(super) fn decode_task(key: &[u8], value: &[u8]) -> Result<Task, EngineError> {
    decode(TaskId(number(key)), value)
}

const ID_FLOOR: &[u8] = b"id_floor";

/// Keeps a repaired store from giving an id again: every id that a lost task can have had is at
/// most `durable_to`, the last change that was durable before, because each task took one.
pub fn keep_ids(store: &dyn Store, durable_to: u64) -> Result<(), StoreError> {
    let changes = vec![Change::put(Table::Meta, ID_FLOOR, durable_to.to_be_bytes())];
    store.commit(&Batch { changes, high_water: store.high_water() + 1 })
}

/// Keeps every id up to this one from being given again.
pub(super) fn put_id_floor(last: TaskId) -> Change {
    Change::put(Table::Meta, ID_FLOOR, last.0.to_be_bytes())
}

/// The highest id that may not be given although nothing is known of it.
pub(super) fn id_floor(store: &dyn Store) -> Result<u64, StoreError> {
    Ok(store.get(Table::Meta, ID_FLOOR)?.map_or(0, |bytes| number(&bytes)))
}

pub(super) fn decode<T: for<'a> Decode<'a, ()>>(
    id: TaskId,
    bytes: &[u8],
) -> Result<T, EngineError> {
    minicbor::decode(bytes).map_err(|_| EngineError::Record(id))
}

/// The id that a key of a task or a tombstone is.
pub(super) fn number(key: &[u8]) -> u64 {
    key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn attempt_key(task: TaskId, attempt: AttemptNumber) -> [u8; 12] {
    let mut key = [0; 12];
    let (head, tail) = key.split_at_mut(8);
    head.copy_from_slice(&task.0.to_be_bytes());
    tail.copy_from_slice(&attempt.0.to_be_bytes());
    key
}
