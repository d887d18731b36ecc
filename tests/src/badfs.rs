//! A file system over a folder whose disk can be told to go bad, by FUSE.
//!
//! Owns the mount and its faults. It must not know what the files mean. Every write arrives here
//! before the program that made it goes on; nothing is kept back.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use fuser::{
    FileAttr, FileType, Filesystem, MountOption, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
};
use libc::{EIO, ENOENT, ENOSPC, EROFS, c_int};

/// The kernel asks again each time: a fault shows at once.
const AT_ONCE: Duration = Duration::ZERO;
const BLOCK: u32 = 4096;

/// What is wrong with the disk.
#[derive(Debug, Default)]
pub struct Faults {
    /// A sync comes back with EIO.
    pub sync_fails: AtomicBool,
    /// Everything that writes comes back with EROFS.
    pub read_only: AtomicBool,
    /// So many bytes can be written before ENOSPC.
    pub room: AtomicU64,
    /// `statfs` tells how much room there is; else it tells of plenty, as a quota does.
    pub tells_room: AtomicBool,
}

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub struct BadDisk {
    /// What is wrong with it now.
    pub faults: Arc<Faults>,
    place: PathBuf,
    session: Option<fuser::BackgroundSession>,
}

impl BadDisk {
    /// Mounts the folder `back` at `place`. `None` where that cannot be, which is said out loud.
    pub fn mount(back: &Path, place: &Path) -> Option<Self> {
        let faults = Arc::new(Faults::default());
        faults.room.store(1 << 40, Ordering::Relaxed);
        let files = Files {
            paths: HashMap::from([(1, back.to_owned())]),
            open: HashMap::new(),
            next: 1,
            faults: Arc::clone(&faults),
        };
        let name = MountOption::FSName("bad-disk".to_owned());
        match fuser::spawn_mount2(files, place, &[name]) {
            Ok(session) => {
                let session = Some(session);
                Some(Self { faults, place: place.to_owned(), session })
            }
            Err(error) => {
                eprintln!("SKIPPED: a bad disk is not tested, no FUSE here: {error}");
                None
            }
        }
    }

    /// Takes it away from under whoever uses it.
    pub fn unmount(&mut self) {
        if let Some(session) = self.session.take() {
            let umount = std::process::Command::new("umount").arg("-l").arg(&self.place).status();
            drop(umount);
            drop(session);
        }
    }
}

impl Drop for BadDisk {
    fn drop(&mut self) {
        self.unmount();
    }
}

struct Files {
    paths: HashMap<u64, PathBuf>,
    open: HashMap<u64, Arc<File>>,
    next: u64,
    faults: Arc<Faults>,
}

type Fallible<T> = Result<T, c_int>;

fn code(error: &io::Error) -> c_int {
    error.raw_os_error().unwrap_or(EIO)
}

impl Files {
    fn path(&self, node: u64) -> Fallible<PathBuf> {
        self.paths.get(&node).cloned().ok_or(ENOENT)
    }

    fn below(&self, parent: u64, name: &OsStr) -> Fallible<PathBuf> {
        Ok(self.path(parent)?.join(name))
    }

    /// The file behind a handle, else the one at the path.
    fn file(&self, node: u64, handle: Option<u64>) -> Fallible<Arc<File>> {
        if let Some(file) = handle.and_then(|handle| self.open.get(&handle)) {
            return Ok(Arc::clone(file));
        }
        File::open(self.path(node)?).map(Arc::new).map_err(|error| code(&error))
    }

    /// What is at a path; its number is that of the file below.
    fn entry(&mut self, path: &Path) -> Fallible<FileAttr> {
        let about = fs::symlink_metadata(path).map_err(|error| code(&error))?;
        let root = self.paths[&1] == path;
        let node = if root { 1 } else { about.ino() };
        self.paths.insert(node, path.to_owned());
        Ok(attributes(node, &about))
    }

    fn hold(&mut self, file: File) -> u64 {
        self.next += 1;
        self.open.insert(self.next, Arc::new(file));
        self.next
    }

    fn writable(&self) -> Fallible<()> {
        if self.faults.read_only.load(Ordering::SeqCst) { Err(EROFS) } else { Ok(()) }
    }

