//! Side files: payloads, results and errors too big for a record.
//!
//! A file is durable before the record that names it is written, so a crash leaves files without a
//! record, never a record without its file; the sweep at start removes those. Each holds a CRC-32
//! in front of its bytes.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::mem;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::StoreError;
use super::dir::StateDir;
use super::disk::{self, Disk};

/// Files of one folder, so that no folder grows without end.
const PER_FOLDER: u64 = 1000;

const CRC_LEN: usize = 4;

/// What a side file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SideKind {
    /// What a task was submitted with.
    Payload,
    /// What a task returned.
    Result,
    /// How a task failed.
    Error,
}

impl SideKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Payload, Self::Result, Self::Error];

    const fn folder(self) -> &'static str {
        match self {
            Self::Payload => "payload",
            Self::Result => "result",
            Self::Error => "error",
        }
    }
}

/// The side files of a state directory. Any thread may use it; clones are the same.
#[derive(Clone, Debug)]
pub struct SideFiles {
    state: StateDir,
    held: Arc<Mutex<Held>>,
}

/// Removals that wait for a backup to end.
#[derive(Debug, Default)]
struct Held {
    by: usize,
    removals: Vec<(SideKind, u64)>,
}

/// While it lives, no side file is removed: whoever copies records and then their files finds
/// all of them. What was to be removed goes when it is dropped, or with the sweep after a crash.
#[derive(Debug)]
pub struct HoldSideFiles {
    side: SideFiles,
}

impl Drop for HoldSideFiles {
    fn drop(&mut self) {
        let removals = {
            let mut held = self.side.held.lock();
            held.by -= 1;
            if held.by > 0 { Vec::new() } else { mem::take(&mut held.removals) }
        };
        for (kind, id) in removals {
            if let Err(error) = disk::remove_file(&self.side.path(kind, id)) {
                tracing::warn!(%error, "a side file stays until the next start");
            }
        }
    }
}

impl SideFiles {
    /// The side files of an open state directory.
    pub fn new(state: &StateDir) -> Self {
        Self { state: state.clone(), held: Arc::default() }
    }

    /// Writes a file of at most `limit` bytes; when it returns `Ok`, the file is on disk. A file
    /// of that name is replaced whole.
    pub fn write(
        &self,
        kind: SideKind,
        id: u64,
        bytes: &[u8],
        limit: usize,
    ) -> Result<(), StoreError> {
        if bytes.len() > limit {
            return Err(too_large(bytes.len() as u64, limit));
        }
        let path = self.path(kind, id);
        for folder in path.ancestors().skip(1).take(2).collect::<Vec<_>>().iter().rev() {
            disk::make_folder(&Disk, folder)?;
        }
        disk::write_whole(&Disk, &path, &[&crc32fast::hash(bytes).to_le_bytes(), bytes])
    }

    /// The bytes of a file; `None` when there is none. Refuses one of more than `limit` bytes.
    pub fn read(
        &self,
        kind: SideKind,
        id: u64,
        limit: usize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(kind, id);
        let failed = |source| StoreError::io("read", &path, source);
        let file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&path) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        let most = (limit + CRC_LEN) as u64;
        let length = file.metadata().map_err(failed)?.len();
        if length > most {
            return Err(too_large(length - CRC_LEN as u64, limit));
        }
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes).map_err(failed)?;
        match bytes.split_first_chunk::<CRC_LEN>() {
            Some((crc, body)) if u32::from_le_bytes(*crc) == crc32fast::hash(body) => {
                bytes.drain(..CRC_LEN);
                Ok(Some(bytes))
            }
            Some(_) | None => Err(StoreError::DamagedFile { path }),
        }
    }

    /// Keeps all files that are there now, or are written meanwhile, for a while.
    pub fn hold(&self) -> HoldSideFiles {
        self.held.lock().by += 1;
        HoldSideFiles { side: self.clone() }
    }

    /// Where they all are.
    pub fn folder(&self) -> PathBuf {
        self.state.side()
    }

    /// Removes a file, if it is there. A power cut may bring it back, until the next sweep.
    pub fn remove(&self, kind: SideKind, id: u64) -> Result<(), StoreError> {
        let mut held = self.held.lock();
        if held.by > 0 {
            held.removals.push((kind, id));
            return Ok(());
        }
        drop(held);
        disk::remove_file(&self.path(kind, id))
    }

    /// Removes every file that `keep` does not want, and all that was left half-written. Returns
    /// how many it removed. Only for the start, before anything is written.
    pub fn sweep(&self, keep: impl Fn(SideKind, u64) -> bool) -> Result<u64, StoreError> {
        let mut removed = 0;
        for kind in SideKind::ALL {
            for folder in disk::entries(&self.state.side().join(kind.folder()))? {
                for file in disk::entries(&folder.path())? {
                    let id = file.file_name().to_str().and_then(|name| name.parse().ok());
                    if !id.is_some_and(|id| keep(kind, id)) {
                        disk::remove_file(&file.path())?;
                        removed += 1;
                    }
                }
                // Not empty is the usual case, and no reason to fail.
                fs::remove_dir(folder.path()).ok();
            }
        }
        Ok(removed)
    }

    fn path(&self, kind: SideKind, id: u64) -> PathBuf {
        let folder = (id / PER_FOLDER).to_string();
        self.state.side().join(kind.folder()).join(folder).join(id.to_string())
    }
}

