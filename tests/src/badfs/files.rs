//! The folder below: its files by number, and what may be done to them now.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use fuser::{FileAttr, FileType};
use libc::{EIO, ENOENT, ENOSPC, EROFS, c_int};

use super::Faults;
use crate::power::{Disk, Op};

pub(super) const BLOCK: u32 = 4096;

pub(super) struct Files {
    paths: HashMap<u64, PathBuf>,
    pub(super) open: HashMap<u64, Arc<File>>,
    next: u64,
    pub(super) faults: Arc<Faults>,
    /// What a power cut would leave.
    disk: Arc<Mutex<Disk>>,
}

pub(super) type Fallible<T> = Result<T, c_int>;

pub(super) fn code(error: &io::Error) -> c_int {
    error.raw_os_error().unwrap_or(EIO)
}

impl Files {
    pub(super) fn of(back: &Path, faults: Arc<Faults>, disk: Arc<Mutex<Disk>>) -> Self {
        let paths = HashMap::from([(1, back.to_owned())]);
        Self { paths, open: HashMap::new(), next: 1, faults, disk }
    }

    /// Tells the model of the disk.
    pub(super) fn note(&self, op: &Op) {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner).play(op);
    }

    /// A path as the model of the disk knows it.
    pub(super) fn name(&self, path: &Path) -> String {
        path.strip_prefix(&self.paths[&1]).unwrap().display().to_string()
    }

    pub(super) fn path(&self, node: u64) -> Fallible<PathBuf> {
        self.paths.get(&node).cloned().ok_or(ENOENT)
    }

    pub(super) fn below(&self, parent: u64, name: &OsStr) -> Fallible<PathBuf> {
        Ok(self.path(parent)?.join(name))
    }

    /// The file behind a handle, else the one at the path.
    pub(super) fn file(&self, node: u64, handle: Option<u64>) -> Fallible<Arc<File>> {
        if let Some(file) = handle.and_then(|handle| self.open.get(&handle)) {
            return Ok(Arc::clone(file));
        }
        File::open(self.path(node)?).map(Arc::new).map_err(|error| code(&error))
    }

    /// What is at a path; its number is that of the file below.
    pub(super) fn entry(&mut self, path: &Path) -> Fallible<FileAttr> {
        let about = fs::symlink_metadata(path).map_err(|error| code(&error))?;
        let root = self.paths[&1] == path;
        let node = if root { 1 } else { about.ino() };
        self.paths.insert(node, path.to_owned());
        Ok(attributes(node, &about))
    }

    pub(super) fn hold(&mut self, file: File) -> u64 {
        self.next += 1;
        self.open.insert(self.next, Arc::new(file));
        self.next
    }

    pub(super) fn writable(&self) -> Fallible<()> {
        if self.faults.read_only.load(Ordering::SeqCst) { Err(EROFS) } else { Ok(()) }
    }

    pub(super) fn take_room(&self, bytes: u64) -> Fallible<()> {
        self.writable()?;
        let take = |room: u64| room.checked_sub(bytes);
        let room = &self.faults.room;
        room.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).map(drop).map_err(|_| ENOSPC)
    }

    pub(super) fn sync(&self, node: u64, handle: u64) -> Fallible<()> {
        if self.faults.sync_fails.load(Ordering::SeqCst) {
            return Err(EIO);
        }
        let file = self.file(node, Some(handle))?;
        self.note(&Op::Sync { token: node, what: node });
        file.sync_all().map_err(|error| code(&error))?;
        self.note(&Op::Synced { token: node });
        Ok(())
    }

    pub(super) fn put_elsewhere(&mut self, from: &Path, to: &Path) -> Fallible<()> {
        self.writable()?;
        fs::rename(from, to).map_err(|error| code(&error))?;
        self.note(&Op::Rename { from: self.name(from), to: self.name(to) });
        for path in self.paths.values_mut() {
            if let Ok(rest) = path.strip_prefix(from) {
                let moved = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
                *path = moved;
            }
        }
        Ok(())
    }

    pub(super) fn remove(
        &self,
        parent: u64,
        name: &OsStr,
        remove: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Fallible<()> {
        self.writable()?;
        let path = self.below(parent, name)?;
        remove(&path).map_err(|error| code(&error))?;
        self.note(&Op::Remove { path: self.name(&path) });
        Ok(())
    }

    pub(super) fn resize(&self, node: u64, size: u64) -> Fallible<()> {
        self.writable()?;
        let file = OpenOptions::new().write(true).open(self.path(node)?);
        file.and_then(|file| file.set_len(size)).map_err(|error| code(&error))?;
        self.note(&Op::Size { file: node, size });
        Ok(())
    }
}

pub(super) fn attributes(node: u64, about: &fs::Metadata) -> FileAttr {
    let kind = if about.is_dir() {
        FileType::Directory
    } else if about.is_symlink() {
        FileType::Symlink
    } else {
        FileType::RegularFile
    };
    let modified = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    FileAttr {
        ino: node,
        size: about.len(),
        blocks: about.blocks(),
        atime: modified,
        mtime: modified,
        ctime: modified,
        crtime: modified,
        kind,
        perm: u16::try_from(about.mode() & 0o7777).unwrap(),
        nlink: u32::try_from(about.nlink()).unwrap_or(1),
        uid: about.uid(),
        gid: about.gid(),
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    }
}