    fn take_room(&self, bytes: u64) -> Fallible<()> {
        self.writable()?;
        let take = |room: u64| room.checked_sub(bytes);
        let room = &self.faults.room;
        room.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).map(drop).map_err(|_| ENOSPC)
    }

    fn sync(&self, node: u64, handle: u64) -> Fallible<()> {
        if self.faults.sync_fails.load(Ordering::SeqCst) {
            return Err(EIO);
        }
        let file = self.file(node, Some(handle))?;
        file.sync_all().map_err(|error| code(&error))
    }

    fn rename(&mut self, from: &Path, to: &Path) -> Fallible<()> {
        self.writable()?;
        fs::rename(from, to).map_err(|error| code(&error))?;
        for path in self.paths.values_mut() {
            if let Ok(rest) = path.strip_prefix(from) {
                let moved = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
                *path = moved;
            }
        }
        Ok(())
    }

    fn resize(&self, node: u64, size: u64) -> Fallible<()> {
        self.writable()?;
        let file = OpenOptions::new().write(true).open(self.path(node)?);
        file.and_then(|file| file.set_len(size)).map_err(|error| code(&error))
    }
}

fn attributes(node: u64, about: &fs::Metadata) -> FileAttr {
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

fn answer(reply: ReplyEmpty, result: Fallible<()>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn answer_entry(reply: ReplyEntry, result: Fallible<FileAttr>) {
    match result {
        Ok(attributes) => reply.entry(&AT_ONCE, &attributes, 0),
        Err(errno) => reply.error(errno),
    }
}

impl Filesystem for Files {
    fn lookup(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEntry) {
        let found = self.below(parent, name).and_then(|path| self.entry(&path));
        answer_entry(reply, found);
    }

    fn getattr(&mut self, _: &Request<'_>, node: u64, handle: Option<u64>, reply: ReplyAttr) {
        let opened = handle.and_then(|handle| self.open.get(&handle));
        let found = match opened {
            Some(file) => {
                file.metadata().map(|about| attributes(node, &about)).map_err(|error| code(&error))
            }
            None => self.path(node).and_then(|path| self.entry(&path)),
        };
        match found {
            Ok(attributes) => reply.attr(&AT_ONCE, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &mut self,
        request: &Request<'_>,
        node: u64,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<u64>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<u32>,
        reply: ReplyAttr,
    ) {
        let chmod = |mode: u32| {
            let mode = fs::Permissions::from_mode(mode & 0o7777);
            fs::set_permissions(self.path(node)?, mode).map_err(|error| code(&error))
        };
        let done = size
            .map_or(Ok(()), |size| self.resize(node, size))
            .and_then(|()| mode.map_or(Ok(()), chmod));
        match done {
            Ok(()) => self.getattr(request, node, handle, reply),
            Err(errno) => reply.error(errno),
        }
    }

    fn mkdir(
        &mut self,
        _: &Request<'_>,
        parent: u64,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let made = self.take_room(u64::from(BLOCK)).and_then(|()| {
            let path = self.below(parent, name)?;
            fs::DirBuilder::new().mode(mode).create(&path).map_err(|error| code(&error))?;
            self.entry(&path)
        });
        answer_entry(reply, made);
    }

    fn unlink(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        let done = self.writable().and_then(|()| self.below(parent, name));
        answer(reply, done.and_then(|path| fs::remove_file(path).map_err(|error| code(&error))));
    }

    fn rmdir(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        let done = self.writable().and_then(|()| self.below(parent, name));
        answer(reply, done.and_then(|path| fs::remove_dir(path).map_err(|error| code(&error))));
    }

    fn rename(
        &mut self,
        _: &Request<'_>,
        parent: u64,
        name: &OsStr,
        to_parent: u64,
        to_name: &OsStr,
        _flags: u32,
        reply: ReplyEmpty,
    ) {
        let paths =
            self.below(parent, name).and_then(|from| Ok((from, self.below(to_parent, to_name)?)));
        let done = paths.and_then(|(from, to)| Self::rename(self, &from, &to));
        answer(reply, done);
    }

    fn open(&mut self, _: &Request<'_>, node: u64, flags: i32, reply: ReplyOpen) {
        let write = flags & libc::O_ACCMODE != libc::O_RDONLY;
        let opened = if write { self.writable() } else { Ok(()) }.and_then(|()| {
            let file = OpenOptions::new().read(true).write(write).open(self.path(node)?);
            file.map_err(|error| code(&error))
        });
        match opened {
            Ok(file) => reply.opened(self.hold(file), 0),
            Err(errno) => reply.error(errno),
        }
    }

    fn create(
        &mut self,
        _: &Request<'_>,
        parent: u64,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self.take_room(u64::from(BLOCK)).and_then(|()| {
            let path = self.below(parent, name)?;
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(mode);
            let file = options.open(&path).map_err(|error| code(&error))?;
            Ok((self.entry(&path)?, file))
        });
        match made {
            Ok((attributes, file)) => reply.created(&AT_ONCE, &attributes, 0, self.hold(file), 0),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &mut self,
        _: &Request<'_>,
        node: u64,
        handle: u64,
        offset: i64,
        size: u32,
        _flags: i32,
        _lock_owner: Option<u64>,
        reply: ReplyData,
    ) {
        let read = self.file(node, Some(handle)).and_then(|file| {
            let mut bytes = vec![0; usize::try_from(size).unwrap()];
            let mut done = 0;
            while done < bytes.len() {
                let at = u64::try_from(offset).unwrap() + done as u64;
                match file.read_at(&mut bytes[done..], at).map_err(|error| code(&error))? {
                    0 => break,
                    more => done += more,
                }
            }
            bytes.truncate(done);
            Ok(bytes)
        });
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &mut self,
        _: &Request<'_>,
        node: u64,
        handle: u64,
        offset: i64,
        data: &[u8],
        _write_flags: u32,
        _flags: i32,
        _lock_owner: Option<u64>,
        reply: ReplyWrite,
    ) {
        let written = self.take_room(data.len() as u64).and_then(|()| {
            let file = self.file(node, Some(handle))?;
            let offset = u64::try_from(offset).unwrap();
            file.write_all_at(data, offset).map_err(|error| code(&error))
        });
        match written {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap()),
            Err(errno) => reply.error(errno),
        }
    }

    fn release(
        &mut self,
        _: &Request<'_>,
        _node: u64,
        handle: u64,
        _flags: i32,
        _lock_owner: Option<u64>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.open.remove(&handle);
        reply.ok();
    }

    fn flush(&mut self, _: &Request<'_>, _node: u64, _handle: u64, _owner: u64, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&mut self, _: &Request<'_>, node: u64, handle: u64, _data: bool, reply: ReplyEmpty) {
        answer(reply, self.sync(node, handle));
    }

    fn fsyncdir(
        &mut self,
        _: &Request<'_>,
        node: u64,
        handle: u64,
        _data: bool,
        reply: ReplyEmpty,
    ) {
        answer(reply, self.sync(node, handle));
    }

    fn readdir(
        &mut self,
        _: &Request<'_>,
        node: u64,
        _handle: u64,
        offset: i64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.path(node).and_then(|path| {
            let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            entries.map_err(|error| code(&error))
        });
        let entries = match listed {
            Ok(entries) => entries,
            Err(errno) => return reply.error(errno),
        };
        let skip = usize::try_from(offset).unwrap();
        for (index, entry) in entries.iter().enumerate().skip(skip) {
            let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let kind = if folder { FileType::Directory } else { FileType::RegularFile };
            let next = i64::try_from(index + 1).unwrap();
            let number = fs::DirEntry::file_name(entry);
            if reply.add(u64::MAX, next, kind, number) {
                break;
            }
        }
        reply.ok();
    }

    fn fallocate(
        &mut self,
        _: &Request<'_>,
        node: u64,
        handle: u64,
        offset: i64,
        length: i64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        let bytes = u64::try_from(length).unwrap();
        let end = u64::try_from(offset).unwrap() + bytes;
        let done = self.take_room(bytes).and_then(|()| {
            let about = self.file(node, Some(handle))?.metadata().map_err(|error| code(&error))?;
            self.resize(node, about.len().max(end))
        });
        answer(reply, done);
    }

    fn statfs(&mut self, _: &Request<'_>, _node: u64, reply: ReplyStatfs) {
        let all: u64 = 1 << 40;
        let told = self.faults.tells_room.load(Ordering::SeqCst);
        let free = if told { self.faults.room.load(Ordering::SeqCst) } else { all };
        let (all, free) = (all / u64::from(BLOCK), free / u64::from(BLOCK));
        reply.statfs(all, free, free, 1 << 20, 1 << 20, BLOCK, 255, BLOCK);
    }

    fn access(&mut self, _: &Request<'_>, _node: u64, mask: i32, reply: ReplyEmpty) {
        answer(reply, if mask & libc::W_OK != 0 { self.writable() } else { Ok(()) });
    }
}
