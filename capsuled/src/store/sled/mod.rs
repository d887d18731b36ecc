//! The store on the sled database.
//!
//! Owns what is in `queue/`. sled's own flush does not reach the disk: a commit applies its batch,
//! flushes, syncs any page that sled put in a file of its own, and then syncs sled's file through
//! our own descriptor. Any failure on that way ends all commits, because after a failed sync
//! nobody knows what the disk holds.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use self::audit::{HEADER_KEY, Header};
use self::database::{Database, Records};
use super::disk::{self, DiskSync};
use super::manifest::{Manifest, Mark};
use super::record::{self, BadRecord};
use super::{Batch, Each, KeyRange, StateDir, Store, StoreError, Table};
use crate::failpoint;

mod audit;
mod database;
mod guard;
mod open;
mod repair;
#[cfg(test)]
mod tests;
mod verify;

pub use self::audit::{Counts, Visit};
pub use self::open::{Found, Opened};
pub use self::repair::{Repaired, repair};
pub use self::verify::{VerifyReport, verify};

/// The MANIFEST's low bound lags behind by at most this many commits ...
const MANIFEST_COMMITS: u32 = 10_000;

/// ... and, while there are commits, by at most this time.
const MANIFEST_AGE: Duration = Duration::from_secs(60);

/// A store whose records are in a sled database.
#[derive(Debug)]
pub struct SledStore {
    database: Database,
    /// Sled's file, opened once more: a sync of any descriptor covers what was written by all.
    file: File,
    file_path: PathBuf,
    blobs: PathBuf,
    sync: Arc<dyn DiskSync>,
    writer: Mutex<Writer>,
    high_water: AtomicU64,
    /// Holds the lock for as long as the database is open.
    state: StateDir,
}

#[derive(Debug)]
struct Writer {
    header: Header,
    manifest: Manifest,
    commits: u32,
    written: Instant,
    mark: Mark,
    poisoned: bool,
}

impl Store for SledStore {
    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut writer = self.writer.lock();
        if writer.poisoned {
            return Err(StoreError::Poisoned { dir: self.state.root().to_path_buf() });
        }
        record::check(batch, writer.header.high_water)?;
        // Stays set if this panics half-way.
        writer.poisoned = true;
        self.write(&mut writer, batch)?;
        writer.poisoned = false;
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let key = record::disk_key(table, key);
        let Some(stored) = self.database.get(&key)? else { return Ok(None) };
        self.body(&key, &stored).map(|body| Some(body.to_vec()))
    }

    fn scan(
        &self,
        table: Table,
        range: KeyRange<'_>,
        each: &mut Each<'_>,
    ) -> Result<(), StoreError> {
        self.visit(self.records(table, range), each)
    }

    fn scan_back(
        &self,
        table: Table,
        range: KeyRange<'_>,
        each: &mut Each<'_>,
    ) -> Result<(), StoreError> {
        self.visit(self.records(table, range).rev(), each)
    }

    fn high_water(&self) -> u64 {
        self.high_water.load(Ordering::Acquire)
    }

    fn size_on_disk(&self) -> Result<u64, StoreError> {
        disk::size(self.database.path())
    }

    fn close(&self) -> Result<(), StoreError> {
        let mut writer = self.writer.lock();
        if writer.poisoned {
            return Err(StoreError::Poisoned { dir: self.state.root().to_path_buf() });
        }
        self.note_high_water(&mut writer)
    }
}

impl SledStore {
    fn new(
        state: &StateDir,
        database: Database,
        (header, manifest): (Header, Manifest),
        sync: Arc<dyn DiskSync>,
    ) -> Result<Self, StoreError> {
        let file_path = database.path().join("db");
        let file =
            File::open(&file_path).map_err(|source| StoreError::io("open", &file_path, source))?;
        let mark = Mark::open(state.root(), manifest.uuid)?;
        mark.note(header.high_water);
        let written = Instant::now();
        let writer = Writer { header, manifest, commits: 0, written, mark, poisoned: false };
        Ok(Self {
            file,
            blobs: database.path().join("blobs"),
            file_path,
            database,
            sync,
            high_water: AtomicU64::new(header.high_water),
            writer: Mutex::new(writer),
            state: state.clone(),
        })
    }

    fn write(&self, writer: &mut Writer, batch: &Batch) -> Result<(), StoreError> {
        let mut last: BTreeMap<Vec<u8>, Option<&[u8]>> = BTreeMap::new();
        for change in &batch.changes {
            last.insert(record::disk_key(change.table, &change.key), change.value.as_deref());
        }
        let mut header = writer.header;
        header.high_water = batch.high_water;
        let mut changes = ::sled::Batch::default();
        for (key, body) in last {
            if let Some(old) = self.database.get(&key)? {
                header.sum.remove(&old);
            }
            match body {
                Some(body) => {
                    let stored = record::encode(&key, body);
                    header.sum.add(&stored);
                    changes.insert(key, stored);
                }
                None => changes.remove(key),
            }
        }
        changes.insert(HEADER_KEY, header.encode());
        failpoint::pass("before-flush");
        self.database.write(changes)?;
        failpoint::pass("after-flush");
        self.sync()?;
        failpoint::pass("after-fsync");
        writer.header = header;
        self.high_water.store(header.high_water, Ordering::Release);
        writer.mark.note(header.high_water);
        writer.commits += 1;
        if writer.commits >= MANIFEST_COMMITS || writer.written.elapsed() >= MANIFEST_AGE {
            self.note_high_water(writer)?;
        }
        Ok(())
    }

    /// Waits until all that the database wrote is on disk.
    fn sync(&self) -> Result<(), StoreError> {
        // Within the bounds of a record this folder stays empty.
        if !disk::entries(&self.blobs)?.is_empty() {
            disk::sync_tree(&*self.sync, &self.blobs)?;
        }
        self.sync
            .contents(&self.file, &self.file_path)
            .map_err(|source| StoreError::io("sync", &self.file_path, source))
    }

    fn note_high_water(&self, writer: &mut Writer) -> Result<(), StoreError> {
        writer.manifest.low_bound = writer.header.high_water;
        writer.manifest.write(self.state.root(), &*self.sync)?;
        writer.commits = 0;
        writer.written = Instant::now();
        Ok(())
    }

    fn records(&self, table: Table, range: KeyRange<'_>) -> Records<'_> {
        let from = record::disk_key(table, range.from);
        let to = match range.to {
            Some(to) => record::disk_key(table, to),
            None => vec![table.prefix() + 1],
        };
        self.database.range(&from, Some(&to))
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
