//! Keeping what is readable of a damaged store.

use std::path::{Path, PathBuf};
use std::{fs, mem};

use ::sled::Batch;
use jiff::Timestamp;
use uuid::Uuid;

use super::super::disk::{self, Disk, DiskSync};
use super::super::manifest::{Manifest, Stage};
use super::super::record::{self, Sum};
use super::super::{StateDir, StoreError, Table, archive};
use super::audit::{Audit, Counts, HEADER_KEY, Header};
use super::database::Database;
use super::{compact, verify};

/// A copy of the damaged queue, which opening may change.
const COPY: &str = "queue.copy";

/// The same, without the database's snapshot.
const BARE_COPY: &str = "queue.copy-bare";

/// The fresh queue while it is being filled.
const PARTIAL: &str = "queue.partial";

/// The fresh queue when it is whole and durable. If `queue/` is missing, this takes its place.
pub(super) const REPAIRED: &str = "queue.repaired";

/// How far the sequence numbers jump: beyond any that the lost part can have used.
const JUMP: u64 = 1 << 32;

/// Records per write to the fresh queue; each is at most 4 KiB.
const CHUNK: usize = 128;

/// What a repair kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// Records kept in each table.
    pub kept: Counts,
    /// Records that are gone, of those there were at change `kept_to`; unknown without a header.
    pub lost: Option<u64>,
    /// The change that the kept records are of, when the damaged queue still told.
    pub kept_to: Option<u64>,
    /// The change that had been durable at the least. What changed after `kept_to` is undone.
    pub durable_to: u64,
    /// The last sequence number of the repaired store; new ones follow it.
    pub high_water: u64,
    /// Where the damaged queue was put.
    pub aside: Option<PathBuf>,
}

/// Copies every whole record of a damaged queue to a fresh one, puts that in its place and the
/// damaged one aside, under a name made of `now`. Safe to run again after a crash at any moment;
/// works on a store that is not damaged, too.
pub fn repair(state: &StateDir, now: Timestamp) -> Result<Repaired, StoreError> {
    archive::finish(state.root(), &Disk)?;
    finish(state, &Disk)?;
    let manifest = match Manifest::read(state.root()) {
        Ok(manifest) => manifest,
        Err(StoreError::Damaged { .. }) => None,
        Err(other) => return Err(other),
    };
    let source = open_best(state)?;
    let audit = source.as_ref().map(|(_, audit)| audit);
    if let Some(version) = audit.and_then(|audit| audit.newer) {
        let (dir, known) = (state.root().to_path_buf(), u32::from(record::RECORD_VERSION));
        return Err(StoreError::Newer { dir, what: "queue", found: u32::from(version), known });
    }
    let old = audit.and_then(|audit| audit.header);
    let whole = match (&manifest, audit) {
        (Some(manifest), Some(audit)) => audit.judge(state.root(), manifest).is_ok(),
        (_, None) | (None, _) => false,
    };
    let low_bound = manifest.as_ref().map_or(0, |manifest| manifest.low_bound);
    let reached = old.map_or(0, |header| header.high_water).max(low_bound);
    let uuid = manifest.as_ref().map(|manifest| manifest.uuid).or(old.map(|header| header.uuid));
    let mut fresh = Manifest {
        stage: Stage::Ready,
        uuid: uuid.unwrap_or_else(Uuid::now_v7),
        created: manifest.as_ref().map_or(now, |manifest| manifest.created),
        low_bound,
    };
    let high_water = if whole { reached } else { reached.saturating_add(JUMP) };
    let kept = build(state, source, Header { uuid: fresh.uuid, high_water, sum: Sum::default() })?;
    fresh.write(state.root(), &Disk)?;
    let aside = swap(state, now)?;
    fresh.low_bound = high_water;
    fresh.write(state.root(), &Disk)?;
    let lost = old.map(|header| header.sum.count.saturating_sub(kept.values().sum()));
    let kept_to = old.map(|header| header.high_water);
    Ok(Repaired { kept, lost, kept_to, durable_to: reached, high_water, aside })
}

/// Puts a repaired queue in its place, if a crash left that undone.
pub(super) fn finish(state: &StateDir, sync: &dyn DiskSync) -> Result<(), StoreError> {
    let repaired = state.root().join(REPAIRED);
    if repaired.is_dir() && !state.queue().exists() {
        rename(&repaired, &state.queue())?;
        disk::sync_path(sync, state.root())?;
    }
    Ok(())
}

/// Removes what a repair, a rebuild or a check that was cut short has left.
pub(super) fn clear(state: &StateDir) -> Result<(), StoreError> {
    [COPY, BARE_COPY, PARTIAL, REPAIRED, verify::COPY, compact::COMPACT]
        .into_iter()
        .try_for_each(|left| disk::remove_tree(&state.root().join(left)))
}

