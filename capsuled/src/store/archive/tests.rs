//! What goes in comes out, and nothing else does.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::disk::{self, DiskSync};
use super::super::{
    Batch, Change, KeyRange, LiveCopy as _, SledStore, StateDir, Store, StoreError, Table,
};
use super::*;

type Model = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

static GOES_ON: AtomicBool = AtomicBool::new(false);

fn now() -> Timestamp {
    "2026-11-23T08:00:00Z".parse().unwrap()
}

fn everything(store: &dyn Store) -> Model {
    let mut all = Model::new();
    for table in Table::ALL {
        let mut each = |key: &[u8], value: &[u8]| {
            all.insert((table, key.to_vec()), value.to_vec());
            std::ops::ControlFlow::Continue(())
        };
        store.scan(table, KeyRange::ALL, &mut each).unwrap();
    }
    all
}

fn open(dir: &Path) -> SledStore {
    SledStore::open(&StateDir::open(dir).unwrap(), now()).unwrap().store
}

/// Archives a store and the folder `apps` beside it.
fn archive(store: &SledStore, root: &Path, path: &Path) -> Tail {
    let head = Head { store: Uuid::from_u128(7), taken: now(), version: "0.1.0".to_owned() };
    let mut writer = Writer::begin(path, &head, &GOES_ON).unwrap();
    let mut each = |copied: super::super::Copied<'_>| {
        writer.record(copied).unwrap();
        Ok(())
    };
    let of = store.copy(&GOES_ON, &mut each).unwrap();
    writer.records_are_of(&of);
    writer.tree(&root.join("apps"), Path::new("apps")).unwrap();
    writer.finish().unwrap()
}

/// A state with a few of everything, and its archive.
fn sample() -> (tempfile::TempDir, PathBuf, Model) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    let store = open(&root);
    for number in 0..40_u64 {
        let value = vec![7; usize::try_from(number).unwrap()];
        let mut changes = vec![Change::put(Table::Task, number.to_be_bytes(), value)];
        changes.push(Change::put(Table::Meta, b"counter".as_slice(), number.to_be_bytes()));
        store.commit(&Batch { changes, high_water: number }).unwrap();
    }
    let app = root.join("apps/leads/r1");
    fs::create_dir_all(&app).unwrap();
    fs::write(app.join("app.py"), "app = 1\n").unwrap();
    fs::write(app.join("empty"), "").unwrap();
    fs::write(app.join("half.tmp"), "ha").unwrap();
    symlink("app.py", app.join("link.py")).unwrap();
    fs::set_permissions(app.join("app.py"), fs::Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(&app, fs::Permissions::from_mode(0o500)).unwrap();
    let path = dir.path().join("one.capsule");
    let tail = archive(&store, &root, &path);
    assert_eq!((tail.tasks, tail.files, tail.high_water), (40, 3, 39));
    (dir, path, everything(&store))
}

fn restored(path: &Path, root: &Path) -> Placed {
    let state = StateDir::open(root).unwrap();
    Restoring::read(path, &state, now()).unwrap().place(now()).unwrap()
}

#[test]
fn a_state_comes_back_with_its_records_and_files() {
    let (dir, path, model) = sample();
    let checked = check(&path).unwrap();
    assert_eq!(checked, peek(&path).unwrap());
    let root = dir.path().join("other");
    assert_eq!(restored(&path, &root).aside, None);
    let store = open(&root);
    assert!(everything(&store) == model);
    assert_eq!(store.high_water(), 39);
    let app = root.join("apps/leads/r1");
    assert_eq!(fs::read_to_string(app.join("link.py")).unwrap(), "app = 1\n");
    assert_eq!(fs::read(app.join("empty")).unwrap(), b"");
    assert!(!app.join("half.tmp").exists());
    assert_eq!(fs::metadata(&app).unwrap().permissions().mode() & 0o777, 0o500);
    let (old, new) = (dir.path().join("state/apps/leads/r1/app.py"), app.join("app.py"));
    let about = |path: &Path| fs::metadata(path).unwrap();
    assert_eq!(about(&new).permissions().mode(), about(&old).permissions().mode());
    let micros = |path: &Path| {
        let since = about(path).modified().unwrap().duration_since(std::time::UNIX_EPOCH);
        since.unwrap().as_micros()
    };
    assert_eq!(micros(&new), micros(&old));
}

#[test]
fn every_flip_and_every_cut_is_found_and_not_restored() {
    let (dir, path, _) = sample();
    let whole = fs::read(&path).unwrap();
    let (bad, root) = (dir.path().join("bad"), dir.path().join("never"));
    let state = StateDir::open(&root).unwrap();
    let mut tried = 0;
    let mut refused = |bytes: &[u8], what: &str| {
        fs::write(&bad, bytes).unwrap();
        let found = check(&bad);
        let said = matches!(found, Err(ArchiveError::Damaged { .. } | ArchiveError::Newer { .. }));
        assert!(said, "{what}: {found:?}");
        tried += 1;
        // A restore is slower, and reads by the same code.
        if tried % 50 == 0 {
            let read = Restoring::read(&bad, &state, now());
            assert!(read.is_err_and(|error| error.is_about_data()), "{what}");
            assert!(!root.join("restore.partial").exists() && !root.join("MANIFEST").exists());
        }
    };
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        refused(&flipped, &format!("byte {at} flipped"));
        refused(&whole[..at], &format!("cut at {at}"));
    }
    refused(&[&whole[..], b"x"].concat(), "one byte more");
    refused(&[&whole[..], &whole[..]].concat(), "twice");
    check(&path).unwrap();
}

