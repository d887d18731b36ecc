//! The model store, which crashes at a commit that was picked before.

use parking_lot::Mutex;

use crate::store::{Batch, Each, KeyRange, MemoryStore, Store, StoreError, Table};

#[derive(Debug, Default)]
pub(super) struct CrashStore {
    durable: MemoryStore,
    plan: Mutex<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    /// So many commits are still made; then one fails, and whether it is durable nevertheless.
    next: Option<(u8, bool)>,
    crashed: bool,
}

impl CrashStore {
    /// Lets so many commits through, then crashes: behind the next one, or before it.
    pub(super) fn crash_after(&self, commits: u8, behind: bool) {
        self.plan.lock().next = Some((commits, behind));
    }

    pub(super) fn has_crashed(&self) -> bool {
        self.plan.lock().crashed
    }

    /// Opens again with what is durable.
    pub(super) fn reopen(&self) {
        self.plan.lock().crashed = false;
    }
}

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
            Some((0, behind)) => {
                (plan.next, plan.crashed) = (None, true);
                if behind {
                    self.durable.commit(batch)?;
                }
                return Err(dead());
            }
            Some((left, behind)) => plan.next = Some((left - 1, behind)),
            None => {}
        }
        self.durable.commit(batch)
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
