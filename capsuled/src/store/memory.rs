//! The model of a store: what every other one must do, without a disk.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use uuid::Uuid;

use super::{
    Batch, Copied, CopyOf, Counts, Each, KeyRange, LiveCopy, Store, StoreError, Table, TakeCopied,
    record,
};

/// Keeps everything in memory, for tests and for a dry run.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    high_water: u64,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Copies the range, so that `each` may use the store.
    fn range(&self, table: Table, range: KeyRange<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
        if range.to.is_some_and(|to| to <= range.from) {
            return Vec::new();
        }
        let from = Bound::Included((table, range.from.to_vec()));
        let state: MutexGuard<'_, State> = self.state.lock();
        state
            .records
            .range((from, Bound::Unbounded))
            .take_while(|((of, key), _)| {
                *of == table && range.to.is_none_or(|to| key.as_slice() < to)
            })
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect()
    }
}

impl Store for MemoryStore {
    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        record::check(batch, state.high_water)?;
        for change in &batch.changes {
            let key = (change.table, change.key.clone());
            match &change.value {
                Some(value) => state.records.insert(key, value.clone()),
                None => state.records.remove(&key),
            };
        }
        state.high_water = batch.high_water;
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.state.lock().records.get(&(table, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        table: Table,
        range: KeyRange<'_>,
        each: &mut Each<'_>,
    ) -> Result<(), StoreError> {
        for (key, value) in self.range(table, range) {
            if each(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn scan_back(
        &self,
        table: Table,
        range: KeyRange<'_>,
        each: &mut Each<'_>,
    ) -> Result<(), StoreError> {
        for (key, value) in self.range(table, range).iter().rev() {
            if each(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn high_water(&self) -> u64 {
        self.state.lock().high_water
    }

    fn size_on_disk(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl LiveCopy for MemoryStore {
    fn copy(&self, _stop: &AtomicBool, each: &mut TakeCopied<'_>) -> Result<CopyOf, StoreError> {
        let state = self.state.lock();
        let (mut sum, mut records) = (record::Sum::default(), Counts::new());
        for ((table, key), value) in &state.records {
            sum.add(&record::encode(&record::disk_key(*table, key), value));
            *records.entry(*table).or_default() += 1;
            each(Copied { table: *table, key, value: Some(value) })?;
        }
        Ok(CopyOf {
            uuid: Uuid::nil(),
            created: Timestamp::UNIX_EPOCH,
            high_water: state.high_water,
            sum: (sum.count, sum.hash),
            records,
        })
    }
}
