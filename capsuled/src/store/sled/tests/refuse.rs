//! Stores that must not open, and why.

use std::os::unix::fs::PermissionsExt as _;

use super::super::super::record;
use super::super::audit::HEADER_KEY;
use super::super::database::Database;
use super::*;

/// A stopped store that ends at change 42.
fn stopped() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap().store;
    store.commit(&put(Table::Task, "first", "value", 41)).unwrap();
    store.commit(&put(Table::App, "second", "value", 42)).unwrap();
    store.close().unwrap();
    dir
}

fn refusal(dir: &Path) -> StoreError {
    let refused = open(dir).map(|opened| opened.found).unwrap_err();
    let again = open(dir).map(|opened| opened.found).unwrap_err();
    assert_eq!(refused.to_string(), again.to_string(), "a second try gives another answer");
    refused
}

#[test]
fn a_fresh_store_is_made_once_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let fresh = open(dir.path()).unwrap();
    assert!(fresh.found.fresh);
    assert_eq!(fresh.found.created, now());
    drop(fresh.store);
    let found = open(dir.path()).unwrap().found;
    assert!(!found.fresh);
    assert_eq!((found.uuid, found.created), (fresh.found.uuid, now()));
}

/// The names of the database's snapshots.
fn snapshots(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir.join("queue")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("snap."));
    names
}

#[test]
fn a_start_that_follows_one_that_was_cut_off_trusts_no_snapshot() {
    let dir = stopped();
    let opening = dir.path().join("queue/opening");
    // One that the database would take for its newest.
    let left = || fs::write(dir.path().join("queue/snap.00FFFFFFFFFFFFFF"), [7; 400]).unwrap();
    left();
    let trusted = open(dir.path()).map(|opened| opened.found);
    assert!(matches!(trusted, Err(StoreError::Damaged { .. })), "{trusted:?}");
    left();
    assert!(opening.exists(), "that start was cut off");
    let found = open(dir.path()).unwrap().found;
    assert_eq!(found.high_water, 42);
    assert!(!opening.exists());
    assert_eq!(snapshots(dir.path()).len(), 1, "the one that this start has made");
}

#[test]
fn the_start_tells_what_it_found() {
    let dir = stopped();
    let found = open(dir.path()).unwrap().found;
    assert_eq!((found.low_bound, found.high_water), (42, 42));
    assert_eq!(found.records, BTreeMap::from([(Table::Task, 1), (Table::App, 1)]));
}

#[test]
fn the_start_can_show_every_record_while_it_checks() {
    let dir = stopped();
    let mut seen = Model::new();
    let state = StateDir::open(dir.path()).unwrap();
    let opened = SledStore::open_and_visit(&state, now(), &mut |table, key, body| {
        seen.insert((table, key.to_vec()), body.to_vec());
    });
    assert_eq!(seen, everything(&opened.unwrap().store).unwrap());
    assert_eq!(seen.len(), 2);
}

#[test]
fn a_second_daemon_is_told_who_holds_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    let refused = open(dir.path()).unwrap_err();
    let us = std::process::id();
    assert!(matches!(refused, StoreError::Locked { by: Some(by), .. } if by == us), "{refused:?}");
    assert!(refused.to_string().contains(&format!("in use by process {us}")), "{refused}");
    drop(first);
    open(dir.path()).unwrap();
}

#[test]
fn an_emptied_queue_is_refused_and_stays_empty() {
    for part in ["queue", "queue/db"] {
        let dir = stopped();
        let path = dir.path().join(part);
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.unwrap();
        let refused = refusal(dir.path());
        assert!(matches!(refused, StoreError::Emptied { low_bound: 42, .. }), "{refused:?}");
        assert!(!path.exists(), "{part} was made again");
        assert!(refused.hint().unwrap().contains("capsuled db repair --state-dir "));
    }
}

