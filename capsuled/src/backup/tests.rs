//! A backup of a whole state under way.

use std::fs;
use std::sync::Arc;

use super::*;
use crate::appdata::{Find, Place};
use crate::clock::SystemClock;
use crate::store::archive::{Restoring, check};
use crate::store::{Batch, Change, SideKind, SledStore, StateDir, Store as _, Table};

fn now() -> Timestamp {
    "2026-11-23T08:00:00Z".parse().unwrap()
}

fn sources(root: &Path) -> (Sources, Arc<SledStore>) {
    let state = StateDir::open(root).unwrap();
    let opened = SledStore::open(&state, now()).unwrap();
    let store = Arc::new(opened.store);
    let sources = Sources {
        root: state.root().to_owned(),
        store: opened.found.uuid,
        records: Arc::clone(&store) as Arc<dyn LiveCopy>,
        side: SideFiles::new(&state),
        data: AppData::start(state.root(), Arc::new(SystemClock)).unwrap(),
    };
    (sources, store)
}

#[tokio::test]
async fn everything_but_secrets_and_logs_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    let (sources, store) = sources(&root);
    let put = Change::put(Table::Task, b"task".as_slice(), b"record".as_slice());
    store.commit(&Batch { changes: vec![put], high_water: 1 }).unwrap();
    sources.side.write(SideKind::Payload, 7, b"payload", 100).unwrap();
    let place = Place { app: "leads".to_owned(), collection: "people".to_owned() };
    let ada = serde_json::json!({"name": "Ada"}).as_object().unwrap().clone();
    sources.data.insert(place.clone(), vec![ada]).await.unwrap();
    for folder in ["apps/leads", "secrets", "logs/x", "venvs"] {
        fs::create_dir_all(root.join(folder)).unwrap();
        fs::write(root.join(folder).join("file"), "hidden canary").unwrap();
    }

    let backups = Backups::new(sources);
    let made = backups.create(Some("first"), now()).await.unwrap();
    assert!(made.path.ends_with("backups/first.capsule"), "{}", made.path.display());
    assert_eq!(made.tail, check(&made.path).unwrap().tail);
    let again = backups.create(Some("first"), now()).await;
    assert!(matches!(again, Err(BackupError::Exists(_))), "{again:?}");
    backups.create(None, now()).await.unwrap();
    let names: Vec<String> = list(&root).unwrap().into_iter().map(|found| found.name).collect();
    assert_eq!(names, ["20261123T080000Z", "first"]);
    assert_eq!(fs::read_dir(root.join(FOLDER)).unwrap().count(), 2, "nothing half-made is left");

    let other = dir.path().join("other");
    let state = StateDir::open(&other).unwrap();
    Restoring::read(&made.path, &state, now()).unwrap().place(now()).unwrap();
    drop(state);
    let (back, store) = self::sources(&other);
    assert_eq!(store.get(Table::Task, b"task").unwrap().as_deref(), Some(b"record".as_slice()));
    assert_eq!(back.side.read(SideKind::Payload, 7, 100).unwrap().unwrap(), b"payload");
    assert_eq!(back.data.find(place, Find::default()).await.unwrap().len(), 1);
    assert!(other.join("apps/leads/file").exists());
    for left_out in ["secrets", "logs/x", "venvs"] {
        assert!(!other.join(left_out).exists(), "{left_out}");
    }
}

#[tokio::test]
async fn files_that_records_name_stay_until_they_are_copied() {
    let dir = tempfile::tempdir().unwrap();
    let (sources, _store) = sources(dir.path());
    let side = &sources.side;
    side.write(SideKind::Result, 7, b"result", 100).unwrap();
    let (first, second) = (side.hold(), side.hold());
    side.remove(SideKind::Result, 7).unwrap();
    drop(first);
    assert!(side.read(SideKind::Result, 7, 100).unwrap().is_some());
    drop(second);
    assert!(side.read(SideKind::Result, 7, 100).unwrap().is_none());
}

#[tokio::test]
async fn no_name_leads_elsewhere_and_an_ended_daemon_makes_none() {
    let dir = tempfile::tempdir().unwrap();
    let (sources, _store) = sources(dir.path());
    let backups = Backups::new(sources);
    for name in [".hidden", "a b", "ä", &"x".repeat(101)] {
        let refused = backups.create(Some(name), now()).await;
        assert!(matches!(refused, Err(BackupError::Name(_))), "{name}: {refused:?}");
    }
    backups.end();
    assert!(backups.create(Some("late"), now()).await.is_err());
    assert!(list(dir.path()).unwrap().is_empty());
}
