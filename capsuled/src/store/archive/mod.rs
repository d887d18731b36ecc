//! One file that holds a whole state: what backups are made of and exports are.
//!
//! It knows records, files and how to tell that they are the ones that were written; it must not
//! know which files belong to a state or what a record means.
//!
//! The file is `MAGIC`, then entries: one byte for the kind, four for the length of the body,
//! four for a CRC-32 over kind, length and body, and the body (numbers little-endian). The first
//! entry is the [`Head`], the last the [`Tail`], whose SHA-256 covers every byte before it, so
//! nothing can be cut off, flipped, swapped or added without notice. Of several entries of one
//! record the last holds: a copy of a running queue tells what changed meanwhile once more.

mod place;
mod read;
mod restore;
#[cfg(test)]
mod tests;
mod write;

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use uuid::Uuid;

use super::{StoreError, Table};

pub(super) use self::place::finish;
pub use self::read::{Checked, Reader, check, peek};
pub use self::restore::{Placed, Restoring};
pub use self::write::Writer;

/// The newest format this version knows. A reader takes all up to its own.
const FORMAT: u32 = 1;

/// How a file of this kind begins.
const MAGIC: &[u8; 16] = b"capsule archive\n";

/// Bytes of a file in one entry; a reader refuses an entry that is longer than this and a path.
const PIECE: usize = 1 << 20;

/// The longest path inside a state directory, in bytes.
const PATH_MAX: usize = 4096;

/// Whose state it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The store it was taken from.
    pub store: Uuid,
    /// When it was taken.
    pub taken: Timestamp,
    /// The version that wrote it.
    pub version: String,
}

/// What must have been read when the end is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// The last change of the records: all are what that commit left.
    pub high_water: u64,
    /// How many records there are, and the sum of their hashes.
    pub sum: (u64, u64),
    /// How many of them are in the table of tasks.
    pub tasks: u64,
    /// How many files there are.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// One thing in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A record, or that an earlier one is gone again (`None`).
    Record(Table, Vec<u8>, Option<Vec<u8>>),
    /// A folder, file or link of the state directory; the bytes of a file follow.
    Node(Node),
    /// Bytes of the file named last.
    Bytes(Vec<u8>),
}

/// A folder, file or link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where, from the state directory.
    pub path: PathBuf,
    /// What it is.
    pub kind: NodeKind,
}

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A folder with these permissions.
    Folder {
        /// Permission bits.
        mode: u32,
    },
    /// A file.
    File {
        /// Permission bits.
        mode: u32,
        /// When it was last changed, in microseconds since 1970.
        changed: i64,
        /// Its bytes.
        length: u64,
    },
    /// A symbolic link.
    Link {
        /// Where to.
        to: PathBuf,
    },
}

/// Why an archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is not what was written.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The archive.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// A newer version wrote it.
    #[error("{} has format {found}; this version knows formats up to {FORMAT}", path.display())]
    Newer {
        /// The archive.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The operating system failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ArchiveError {
    /// True when the archive is at fault and not the machine.
    pub fn is_about_data(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::Newer { .. } => true,
            Self::Store(error) => error.is_about_data(),
            Self::Io { .. } => false,
        }
    }
}

/// The kinds of entries. A number never changes its meaning.
mod kind {
    pub(super) const HEAD: u8 = 1;
    pub(super) const PUT: u8 = 2;
    pub(super) const DELETE: u8 = 3;
    pub(super) const FOLDER: u8 = 4;
    pub(super) const FILE: u8 = 5;
    pub(super) const LINK: u8 = 6;
    pub(super) const BYTES: u8 = 7;
    pub(super) const TAIL: u8 = 8;
}

/// The CRC-32 of an entry.
fn checksum(kind: u8, length: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(&length.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}
