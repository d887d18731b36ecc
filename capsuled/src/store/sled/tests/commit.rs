//! What a commit does before it answers, and what follows when that fails.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::super::super::disk::DiskSync;
use super::super::super::record;
use super::super::MANIFEST_COMMITS;
use super::super::database::Database;
use super::*;

/// Notes every sync, keeps the queue's files as they were at the last sync of the database's
/// contents, and fails when told to.
#[derive(Debug)]
struct Watch {
    queue: PathBuf,
    seen: PathBuf,
    syncs: Mutex<Vec<PathBuf>>,
    copying: AtomicBool,
    failing: AtomicBool,
}

impl Watch {
    fn of(dir: &Path, seen: &Path) -> Arc<Self> {
        Arc::new(Self {
            queue: dir.canonicalize().unwrap().join("queue"),
            seen: seen.join("seen"),
            syncs: Mutex::default(),
            copying: AtomicBool::new(false),
            failing: AtomicBool::new(false),
        })
    }

    fn note(&self, file: &File, path: &Path) -> io::Result<()> {
        let same = file.metadata()?.ino() == fs::metadata(path)?.ino();
        assert!(same, "{} is not the file that was synced", path.display());
        self.syncs.lock().push(path.to_path_buf());
        if self.failing.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        Ok(())
    }

    fn taken(&self) -> Vec<PathBuf> {
        std::mem::take(&mut self.syncs.lock())
    }
}

impl DiskSync for Watch {
    fn contents(&self, file: &File, path: &Path) -> io::Result<()> {
        if self.copying.load(Ordering::Relaxed) {
            fs::remove_dir_all(&self.seen).ok();
            super::super::super::disk::copy_tree(&self.queue, &self.seen).unwrap();
        }
        self.note(file, path)
    }

    fn all(&self, file: &File, path: &Path) -> io::Result<()> {
        self.note(file, path)
    }
}

fn watched(dir: &Path, seen: &Path) -> (SledStore, Arc<Watch>) {
    let watch = Watch::of(dir, seen);
    let state = StateDir::open(dir).unwrap();
    let opened = SledStore::open_with(
        &state,
        now(),
        Arc::clone(&watch) as Arc<dyn DiskSync>,
        &mut |_, _, _| {},
    );
    (opened.unwrap().store, watch)
}

#[test]
fn a_commit_syncs_the_file_that_already_holds_it_and_then_answers() {
    let (dir, seen) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, watch) = watched(dir.path(), seen.path());
    watch.copying.store(true, Ordering::Relaxed);
    for change in 1..20 {
        watch.taken();
        let key = format!("key {change}");
        store.commit(&put(Table::Task, &key, "value", change)).unwrap();
        assert_eq!(watch.taken(), [watch.queue.join("db")]);

        let at_sync = Database::open(dir.path(), &watch.seen).unwrap();
        let disk_key = record::disk_key(Table::Task, key.as_bytes());
        let stored = at_sync.get(&disk_key).unwrap().expect("the batch was in the file");
        assert_eq!(record::decode(&disk_key, &stored), Ok(b"value".as_slice()));
    }
}

#[test]
fn opening_syncs_every_file_and_folder_up_to_the_parent() {
    let (dir, seen) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = dir.path().canonicalize().unwrap();
    for _ in 0..2 {
        let (store, watch) = watched(dir.path(), seen.path());
        let syncs = watch.taken();
        let mut wanted: Vec<PathBuf> =
            fs::read_dir(&watch.queue).unwrap().map(|entry| entry.unwrap().path()).collect();
        wanted.extend([watch.queue.clone(), root.clone(), root.parent().unwrap().to_path_buf()]);
        for path in wanted {
            assert!(syncs.contains(&path), "{} was not synced: {syncs:?}", path.display());
        }
        drop(store);
    }
}

#[test]
fn pages_in_files_of_their_own_are_synced_before_the_database() {
    let (dir, seen) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, watch) = watched(dir.path(), seen.path());
    let blobs = watch.queue.join("blobs");
    fs::write(blobs.join("1"), "a page").unwrap();
    watch.taken();
    store.commit(&put(Table::Task, "key", "value", 1)).unwrap();
    assert_eq!(watch.taken(), [blobs.join("1"), blobs, watch.queue.join("db")]);
}

