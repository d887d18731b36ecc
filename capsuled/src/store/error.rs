//! What can go wrong in the store, and the command that helps.

use std::io;
use std::path::{Path, PathBuf};

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the state directory open.
    #[error("{} is in use by {}", dir.display(), holder(*by))]
    Locked {
        /// The state directory.
        dir: PathBuf,
        /// The process id of the holder, when its lock file tells.
        by: Option<u32>,
    },
    /// The directory holds a store, but a part without which it cannot be trusted is gone.
    #[error("{} holds a store, but its {what} is missing", dir.display())]
    Missing {
        /// The state directory.
        dir: PathBuf,
        /// The part that is missing.
        what: &'static str,
    },
    /// The database is empty although it has held records.
    #[error("the queue in {} is empty, but change {low_bound} was made durable in it", dir.display())]
    Emptied {
        /// The state directory.
        dir: PathBuf,
        /// The change that was durable at the least.
        low_bound: u64,
    },
    /// The database is older than it has been.
    #[error(
        "the queue in {} ends at change {found}, but change {low_bound} was made durable in it",
        dir.display()
    )]
    RolledBack {
        /// The state directory.
        dir: PathBuf,
        /// The last change found.
        found: u64,
        /// The change that was durable at the least.
        low_bound: u64,
    },
    /// What is on disk is not what was written.
    #[error("the store in {} is damaged: {what}", dir.display())]
    Damaged {
        /// The state directory.
        dir: PathBuf,
        /// What was found.
        what: String,
    },
    /// A side file is not what was written.
    #[error("the file {} is damaged: its checksum does not fit", path.display())]
    DamagedFile {
        /// The file.
        path: PathBuf,
    },
    /// A newer version of the program wrote this.
    #[error(
        "the {what} in {} has format {found}; this version knows formats up to {known}",
        dir.display()
    )]
    Newer {
        /// The state directory.
        dir: PathBuf,
        /// The part with the newer format.
        what: &'static str,
        /// The format found.
        found: u32,
        /// The newest format this version knows.
        known: u32,
    },
    /// The state directory exists and is not fit to keep a store.
    #[error("{} cannot be a state directory: {why}", dir.display())]
    Unfit {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The disk or the quota is full.
    #[error("cannot {doing} {}: the disk is full", path.display())]
    Full {
        /// What was being done.
        doing: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file system is read-only.
    #[error("cannot {doing} {}: the file system is read-only", path.display())]
    ReadOnly {
        /// What was being done.
        doing: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A key, record, batch or side file is over its limit. Nothing was written.
    #[error("{what}: {size} exceeds the limit of {limit}")]
    TooLarge {
        /// What is too large, and in which unit.
        what: &'static str,
        /// Its size.
        size: u64,
        /// The most allowed.
        limit: u64,
    },
    /// A batch's sequence number lies before the last one. Nothing was written.
    #[error("a batch ending at change {asked} cannot follow change {current}")]
    WentBack {
        /// The last durable change.
        current: u64,
        /// The batch's last change.
        asked: u64,
    },
    /// An earlier commit failed, so what is on disk is unknown until the next start.
    #[error("the store in {} failed before and takes no more commits", dir.display())]
    Poisoned {
        /// The state directory.
        dir: PathBuf,
    },
    /// It was told to stop. Nothing has changed.
    #[error("it was stopped")]
    Stopped,
    /// Any other failure of the operating system.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl StoreError {
    /// What the user can do about it: a command that exists, or a plain sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Locked { by: Some(pid), .. } => {
                Some(format!("stop that daemon first, or see what it is: ps -fp {pid}"))
            }
            Self::Locked { by: None, .. } => Some("stop the other daemon first".to_owned()),
            Self::Missing { dir, .. }
            | Self::Emptied { dir, .. }
            | Self::RolledBack { dir, .. }
            | Self::Damaged { dir, .. } => Some(format!(
                "put a backup back, or keep what is readable: capsuled db repair --state-dir {}",
                quoted(dir)
            )),
            Self::Poisoned { dir } => Some(format!(
                "see what is readable: capsuled db verify --state-dir {}",
                quoted(dir)
            )),
            Self::Newer { .. } => {
                Some("run the version of capsuled that wrote it, or a later one".to_owned())
            }
            Self::Full { path, .. } => Some(format!("see what is left: df -h {}", quoted(path))),
            Self::Unfit { dir, .. } => {
                Some(format!("see its owner, mode and contents: ls -la {}", quoted(dir)))
            }
            Self::ReadOnly { path, .. } => {
                Some(format!("see how it is mounted: findmnt -T {}", quoted(path)))
            }
            Self::DamagedFile { .. }
            | Self::TooLarge { .. }
            | Self::WentBack { .. }
            | Self::Stopped
            | Self::Io { .. } => None,
        }
    }

    /// True when what is on disk cannot be used as it is: damaged, emptied, older than it has been,
    /// or of a newer format.
    pub fn is_about_data(&self) -> bool {
        matches!(
            self,
            Self::Missing { .. }
                | Self::Emptied { .. }
                | Self::RolledBack { .. }
                | Self::Damaged { .. }
                | Self::Newer { .. }
        )
    }

    /// True when nothing was written and the store can go on.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::WentBack { .. })
    }

    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        let kind = source.kind();
        if matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            Self::Full { doing, path, source }
        } else if kind == io::ErrorKind::ReadOnlyFilesystem {
            Self::ReadOnly { doing, path, source }
        } else {
            Self::Io { doing, path, source }
        }
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