#[test]
fn a_path_that_leads_outside_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    for to in ["../file", "/etc/file", "a/../../file", ".", ""] {
        let path = dir.path().join("bad.capsule");
        let head = Head { store: Uuid::nil(), taken: now(), version: String::new() };
        let mut writer = Writer::begin(&path, &head, &GOES_ON).unwrap();
        writer.tree(&dir.path().join("file"), Path::new(to)).unwrap();
        writer.finish().unwrap();
        let found = check(&path);
        assert!(matches!(found, Err(ArchiveError::Damaged { .. })), "{to}: {found:?}");
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn an_archive_is_there_whole_or_not_at_all() {
    let (_dir, path, _) = sample();
    let head = Head { store: Uuid::nil(), taken: now(), version: String::new() };
    assert!(Writer::begin(&path, &head, &GOES_ON).is_err(), "another has that name");
    let next = path.with_file_name("next.capsule");
    drop(Writer::begin(&next, &head, &GOES_ON).unwrap());
    let stop = AtomicBool::new(true);
    let stopped = Writer::begin(&next, &head, &stop);
    assert!(matches!(stopped, Err(ArchiveError::Store(StoreError::Stopped))), "{stopped:?}");
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 2, "archive and state");
}

/// Keeps the state directory as it is before each sync.
#[derive(Debug)]
struct Seen {
    root: PathBuf,
    copies: PathBuf,
    steps: AtomicUsize,
}

impl DiskSync for Seen {
    fn contents(&self, file: &File, path: &Path) -> io::Result<()> {
        self.all(file, path)
    }

    fn all(&self, _file: &File, _path: &Path) -> io::Result<()> {
        let step = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        let copy = self.copies.join(step.to_string());
        disk::copy_tree(&self.root, &copy).unwrap();
        fs::remove_file(copy.join("capsuled.lock")).ok();
        fs::set_permissions(copy, fs::Permissions::from_mode(0o700))
    }
}

#[test]
fn killed_anywhere_a_restore_leaves_the_old_state_or_the_new() {
    let (dir, path, new) = sample();
    let (root, seen) = (dir.path().join("old"), dir.path().join("seen"));
    fs::create_dir(&seen).unwrap();
    let store = open(&root);
    let put = vec![Change::put(Table::App, b"old".as_slice(), b"state".as_slice())];
    store.commit(&Batch { changes: put, high_water: 1 }).unwrap();
    store.close().unwrap();
    let old = everything(&store);
    drop(store);
    let state = StateDir::open(&root).unwrap();
    let restoring = Restoring::read(&path, &state, now()).unwrap();
    drop(restoring.store);
    let sync = Seen { root: root.clone(), copies: seen.clone(), steps: AtomicUsize::new(0) };
    let aside = place::place(&state, now(), &sync).unwrap().unwrap();
    assert!(aside.ends_with("replaced-20261123T080000Z"), "{}", aside.display());
    let aside_store = open(&aside);
    assert!(everything(&aside_store) == old, "what was there is kept");
    let mut was_new = false;
    for step in 1..=sync.steps.into_inner() {
        let root = seen.join(step.to_string());
        let store = open(&root);
        let found = everything(&store);
        assert!(found == new || (found == old && !was_new), "step {step}");
        was_new |= found == new;
        let app = root.join("apps/leads/r1/app.py");
        assert_eq!(app.exists(), found == new, "step {step}");
    }
    assert!(was_new);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Any history of puts and deletes, archived with commits going on.
    #[test]
    fn records_come_back_as_they_were(
        history in prop::collection::vec(
            (select(Table::ALL.to_vec()), prop::collection::vec(any::<u8>(), 0..3),
             prop::option::of(prop::collection::vec(any::<u8>(), 0..300))),
            0..300,
        ),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(open(&dir.path().join("state")));
        for (number, changes) in history.chunks(7).enumerate() {
            let changes = changes.iter().cloned();
            let changes = changes.map(|(table, key, value)| Change { table, key, value }).collect();
            store.commit(&Batch { changes, high_water: number as u64 }).unwrap();
        }
        let path = dir.path().join("a.capsule");
        archive(&store, dir.path(), &path);
        let root = dir.path().join("back");
        prop_assert_eq!(check(&path).unwrap().tail.high_water, store.high_water());
        restored(&path, &root);
        let back = open(&root);
        prop_assert!(everything(&back) == everything(&*store));
        prop_assert_eq!(back.high_water(), store.high_water());
    }
}
