//! What the kernel asks.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use fuser::{
    FileAttr, FileType, Filesystem, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
};

use super::files::{BLOCK, Fallible, Files, attributes, code};
use crate::power::Op;

/// The kernel asks again each time: a fault shows at once.
const AT_ONCE: Duration = Duration::ZERO;

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
        let entry = self.take_room(u64::from(BLOCK)).and_then(|()| {
            let path = self.below(parent, name)?;
            fs::DirBuilder::new().mode(mode).create(&path).map_err(|error| code(&error))?;
            let entry = self.entry(&path)?;
            self.note(&Op::Folder { folder: entry.ino, path: self.name(&path) });
            Ok(entry)
        });
        answer_entry(reply, entry);
    }

    fn unlink(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        let done = self.remove(parent, name, |path| fs::remove_file(path));
        answer(reply, done);
    }

    fn rmdir(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        let done = self.remove(parent, name, |path| fs::remove_dir(path));
        answer(reply, done);
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
        let done = paths.and_then(|(from, to)| self.put_elsewhere(&from, &to));
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
        let entry = self.take_room(u64::from(BLOCK)).and_then(|()| {
            let path = self.below(parent, name)?;
            let new = !path.exists();
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(mode);
            let file = options.open(&path).map_err(|error| code(&error))?;
            let entry = self.entry(&path)?;
            if new {
                self.note(&Op::Create { file: entry.ino, path: self.name(&path) });
            }
            Ok((entry, file))
        });
        match entry {
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
            file.write_all_at(data, offset).map_err(|error| code(&error))?;
            self.note(&Op::Write { file: node, offset, bytes: data.to_vec() });
            Ok(())
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
