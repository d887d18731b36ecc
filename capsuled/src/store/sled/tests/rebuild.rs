//! Copies and rebuilds while commits go on, and cut short at every step.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::super::super::MAX_RECORD;
use super::super::super::disk::{self, DiskSync};
use super::super::compact::{COMPACT, one_by_one};
use super::super::{Compactor, LiveCopy as _};
use super::*;

static GOES_ON: AtomicBool = AtomicBool::new(false);

/// Fails the sync of a number, and keeps the state directory as it is before each one.
#[derive(Debug, Default)]
struct Steps {
    root: PathBuf,
    seen: Option<PathBuf>,
    syncs: AtomicUsize,
    fails: AtomicUsize,
}

impl DiskSync for Steps {
    fn contents(&self, file: &File, path: &Path) -> io::Result<()> {
        self.all(file, path)
    }

    fn all(&self, _file: &File, _path: &Path) -> io::Result<()> {
        let step = self.syncs.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(seen) = &self.seen {
            copy_state(&self.root, &seen.join(step.to_string()));
        }
        if step == self.fails.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        Ok(())
    }
}

fn stepping(dir: &Path, steps: Steps) -> (SledStore, Arc<Steps>) {
    let steps = Arc::new(Steps { root: dir.to_path_buf(), ..steps });
    let sync = Arc::clone(&steps) as Arc<dyn DiskSync>;
    let state = StateDir::open(dir).unwrap();
    let store = SledStore::open_with(&state, now(), sync, &mut |_, _, _| {}).unwrap().store;
    steps.syncs.store(0, Ordering::Relaxed);
    (store, steps)
}

/// A closed store with dead space, and what it holds.
fn churned(seed: u64) -> (tempfile::TempDir, Model) {
    let (dir, mut model) = (tempfile::tempdir().unwrap(), Model::new());
    let store = open(dir.path()).unwrap().store;
    churn(&store, &mut model, seed, 40);
    store.close().unwrap();
    (dir, model)
}

/// Sets the flag also when its thread panics, so that no other waits for ever.
struct AtTheEnd<'a>(&'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_rebuild_keeps_everything_and_gives_space_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap().store;
    let mut model = Model::new();
    let fat = vec![7; MAX_RECORD - 16];
    for round in 0..40_u64 {
        let changes: Vec<Change> =
            (0..100).map(|key: u32| Change::put(Table::Task, key.to_be_bytes(), &*fat)).collect();
        store.commit(&Batch { changes, high_water: round }).unwrap();
    }
    let changes = (0..100).map(|key: u32| Change::delete(Table::Task, key.to_be_bytes())).collect();
    store.commit(&Batch { changes, high_water: 40 }).unwrap();
    churn(&store, &mut model, 1, 40);
    let before = store.size_on_disk().unwrap();
    let done = store.compact(&GOES_ON).unwrap();
    let after = store.size_on_disk().unwrap();
    println!("{done:?}");
    assert!(after * 2 < before, "{before} to {after}");
    assert!(everything(&store).unwrap() == model);
    assert!(!dir.path().join(COMPACT).exists());

    // It goes on as before, also a second time and after a start.
    churn(&store, &mut model, 2, 20);
    store.compact(&GOES_ON).unwrap();
    churn(&store, &mut model, 3, 20);
    let high_water = store.high_water();
    store.close().unwrap();
    drop(store);
    let opened = open(dir.path()).unwrap();
    assert_eq!(opened.found.high_water, high_water);
    assert!(everything(&opened.store).unwrap() == model);
}

