//! What only a store on a disk can get wrong.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use jiff::Timestamp;

use super::super::{Batch, Change, KeyRange, StateDir, Store, StoreError, Table};
use super::{Found, Opened, SledStore};

mod commit;
mod damage;
mod rebuild;
mod refuse;
mod repair;

type Model = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

fn now() -> Timestamp {
    "2026-11-23T08:00:00Z".parse().unwrap()
}

fn open(dir: &Path) -> Result<Opened, StoreError> {
    SledStore::open(&StateDir::open(dir)?, now())
}

fn put(table: Table, key: &str, value: &str, high_water: u64) -> Batch {
    Batch { changes: vec![Change::put(table, key, value)], high_water }
}

/// Commits batches of puts and deletes that follow from `seed`, and notes them in `model`.
fn churn(store: &dyn Store, model: &mut Model, seed: u64, batches: u64) {
    let mut random = Random(seed);
    for _ in 0..batches {
        let mut changes = Vec::new();
        for _ in 0..random.below(12) {
            let table = Table::ALL[random.below(4)];
            let key = format!("{:08}", random.below(400)).into_bytes();
            let length = random.below(400);
            let byte = random.byte();
            let value = (random.below(4) > 0).then(|| vec![byte; length]);
            match &value {
                Some(value) => model.insert((table, key.clone()), value.clone()),
                None => model.remove(&(table, key.clone())),
            };
            changes.push(Change { table, key, value });
        }
        let high_water = store.high_water() + changes.len() as u64;
        store.commit(&Batch { changes, high_water }).unwrap();
    }
}

fn everything(store: &dyn Store) -> Result<Model, StoreError> {
    let mut all = Model::new();
    for table in Table::ALL {
        store.scan(table, KeyRange::ALL, &mut |key, value| {
            all.insert((table, key.to_vec()), value.to_vec());
            ControlFlow::Continue(())
        })?;
    }
    Ok(all)
}

/// Copies a state directory, without its lock.
fn copy_state(from: &Path, to: &Path) {
    super::super::disk::copy_tree(from, to).unwrap();
    fs::remove_file(to.join("capsuled.lock")).ok();
}

/// A small generator, so that a failing case can be named by its seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}
