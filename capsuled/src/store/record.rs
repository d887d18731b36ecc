//! How a record looks on disk, what a batch may hold, and the sum that proves none is missing.
//!
//! A stored value is a version byte, the body and a CRC-32 over key and both. The sum of all
//! records is kept beside them, so a lost or resurrected record shows even when its neighbours
//! are whole.

use super::{Batch, MAX_BATCH_BYTES, MAX_BATCH_CHANGES, MAX_KEY, MAX_RECORD, StoreError, Table};

/// The version written in front of each record.
pub(super) const RECORD_VERSION: u8 = 1;

const CRC_LEN: usize = 4;

/// Why stored bytes are not a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadRecord {
    /// Too short, or the checksum does not fit.
    Checksum,
    /// Written by a newer version.
    Newer(u8),
}

/// The key on disk: the table's prefix and the key.
pub(super) fn disk_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(1 + key.len());
    full.push(table.prefix());
    full.extend_from_slice(key);
    full
}

/// The value on disk for `body` under `disk_key`.
pub(super) fn encode(disk_key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(1 + body.len() + CRC_LEN);
    stored.push(RECORD_VERSION);
    stored.extend_from_slice(body);
    let crc = checksum(disk_key, &stored);
    stored.extend_from_slice(&crc.to_le_bytes());
    stored
}

/// The body of a stored value, when it is the one written under `disk_key`.
pub(super) fn decode<'a>(disk_key: &[u8], stored: &'a [u8]) -> Result<&'a [u8], BadRecord> {
    let (versioned, crc) = stored.split_last_chunk::<CRC_LEN>().ok_or(BadRecord::Checksum)?;
    if checksum(disk_key, versioned) != u32::from_le_bytes(*crc) {
        return Err(BadRecord::Checksum);
    }
    match versioned.split_first() {
        Some((&RECORD_VERSION, body)) => Ok(body),
        Some((&version, _)) if version > RECORD_VERSION => Err(BadRecord::Newer(version)),
        Some(_) | None => Err(BadRecord::Checksum),
    }
}

fn checksum(disk_key: &[u8], versioned: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&u32::try_from(disk_key.len()).unwrap_or(u32::MAX).to_le_bytes());
    hasher.update(disk_key);
    hasher.update(versioned);
    hasher.finalize()
}

/// The number of records and the sum of their hashes, in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) count: u64,
    pub(super) hash: u64,
}

impl Sum {
    pub(super) fn add(&mut self, stored: &[u8]) {
        self.count = self.count.wrapping_add(1);
        self.hash = self.hash.wrapping_add(hash(stored));
    }

    pub(super) fn remove(&mut self, stored: &[u8]) {
        self.count = self.count.wrapping_sub(1);
        self.hash = self.hash.wrapping_sub(hash(stored));
    }
}

/// Spreads the record's own checksum, which covers key and body, over 64 bits (splitmix64).
fn hash(stored: &[u8]) -> u64 {
    let crc = stored.last_chunk::<CRC_LEN>().map_or(0, |crc| u32::from_le_bytes(*crc));
    let mut mixed =
        (u64::from(crc) << 32 | stored.len() as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Checks a batch against every bound, before anything is written.
pub(super) fn check(batch: &Batch, current: u64) -> Result<(), StoreError> {
    within("changes in a batch", batch.changes.len(), MAX_BATCH_CHANGES)?;
    let mut bytes = 0;
    for change in &batch.changes {
        let record = change.key.len() + change.value.as_ref().map_or(0, Vec::len);
        within("bytes in a key", change.key.len(), MAX_KEY)?;
        within("bytes in a record", record, MAX_RECORD)?;
        bytes += record;
    }
    within("bytes in a batch", bytes, MAX_BATCH_BYTES)?;
    if batch.high_water < current {
        return Err(StoreError::WentBack { current, asked: batch.high_water });
    }
    Ok(())
}

fn within(what: &'static str, size: usize, limit: usize) -> Result<(), StoreError> {
    if size <= limit {
        Ok(())
    } else {
        Err(StoreError::TooLarge { what, size: size as u64, limit: limit as u64 })
    }
}
