//! The store on the sled database.
//!
//! Owns what is in `queue/`. sled's own flush does not reach the disk: a commit applies its batch,
//! flushes, syncs any page that sled put in a file of its own, and then syncs sled's file through
//! our own descriptor. Any failure on that way ends all commits, because after a failed sync
//! nobody knows what the disk holds.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use self::audit::{HEADER_KEY, Header, Tally};
use self::database::{Database, Records};
use self::live::{Live, Outdated};
use super::disk::{self, DiskSync};
use super::manifest::{Manifest, Mark};
use super::record::{self, BadRecord};
use super::{Batch, Each, KeyRange, StateDir, Store, StoreError, Table};
use crate::failpoint;

mod audit;
mod compact;
mod copy;
mod database;
mod guard;
mod live;
mod open;
mod repair;
#[cfg(test)]
mod tests;
mod verify;

pub use self::audit::{Counts, Visit};
pub use self::compact::{Compacted, Compactor};
pub use self::copy::{Copied, CopyOf, LiveCopy, TakeCopied};
pub use self::open::{Found, Opened};
pub use self::repair::{Repaired, repair};
pub use self::verify::{VerifyReport, verify};

/// The MANIFEST's low bound lags behind by at most this many commits ...
const MANIFEST_COMMITS: u32 = 10_000;

/// ... and, while there are commits, by at most this time.
const MANIFEST_AGE: Duration = Duration::from_secs(60);

/// Commits between two looks at the size of the database. A commit writes a few KiB as a rule and
/// half a MiB at the most, so nothing much is missed.
const LOOK_COMMITS: u32 = 64;

/// A store whose records are in a sled database.
#[derive(Debug)]
pub struct SledStore {
    live: RwLock<Arc<Live>>,
    /// The database before that one, while somebody still reads it.
    outdated: Mutex<Weak<Outdated>>,
    sync: Arc<dyn DiskSync>,
    /// Held by whoever copies the records.
    copying: Mutex<()>,
    writer: Mutex<Writer>,
    high_water: AtomicU64,
    state: StateDir,
}

#[derive(Debug)]
struct Writer {
    header: Header,
    tally: Tally,
    manifest: Manifest,
    commits: u32,
    written: Instant,
    mark: Mark,
    poisoned: bool,
    /// Keys that were changed since a copy began; `None` when there is no copy.
    changed: Option<BTreeSet<Vec<u8>>>,
    /// Who is told that the database has become sparse.
    ask: Option<SyncSender<()>>,
    /// How long the database was after it was last rebuilt.
    rebuilt: u64,
}

impl Store for SledStore {
    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut writer = self.writing()?;
        record::check(batch, writer.header.high_water)?;
        // Stays set if this panics half-way.
        writer.poisoned = true;
        self.write(&mut writer, batch)?;
        writer.poisoned = false;
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let key = record::disk_key(table, key);
        let Some(stored) = self.live().database.get(&key)? else { return Ok(None) };
        self.body(&key, &stored).map(|body| Some(body.to_vec()))
    }

    fn scan(
        &self,
        table: Table,
        range: KeyRange<'_>,
        each: &mut Each<'_>,
    ) -> Result<(), StoreError> {
        let live = self.live();
        self.visit(records(&live, table, range), each)
    }

    fn scan_back(
        &self,
        table: Table,
        range: KeyRange<'_>,
        each: &mut Each<'_>,
    ) -> Result<(), StoreError> {
        let live = self.live();
        self.visit(records(&live, table, range).rev(), each)
    }

    fn high_water(&self) -> u64 {
        self.high_water.load(Ordering::Acquire)
    }

    fn size_on_disk(&self) -> Result<u64, StoreError> {
        disk::size(self.live().database.path())
    }

    fn close(&self) -> Result<(), StoreError> {
        let mut writer = self.writing()?;
        self.note_high_water(&mut writer)
    }
}

impl SledStore {
    fn new(
        state: &StateDir,
        database: Database,
        (header, tally, manifest): (Header, Tally, Manifest),
        sync: Arc<dyn DiskSync>,
    ) -> Result<Self, StoreError> {
        let live = Live::new(database, state)?;
        let mark = Mark::open(state.root(), manifest.uuid)?;
        mark.note(header.high_water);
        let writer = Writer {
            header,
            tally,
            manifest,
            commits: 0,
            written: Instant::now(),
            mark,
            poisoned: false,
            changed: None,
            ask: None,
            rebuilt: 0,
        };
        Ok(Self {
            live: RwLock::new(Arc::new(live)),
            outdated: Mutex::default(),
            sync,
            copying: Mutex::default(),
            high_water: AtomicU64::new(header.high_water),
            writer: Mutex::new(writer),
            state: state.clone(),
        })
    }

