//! What the daemon finds on its disk: the MANIFEST of a store, and records.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};

use capsule_core::id::TaskId;
use capsule_core::task::Task;
use capsule_core::time::Timestamp;
use capsuled::engine::{self, Recovered};
use capsuled::schedule::{Schedule, Tick, TickKey};
use capsuled::store::{Batch, Change, MAX_KEY, MemoryStore, Store as _, Table, store_id};
use capsuled::work::Work;
use tempfile::TempDir;

use super::{number, piece};

/// A folder of this thread's own.
pub(super) fn scratch() -> PathBuf {
    thread_local! {
        static FOLDER: OnceCell<TempDir> = const { OnceCell::new() };
    }
    FOLDER.with(|folder| folder.get_or_init(|| tempfile::tempdir().unwrap()).path().to_owned())
}

/// A MANIFEST as it is, and with the checksum that it should have.
pub fn store_manifest(data: &[u8]) {
    let dir = scratch();
    let path = dir.join("MANIFEST");
    fs::write(&path, data).unwrap();
    read_or_refused(&dir);
    let mut body = data.to_vec();
    if !body.ends_with(b"\n") {
        body.push(b'\n');
    }
    let crc = crc32fast::hash(&body);
    body.extend_from_slice(format!("crc {crc:08x}\n").as_bytes());
    fs::write(&path, &body).unwrap();
    read_or_refused(&dir);
    fs::remove_file(&path).unwrap();
}

/// A refusal names the damage and what to do.
fn read_or_refused(dir: &Path) {
    if let Err(refused) = store_id(dir) {
        assert!(
            !refused.to_string().is_empty() && refused.hint().is_none_or(|hint| !hint.is_empty())
        );
    }
}

/// Records one after another (table, length of the key, length of the value, both), each of which
/// passed its checksum: a start takes them in or refuses them.
pub fn records(data: &[u8]) {
    let store = MemoryStore::new();
    let mut rest = data;
    let mut tasks = Vec::new();
    for _ in 0..64 {
        let Some((table, behind)) = rest.split_first() else { break };
        rest = behind;
        let table = Table::ALL[usize::from(*table) % Table::ALL.len()];
        let (key, value) = (number(&mut rest) % MAX_KEY, number(&mut rest) % 2048);
        let (key, value) = (piece(&mut rest, key), piece(&mut rest, value));
        if let (Table::Task, Some(id)) = (table, key.first_chunk::<8>()) {
            tasks.push(TaskId(u64::from_be_bytes(*id)));
        }
        record(key, value);
        let changes = vec![Change::put(table, key, value)];
        drop(store.commit(&Batch { changes, high_water: 1 }));
    }
    drop(Recovered::from_store(&store, 4));
    for id in tasks {
        if let Ok(Some(task)) = engine::task(&store, id) {
            drop(engine::attempts(&store, &task));
        }
        drop(engine::tombstone(&store, id));
    }
}

/// One record as each thing that it may be.
fn record(key: &[u8], value: &[u8]) {
    if let Ok(task) = minicbor::decode::<Task>(value) {
        let again = minicbor::to_vec(&task).unwrap();
        assert_eq!(minicbor::decode::<Task>(&again).ok().as_ref(), Some(&task));
        let _shown = (task.title().len(), task.expires(), task.status().word());
        let _checked = (task.spec.check(), task.spec.longest_run());
    }
    if let Ok(schedule) = minicbor::decode::<Schedule>(value) {
        let now = Timestamp(1_700_000_000_000_000);
        let _next = (schedule.rule.next_after(now), schedule.label());
        let _due = schedule.next.map(|next| schedule.due(next, now));
        let _more = (schedule.next_after(now), schedule.rule.prose());
    }
    drop(minicbor::decode::<Tick>(value));
    if let Some(tick) = TickKey::decode(key) {
        assert_eq!(tick.encode(), key);
    }
    if let Some(work) = Work::decode(value) {
        let _digest = work.digest();
    }
}
