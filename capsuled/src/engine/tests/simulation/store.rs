//! The model store with a plan of when and how it crashes.

use parking_lot::Mutex;
use proptest::prelude::*;

use crate::store::{
    Batch, Each, KeyRange, MAX_BATCH_CHANGES, MemoryStore, Store, StoreError, Table,
};

/// What a commit leaves behind that does not return `Ok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine::tests) enum Crash {
    /// Nothing of the batch: the process died before, or its bytes never reached the disk.
    Before,
    /// The whole batch, although nobody was told: it died before the answer, or only the answer
    /// of the disk was an error.
    After,
}

/// Keeps what is durable over the lives of engines.
#[derive(Debug)]
pub(in crate::engine::tests) struct CrashStore {
    durable: MemoryStore,
    plan: Mutex<Plan>,
    /// Fewer than a real store takes, so that a crash falls between two batches of a group.
    most: usize,
}

#[derive(Debug, Default)]
struct Plan {
    /// So many commits are still made before this happens.
    next: Option<(u8, Crash)>,
    crashed: bool,
    crashes: u64,
    commits: u64,
}

impl CrashStore {
    /// One that takes so many changes at once.
    pub(in crate::engine::tests) fn taking(most: usize) -> Self {
        Self { durable: MemoryStore::default(), plan: Mutex::default(), most }
    }

    /// Lets so many commits through, then crashes.
    pub(in crate::engine::tests) fn crash_after(&self, commits: u8, how: Crash) {
        self.plan.lock().next = Some((commits, how));
    }

    /// Crashes no more.
    pub(in crate::engine::tests) fn be_well(&self) {
        self.plan.lock().next = None;
    }

    pub(in crate::engine::tests) fn has_crashed(&self) -> bool {
        self.plan.lock().crashed
    }

    /// Opens again with what is durable.
    pub(in crate::engine::tests) fn reopen(&self) {
        self.plan.lock().crashed = false;
    }

    /// Commits made and crashes had.
    pub(in crate::engine::tests) fn totals(&self) -> (u64, u64) {
        let plan = self.plan.lock();
        (plan.commits, plan.crashes)
    }
}

/// How many changes a store takes at once: with few, a crash tears groups.
pub(in crate::engine::tests) fn batches() -> impl Strategy<Value = usize> {
    prop_oneof![Just(MAX_BATCH_CHANGES), 1_usize..6]
}

/// What a store says that failed.
fn dead() -> StoreError {
    StoreError::Poisoned { dir: "model".into() }
}

impl Store for CrashStore {
    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut plan = self.plan.lock();
        if plan.crashed {
            return Err(dead());
        }
        match plan.next {
            Some((0, how)) => {
                plan.next = None;
                plan.crashed = true;
                plan.crashes += 1;
                if how == Crash::After {
                    self.durable.commit(batch)?;
                }
                return Err(dead());
            }
            Some((left, how)) => plan.next = Some((left - 1, how)),
            None => {}
        }
        plan.commits += 1;
        self.durable.commit(batch)
    }

    fn most_changes(&self) -> usize {
        self.most
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.durable.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        range: KeyRange<'_>,
        each: &mut Each<'_>,
    ) -> Result<(), StoreError> {
        self.durable.scan(table, range, each)
    }

    fn scan_back(
        &self,
        table: Table,
        range: KeyRange<'_>,
        each: &mut Each<'_>,
    ) -> Result<(), StoreError> {
        self.durable.scan_back(table, range, each)
    }

    fn high_water(&self) -> u64 {
        self.durable.high_water()
    }

    fn size_on_disk(&self) -> Result<u64, StoreError> {
        self.durable.size_on_disk()
    }

    fn close(&self) -> Result<(), StoreError> {
        self.durable.close()
    }
}
