//! Giving disk space back. The database never does, so its records are copied to a fresh one,
//! which takes its place while commits wait a moment.

mod thread;

use std::fs;
use std::io;
use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use ::sled::Batch;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

pub use self::thread::Compactor;
use super::audit::HEADER_KEY;
use super::copy::{Copying, Sink};
use super::database::Database;
use super::guard::DrowsyPool;
use super::live::Live;
use super::repair::REPAIRED;
use super::{SledStore, Writer};
use crate::store::disk::{self, DiskSync};
use crate::store::record::Sum;
use crate::store::{RESERVED_BYTES, StateDir, StoreError};

/// The fresh database, until it takes the place of the old one; from then on the old one.
pub(super) const COMPACT: &str = "queue.compact";

/// A smaller file is not worth the trouble: it is a sixteenth of what a day of logs may take.
const SMALL: u64 = 64 * 1024 * 1024;

/// How many times the bytes of its records a database may take. A fresh one takes about twice.
const SPARSE: u64 = 4;

/// Records per write to the fresh database; each is at most 4 KiB.
const CHUNK: usize = 128;

/// What a rebuild did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes on disk before.
    pub before: u64,
    /// Bytes on disk after.
    pub after: u64,
    /// How long commits waited for the exchange.
    pub held_up: Duration,
}

impl SledStore {
    /// Rebuilds the database without its dead space, while commits and reads go on. After a crash
    /// at any moment there is the old one or the new one, whole. Fails with
    /// [`StoreError::Stopped`] soon after `stop`; after any error but
    /// [`StoreError::Poisoned`] the store goes on as it was.
    pub fn compact(&self, stop: &AtomicBool) -> Result<Compacted, StoreError> {
        let _drowsy = DrowsyPool::begin();
        let copying = self.begin_copy()?;
        let before = self.live().length();
        // Should this fail, the next try waits until the database has doubled.
        self.writer.lock().rebuilt = before;
        let dir = self.state.root().join(COMPACT);
        if self.outdated.lock().strong_count() > 0 {
            let source = io::Error::from(io::ErrorKind::ResourceBusy);
            return Err(StoreError::io("remove", &dir, source));
        }
        self.check_room(&dir)?;
        let built = self.rebuild(&copying, &dir, stop);
        if built.is_err() && !self.writer.lock().poisoned {
            disk::remove_tree(&dir)?;
        }
        let held_up = built?;
        let after = self.live().length();
        self.writer.lock().rebuilt = after;
        Ok(Compacted { before, after, held_up })
    }

    /// Refuses to fill the disk: nothing new would be accepted until the copy is gone again.
    fn check_room(&self, dir: &Path) -> Result<(), StoreError> {
        let needed = self.writer.lock().tally.bytes().saturating_mul(2) + RESERVED_BYTES;
        if self.state.free_bytes()? < needed {
            let source = io::Error::from(io::ErrorKind::StorageFull);
            return Err(StoreError::io("write", dir, source));
        }
        Ok(())
    }

    fn rebuild(
        &self,
        copying: &Copying<'_>,
        dir: &Path,
        stop: &AtomicBool,
    ) -> Result<Duration, StoreError> {
        disk::remove_tree(dir)?;
        disk::make_folder(&*self.sync, dir)?;
        let database = Database::open_in(&self.state, dir)?;
        let live = Live::new(database, &self.state)?;
        let mut fresh = Fresh { live, chunk: Batch::default(), waiting: 0, sum: Sum::default() };
        copying.most(&mut fresh, stop)?;
        // The longest sync comes while commits go on, and what they changed meanwhile is little.
        disk::sync_tree(&*self.sync, dir)?;
        disk::sync_path(&*self.sync, self.state.root())?;
        copying.follow(&mut fresh)?;
        fresh.live.sync(&*self.sync)?;

        let began = Instant::now();
        let mut writer = self.writing()?;
        let changed = Copying::take_changed(&mut writer);
        copying.again(changed, &mut fresh)?;
        if fresh.sum != writer.header.sum {
            let source = io::Error::other("the copy does not hold what the queue holds");
            return Err(StoreError::io("copy", &self.state.queue(), source));
        }
        let mut last = Batch::default();
        last.insert(HEADER_KEY, writer.header.encode());
        fresh.live.database.write(last)?;
        fresh.live.sync(&*self.sync)?;
        self.put_in_place(&mut writer, fresh.live, dir)?;
        Ok(began.elapsed())
    }

