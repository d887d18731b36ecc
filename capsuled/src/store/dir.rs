//! The state directory: what lies where, who may enter, and whether it holds a store at all.

use std::fs;
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::StoreError;
use super::disk::{self, Disk};
use super::lock::{self, Lock};
use super::manifest;

const QUEUE: &str = "queue";
const SIDE: &str = "side";
const LOGS: &str = "logs";
const WORK: &str = "work";
const RESERVE: &str = "reserve";

/// Bytes kept back so that a store on a full disk can be opened again: what opening writes, and
/// room to cancel and to finish what runs.
pub const RESERVED_BYTES: u64 = 16 * 1024 * 1024;

/// An open and locked state directory. Clones share the lock, which is held until the last goes.
#[derive(Clone, Debug)]
pub struct StateDir {
    root: PathBuf,
    _lock: Arc<Lock>,
}

impl StateDir {
    /// Opens `dir` and locks it; makes it, for its owner only, when it does not exist.
    ///
    /// Refuses a directory of another user, and one that others may enter, unless it is empty or
    /// holds a store already: then it is closed to others.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::io("open state directory", dir, source);
        match fs::DirBuilder::new().recursive(true).mode(0o700).create(dir) {
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
                return Err(unfit(dir, "it is not a directory".to_owned()));
            }
            other => other.map_err(failed)?,
        }
        let root = fs::canonicalize(dir).map_err(failed)?;
        check_owner(&root)?;
        let lock = Lock::take(&root)?;
        Ok(Self { root, _lock: Arc::new(lock) })
    }

    /// Like [`StateDir::open`], but never makes a directory: for looking at a store.
    pub fn open_existing(dir: &Path) -> Result<Self, StoreError> {
        if dir.is_dir() {
            Self::open(dir)
        } else {
            Err(StoreError::io("open state directory", dir, io::ErrorKind::NotFound.into()))
        }
    }

    /// The directory itself, as an absolute path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The database.
    pub fn queue(&self) -> PathBuf {
        self.root.join(QUEUE)
    }

    /// Payloads and results too big for a record.
    pub fn side(&self) -> PathBuf {
        self.root.join(SIDE)
    }

    /// What attempts wrote to their outputs.
    pub fn logs(&self) -> PathBuf {
        self.root.join(LOGS)
    }

    /// The working directories of attempts.
    pub fn work(&self) -> PathBuf {
        self.root.join(WORK)
    }

    /// Bytes that are free on the file system of the directory, for its owner.
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        let about = nix::sys::statvfs::statvfs(&self.root)
            .map_err(|errno| StoreError::io("measure", &self.root, errno.into()))?;
        Ok(about.blocks_available().saturating_mul(about.fragment_size()))
    }

    /// Gives the reserve back to the file system when hardly anything else is free.
    pub(super) fn release_reserve(&self) -> Result<(), StoreError> {
        if self.free_bytes()? >= RESERVED_BYTES {
            return Ok(());
        }
        disk::remove_file(&self.root.join(RESERVE))
    }

    /// Keeps back [`RESERVED_BYTES`] when as much stays free. True when there is a reserve.
    pub(super) fn hold_reserve(&self) -> Result<bool, StoreError> {
        let path = self.root.join(RESERVE);
        if fs::metadata(&path).is_ok_and(|about| about.len() >= RESERVED_BYTES) {
            return Ok(true);
        }
        if self.free_bytes()? < 2 * RESERVED_BYTES {
            return Ok(false);
        }
        let mut options = fs::File::options();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(|source| StoreError::io("write", &path, source))?;
        let length = i64::try_from(RESERVED_BYTES).expect("a few MiB fit");
        match nix::fcntl::posix_fallocate(&file, 0, length) {
            Ok(()) => Ok(true),
            // A file system that cannot keep space back, or has just run full, has no reserve.
            Err(errno) => {
                tracing::debug!(%errno, "keeping space back");
                disk::remove_file(&path).map(|()| false)
            }
        }
    }

    /// Refuses a directory that holds parts of a store but no MANIFEST.
    pub(super) fn check_bare(&self) -> Result<(), StoreError> {
        if [QUEUE, SIDE, LOGS, WORK].iter().any(|part| self.root.join(part).exists()) {
            return Err(StoreError::Missing { dir: self.root.clone(), what: manifest::NAME });
        }
        Ok(())
    }

    /// Makes the folders that are missing.
    pub(super) fn make_folders(&self) -> Result<(), StoreError> {
        for folder in [self.side(), self.logs(), self.work()] {
            disk::make_folder(&Disk, &folder)?;
        }
        Ok(())
    }
}

fn check_owner(root: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::io("open state directory", root, source);
    let about = fs::metadata(root).map_err(failed)?;
    let us = nix::unistd::geteuid().as_raw();
    if about.uid() != us {
        return Err(unfit(root, format!("it belongs to uid {}, not to uid {us}", about.uid())));
    }
    let mode = about.mode() & 0o777;
    if mode | 0o700 == 0o700 {
        return Ok(());
    }
    let names = [manifest::NAME, lock::NAME];
    let strange = |entry: &fs::DirEntry| !names.iter().any(|name| entry.file_name() == *name);
    let ours = root.join(manifest::NAME).exists();
    if !ours && disk::entries(root)?.iter().any(strange) {
        return Err(unfit(root, format!("it holds other files and its mode is {mode:o}, not 700")));
    }
    fs::set_permissions(root, fs::Permissions::from_mode(0o700)).map_err(failed)
}

fn unfit(dir: &Path, why: String) -> StoreError {
    StoreError::Unfit { dir: dir.to_path_buf(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_new_directory_is_closed_to_others() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("a/b");
        let state = StateDir::open(&dir).unwrap();
        assert_eq!(mode(&dir), 0o700);
        assert!(matches!(StateDir::open(&dir), Err(StoreError::Locked { .. })));
        drop(state);
        StateDir::open(&dir).unwrap();
    }

    #[test]
    fn an_open_empty_directory_is_closed_and_a_foreign_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        drop(StateDir::open(dir.path()).unwrap());
        assert_eq!(mode(dir.path()), 0o700);

        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("letter.txt"), "dear").unwrap();
        let refused = StateDir::open(dir.path()).unwrap_err();
        assert!(
            matches!(&refused, StoreError::Unfit { why, .. } if why.contains("755")),
            "{refused}"
        );
        assert_eq!(mode(dir.path()), 0o755);
    }

    #[test]
    fn a_file_in_its_place_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state");
        fs::write(&file, "").unwrap();
        assert!(matches!(StateDir::open(&file), Err(StoreError::Unfit { .. })));
        let absent = dir.path().join("absent");
        assert!(StateDir::open_existing(&absent).is_err());
        assert!(!absent.exists());
    }
}
