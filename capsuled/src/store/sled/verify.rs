//! Looking at a store without changing it.

use jiff::Timestamp;
use uuid::Uuid;

use super::super::disk;
use super::super::manifest::Manifest;
use super::super::{StateDir, StoreError, archive};
use super::audit::{Audit, Counts};
use super::database::Database;

/// The copy that is opened in place of the queue.
pub(super) const COPY: &str = "queue.verify";

/// What a check of a store found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// The store's own name, when its MANIFEST is readable.
    pub uuid: Option<Uuid>,
    /// When it was made, when its MANIFEST is readable.
    pub created: Option<Timestamp>,
    /// The last durable change, when the database has a header.
    pub high_water: Option<u64>,
    /// Whole records of each table.
    pub records: Counts,
    /// What is wrong; empty when the store would open.
    pub damage: Vec<String>,
}

impl VerifyReport {
    /// True when the store would open.
    pub fn is_whole(&self) -> bool {
        self.damage.is_empty()
    }
}

/// Checks the store of a state directory. Works on a copy of the queue, because opening a damaged
/// database changes it; needs the room for that copy.
pub fn verify(state: &StateDir) -> Result<VerifyReport, StoreError> {
    archive::finish(state.root(), &disk::Disk)?;
    let mut report = VerifyReport::default();
    let manifest = match Manifest::read(state.root()) {
        Ok(Some(manifest)) => Some(manifest),
        Ok(None) => {
            report.damage.push("there is no MANIFEST".to_owned());
            None
        }
        Err(error @ (StoreError::Damaged { .. } | StoreError::Newer { .. })) => {
            report.damage.push(error.to_string());
            None
        }
        Err(other) => return Err(other),
    };
    report.uuid = manifest.as_ref().map(|manifest| manifest.uuid);
    report.created = manifest.as_ref().map(|manifest| manifest.created);
    if !state.queue().join("db").is_file() {
        report.damage.push("the queue has no database file".to_owned());
        return Ok(report);
    }
    let copy = state.root().join(COPY);
    disk::remove_tree(&copy)?;
    let audited = disk::copy_tree(&state.queue(), &copy)
        .and_then(|()| Database::open(state.root(), &copy))
        .map(|database| Audit::of(&database, &mut |_, _, _| {}));
    disk::remove_tree(&copy)?;
    match audited {
        Ok(audit) => describe(state, audit, manifest.as_ref(), &mut report),
        Err(error @ StoreError::Damaged { .. }) => report.damage.push(error.to_string()),
        Err(other) => return Err(other),
    }
    Ok(report)
}

fn describe(
    state: &StateDir,
    audit: Audit,
    manifest: Option<&Manifest>,
    report: &mut VerifyReport,
) {
    let judged = manifest.and_then(|manifest| audit.judge(state.root(), manifest).err());
    report.high_water = audit.header.map(|header| header.high_water);
    report.records = audit.tally.counts();
    if audit.damage.is_empty() {
        report.damage.extend(judged.map(|error| error.to_string()));
    } else {
        let untold = audit.bad - audit.damage.len() as u64;
        report.damage.extend(audit.damage);
        if untold > 0 {
            report.damage.push(format!("and {untold} more"));
        }
    }
}
