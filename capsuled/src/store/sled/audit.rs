//! Reads every record once, and says whether this is the whole of what was written.

use std::collections::BTreeMap;
use std::path::Path;

use uuid::Uuid;

use super::super::manifest::Manifest;
use super::super::record::{self, BadRecord, RECORD_VERSION, Sum};
use super::super::{StoreError, Table};
use super::database::Database;

/// Number of records in each table that has any.
pub type Counts = BTreeMap<Table, u64>;

/// Called with each record's table, its key inside the table, and its body.
pub type Visit<'a> = dyn FnMut(Table, &[u8], &[u8]) + 'a;

/// Damage beyond this is counted, not described.
const DESCRIBED: usize = 20;

/// The key on disk of the header. No table has this prefix.
pub(super) const HEADER_KEY: &[u8] = &[0];

/// The record that every commit rewrites: whose database this is and what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) uuid: Uuid,
    pub(super) high_water: u64,
    pub(super) sum: Sum,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(40);
        body.extend_from_slice(self.uuid.as_bytes());
        for number in [self.high_water, self.sum.count, self.sum.hash] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        record::encode(HEADER_KEY, &body)
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let (uuid, rest) = body.split_first_chunk()?;
        let (high_water, rest) = rest.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (hash, rest) = rest.split_first_chunk()?;
        let sum = Sum { count: u64::from_le_bytes(*count), hash: u64::from_le_bytes(*hash) };
        let high_water = u64::from_le_bytes(*high_water);
        rest.is_empty().then_some(Self { uuid: Uuid::from_bytes(*uuid), high_water, sum })
    }
}

/// How many records each table has, and how many bytes they all are with their keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    records: [u64; Table::ALL.len()],
    bytes: u64,
}

impl Tally {
    pub(super) fn add(&mut self, key: &[u8], stored: &[u8]) {
        if let Some(records) = self.of(key) {
            *records = records.wrapping_add(1);
        }
        self.bytes = self.bytes.wrapping_add((key.len() + stored.len()) as u64);
    }

    pub(super) fn remove(&mut self, key: &[u8], stored: &[u8]) {
        if let Some(records) = self.of(key) {
            *records = records.wrapping_sub(1);
        }
        self.bytes = self.bytes.wrapping_sub((key.len() + stored.len()) as u64);
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The tables that have records.
    pub(super) fn counts(&self) -> Counts {
        let all = Table::ALL.into_iter().zip(self.records);
        all.filter(|(_, records)| *records > 0).collect()
    }

    fn of(&mut self, key: &[u8]) -> Option<&mut u64> {
        let place = Table::ALL.iter().position(|table| key.first() == Some(&table.prefix()))?;
        self.records.get_mut(place)
    }
}

/// What a database holds.
#[derive(Debug, Default)]
pub(super) struct Audit {
    pub(super) header: Option<Header>,
    /// Whole records.
    pub(super) tally: Tally,
    pub(super) sum: Sum,
    /// Records that are not whole, and reads that failed.
    pub(super) bad: u64,
    /// Descriptions of the first of them.
    pub(super) damage: Vec<String>,
    pub(super) newer: Option<u8>,
}

impl Audit {
    /// Reads the whole database and shows each whole record to `each`; damage is part of the
    /// answer.
    pub(super) fn of(database: &Database, each: &mut Visit<'_>) -> Self {
        let mut audit = Self::default();
        for stored in database.range(&[], None) {
            match stored {
                Ok((key, value)) => {
                    if let Some((table, body)) = audit.note(&key, &value) {
                        each(table, key.get(1..).unwrap_or_default(), body);
                    }
                }
                Err(error) => audit.note_bad(error.to_string()),
            }
        }
        audit
    }

    /// True when every record that was written is there.
    pub(super) fn is_whole(&self) -> bool {
        self.bad == 0 && self.header.is_some_and(|header| header.sum == self.sum)
    }

    /// Takes in one record. Returns its table and its body when it is whole.
    pub(super) fn note<'a>(&mut self, key: &[u8], stored: &'a [u8]) -> Option<(Table, &'a [u8])> {
        let table = key.first().and_then(|prefix| Table::from_prefix(*prefix));
        match (record::decode(key, stored), table) {
            (Ok(body), None) if key == HEADER_KEY => {
                self.header = Header::decode(body);
            }
            (Ok(body), Some(table)) => {
                self.tally.add(key, stored);
                self.sum.add(stored);
                return Some((table, body));
            }
            (Ok(_), None) => {
                self.note_bad(format!("the record {} has no table", key.escape_ascii()));
            }
            (Err(BadRecord::Newer(version)), _) => self.newer = Some(version),
            (Err(BadRecord::Checksum), _) => {
                self.note_bad(format!(
                    "the checksum of record {} does not fit",
                    key.escape_ascii()
                ));
            }
        }
        None
    }

    fn note_bad(&mut self, what: String) {
        self.bad += 1;
        if self.damage.len() < DESCRIBED {
            self.damage.push(what);
        }
    }

    /// The header of a database that is whole and not older than `manifest` says.
    pub(super) fn judge(&self, root: &Path, manifest: &Manifest) -> Result<Header, StoreError> {
        let dir = root.to_path_buf();
        let low_bound = manifest.low_bound;
        if let Some(version) = self.newer {
            let (found, known) = (u32::from(version), u32::from(RECORD_VERSION));
            return Err(StoreError::Newer { dir, what: "queue", found, known });
        }
        if let Some(first) = self.damage.first() {
            let more = self.bad - 1;
            let what = if more == 0 { first.clone() } else { format!("{first} (and {more} more)") };
            return Err(StoreError::Damaged { dir, what });
        }
        let Some(header) = self.header else {
            if self.sum.count == 0 {
                return Err(StoreError::Emptied { dir, low_bound });
            }
            let what = "the header of its queue is missing".to_owned();
            return Err(StoreError::Damaged { dir, what });
        };
        if header.uuid != manifest.uuid {
            let what =
                format!("its queue belongs to store {}, not to {}", header.uuid, manifest.uuid);
            return Err(StoreError::Damaged { dir, what });
        }
        if header.high_water < low_bound {
            let found = header.high_water;
            return Err(StoreError::RolledBack { dir, found, low_bound });
        }
        if header.sum != self.sum {
            let (found, noted) = (self.sum.count, header.sum.count);
            let what = if found == noted {
                format!("some of its {noted} records are not the ones last written")
            } else {
                format!("it holds {found} records where {noted} were written")
            };
            return Err(StoreError::Damaged { dir, what });
        }
        Ok(header)
    }
}