/// Opens a copy of the queue, and when that is not whole another without the database's snapshot,
/// which may be what is damaged. Returns the one with more records.
fn open_best(state: &StateDir) -> Result<Option<(Database, Audit)>, StoreError> {
    if !state.queue().join("db").is_file() {
        return Ok(None);
    }
    let with = open_copy(state, COPY, true)?;
    if with.as_ref().is_some_and(|(_, audit)| audit.is_whole()) {
        return Ok(with);
    }
    let count = |opened: &(Database, Audit)| opened.1.sum.count;
    let without = open_copy(state, BARE_COPY, false)?;
    Ok(if without.as_ref().map(count) > with.as_ref().map(count) { without } else { with })
}

fn open_copy(
    state: &StateDir,
    name: &str,
    snapshots: bool,
) -> Result<Option<(Database, Audit)>, StoreError> {
    let copy = state.root().join(name);
    disk::remove_tree(&copy)?;
    disk::copy_tree(&state.queue(), &copy)?;
    for entry in disk::entries(&copy)? {
        if !snapshots && entry.file_name().as_encoded_bytes().starts_with(b"snap.") {
            disk::remove_file(&entry.path())?;
        }
    }
    let database = match Database::open(state.root(), &copy) {
        Ok(database) => database,
        Err(StoreError::Damaged { .. }) => return Ok(None),
        Err(other) => return Err(other),
    };
    let mut audit = Audit::default();
    each_readable(&database, |key, stored| {
        audit.note(key, stored);
        Ok(())
    })?;
    Ok(Some((database, audit)))
}

/// Visits the header and what can be read of each table, from its start and, when that ends at
/// damage, from its end.
fn each_readable(
    database: &Database,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let tables = Table::ALL.map(|table| [table.prefix()]);
    for from in [HEADER_KEY].into_iter().chain(tables.iter().map(<[u8; 1]>::as_slice)) {
        let to: Vec<u8> = from.iter().map(|prefix| prefix + 1).collect();
        let mut reached = None;
        let mut damaged = false;
        for stored in database.range(from, Some(&to)) {
            let Ok((key, value)) = stored else {
                damaged = true;
                break;
            };
            each(&key, &value)?;
            reached = Some(key);
        }
        if !damaged {
            continue;
        }
        for (key, value) in database.range(from, Some(&to)).rev().map_while(Result::ok) {
            if reached.as_ref().is_some_and(|reached| key <= *reached) {
                break;
            }
            each(&key, &value)?;
        }
    }
    Ok(())
}

/// Fills a fresh database with the whole records of `source`, makes it durable and gives it the
/// name under which [`finish`] knows it.
fn build(
    state: &StateDir,
    source: Option<(Database, Audit)>,
    mut header: Header,
) -> Result<Counts, StoreError> {
    let partial = state.root().join(PARTIAL);
    let repaired = state.root().join(REPAIRED);
    disk::remove_tree(&partial)?;
    disk::remove_tree(&repaired)?;
    let fresh = Database::open(state.root(), &partial)?;
    let mut audit = Audit::default();
    if let Some((database, _)) = source {
        let mut chunk = Batch::default();
        let mut waiting = 0;
        each_readable(&database, |key, stored| {
            if audit.note(key, stored).is_some() {
                chunk.insert(key, stored);
                waiting += 1;
            }
            if waiting < CHUNK {
                return Ok(());
            }
            waiting = 0;
            fresh.write(mem::take(&mut chunk))
        })?;
        fresh.write(chunk)?;
    }
    header.sum = audit.sum;
    let mut last = Batch::default();
    last.insert(HEADER_KEY, header.encode());
    fresh.write(last)?;
    drop(fresh);
    for copy in [COPY, BARE_COPY] {
        disk::remove_tree(&state.root().join(copy))?;
    }
    disk::sync_tree(&Disk, &partial)?;
    rename(&partial, &repaired)?;
    disk::sync_path(&Disk, state.root())?;
    Ok(audit.tally.counts())
}

/// Puts the damaged queue aside and the repaired one in its place.
fn swap(state: &StateDir, now: Timestamp) -> Result<Option<PathBuf>, StoreError> {
    let aside = state.queue().exists().then(|| free_name(state.root(), now));
    if let Some(aside) = &aside {
        rename(&state.queue(), aside)?;
        disk::sync_path(&Disk, state.root())?;
    }
    finish(state, &Disk)?;
    Ok(aside)
}

fn free_name(root: &Path, now: Timestamp) -> PathBuf {
    let name = format!("queue.damaged-{}", now.strftime("%Y%m%dT%H%M%SZ"));
    let mut path = root.join(&name);
    let mut next = 2;
    while path.exists() {
        path = root.join(format!("{name}-{next}"));
        next += 1;
    }
    path
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(|source| StoreError::io("rename", from, source))
}
