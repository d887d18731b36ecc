//! Copying all records while commits go on.
//!
//! Commits note the keys they change while a copy is under way. The copy reads everything once,
//! then what changed meanwhile, again and again until little is left, and the last of it while no
//! commit runs: what it has then is exactly what one commit left.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use parking_lot::MutexGuard;
use uuid::Uuid;

use super::super::{StoreError, Table};
use super::audit::{Counts, HEADER_KEY};
use super::live::Live;
use super::{SledStore, Writer};

/// Changed keys that the last step, during which no commit runs, may find: a millisecond's work.
const FEW: usize = 256;

/// How often the copy runs after commits that are faster than it; then they wait for it.
const ROUNDS: usize = 16;

/// Where a copy goes. Of several entries of one key the last one holds; keys are those on disk.
pub(super) trait Sink {
    fn put(&mut self, key: &[u8], stored: &[u8]) -> Result<(), StoreError>;
    fn remove(&mut self, key: &[u8]) -> Result<(), StoreError>;
    /// All of one pass is told; the next may tell the same keys again.
    fn pass(&mut self) -> Result<(), StoreError>;
}

/// One record of a copy, or that it is gone again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied<'a> {
    /// The table it is in.
    pub table: Table,
    /// Its key inside the table.
    pub key: &'a [u8],
    /// Its value; `None`: deleted since it was told.
    pub value: Option<&'a [u8]>,
}

/// The commit that a copy is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOf {
    /// The store.
    pub uuid: Uuid,
    /// When the store was made.
    pub created: Timestamp,
    /// The last change in the copy.
    pub high_water: u64,
    /// How many records there are, and the sum of their hashes.
    pub sum: (u64, u64),
    /// Records in each table.
    pub records: Counts,
}

/// Takes each record of a copy.
pub type TakeCopied<'a> = dyn FnMut(Copied<'_>) -> Result<(), StoreError> + 'a;

/// A store that can be copied while it is written to.
pub trait LiveCopy: Send + Sync + std::fmt::Debug {
    /// Shows every record to `each`, a changed one several times, of which the last one holds.
    /// What was shown is then what one commit left: that one is returned. Commits go on meanwhile
    /// and wait only for the last few records. Ends with [`StoreError::Stopped`] soon after `stop`.
    fn copy(&self, stop: &AtomicBool, each: &mut TakeCopied<'_>) -> Result<CopyOf, StoreError>;
}

impl LiveCopy for SledStore {
    fn copy(&self, stop: &AtomicBool, each: &mut TakeCopied<'_>) -> Result<CopyOf, StoreError> {
        let copying = self.begin_copy()?;
        let mut told = Told { store: self, each };
        copying.most(&mut told, stop)?;
        let mut last = Vec::new();
        let of = {
            let mut writer = self.writing()?;
            for key in Copying::take_changed(&mut writer) {
                let stored = copying.live.database.get(&key)?;
                last.push((key, stored));
            }
            let header = writer.header;
            CopyOf {
                uuid: header.uuid,
                created: writer.manifest.created,
                high_water: header.high_water,
                sum: (header.sum.count, header.sum.hash),
                records: writer.tally.counts(),
            }
        };
        for (key, stored) in last {
            match stored {
                Some(stored) => told.put(&key, &stored)?,
                None => told.remove(&key)?,
            }
        }
        Ok(of)
    }
}

/// While it lives, commits note what they change.
pub(super) struct Copying<'a> {
    store: &'a SledStore,
    pub(super) live: Arc<Live>,
    _alone: MutexGuard<'a, ()>,
}

impl SledStore {
    /// Begins a copy; waits for another one to end.
    pub(super) fn begin_copy(&self) -> Result<Copying<'_>, StoreError> {
        let alone = self.copying.lock();
        let mut writer = self.writing()?;
        writer.changed = Some(BTreeSet::new());
        drop(writer);
        Ok(Copying { store: self, live: self.live(), _alone: alone })
    }

    /// Keeps commits from running; fails when an earlier one did.
    pub(super) fn writing(&self) -> Result<MutexGuard<'_, Writer>, StoreError> {
        let writer = self.writer.lock();
        if writer.poisoned {
            return Err(StoreError::Poisoned { dir: self.state.root().to_path_buf() });
        }
        Ok(writer)
    }
}

impl Copying<'_> {
    /// Copies everything, but for the few records that change meanwhile.
    pub(super) fn most(&self, sink: &mut dyn Sink, stop: &AtomicBool) -> Result<(), StoreError> {
        for stored in self.live.database.range(&[], None) {
            let (key, stored) = stored?;
            if stop.load(Ordering::Relaxed) {
                return Err(StoreError::Stopped);
            }
            if *key != *HEADER_KEY {
                self.store.body(&key, &stored)?;
                sink.put(&key, &stored)?;
            }
        }
        sink.pass()?;
        self.follow(sink)
    }

    /// Copies what changed, until little is left or commits are faster.
    pub(super) fn follow(&self, sink: &mut dyn Sink) -> Result<(), StoreError> {
        for _ in 0..ROUNDS {
            let changed = {
                let mut writer = self.store.writing()?;
                if writer.changed.as_ref().is_none_or(|changed| changed.len() <= FEW) {
                    return Ok(());
                }
                Self::take_changed(&mut writer)
            };
            self.again(changed, sink)?;
        }
        Ok(())
    }

    /// Copies these keys once more.
    pub(super) fn again(
        &self,
        changed: BTreeSet<Vec<u8>>,
        sink: &mut dyn Sink,
    ) -> Result<(), StoreError> {
        for key in changed {
            match self.live.database.get(&key)? {
                Some(stored) => sink.put(&key, &stored)?,
                None => sink.remove(&key)?,
            }
        }
        sink.pass()
    }

    /// The keys that commits changed since they were last taken.
    pub(super) fn take_changed(writer: &mut Writer) -> BTreeSet<Vec<u8>> {
        writer.changed.replace(BTreeSet::new()).unwrap_or_default()
    }
}

impl Drop for Copying<'_> {
    fn drop(&mut self) {
        self.store.writer.lock().changed = None;
    }
}

/// Tells records by table, key and value.
struct Told<'a, 'b> {
    store: &'a SledStore,
    each: &'a mut TakeCopied<'b>,
}

impl Told<'_, '_> {
    fn tell(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        let split = key.split_first();
        match split.and_then(|(prefix, key)| Some((Table::from_prefix(*prefix)?, key))) {
            Some((table, key)) => (self.each)(Copied { table, key, value }),
            None => Ok(()),
        }
    }
}

impl Sink for Told<'_, '_> {
    fn put(&mut self, key: &[u8], stored: &[u8]) -> Result<(), StoreError> {
        let body = self.store.body(key, stored)?;
        self.tell(key, Some(body))
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.tell(key, None)
    }

    fn pass(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}