    /// How many records there are, and the sum of their hashes.
    pub(super) fn sum(&self) -> (u64, u64) {
        let sum = self.writer.lock().header.sum;
        (sum.count, sum.hash)
    }

    /// The database as it is now; a rebuild may put another in its place.
    fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.read())
    }

    /// Says whom to ask for a rebuild when the database has become sparse; looks at once.
    fn ask_when_sparse(&self, ask: Option<SyncSender<()>>) {
        let mut writer = self.writer.lock();
        writer.ask = ask;
        self.look(&writer);
    }

    fn look(&self, writer: &Writer) {
        if let Some(ask) = &writer.ask
            && self.is_sparse(writer)
        {
            // Full: it has been asked already.
            let _ = ask.try_send(());
        }
    }

    fn write(&self, writer: &mut Writer, batch: &Batch) -> Result<(), StoreError> {
        let mut last: BTreeMap<Vec<u8>, Option<&[u8]>> = BTreeMap::new();
        for change in &batch.changes {
            last.insert(record::disk_key(change.table, &change.key), change.value.as_deref());
        }
        let live = self.live();
        let (mut header, mut tally) = (writer.header, writer.tally);
        header.high_water = batch.high_water;
        if let Some(changed) = &mut writer.changed {
            changed.extend(last.keys().cloned());
        }
        let mut changes = ::sled::Batch::default();
        for (key, body) in last {
            if let Some(old) = live.database.get(&key)? {
                header.sum.remove(&old);
                tally.remove(&key, &old);
            }
            match body {
                Some(body) => {
                    let stored = record::encode(&key, body);
                    header.sum.add(&stored);
                    tally.add(&key, &stored);
                    changes.insert(key, stored);
                }
                None => changes.remove(key),
            }
        }
        changes.insert(HEADER_KEY, header.encode());
        failpoint::pass("before-flush");
        live.database.write(changes)?;
        failpoint::pass("after-flush");
        live.sync(&*self.sync)?;
        failpoint::pass("after-fsync");
        (writer.header, writer.tally) = (header, tally);
        self.high_water.store(header.high_water, Ordering::Release);
        writer.mark.note(header.high_water);
        writer.commits += 1;
        if writer.commits.is_multiple_of(LOOK_COMMITS) {
            self.look(writer);
        }
        if writer.commits >= MANIFEST_COMMITS || writer.written.elapsed() >= MANIFEST_AGE {
            self.note_high_water(writer)?;
        }
        Ok(())
    }

    fn note_high_water(&self, writer: &mut Writer) -> Result<(), StoreError> {
        writer.manifest.low_bound = writer.header.high_water;
        writer.manifest.write(self.state.root(), &*self.sync)?;
        writer.commits = 0;
        writer.written = Instant::now();
        Ok(())
    }

    fn visit(
        &self,
        records: impl Iterator<Item = Result<(::sled::IVec, ::sled::IVec), StoreError>>,
        each: &mut Each<'_>,
    ) -> Result<(), StoreError> {
        for stored in records {
            let (key, stored) = stored?;
            let body = self.body(&key, &stored)?;
            if let Some((_, key)) = key.split_first()
                && let ControlFlow::Break(()) = each(key, body)
            {
                break;
            }
        }
        Ok(())
    }

    fn body<'a>(&self, key: &[u8], stored: &'a [u8]) -> Result<&'a [u8], StoreError> {
        let dir = || self.state.root().to_path_buf();
        record::decode(key, stored).map_err(|bad| match bad {
            BadRecord::Checksum => StoreError::Damaged {
                dir: dir(),
                what: format!("the checksum of record {} does not fit", key.escape_ascii()),
            },
            BadRecord::Newer(version) => StoreError::Newer {
                dir: dir(),
                what: "record",
                found: u32::from(version),
                known: u32::from(record::RECORD_VERSION),
            },
        })
    }
}

fn records<'a>(live: &'a Live, table: Table, range: KeyRange<'_>) -> Records<'a> {
    let from = record::disk_key(table, range.from);
    let to = match range.to {
        Some(to) => record::disk_key(table, to),
        None => vec![table.prefix() + 1],
    };
    live.database.range(&from, Some(&to))
}
