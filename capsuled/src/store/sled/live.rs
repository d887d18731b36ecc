//! The database in use. A rebuild puts another in its place; whoever reads the old one still
//! holds it, and its folder goes with the last of them.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};

use super::super::disk::{self, DiskSync};
use super::super::{StateDir, StoreError};
use super::database::Database;

/// An open database, and what makes its writes durable. Fields are dropped in this order.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) database: Database,
    /// Its file, opened once more: a sync of any descriptor covers what was written by all.
    file: File,
    file_path: PathBuf,
    /// The path that errors name.
    shown: PathBuf,
    blobs: PathBuf,
    leftover: Leftover,
    /// Holds the lock for as long as the database is open.
    _state: StateDir,
}

impl Live {
    /// Takes over a database that lies, or will lie, at `queue/` of `state`.
    pub(super) fn new(database: Database, state: &StateDir) -> Result<Self, StoreError> {
        let path = database.path();
        let (file_path, shown) = (path.join("db"), state.queue().join("db"));
        let file =
            File::open(&file_path).map_err(|source| StoreError::io("open", &shown, source))?;
        Ok(Self {
            file,
            file_path,
            shown,
            blobs: path.join("blobs"),
            database,
            leftover: Leftover::default(),
            _state: state.clone(),
        })
    }

    /// Waits until all that the database wrote is on disk.
    pub(super) fn sync(&self, sync: &dyn DiskSync) -> Result<(), StoreError> {
        // Within the bounds of a record this folder stays empty.
        if !disk::entries(&self.blobs)?.is_empty() {
            disk::sync_tree(sync, &self.blobs)?;
        }
        sync.contents(&self.file, &self.file_path)
            .map_err(|source| StoreError::io("sync", &self.shown, source))
    }

    /// Bytes of the database's file, without asking for those of its folder.
    pub(super) fn length(&self) -> u64 {
        self.file.metadata().map_or(0, |about| about.len())
    }

    /// Another took its place, and its files are at `dir` now: they go when nobody reads them.
    /// What this gives lives until they are gone.
    pub(super) fn outdated(&self, dir: PathBuf) -> Weak<Outdated> {
        Arc::downgrade(self.leftover.0.get_or_init(|| Arc::new(Outdated { dir })))
    }
}

/// The folder of a database that is no longer in use.
#[derive(Debug)]
pub(super) struct Outdated {
    dir: PathBuf,
}

/// Removes that folder, once the database in it is closed. It is dropped after that, not before:
/// another rebuild uses the same name.
#[derive(Debug, Default)]
struct Leftover(OnceLock<Arc<Outdated>>);

impl Drop for Leftover {
    fn drop(&mut self) {
        if let Some(Outdated { dir }) = self.0.get().map(|outdated| &**outdated)
            && let Err(error) = disk::remove_tree(dir)
        {
            tracing::warn!(dir = %dir.display(), %error, "the old queue stays until the next start");
        }
    }
}