    /// The new database for the old one, on disk and in memory. No commit runs, so both hold the
    /// same: whichever a crash leaves at `queue/` is the right one.
    fn put_in_place(&self, writer: &mut Writer, live: Live, dir: &Path) -> Result<(), StoreError> {
        // Stays set when nobody knows which of the two the next start will find.
        writer.poisoned = true;
        match exchange(&self.state, dir, &*self.sync) {
            Ok(()) => {}
            Err(Exchange::Undone(error)) => {
                writer.poisoned = false;
                return Err(error);
            }
            Err(Exchange::Unknown(error)) => return Err(error),
        }
        let old = mem::replace(&mut *self.live.write(), Arc::new(live));
        *self.outdated.lock() = old.outdated(dir.to_path_buf());
        writer.poisoned = false;
        Ok(())
    }

    /// True when a rebuild would give much back.
    pub(super) fn is_sparse(&self, writer: &Writer) -> bool {
        let length = self.live().length();
        length > SMALL
            && length > SPARSE.saturating_mul(writer.tally.bytes())
            && length > writer.rebuilt.saturating_mul(2)
    }
}

/// How far an exchange came that failed.
enum Exchange {
    /// Nothing has changed.
    Undone(StoreError),
    /// It may have happened.
    Unknown(StoreError),
}

/// Gives the folder `dir` the name of the queue and the queue the name `dir`, durably.
fn exchange(state: &StateDir, dir: &Path, sync: &dyn DiskSync) -> Result<(), Exchange> {
    let (root, queue) = (state.root(), state.queue());
    match renameat2(AT_FDCWD, dir, AT_FDCWD, &queue, RenameFlags::RENAME_EXCHANGE) {
        Ok(()) => disk::sync_path(sync, root).map_err(Exchange::Unknown),
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::ENOTSUP) => {
            one_by_one(state, dir, sync).map_err(Exchange::Unknown)
        }
        Err(errno) => Err(Exchange::Undone(StoreError::io("exchange", &queue, errno.into()))),
    }
}

/// The same in three steps, for file systems that know no exchange. A start that finds no queue
/// takes the one under the name that repairs use.
pub(super) fn one_by_one(
    state: &StateDir,
    dir: &Path,
    sync: &dyn DiskSync,
) -> Result<(), StoreError> {
    let (root, queue, whole) = (state.root(), state.queue(), state.root().join(REPAIRED));
    disk::remove_tree(&whole)?;
    for (from, to) in [(dir, &*whole), (&*queue, dir), (&*whole, &*queue)] {
        fs::rename(from, to).map_err(|source| StoreError::io("rename", from, source))?;
        disk::sync_path(sync, root)?;
    }
    Ok(())
}

/// The database that is being filled.
struct Fresh {
    live: Live,
    chunk: Batch,
    waiting: usize,
    sum: Sum,
}

impl Fresh {
    fn full(&mut self) -> Result<(), StoreError> {
        self.waiting += 1;
        if self.waiting < CHUNK { Ok(()) } else { self.pass() }
    }

    /// Forgets what an earlier pass copied under this key. A pass tells each key once, so what
    /// still waits in the chunk is never asked for.
    fn forget(&mut self, key: &[u8]) -> Result<(), StoreError> {
        if let Some(old) = self.live.database.get(key)? {
            self.sum.remove(&old);
        }
        Ok(())
    }
}

impl Sink for Fresh {
    fn put(&mut self, key: &[u8], stored: &[u8]) -> Result<(), StoreError> {
        self.forget(key)?;
        self.sum.add(stored);
        self.chunk.insert(key, stored);
        self.full()
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.forget(key)?;
        self.chunk.remove(key);
        self.full()
    }

    fn pass(&mut self) -> Result<(), StoreError> {
        self.waiting = 0;
        self.live.database.write(mem::take(&mut self.chunk))
    }
}
