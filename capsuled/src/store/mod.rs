//! Everything that makes bytes durable.
//!
//! Owns the state directory, its lock, the MANIFEST, the queue's database and the side files. It
//! knows bytes, tables and durability; it must not know what a task or a status is.
//!
//! Invariant: when [`Store::commit`] returns `Ok`, the batch is on disk, all or none; and a store
//! that was emptied, rolled back, damaged or written by a newer version never opens.
//!
//! One thread commits. Others may read at the same time; they may see a batch that is not yet
//! durable, so nothing that leaves the machine may rest on such a read.

use std::fmt::Debug;
use std::ops::ControlFlow;

pub mod archive;
#[cfg(test)]
mod conformance;
mod dir;
mod disk;
mod error;
mod lock;
mod manifest;
mod memory;
mod record;
mod side;
mod sled;

pub use self::dir::{RESERVED_BYTES, StateDir};
pub use self::error::StoreError;
pub use self::manifest::{store_id, store_reached};
pub use self::memory::MemoryStore;
pub use self::side::{HoldSideFiles, SideFiles, SideKind};
pub use self::sled::{
    Compacted, Compactor, Copied, CopyOf, Counts, Found, LiveCopy, Opened, Repaired, SledStore,
    TakeCopied, VerifyReport, Visit, repair, verify,
};

/// Most bytes of a key. Pages of the database's index hold over 256 keys and must stay far below
/// [`MAX_RECORD`]'s page limit.
pub const MAX_KEY: usize = 256;

/// Most bytes of a record, key and value together. A page holds up to 20 records; a page over a
/// quarter of a segment would go to a file that the database never syncs.
pub const MAX_RECORD: usize = 4 * 1024;

/// Most bytes of a batch, keys and values together: an eighth of a segment. A commit longer than a
/// segment can be cut off by a power cut in a way that opens as an empty database.
pub const MAX_BATCH_BYTES: usize = 512 * 1024;

/// Most changes of a batch. Every tenth change of a page rewrites the page, so many small changes
/// write much more than their own bytes.
pub const MAX_BATCH_CHANGES: usize = 4096;

/// A named set of records. Each is one prefix byte of the key on disk, which never changes meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Counters and settings of the daemon itself.
    Meta = b'm',
    /// Tasks.
    Task = b't',
    /// Attempts before a task's last one.
    Attempt = b'a',
    /// Apps and their revisions.
    App = b'd',
    /// Queues.
    Queue = b'q',
    /// What remains of pruned tasks.
    Tombstone = b'x',
    /// Idempotency keys.
    Key = b'i',
    /// Schedules.
    Schedule = b's',
    /// Planned fires of schedules.
    Tick = b'k',
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 9] = [
        Self::Meta,
        Self::Task,
        Self::Attempt,
        Self::App,
        Self::Queue,
        Self::Tombstone,
        Self::Key,
        Self::Schedule,
        Self::Tick,
    ];

    /// The prefix byte on disk.
    pub const fn prefix(self) -> u8 {
        self as u8
    }

    fn from_prefix(prefix: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.prefix() == prefix)
    }
}

/// One record to write or to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The table it is in.
    pub table: Table,
    /// The key inside the table, at most [`MAX_KEY`] bytes.
    pub key: Vec<u8>,
    /// The new value; `None` deletes the record if there is one.
    pub value: Option<Vec<u8>>,
}

impl Change {
    /// A change that writes `value` under `key`.
    pub fn put(table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { table, key: key.into(), value: Some(value.into()) }
    }

    /// A change that deletes `key`.
    pub fn delete(table: Table, key: impl Into<Vec<u8>>) -> Self {
        Self { table, key: key.into(), value: None }
    }
}

/// Changes that become durable together. Of several changes to one key, the last one holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The changes, in order; at most [`MAX_BATCH_CHANGES`] and [`MAX_BATCH_BYTES`].
    pub changes: Vec<Change>,
    /// The sequence number of the last change in the batch. It never goes back.
    pub high_water: u64,
}

/// Keys from `from` (inclusive) up to `to` (exclusive, or the end of the table).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyRange<'a> {
    /// The first key.
    pub from: &'a [u8],
    /// The first key beyond the range.
    pub to: Option<&'a [u8]>,
}

impl<'a> KeyRange<'a> {
    /// The whole table.
    pub const ALL: KeyRange<'static> = KeyRange { from: &[], to: None };

    /// Every key from `from` on.
    pub const fn starting_at(from: &'a [u8]) -> Self {
        Self { from, to: None }
    }

    /// Every key from `from` up to, and without, `to`.
    pub const fn between(from: &'a [u8], to: &'a [u8]) -> Self {
        Self { from, to: Some(to) }
    }
}

/// Called with the key (inside its table) and the value of a record; breaks to end the scan.
pub type Each<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Durable tables of records.
pub trait Store: Send + Sync + Debug {
    /// Makes a batch durable: when it returns `Ok`, all changes are on disk; after a crash at any
    /// moment, all of them or none.
    ///
    /// After [`StoreError::TooLarge`] and [`StoreError::WentBack`] nothing was written and the
    /// store goes on. After any other error nothing may be acknowledged, every later commit fails
    /// with [`StoreError::Poisoned`], and the process must exit and verify on its next start.
    fn commit(&self, batch: &Batch) -> Result<(), StoreError>;

    /// Most changes of a batch that it is given, [`MAX_BATCH_CHANGES`] at the most; what must not be
    /// torn may be more.
    fn most_changes(&self) -> usize {
        MAX_BATCH_CHANGES
    }

    /// The value of a record, checked against its checksum.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Visits the records of a range in key order until `each` breaks. It is not a snapshot: a
    /// commit made meanwhile may be seen in part.
    fn scan(
        &self,
        table: Table,
        range: KeyRange<'_>,
        each: &mut Each<'_>,
    ) -> Result<(), StoreError>;

    /// Like [`Store::scan`], from the last key of the range to the first.
    fn scan_back(
        &self,
        table: Table,
        range: KeyRange<'_>,
        each: &mut Each<'_>,
    ) -> Result<(), StoreError>;

    /// The sequence number of the last durable change.
    fn high_water(&self) -> u64;

    /// Bytes the records take on disk, as the file system counts their length.
    fn size_on_disk(&self) -> Result<u64, StoreError>;

    /// Notes a clean stop, so that the next start can tell if even one commit went missing.
    fn close(&self) -> Result<(), StoreError>;
}
