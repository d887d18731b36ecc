//! The one place that calls the database: every call guarded, every record checked.

use std::fmt;
use std::fs::{File, TryLockError};
use std::os::fd::{AsRawFd as _, IntoRawFd as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use ::sled::{Batch, IVec};

use super::super::{StateDir, StoreError};
use super::guard::{Awake, Fault, guarded};

/// Chosen once; it cannot change for an existing database. Four times the smallest size that
/// survived every power cut, so that a commit stays far below one segment.
const SEGMENT: usize = 4 * 1024 * 1024;

/// The database's own default is 1 GiB.
const CACHE: u64 = 32 * 1024 * 1024;

/// How long a closed database may hold its file.
const RELEASE: Duration = Duration::from_secs(5);

/// An open database, and the paths its errors name.
pub(super) struct Database {
    db: Option<::sled::Db>,
    root: PathBuf,
    path: PathBuf,
    /// The path that errors name.
    shown: PathBuf,
    /// Its folder, when it was opened by that and not by its name.
    folder: Option<File>,
}

impl fmt::Debug for Database {
    /// The database's own `Debug` prints every record.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("path", &self.shown).finish_non_exhaustive()
    }
}

impl Database {
    /// Opens the database at `path`, and makes one where there is none. `root` is the state
    /// directory that errors name.
    pub(super) fn open(root: &Path, path: &Path) -> Result<Self, StoreError> {
        Self::open_at(root, path, (path, None))
    }

    /// Makes a database in the folder `dir`, which may be renamed while it is open: the kernel
    /// leads to the folder, whatever its name. Errors name the place that it is meant for.
    pub(super) fn open_in(state: &StateDir, dir: &Path) -> Result<Self, StoreError> {
        let folder = File::open(dir).map_err(|source| StoreError::io("open", dir, source))?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        Self::open_at(state.root(), &path, (&state.queue(), Some(folder)))
    }

    fn open_at(
        root: &Path,
        path: &Path,
        (shown, folder): (&Path, Option<File>),
    ) -> Result<Self, StoreError> {
        let open = || {
            ::sled::Config::new()
                .path(path)
                .segment_size(SEGMENT)
                .cache_capacity(CACHE)
                // Its flusher thread only logs its errors, and wakes an idle daemon.
                .flush_every_ms(None)
                .open()
        };
        wait_released(path);
        let db = guarded(open).map_err(|fault| fault.into_error(root, shown, "open"))?;
        let (root, path, shown) = (root.to_path_buf(), path.to_path_buf(), shown.to_path_buf());
        Ok(Self { db: Some(db), root, path, shown, folder })
    }

    /// The database's folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The stored bytes under a key on disk.
    pub(super) fn get(&self, disk_key: &[u8]) -> Result<Option<IVec>, StoreError> {
        guarded(|| self.db().get(disk_key)).map_err(|fault| self.error(fault, "read"))
    }

    /// Applies a batch and writes it to the file, without asking the disk to keep it.
    pub(super) fn write(&self, batch: Batch) -> Result<(), StoreError> {
        guarded(|| self.db().apply_batch(batch).and_then(|()| self.db().flush()))
            .map(drop)
            .map_err(|fault| self.error(fault, "write"))
    }

    /// The stored records with keys on disk from `from` up to, and without, `to`.
    pub(super) fn range(&self, from: &[u8], to: Option<&[u8]>) -> Records<'_> {
        let iter = match to {
            // The database panics at a range that ends before it begins.
            Some(to) if to <= from => self.db().range(from.to_vec()..from.to_vec()),
            Some(to) => self.db().range(from.to_vec()..to.to_vec()),
            None => self.db().range(from.to_vec()..),
        };
        Records { database: self, iter: Some(iter) }
    }

    fn error(&self, fault: Fault, doing: &'static str) -> StoreError {
        fault.into_error(&self.root, &self.shown, doing)
    }

    fn db(&self) -> &::sled::Db {
        self.db.as_ref().expect("it is taken only when dropped")
    }
}

impl Drop for Database {
    /// Closes it; a damaged database may panic even here.
    fn drop(&mut self) {
        let db = self.db.take();
        let closed = guarded(move || {
            drop(db);
            Ok(())
        });
        if let Err(fault) = closed {
            tracing::debug!(?fault, "closing the database");
        }
        // Its threads may still go through the folder, whose number must not become another file's.
        if !wait_released(&self.path)
            && let Some(folder) = self.folder.take()
        {
            let _stays_open = folder.into_raw_fd();
        }
    }
}

/// Waits until a database that this process closed is closed: its threads hold its file for a
/// moment longer. What to do when that takes too long is up to the one who opens it.
fn wait_released(path: &Path) -> bool {
    let _awake = Awake::begin();
    let began = Instant::now();
    while let Ok(file) = File::open(path.join("db"))
        && let Err(TryLockError::WouldBlock) = file.try_lock()
        && began.elapsed() < RELEASE
    {
        thread::park_timeout(Duration::from_millis(1));
    }
    began.elapsed() < RELEASE
}

/// Stored records in key order, from either end. It ends after the first error.
pub(super) struct Records<'a> {
    database: &'a Database,
    iter: Option<::sled::Iter>,
}

type Stored = Result<(IVec, IVec), StoreError>;

impl Records<'_> {
    fn step(
        &mut self,
        step: impl FnOnce(&mut ::sled::Iter) -> Option<::sled::Result<(IVec, IVec)>>,
    ) -> Option<Stored> {
        let iter = self.iter.as_mut()?;
        match guarded(|| step(iter).transpose()) {
            Ok(record) => record.map(Ok),
            Err(fault) => {
                self.iter = None;
                Some(Err(self.database.error(fault, "read")))
            }
        }
    }
}

impl Iterator for Records<'_> {
    type Item = Stored;

    fn next(&mut self) -> Option<Stored> {
        self.step(Iterator::next)
    }
}

impl DoubleEndedIterator for Records<'_> {
    fn next_back(&mut self) -> Option<Stored> {
        self.step(DoubleEndedIterator::next_back)
    }
}
