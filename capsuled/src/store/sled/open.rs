//! Opening a store: make it, or prove that it is the one that was left.

use std::fs;
use std::io::ErrorKind;
use std::mem;
use std::path::Path;
use std::sync::Arc;

use ::sled::Batch;
use jiff::Timestamp;
use uuid::Uuid;

use super::super::disk::{self, Disk, DiskSync};
use super::super::manifest::{Manifest, Stage};
use super::super::record::Sum;
use super::super::{StateDir, StoreError, archive};
use super::SledStore;
use super::audit::{Audit, Counts, HEADER_KEY, Header, Visit};
use super::database::Database;
use super::guard::DrowsyPool;
use super::repair;

/// How syncing a folder fails when it cannot be one that the daemon made.
const NOT_OURS: [ErrorKind; 3] =
    [ErrorKind::PermissionDenied, ErrorKind::InvalidInput, ErrorKind::Unsupported];

/// There while the database is being opened.
const OPENING: &str = "opening";

/// An open store and what was found in it.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: SledStore,
    /// What the start found.
    pub found: Found,
}

/// What was on disk when a store was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// True when the store was made just then.
    pub fresh: bool,
    /// The store's own name, for as long as it lives.
    pub uuid: Uuid,
    /// When it was made.
    pub created: Timestamp,
    /// The change that was durable at the least, by what is noted outside the database.
    pub low_bound: u64,
    /// The last durable change.
    pub high_water: u64,
    /// Records of each table, all of them read and checked.
    pub records: Counts,
    /// True when [`RESERVED_BYTES`](super::super::RESERVED_BYTES) are kept back for a full disk.
    pub reserved: bool,
}

impl SledStore {
    /// Opens the store of a state directory, or makes one where there has never been one. Every
    /// record is read and checked; a store that is not whole is refused. `now` is noted as the
    /// time at which a fresh store was made.
    pub fn open(state: &StateDir, now: Timestamp) -> Result<Opened, StoreError> {
        Self::open_and_visit(state, now, &mut |_, _, _| {})
    }

    /// Like [`SledStore::open`], and shows each record to `visit` while it is checked, which saves
    /// a second pass. Whether the store is whole is known only at the end: after an `Err`, what
    /// was shown counts for nothing.
    pub fn open_and_visit(
        state: &StateDir,
        now: Timestamp,
        visit: &mut Visit<'_>,
    ) -> Result<Opened, StoreError> {
        Self::open_with(state, now, Arc::new(Disk), visit)
    }

    pub(super) fn open_with(
        state: &StateDir,
        now: Timestamp,
        sync: Arc<dyn DiskSync>,
        visit: &mut Visit<'_>,
    ) -> Result<Opened, StoreError> {
        let _drowsy = DrowsyPool::begin();
        state.release_reserve()?;
        archive::finish(state.root(), &*sync)?;
        let mut manifest = if let Some(manifest) = Manifest::read(state.root())? {
            manifest
        } else {
            state.check_bare()?;
            let manifest = Manifest::new(now);
            manifest.write(state.root(), &*sync)?;
            manifest
        };
        let fresh = manifest.stage == Stage::Creating;
        state.make_folders()?;
        let database = if fresh {
            make(state, &manifest)?
        } else {
            repair::finish(state, &*sync)?;
            reopen(state, &manifest, &*sync)?
        };
        let audit = Audit::of(&database, visit);
        let header = audit.judge(state.root(), &manifest)?;
        repair::clear(state)?;
        settle(state, &database, &*sync)?;
        disk::remove_file(&state.queue().join(OPENING))?;
        manifest.stage = Stage::Ready;
        let low_bound = mem::replace(&mut manifest.low_bound, header.high_water);
        manifest.write(state.root(), &*sync)?;
        let reserved = state.hold_reserve()?;
        let found = Found {
            fresh,
            uuid: manifest.uuid,
            created: manifest.created,
            low_bound,
            high_water: header.high_water,
            records: audit.tally.counts(),
            reserved,
        };
        let store = Self::new(state, database, (header, audit.tally, manifest), sync)?;
        Ok(Opened { store, found })
    }
}

/// Makes the database of a store in which nothing was ever acknowledged.
fn make(state: &StateDir, manifest: &Manifest) -> Result<Database, StoreError> {
    disk::remove_tree(&state.queue())?;
    let database = Database::open(state.root(), &state.queue())?;
    let header = Header { uuid: manifest.uuid, high_water: 0, sum: Sum::default() };
    let mut batch = Batch::default();
    batch.insert(HEADER_KEY, header.encode());
    database.write(batch)?;
    Ok(database)
}

/// Opens a database that must be there. The database would make what is missing, so look first.
fn reopen(
    state: &StateDir,
    manifest: &Manifest,
    sync: &dyn DiskSync,
) -> Result<Database, StoreError> {
    let emptied = !has_bytes(&state.queue().join("db"));
    if emptied {
        let (dir, low_bound) = (state.root().to_path_buf(), manifest.low_bound);
        return Err(StoreError::Emptied { dir, low_bound });
    }
    if !has_bytes(&state.queue().join("conf")) {
        let dir = state.root().to_path_buf();
        return Err(StoreError::Missing { dir, what: "queue/conf" });
    }
    distrust_snapshots(&state.queue(), sync)?;
    Database::open(state.root(), &state.queue())
}

/// Notes that the database is being opened, and takes its snapshots away when an earlier start was
/// cut off there. Opening changes the log before the snapshot that tells of that is durable, and an
/// older one then tells of pages that are gone. Without any, the database reads its whole log.
fn distrust_snapshots(queue: &Path, sync: &dyn DiskSync) -> Result<(), StoreError> {
    let opening = queue.join(OPENING);
    if opening.exists() {
        for entry in disk::entries(queue)? {
            if entry.file_name().as_encoded_bytes().starts_with(b"snap.") {
                disk::remove_file(&entry.path())?;
            }
        }
    }
    fs::write(&opening, b"").map_err(|source| StoreError::io("write", &opening, source))?;
    disk::sync_path(sync, queue)
}

fn has_bytes(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|about| about.is_file() && about.len() > 0)
}

/// Makes all that opening wrote durable, up to the folders in which the state directory was made.
/// The database syncs neither its settings nor any folder.
fn settle(state: &StateDir, database: &Database, sync: &dyn DiskSync) -> Result<(), StoreError> {
    database.write(Batch::default())?;
    disk::sync_tree(sync, database.path())?;
    disk::sync_path(sync, state.root())?;
    for folder in state.root().ancestors().skip(1) {
        match disk::sync_path(sync, folder) {
            // We did not make what we may not read, nor what lies on another kind of file system.
            Err(StoreError::Io { source, .. }) if NOT_OURS.contains(&source.kind()) => break,
            other => other?,
        }
    }
    Ok(())
}