#[test]
fn a_rebuild_under_commits_misses_none() {
    let (dir, mut model) = churned(4);
    let store = open(dir.path()).unwrap().store;
    let rebuilds = 6;
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (store, ended) = (&store, &ended);
        let reader = scope.spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                everything(store).unwrap();
            }
        });
        let rebuilding = scope.spawn(move || {
            let _ended = AtTheEnd(ended);
            let mut done = 0;
            while done < rebuilds {
                match store.compact(&GOES_ON) {
                    Ok(_) => done += 1,
                    Err(StoreError::Io { source, .. })
                        if source.kind() == io::ErrorKind::ResourceBusy => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let mut seed = 100;
        while !rebuilding.is_finished() {
            churn(store, &mut model, seed, 5);
            seed += 1;
        }
        rebuilding.join().unwrap();
        reader.join().unwrap();
    });
    assert!(everything(&store).unwrap() == model);
    drop(store);
    assert!(everything(&open(dir.path()).unwrap().store).unwrap() == model);
}

#[test]
fn a_copy_under_commits_is_what_one_commit_left() {
    let (dir, mut model) = churned(5);
    let store = open(dir.path()).unwrap().store;
    let ended = AtomicBool::new(false);
    let (copy, of) = std::thread::scope(|scope| {
        let copying = scope.spawn(|| {
            let _ended = AtTheEnd(&ended);
            let mut copy = Model::new();
            let of = store
                .copy(&GOES_ON, &mut |record| {
                    let key = (record.table, record.key.to_vec());
                    match record.value {
                        Some(value) => copy.insert(key, value.to_vec()),
                        None => copy.remove(&key),
                    };
                    Ok(())
                })
                .unwrap();
            (copy, of)
        });
        let mut seed = 200;
        let mut histories = vec![(store.high_water(), model.clone())];
        while !ended.load(Ordering::Relaxed) {
            churn(&store, &mut model, seed, 1);
            histories.push((store.high_water(), model.clone()));
            seed += 1;
        }
        let (copy, of) = copying.join().unwrap();
        // An empty batch shares its number with the one before it and changes nothing.
        let (_, then) = histories.iter().find(|(high, _)| *high == of.high_water).unwrap();
        assert!(copy == *then, "at change {}", of.high_water);
        (copy, of)
    });
    assert_eq!(of.sum.0, copy.len() as u64);
    assert_eq!(of.records.values().sum::<u64>(), copy.len() as u64);
}

#[test]
fn killed_at_any_sync_of_a_rebuild_one_whole_queue_is_left() {
    let (dir, model) = churned(6);
    let seen = tempfile::tempdir().unwrap();
    let steps = Steps { seen: Some(seen.path().to_path_buf()), ..Steps::default() };
    let (store, steps) = stepping(dir.path(), steps);
    for left in disk::entries(seen.path()).unwrap() {
        fs::remove_dir_all(left.path()).unwrap();
    }
    store.compact(&GOES_ON).unwrap();
    let all = steps.syncs.load(Ordering::Relaxed);
    assert!(all > 6, "{all} steps");
    drop(store);
    for step in 1..=all {
        let state = seen.path().join(step.to_string());
        let store = open(&state).unwrap_or_else(|error| panic!("step {step}: {error}")).store;
        assert!(everything(&store).unwrap() == model, "step {step}");
        assert!(!state.join(COMPACT).exists(), "step {step}");
    }
}

#[test]
fn a_failed_sync_of_a_rebuild_loses_nothing() {
    let mut step = 1;
    loop {
        let (dir, mut model) = churned(7);
        let (store, steps) = stepping(dir.path(), Steps::default());
        steps.fails.store(step, Ordering::Relaxed);
        let rebuilt = store.compact(&GOES_ON);
        steps.fails.store(0, Ordering::Relaxed);
        let commit = put(Table::Meta, "after", "rebuild", store.high_water() + 1);
        match store.commit(&commit) {
            Ok(()) => {
                model.insert((Table::Meta, b"after".to_vec()), b"rebuild".to_vec());
            }
            Err(StoreError::Poisoned { .. }) if rebuilt.is_err() => {}
            Err(error) => panic!("step {step}: {error}"),
        }
        drop(store);
        let opened = open(dir.path()).unwrap_or_else(|error| panic!("step {step}: {error}"));
        assert!(everything(&opened.store).unwrap() == model, "step {step}");
        if rebuilt.is_ok() {
            break;
        }
        step += 1;
    }
    assert!(step > 6, "{step} steps");
}

#[test]
fn where_names_cannot_be_exchanged_three_renames_do_it() {
    let (dir, model) = churned(8);
    let root = dir.path().canonicalize().unwrap();
    let seen = tempfile::tempdir().unwrap();
    let steps =
        Steps { root: root.clone(), seen: Some(seen.path().to_path_buf()), ..Steps::default() };
    let compact = root.join(COMPACT);
    disk::copy_tree(&root.join("queue"), &compact).unwrap();
    fs::write(compact.join("new"), "").unwrap();
    let state = StateDir::open(&root).unwrap();
    one_by_one(&state, &compact, &steps).unwrap();
    assert!(root.join("queue/new").exists() && !compact.join("new").exists());
    for step in 1..=3 {
        let state = seen.path().join(step.to_string());
        let opened = open(&state).unwrap_or_else(|error| panic!("step {step}: {error}"));
        assert!(everything(&opened.store).unwrap() == model, "step {step}");
    }
}

#[test]
fn a_stopped_rebuild_changes_nothing() {
    let (dir, model) = churned(9);
    let store = open(dir.path()).unwrap().store;
    let stopped = store.compact(&AtomicBool::new(true));
    assert!(matches!(stopped, Err(StoreError::Stopped)), "{stopped:?}");
    assert!(!dir.path().join(COMPACT).exists());
    assert!(everything(&store).unwrap() == model);
}

/// The design's promise for ten million, at a size that a test may take: tasks come and go, a
/// thousand are there. `CAPSULE_CHURN` sets how many come.
#[test]
fn churn_with_a_thousand_records_stays_small() {
    let tasks: u64 =
        std::env::var("CAPSULE_CHURN").ok().and_then(|text| text.parse().ok()).unwrap_or(200_000);
    let (live, group) = (1000, 500);
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path()).unwrap().store);
    let compactor = Compactor::start(&store).unwrap();
    let value = vec![7; 500];
    let mut largest = 0;
    for first in (0..tasks).step_by(group) {
        let mut changes = Vec::new();
        for id in first..first + group as u64 {
            changes.push(Change::put(Table::Task, id.to_be_bytes(), &*value));
            if let Some(old) = id.checked_sub(live) {
                changes.push(Change::delete(Table::Task, old.to_be_bytes()));
            }
        }
        store.commit(&Batch { changes, high_water: first + group as u64 }).unwrap();
        largest = largest.max(store.size_on_disk().unwrap());
    }
    let size = store.size_on_disk().unwrap();
    println!("{tasks} tasks: {} MB, at most {} MB", size >> 20, largest >> 20);
    assert!(largest < 256 << 20, "{largest} bytes");
    drop(compactor);
    assert_eq!(everything(&*store).unwrap().len() as u64, live);
}
