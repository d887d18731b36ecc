//! One suite for every store: generated histories against a plain map, and each clause of the
//! contract by itself.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::{
    Batch, Change, KeyRange, MAX_BATCH_BYTES, MAX_BATCH_CHANGES, MAX_KEY, MAX_RECORD, MemoryStore,
    SledStore, StateDir, Store, StoreError, Table,
};

type Model = BTreeMap<(Table, Vec<u8>), Vec<u8>>;
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Makes stores of one kind.
trait Factory {
    fn fresh() -> Self;
    fn store(&self) -> &dyn Store;
    /// Closes the store and opens it again, if it outlives its process.
    fn reopen(&mut self);
}

struct Memory(MemoryStore);

impl Factory for Memory {
    fn fresh() -> Self {
        Self(MemoryStore::new())
    }

    fn store(&self) -> &dyn Store {
        &self.0
    }

    fn reopen(&mut self) {}
}

struct Sled {
    store: Option<SledStore>,
    dir: tempfile::TempDir,
}

impl Sled {
    fn open(&mut self) {
        let state = StateDir::open(self.dir.path()).unwrap();
        self.store = Some(SledStore::open(&state, jiff::Timestamp::UNIX_EPOCH).unwrap().store);
    }
}

impl Factory for Sled {
    fn fresh() -> Self {
        let mut sled = Self { store: None, dir: tempfile::tempdir().unwrap() };
        sled.open();
        sled
    }

    fn store(&self) -> &dyn Store {
        self.store.as_ref().unwrap()
    }

    fn reopen(&mut self) {
        self.store = None;
        self.open();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Commit { changes: Vec<Change>, ahead: u64 },
    Get(Table, Vec<u8>),
    Scan { table: Table, from: Vec<u8>, to: Option<Vec<u8>>, most: usize },
    Reopen,
}

/// Few short keys, so that histories overwrite and delete; some of the longest.
fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => prop::collection::vec(select(vec![0u8, 1, 0x7f, 0xff]), 0..3),
        1 => any::<u8>().prop_map(|byte| vec![byte; MAX_KEY]),
    ]
}

fn any_value() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        2 => Just(None),
        4 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Some),
        1 => any::<u8>().prop_map(|byte| Some(vec![byte; MAX_RECORD - MAX_KEY])),
    ]
}

fn any_table() -> impl Strategy<Value = Table> {
    select(Table::ALL.to_vec())
}