fn too_large(size: u64, limit: usize) -> StoreError {
    StoreError::TooLarge { what: "bytes in a side file", size, limit: limit as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    fn fresh() -> (tempfile::TempDir, SideFiles) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        state.make_folders().unwrap();
        (dir, SideFiles::new(&state))
    }

    #[test]
    fn what_was_written_is_read_back_until_removed() {
        let (_dir, side) = fresh();
        assert_eq!(side.read(SideKind::Result, 1842, LIMIT).unwrap(), None);
        side.write(SideKind::Result, 1842, b"first", LIMIT).unwrap();
        side.write(SideKind::Result, 1842, &vec![7; LIMIT], LIMIT).unwrap();
        assert_eq!(side.read(SideKind::Result, 1842, LIMIT).unwrap(), Some(vec![7; LIMIT]));
        assert_eq!(side.read(SideKind::Payload, 1842, LIMIT).unwrap(), None);
        side.remove(SideKind::Result, 1842).unwrap();
        side.remove(SideKind::Result, 1842).unwrap();
        assert_eq!(side.read(SideKind::Result, 1842, LIMIT).unwrap(), None);
    }

    #[test]
    fn both_ways_have_a_limit() {
        let (_dir, side) = fresh();
        let refused = side.write(SideKind::Payload, 1, b"12345", 4).unwrap_err();
        assert!(matches!(refused, StoreError::TooLarge { size: 5, limit: 4, .. }));
        assert_eq!(side.read(SideKind::Payload, 1, LIMIT).unwrap(), None);
        side.write(SideKind::Payload, 1, b"12345", 5).unwrap();
        let refused = side.read(SideKind::Payload, 1, 4).unwrap_err();
        assert!(matches!(refused, StoreError::TooLarge { size: 5, limit: 4, .. }));
    }

    #[test]
    fn damage_and_links_are_refused() {
        let (dir, side) = fresh();
        side.write(SideKind::Payload, 5, b"honest", LIMIT).unwrap();
        let path = side.path(SideKind::Payload, 5);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(
            side.read(SideKind::Payload, 5, LIMIT),
            Err(StoreError::DamagedFile { path }) if path.ends_with("payload/0/5")
        ));
        fs::write(&path, "abc").unwrap();
        assert!(side.read(SideKind::Payload, 5, LIMIT).is_err());

        let secret = dir.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&secret, &path).unwrap();
        assert!(matches!(side.read(SideKind::Payload, 5, LIMIT), Err(StoreError::Io { .. })));
        side.write(SideKind::Payload, 5, b"mine", LIMIT).unwrap();
        assert_eq!(fs::read(&secret).unwrap(), b"secret");
    }

    #[test]
    fn the_sweep_keeps_exactly_what_it_is_told_to() {
        let (_dir, side) = fresh();
        for id in [1, 2, 1000, 2001] {
            side.write(SideKind::Payload, id, b"p", LIMIT).unwrap();
            side.write(SideKind::Result, id, b"r", LIMIT).unwrap();
        }
        let half = disk::temporary(&side.path(SideKind::Payload, 1));
        fs::write(&half, "half").unwrap();
        let removed =
            side.sweep(|kind, id| kind == SideKind::Payload && id < 2000 || id == 2001).unwrap();
        assert_eq!(removed, 4);
        assert!(!half.exists());
        let there = |kind, id| side.read(kind, id, LIMIT).unwrap().is_some();
        assert!([1, 2, 1000, 2001].into_iter().all(|id| there(SideKind::Payload, id)));
        assert!([1, 2, 1000].into_iter().all(|id| !there(SideKind::Result, id)));
        assert!(there(SideKind::Result, 2001));
    }
}