#[test]
fn a_queue_that_was_replaced_by_a_fresh_one_is_refused() {
    let dir = stopped();
    let queue = dir.path().join("queue");
    fs::remove_dir_all(&queue).unwrap();
    drop(Database::open(dir.path(), &queue).unwrap());
    assert!(matches!(refusal(dir.path()), StoreError::Emptied { low_bound: 42, .. }));

    let other = stopped();
    fs::remove_dir_all(&queue).unwrap();
    fs::rename(other.path().join("queue"), &queue).unwrap();
    let refused = refusal(dir.path());
    assert!(refused.to_string().contains("belongs to store"), "{refused}");
}

#[test]
fn an_older_copy_of_the_queue_is_refused() {
    let dir = stopped();
    let older = dir.path().join("older");
    super::super::super::disk::copy_tree(&dir.path().join("queue"), &older).unwrap();
    let store = open(dir.path()).unwrap().store;
    store.commit(&put(Table::Task, "third", "value", 43)).unwrap();
    drop(store);
    fs::remove_dir_all(dir.path().join("queue")).unwrap();
    fs::rename(older, dir.path().join("queue")).unwrap();
    let refused = refusal(dir.path());
    assert!(
        matches!(refused, StoreError::RolledBack { found: 42, low_bound: 43, .. }),
        "{refused:?}"
    );
}

type Edit = fn(&mut ::sled::Batch, &[u8]);

#[test]
fn a_record_lost_or_back_again_is_refused_though_all_others_are_whole() {
    let key = record::disk_key(Table::Task, b"first");
    let edits: [(&str, Edit); 3] = [
        ("holds 1 records where 2 were written", |batch, key| batch.remove(key)),
        ("are not the ones last written", |batch, key| {
            batch.insert(key, record::encode(key, b"older"));
        }),
        ("holds 3 records where 2 were written", |batch, _| {
            let other = record::disk_key(Table::Tick, b"gone");
            batch.insert(other.as_slice(), record::encode(&other, b"value"));
        }),
    ];
    for (what, edit) in edits {
        let dir = stopped();
        let database = Database::open(dir.path(), &dir.path().join("queue")).unwrap();
        let mut batch = ::sled::Batch::default();
        edit(&mut batch, &key);
        database.write(batch).unwrap();
        drop(database);
        let refused = refusal(dir.path());
        assert!(refused.to_string().contains(what), "{refused}");
    }
}

#[test]
fn records_that_are_not_ours_or_newer_are_refused() {
    let cases: [(&[u8], Vec<u8>, &str); 4] = [
        (b"tfirst", b"garbage".to_vec(), "checksum of record tfirst does not fit"),
        (b"~key", record::encode(b"~key", b"v"), "record ~key has no table"),
        (b"tnew", newer(b"tnew"), "has format 9; this version knows formats up to 1"),
        (HEADER_KEY, record::encode(HEADER_KEY, b"short"), "the header of its queue is missing"),
    ];
    for (key, stored, what) in cases {
        let dir = stopped();
        let database = Database::open(dir.path(), &dir.path().join("queue")).unwrap();
        let mut batch = ::sled::Batch::default();
        batch.insert(key, stored);
        database.write(batch).unwrap();
        drop(database);
        let refused = refusal(dir.path());
        assert!(refused.to_string().contains(what), "{refused}");
    }
}

/// A whole record of a version that does not exist yet.
fn newer(key: &[u8]) -> Vec<u8> {
    let mut stored = record::encode(key, b"body");
    stored.truncate(stored.len() - 4);
    stored[0] = 9;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&u32::try_from(key.len()).unwrap().to_le_bytes());
    hasher.update(key);
    hasher.update(&stored);
    stored.extend_from_slice(&hasher.finalize().to_le_bytes());
    stored
}

#[test]
fn a_lost_manifest_is_refused_and_nothing_is_made() {
    let dir = stopped();
    fs::remove_file(dir.path().join("MANIFEST")).unwrap();
    let refused = refusal(dir.path());
    assert!(matches!(refused, StoreError::Missing { what: "MANIFEST", .. }), "{refused:?}");
    assert!(!dir.path().join("MANIFEST").exists());

    fs::remove_dir_all(dir.path().join("queue")).unwrap();
    assert!(matches!(refusal(dir.path()), StoreError::Missing { .. }), "the side files remain");
}

