//! The folder of all logs: what is in it, how much that is, and removal.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, DirEntry, File, read_dir};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::LogError;
use super::format::{file_name, parse_file_name, shard_name};
use super::ledger::Ledger;

/// The logs folder.
#[derive(Debug)]
pub struct LogDir {
    path: PathBuf,
    file: File,
    pub(super) ledger: Ledger,
}

/// The files of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptLog {
    /// The task.
    pub task: u64,
    /// Its attempt.
    pub attempt: u32,
    /// Bytes of its files.
    pub bytes: u64,
    /// When the newest of them was last written, in seconds since 1970.
    pub modified: i64,
}

impl LogDir {
    /// Opens the folder, and makes it (0700) when it is not there.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, LogError> {
        let path = path.into();
        let name = || path.display().to_string();
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(LogError::io("creating", name())(error));
            }
            Ok(()) | Err(_) => {}
        }
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let file = File::options()
            .read(true)
            .custom_flags(flags.bits())
            .open(&path)
            .map_err(LogError::io("opening", name()))?;
        Ok(Self { path, file, ledger: Ledger::default() })
    }

    /// A descriptor of the folder, for the writer.
    pub fn handle(&self) -> Result<OwnedFd, LogError> {
        let copy = self.file.try_clone();
        Ok(copy.map_err(LogError::io("opening", self.path.display().to_string()))?.into())
    }

    /// Removes the log of an attempt that has ended; gives the bytes that its files had. It is no
    /// error if there is none.
    pub fn remove(&self, task: u64, attempt: u32) -> Result<u64, LogError> {
        let Some(shard) = self.open_shard(task)? else { return Ok(0) };
        let mut bytes = 0;
        for generation in 0..=2 {
            let name = file_name(task, attempt, generation);
            let size = length(&shard, &name)?;
            match unlinkat(&shard, name.as_str(), UnlinkatFlags::NoRemoveDir) {
                Ok(()) => bytes += size,
                Err(Errno::ENOENT) => {}
                Err(error) => return Err(LogError::io("removing", name)(error.into())),
            }
        }
        let name = shard_name(task);
        match unlinkat(&self.file, name.as_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::EEXIST) => Ok(bytes),
            Err(error) => Err(LogError::io("removing", name)(error.into())),
        }
    }

    /// Bytes of the files of one attempt.
    pub fn bytes(&self, task: u64, attempt: u32) -> Result<u64, LogError> {
        let Some(shard) = self.open_shard(task)? else { return Ok(0) };
        (0..=2).map(|generation| length(&shard, &file_name(task, attempt, generation))).sum()
    }

    fn open_shard(&self, task: u64) -> Result<Option<OwnedFd>, LogError> {
        let name = shard_name(task);
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.file, name.as_str(), flags, Mode::empty()) {
            Err(Errno::ENOENT) => Ok(None),
            Ok(shard) => Ok(Some(shard)),
            Err(error) => Err(LogError::io("opening", name)(error.into())),
        }
    }

    /// Bytes of all log files.
    pub fn usage(&self) -> Result<u64, LogError> {
        let mut bytes = 0;
        self.visit(|log| {
            bytes += log.bytes;
            ControlFlow::Continue(())
        })?;
        Ok(bytes)
    }

    /// All attempts that have a log, in the order of their tasks.
    pub fn list(&self) -> Result<Vec<AttemptLog>, LogError> {
        let mut logs = Vec::new();
        self.visit(|log| {
            logs.push(log);
            ControlFlow::Continue(())
        })?;
        Ok(logs)
    }

    /// Shows all attempts that have a log, in the order of their tasks, until told to stop. Needs
    /// memory for a thousand tasks only. The visitor may remove logs.
    pub fn visit(
        &self,
        visitor: impl FnMut(AttemptLog) -> ControlFlow<()>,
    ) -> Result<(), LogError> {
        self.visit_from(0, visitor)
    }

    /// Like [`LogDir::visit`], without the tasks before `first`.
    pub fn visit_from(
        &self,
        first: u64,
        mut visitor: impl FnMut(AttemptLog) -> ControlFlow<()>,
    ) -> Result<(), LogError> {
        let mut shards = Vec::new();
        each_entry(&self.path, |entry| {
            let number = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
            if entry.file_type()?.is_dir() {
                shards.extend(number.filter(|shard| *shard >= first / 1000));
            }
            Ok(())
        })?;
        shards.sort_unstable();
        for shard in shards {
            for log in self.shard(shard)?.filter(|log| log.task >= first) {
                if visitor(log).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn shard(&self, shard: u64) -> Result<impl Iterator<Item = AttemptLog>, LogError> {
        let mut found = BTreeMap::new();
        each_entry(&self.path.join(shard.to_string()), |entry| {
            let Some((task, attempt)) = entry.file_name().to_str().and_then(parse_file_name) else {
                return Ok(());
            };
            let metadata = entry.metadata()?;
            if metadata.is_file() && task / 1000 == shard {
                let log = found.entry((task, attempt)).or_insert(AttemptLog {
                    task,
                    attempt,
                    bytes: 0,
                    modified: i64::MIN,
                });
                log.bytes += metadata.len();
                log.modified = log.modified.max(metadata.mtime());
            }
            Ok(())
        })?;
        Ok(found.into_values())
    }
}

/// The length of a file; 0 when there is none.
fn length(shard: &OwnedFd, name: &str) -> Result<u64, LogError> {
    match fstatat(shard, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(about) => Ok(u64::try_from(about.st_size).unwrap_or(0)),
        Err(Errno::ENOENT) => Ok(0),
        Err(error) => Err(LogError::io("measuring", name)(error.into())),
    }
}

/// Looks at each entry of a folder. What disappears meanwhile is left out.
fn each_entry(
    path: &Path,
    mut look: impl FnMut(&DirEntry) -> io::Result<()>,
) -> Result<(), LogError> {
    let failed = || LogError::io("listing", path.display().to_string());
    let entries = match read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed())?,
    };
    for entry in entries {
        match look(&entry.map_err(failed())?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            looked => looked.map_err(failed())?,
        }
    }
    Ok(())
}
