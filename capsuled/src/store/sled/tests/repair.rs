//! Keeping what can be kept, and never more.

use super::super::super::record;
use super::super::database::Database;
use super::super::repair::{REPAIRED, repair};
use super::super::{Repaired, verify};
use super::*;

const BATCHES: u64 = 60;

/// A stopped store with a snapshot, and what it holds.
fn stopped() -> (tempfile::TempDir, Model) {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::new();
    for seed in 0..2 {
        let store = open(dir.path()).unwrap().store;
        churn(&store, &mut model, seed, BATCHES);
        store.close().unwrap();
    }
    (dir, model)
}

fn state(dir: &Path) -> StateDir {
    StateDir::open(dir).unwrap()
}

fn repaired(dir: &Path) -> (Repaired, Opened) {
    let repaired = repair(&state(dir), now()).unwrap();
    assert!(verify(&state(dir)).unwrap().is_whole());
    let opened = open(dir).unwrap();
    assert_eq!(opened.found.high_water, repaired.high_water);
    assert_eq!(opened.found.records, repaired.kept);
    let left = |name: &str| dir.join(name).exists();
    assert!(!["queue.copy", "queue.copy-bare", "queue.partial", REPAIRED].into_iter().any(left));
    (repaired, opened)
}

#[test]
fn a_whole_store_verifies_and_is_not_touched() {
    let (dir, model) = stopped();
    let before = fs::read(dir.path().join("queue/db")).unwrap();
    let report = verify(&state(dir.path())).unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.records.values().sum::<u64>(), model.len() as u64);
    assert!(before == fs::read(dir.path().join("queue/db")).unwrap());
    assert!(!dir.path().join("queue.verify").exists());
    let high_water = open(dir.path()).unwrap().found.high_water;
    assert_eq!(report.high_water, Some(high_water));
}

#[test]
fn repairing_a_whole_store_keeps_everything_and_its_numbers() {
    let (dir, model) = stopped();
    let found = open(dir.path()).unwrap().found;
    let (repaired, opened) = repaired(dir.path());
    assert_eq!((repaired.lost, repaired.high_water), (Some(0), found.high_water));
    assert_eq!((opened.found.uuid, opened.found.created), (found.uuid, found.created));
    assert!(everything(&opened.store).unwrap() == model);
    let aside = repaired.aside.unwrap();
    assert!(aside.ends_with("queue.damaged-20261123T080000Z"), "{}", aside.display());
    assert!(aside.join("db").is_file());
}

#[test]
fn one_bad_record_costs_one_record() {
    let (dir, model) = stopped();
    let (table, key) = model.keys().nth(model.len() / 2).unwrap().clone();
    let database = Database::open(dir.path(), &dir.path().join("queue")).unwrap();
    let mut batch = ::sled::Batch::default();
    batch.insert(record::disk_key(table, &key), b"garbage".as_slice());
    database.write(batch).unwrap();
    drop(database);

    let report = verify(&state(dir.path())).unwrap();
    assert!(!report.is_whole() && report.damage[0].contains("checksum of record"), "{report:?}");
    let refused = open(dir.path()).unwrap_err();
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused:?}");
    let (repaired, opened) = repaired(dir.path());
    assert_eq!(repaired.lost, Some(1));
    let mut wanted = model;
    wanted.remove(&(table, key));
    assert!(everything(&opened.store).unwrap() == wanted);
}

#[test]
fn a_damaged_snapshot_costs_nothing() {
    let (dir, model) = stopped();
    let snapshot = fs::read_dir(dir.path().join("queue"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("snap."))
        .unwrap();
    fs::write(snapshot, [7; 100]).unwrap();
    assert!(!verify(&state(dir.path())).unwrap().is_whole());
    assert!(open(dir.path()).is_err());
    let (repaired, opened) = repaired(dir.path());
    assert_eq!(repaired.lost, Some(0));
    assert!(everything(&opened.store).unwrap() == model);
}

#[test]
fn after_any_damage_the_numbers_go_on_and_nothing_is_made_up() {
    for seed in 0..12 {
        let (dir, model) = stopped();
        let reached = open(dir.path()).unwrap().found.high_water;
        let queue = dir.path().join("queue");
        let mut bytes = fs::read(queue.join("db")).unwrap();
        let written: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        let at = written[Random(seed).below(written.len())];
        bytes[at] ^= 0x10;
        fs::write(queue.join("db"), bytes).unwrap();
        if open(dir.path()).is_ok() {
            continue;
        }
        let (repaired, opened) = repaired(dir.path());
        assert!(repaired.high_water > reached, "seed {seed}: {repaired:?}");
        assert_eq!(repaired.durable_to, reached, "seed {seed}");
        assert!(repaired.kept_to <= Some(reached), "seed {seed}: {repaired:?}");
        let kept = everything(&opened.store).unwrap();
        println!("seed {seed}: kept {} of {}", kept.len(), model.len());
        churn(&opened.store, &mut Model::new(), seed, 5);
        drop(opened);
        open(dir.path()).unwrap();
    }
}

#[test]
fn without_its_manifest_a_store_can_be_repaired() {
    for manifest in [None, Some("scribble")] {
        let (dir, model) = stopped();
        let uuid = open(dir.path()).unwrap().found.uuid;
        let path = dir.path().join("MANIFEST");
        match manifest {
            Some(text) => fs::write(&path, text),
            None => fs::remove_file(&path),
        }
        .unwrap();
        assert!(open(dir.path()).is_err());
        assert!(!verify(&state(dir.path())).unwrap().is_whole());
        let (repaired, opened) = repaired(dir.path());
        assert_eq!((repaired.lost, opened.found.uuid), (Some(0), uuid));
        assert!(everything(&opened.store).unwrap() == model);
    }
}

#[test]
fn an_emptied_queue_becomes_an_empty_store_only_when_asked_to() {
    let (dir, _) = stopped();
    let reached = open(dir.path()).unwrap().found.high_water;
    fs::remove_dir_all(dir.path().join("queue")).unwrap();
    assert!(matches!(open(dir.path()), Err(StoreError::Emptied { .. })));
    assert_eq!(verify(&state(dir.path())).unwrap().damage.len(), 1);
    let (repaired, opened) = repaired(dir.path());
    assert_eq!((repaired.lost, repaired.aside), (None, None));
    assert!(repaired.high_water > reached);
    assert!(everything(&opened.store).unwrap().is_empty());
}

#[test]
fn a_repair_cut_short_between_its_renames_is_finished() {
    let (dir, model) = stopped();
    fs::rename(dir.path().join("queue"), dir.path().join(REPAIRED)).unwrap();
    let opened = open(dir.path()).unwrap();
    assert!(everything(&opened.store).unwrap() == model);
}

#[test]
fn a_repair_cut_short_earlier_can_be_run_again() {
    let (dir, model) = stopped();
    for left in ["queue.copy", "queue.copy-bare", "queue.partial", REPAIRED, "queue.verify"] {
        fs::create_dir(dir.path().join(left)).unwrap();
        fs::write(dir.path().join(left).join("db"), "half").unwrap();
    }
    assert!(verify(&state(dir.path())).unwrap().is_whole());
    let (_, opened) = repaired(dir.path());
    assert!(everything(&opened.store).unwrap() == model);
    drop(opened);
    fs::create_dir(dir.path().join("queue.copy")).unwrap();
    drop(open(dir.path()).unwrap());
    assert!(!dir.path().join("queue.copy").exists());
    let second = repair(&state(dir.path()), now()).unwrap().aside.unwrap();
    assert!(second.ends_with("queue.damaged-20261123T080000Z-2"), "{}", second.display());
}