fn any_change() -> impl Strategy<Value = Change> {
    (any_table(), any_key(), any_value()).prop_map(|(table, key, value)| Change {
        table,
        key,
        value,
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let commit = (prop::collection::vec(any_change(), 0..12), 0..3u64)
        .prop_map(|(changes, ahead)| Step::Commit { changes, ahead });
    let scan = (any_table(), any_key(), prop::option::of(any_key()), any::<Index>()).prop_map(
        |(table, from, to, most)| Step::Scan { table, from, to, most: most.index(9) + 1 },
    );
    prop_oneof![
        8 => commit,
        3 => (any_table(), any_key()).prop_map(|(table, key)| Step::Get(table, key)),
        4 => scan,
        1 => Just(Step::Reopen),
    ]
}

fn take(store: &dyn Store, table: Table, range: KeyRange<'_>, most: usize, back: bool) -> Pairs {
    let mut seen = Pairs::new();
    let mut each = |key: &[u8], value: &[u8]| {
        assert!(seen.len() < most, "it went on after the break");
        seen.push((key.to_vec(), value.to_vec()));
        if seen.len() == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    if back {
        store.scan_back(table, range, &mut each).unwrap();
    } else {
        store.scan(table, range, &mut each).unwrap();
    }
    seen
}

fn expected(model: &Model, table: Table, range: KeyRange<'_>) -> Pairs {
    model
        .iter()
        .filter(|((of, key), _)| {
            *of == table
                && key.as_slice() >= range.from
                && range.to.is_none_or(|to| key.as_slice() < to)
        })
        .map(|((_, key), value)| (key.clone(), value.clone()))
        .collect()
}

fn everything(store: &dyn Store) -> Model {
    let mut all = Model::new();
    for table in Table::ALL {
        for (key, value) in take(store, table, KeyRange::ALL, usize::MAX, false) {
            all.insert((table, key), value);
        }
    }
    all
}

fn run_history<F: Factory>(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut factory = F::fresh();
    let mut model = Model::new();
    let mut high_water = 0;
    for step in steps {
        match step {
            Step::Commit { changes, ahead } => {
                high_water += ahead;
                factory.store().commit(&Batch { changes: changes.clone(), high_water }).unwrap();
                for Change { table, key, value } in changes {
                    match value {
                        Some(value) => model.insert((table, key), value),
                        None => model.remove(&(table, key)),
                    };
                }
            }
            Step::Get(table, key) => {
                let got = factory.store().get(table, &key).unwrap();
                prop_assert_eq!(got.as_ref(), model.get(&(table, key)));
            }
            Step::Scan { table, from, to, most } => {
                let range = KeyRange { from: &from, to: to.as_deref() };
                let mut wanted = expected(&model, table, range);
                let mut backwards = wanted.clone();
                backwards.reverse();
                wanted.truncate(most);
                backwards.truncate(most);
                prop_assert_eq!(take(factory.store(), table, range, most, false), wanted);
                prop_assert_eq!(take(factory.store(), table, range, most, true), backwards);
            }
            Step::Reopen => factory.reopen(),
        }
        prop_assert_eq!(factory.store().high_water(), high_water);
    }
    factory.reopen();
    prop_assert_eq!(everything(factory.store()), model);
    prop_assert_eq!(factory.store().high_water(), high_water);
    Ok(())
}

fn histories<F: Factory>(cases: u32) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&prop::collection::vec(any_step(), 1..40), run_history::<F>)
        .unwrap();
}

fn refused(store: &dyn Store, changes: Vec<Change>, what: &str) {
    let before = everything(store);
    let high_water = store.high_water() + 1;
    let error = store.commit(&Batch { changes, high_water }).unwrap_err();
    assert!(error.is_refusal() && error.to_string().contains(what), "{error}");
    assert_eq!(everything(store), before);
    assert_eq!(store.high_water(), high_water - 1);
}

fn bounds<F: Factory>() {
    let mut factory = F::fresh();
    let store = factory.store();
    let small = Change::put(Table::Task, "small", "value");
    let largest =
        |name: u8| Change::put(Table::Task, vec![name; MAX_KEY], vec![7; MAX_RECORD - MAX_KEY]);

    refused(
        store,
        vec![small.clone(), Change::put(Table::Task, vec![0; MAX_KEY + 1], "")],
        "bytes in a key: 257",
    );
    refused(
        store,
        vec![small.clone(), Change::put(Table::Task, "k", vec![0; MAX_RECORD])],
        "bytes in a record: 4097",
    );
    refused(store, vec![Change::delete(Table::Task, vec![0; MAX_KEY + 1])], "bytes in a key");
    refused(store, vec![small.clone(); MAX_BATCH_CHANGES + 1], "changes in a batch: 4097");
    let full: Vec<_> = (0..128).map(largest).collect();
    let mut over = full.clone();
    over.push(small);
    refused(store, over, "bytes in a batch: 524298");

    assert_eq!(full.len() * MAX_RECORD, MAX_BATCH_BYTES);
    store.commit(&Batch { changes: full, high_water: 1 }).unwrap();
    factory.reopen();
    assert_eq!(everything(factory.store()).len(), 128);
}

fn high_water_never_goes_back<F: Factory>() {
    let mut factory = F::fresh();
    let at = |high_water| Batch { changes: vec![Change::put(Table::Meta, "k", "v")], high_water };
    factory.store().commit(&at(7)).unwrap();
    factory.store().commit(&at(7)).unwrap();
    factory.reopen();
    let error = factory.store().commit(&at(6)).unwrap_err();
    assert!(matches!(error, StoreError::WentBack { current: 7, asked: 6 }), "{error}");
    factory.store().commit(&at(8)).unwrap();
    assert_eq!(factory.store().high_water(), 8);
}

fn the_last_change_of_a_key_holds<F: Factory>() {
    let mut factory = F::fresh();
    let changes = vec![
        Change::put(Table::Task, "put twice", "first"),
        Change::put(Table::Task, "put twice", "second"),
        Change::put(Table::Task, "put and deleted", "value"),
        Change::delete(Table::Task, "put and deleted"),
        Change::delete(Table::Task, "deleted and put"),
        Change::put(Table::Task, "deleted and put", "value"),
    ];
    factory.store().commit(&Batch { changes, high_water: 6 }).unwrap();
    factory.reopen();
    let get = |key: &str| factory.store().get(Table::Task, key.as_bytes()).unwrap();
    assert_eq!(get("put twice").unwrap(), b"second");
    assert_eq!(get("put and deleted"), None);
    assert_eq!(get("deleted and put").unwrap(), b"value");
}

macro_rules! conformance {
    ($name:ident, $factory:ty, $cases:expr) => {
        mod $name {
            use super::*;

            #[test]
            fn histories_match_the_model() {
                histories::<$factory>($cases);
            }

            #[test]
            fn what_is_over_a_bound_is_refused_whole() {
                bounds::<$factory>();
            }

            #[test]
            fn the_high_water_mark_never_goes_back() {
                high_water_never_goes_back::<$factory>();
            }

            #[test]
            fn of_two_changes_to_a_key_the_last_holds() {
                the_last_change_of_a_key_holds::<$factory>();
            }
        }
    };
}

conformance!(memory, Memory, 256);
conformance!(sled, Sled, 48);