#[test]
fn a_creation_that_was_cut_short_begins_again() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    let path = dir.path().join("MANIFEST");
    let text = fs::read_to_string(&path).unwrap().replace("stage ready", "stage creating");
    let body = &text[..text.rfind("crc ").unwrap()];
    fs::write(&path, format!("{body}crc {:08x}\n", crc32fast::hash(body.as_bytes()))).unwrap();
    fs::write(dir.path().join("queue/db"), "half").unwrap();
    let opened = open(dir.path()).unwrap();
    assert!(opened.found.fresh);
}

/// Nothing else can fill a disk in a test; needs the right to mount.
#[test]
fn a_full_disk_is_named_and_the_reserve_opens_the_store_again() {
    let Some(disk) = SmallDisk::mount("48m") else {
        println!("SKIPPED: a small file system cannot be mounted here (not root?)");
        return;
    };
    let dir = disk.path().join("state");
    let opened = open(&dir).unwrap();
    assert!(opened.found.reserved);
    let store = opened.store;
    let failed = fill(&store);
    let acknowledged = store.high_water();
    assert!(acknowledged > 0);
    assert!(matches!(failed, StoreError::Full { .. }), "{failed:?}");
    assert!(failed.hint().unwrap().starts_with("see what is left: df -h "));
    let refused = store.commit(&put(Table::Task, "k", "v", acknowledged + 1)).unwrap_err();
    assert!(matches!(refused, StoreError::Poisoned { .. }), "{refused:?}");
    assert!(store.get(Table::Task, b"00000000 0").unwrap().is_some(), "reads go on");
    drop(store);

    fs::write(disk.path().join("ballast"), vec![7; 64 << 20]).unwrap_err();
    let opened = open(&dir).unwrap();
    assert!(!opened.found.reserved, "the reserve is in use");
    assert!(opened.found.high_water >= acknowledged);
    assert!(opened.found.records[&Table::Task] >= acknowledged * 64);
    let next = opened.found.high_water + 1;
    opened.store.commit(&put(Table::Meta, "a cancel", "still fits", next)).unwrap();
    drop(opened);

    disk.remount("size=128m");
    let opened = open(&dir).unwrap();
    assert!(opened.found.reserved);
    assert!(opened.store.get(Table::Meta, b"a cancel").unwrap().is_some());
}

/// Commits until it fails.
fn fill(store: &SledStore) -> StoreError {
    loop {
        let last = store.high_water();
        assert!(last < 1000, "the disk never filled");
        let change = |n| Change::put(Table::Task, format!("{last:08} {n}"), vec![7; 3000]);
        let batch = Batch { changes: (0..64).map(change).collect(), high_water: last + 1 };
        if let Err(error) = store.commit(&batch) {
            return error;
        }
    }
}

#[test]
fn a_read_only_file_system_is_named() {
    let Some(disk) = SmallDisk::mount("12m") else {
        println!("SKIPPED: a small file system cannot be mounted here (not root?)");
        return;
    };
    let dir = disk.path().join("state");
    drop(open(&dir).unwrap());
    disk.remount("ro");
    let refused = open(&dir).unwrap_err();
    assert!(matches!(refused, StoreError::ReadOnly { .. }), "{refused:?}");
}

struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().to_str().unwrap();
        if !run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", at]) {
            return None;
        }
        let disk = Self(dir);
        fs::set_permissions(disk.path(), fs::Permissions::from_mode(0o700)).unwrap();
        Some(disk)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn remount(&self, option: &str) {
        let option = format!("remount,{option}");
        assert!(run("mount", &["-o", &option, self.path().to_str().unwrap()]));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because a failed test still has its store open.
        run("umount", &["-l", self.path().to_str().unwrap()]);
    }
}

#[expect(clippy::disallowed_methods, reason = "mounting is no attempt, and only tests do it")]
fn run(program: &str, arguments: &[&str]) -> bool {
    let null = std::process::Stdio::null;
    std::process::Command::new(program)
        .args(arguments)
        .stdout(null())
        .stderr(null())
        .status()
        .is_ok_and(|status| status.success())
}