#[test]
fn the_largest_records_stay_in_the_database_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap().store;
    for round in 0..12u8 {
        let change = |n: u64| {
            let key = format!("{:0>256}", n * 7 + u64::from(round) * 128 % 1000);
            Change::put(Table::Task, key, vec![round; 4096 - 256])
        };
        let changes = (0..128).map(change).collect();
        store.commit(&Batch { changes, high_water: round.into() }).unwrap();
    }
    assert_eq!(fs::read_dir(dir.path().join("queue/blobs")).unwrap().count(), 0);
    assert!(store.size_on_disk().unwrap() >= 4 << 20);
}

#[test]
fn after_a_failed_sync_nothing_is_ever_committed_again() {
    let (dir, seen) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, watch) = watched(dir.path(), seen.path());
    store.commit(&put(Table::Task, "before", "value", 1)).unwrap();
    watch.failing.store(true, Ordering::Relaxed);
    let failed = store.commit(&put(Table::Task, "failed", "value", 2)).unwrap_err();
    assert!(matches!(failed, StoreError::Io { doing: "sync", .. }), "{failed:?}");
    assert_eq!(store.high_water(), 1);

    watch.failing.store(false, Ordering::Relaxed);
    watch.taken();
    let refused = store.commit(&put(Table::Task, "after", "value", 3)).unwrap_err();
    assert!(matches!(refused, StoreError::Poisoned { .. }), "{refused:?}");
    assert!(matches!(store.close(), Err(StoreError::Poisoned { .. })));
    assert_eq!(watch.taken(), Vec::<PathBuf>::new());
    assert!(store.get(Table::Task, b"before").unwrap().is_some());

    drop(store);
    let reopened = open(dir.path()).unwrap();
    assert!(reopened.store.get(Table::Task, b"before").unwrap().is_some());
    assert!(reopened.store.get(Table::Task, b"after").unwrap().is_none());
}

#[test]
fn a_refused_batch_leaves_the_store_working() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap().store;
    store.commit(&put(Table::Task, &"k".repeat(300), "value", 1)).unwrap_err();
    store.commit(&put(Table::Task, "key", "value", 1)).unwrap();
    store.commit(&put(Table::Task, "key", "value", 0)).unwrap_err();
    store.commit(&put(Table::Task, "key", "other", 2)).unwrap();
}

#[test]
fn the_manifest_follows_at_the_latest_after_its_number_of_commits() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap().store;
    let bound = || {
        let text = fs::read_to_string(dir.path().join("MANIFEST")).unwrap();
        let line = text.lines().find(|line| line.starts_with("low-bound")).unwrap();
        line.trim_start_matches("low-bound ").parse::<u64>().unwrap()
    };
    store.writer.lock().commits = MANIFEST_COMMITS - 2;
    store.commit(&put(Table::Task, "key", "value", 41)).unwrap();
    assert_eq!(bound(), 0);
    store.commit(&put(Table::Task, "key", "value", 42)).unwrap();
    assert_eq!(bound(), 42);
    assert_eq!(store.writer.lock().commits, 0);

    store.commit(&put(Table::Task, "key", "value", 43)).unwrap();
    assert_eq!(bound(), 42);
    let long_ago = std::time::Instant::now().checked_sub(super::super::MANIFEST_AGE).unwrap();
    store.writer.lock().written = long_ago;
    store.commit(&put(Table::Task, "key", "value", 44)).unwrap();
    assert_eq!(bound(), 44);

    store.commit(&put(Table::Task, "key", "value", 45)).unwrap();
    store.close().unwrap();
    assert_eq!(bound(), 45);
}

#[test]
fn readers_go_on_while_one_thread_commits() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap().store;
    store.commit(&put(Table::Task, "stable", "value", 1)).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(store.get(Table::Task, b"stable").unwrap().unwrap(), b"value");
                    let seen = everything(&store).unwrap();
                    assert_eq!(seen[&(Table::Task, b"stable".to_vec())], b"value");
                }
            });
        }
        for change in 2..200 {
            store.commit(&put(Table::Task, &format!("k{}", change % 50), "other", change)).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}
