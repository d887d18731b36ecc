//! Power cuts of the store alone while its database writes its segments again and again, writes
//! snapshots and gives space back.
//!
//! `CAPSULE_CHURN` says how many segments are written, `CAPSULE_CHURN_CUTS` how often the power is
//! cut, `CAPSULE_SEED` repeats a run's choices.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use capsule_tests::power::{Cut, Op, Recorder, States, Witness, judge, mark, scratch};
use capsule_tests::{Random, number};
use capsuled::store::{
    Batch, Change, KeyRange, SledStore, StateDir, Store as _, StoreError, Table, repair,
};
use jiff::Timestamp;
use serde_json::{Value, json};

const SEGMENT: u64 = 4 << 20;

/// The variables that tell the writer what to do: where, how much, by which seed.
const DIR: &str = "CAPSULE_CHURN_DIR";
const BYTES: &str = "CAPSULE_CHURN_BYTES";
const SEED: &str = "CAPSULE_CHURN_SEED";

/// Keys that are used over and over.
const KEYS: u64 = 6_000;

/// Batches between two starts of the store: few, as a start is when the database changes most.
const SESSION: u64 = 25;

/// Batches in which it grows, and half as many in which it shrinks.
const TIDE: u64 = 300;

/// What batch `number` changes, which follows from the seed alone.
fn batch(seed: u64, number: u64) -> Batch {
    let mut random = Random(seed ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d));
    // Long times of growth, then much goes at once: the database can give segments back.
    let shrinks = number % (TIDE + TIDE / 2) >= TIDE;
    let changes = if random.one_in(8) { 1 } else { 40 + random.below(160) };
    let change = |_| {
        let key = random.below(KEYS).to_be_bytes();
        if random.one_in(if shrinks { 2 } else { 6 }) {
            return Change::delete(Table::Task, key);
        }
        let most = if random.one_in(10) { 3_500 } else { 700 };
        let length = usize::try_from(random.below(most)).unwrap();
        let value: Vec<u8> =
            (0..length.div_ceil(8)).flat_map(|_| random.bits().to_le_bytes()).collect();
        Change::put(Table::Task, key, value)
    };
    Batch { changes: (0..changes).map(change).collect(), high_water: number }
}

/// What the store holds after a batch; the next one was asked for, too.
#[derive(Clone, Debug, Default)]
struct Model {
    seed: u64,
    acknowledged: u64,
    records: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Model {
    fn take(&mut self, batch: Batch) {
        for Change { key, value, .. } in batch.changes {
            match value {
                Some(value) => self.records.insert(key, value),
                None => self.records.remove(&key),
            };
        }
    }
}

impl Witness for Model {
    fn hear(&mut self, mark: &[u8]) {
        let mark: Value = serde_json::from_slice(mark).unwrap();
        self.seed = mark["seed"].as_u64().unwrap();
        self.acknowledged = mark["batch"].as_u64().unwrap();
        self.take(batch(self.seed, self.acknowledged));
    }

    fn judge(&self, dir: &Path) -> Result<(), String> {
        let dir = dir.join("state");
        if self.acknowledged == 0 && !dir.exists() {
            return Ok(());
        }
        let state = StateDir::open(&dir).map_err(|error| format!("LOCKED OUT: {error}"))?;
        let (store, kept_to) = match SledStore::open(&state, Timestamp::UNIX_EPOCH) {
            Ok(opened) => (opened.store, None),
            Err(error @ StoreError::Damaged { .. }) => {
                let mended = mend(&state).map_err(|why| format!("REFUSED: {error}; {why}"))?;
                (mended.0, Some(mended.1))
            }
            Err(error) => return Err(format!("REFUSED: {error}")),
        };
        let reached = kept_to.unwrap_or_else(|| store.high_water());
        let mut expected = self.clone();
        if reached == self.acknowledged + 1 {
            expected.take(batch(self.seed, reached));
        } else if reached != self.acknowledged {
            return Err(format!("LOST: {reached} instead of {}", self.acknowledged));
        }
        let mut found = BTreeMap::new();
        let mut each = |key: &[u8], value: &[u8]| {
            found.insert(key.to_vec(), value.to_vec());
            ControlFlow::Continue(())
        };
        store.scan(Table::Task, KeyRange::ALL, &mut each).map_err(|error| error.to_string())?;
        if found == expected.records { Ok(()) } else { Err(format!("TORN at {reached}")) }
    }
}

/// How often a database was refused after a cut, and its repair kept everything.
static MENDED: AtomicU64 = AtomicU64::new(0);

/// Repairs a queue that was refused; gives the change up to which all was kept.
fn mend(state: &StateDir) -> Result<(SledStore, u64), String> {
    MENDED.fetch_add(1, Ordering::Relaxed);
    let repaired = repair(state, Timestamp::UNIX_EPOCH).map_err(|error| error.to_string())?;
    let (Some(kept_to), Some(0)) = (repaired.kept_to, repaired.lost) else {
        return Err(format!("its repair gives {repaired:?}"));
    };
    let opened = SledStore::open(state, Timestamp::UNIX_EPOCH);
    opened.map(|opened| (opened.store, kept_to)).map_err(|error| format!("repaired: {error}"))
}

/// What the database did in a recording.
#[derive(Debug, Default)]
struct Life {
    segments: u64,
    rewritten: u64,
    snapshots: u64,
    truncations: u64,
    bytes: u64,
}

impl Life {
    fn of(recorder: &Recorder) -> Self {
        let mut life = Self::default();
        let (mut database, mut size) = (0, 0);
        let mut begun: HashMap<u64, u64> = HashMap::new();
        for op in recorder.read() {
            match op {
                Op::Create { file, path } if path == "state/queue/db" => database = file,
                Op::Write { file, offset, bytes } if file == database => {
                    life.bytes += bytes.len() as u64;
                    size = size.max(offset + bytes.len() as u64);
                    if offset.is_multiple_of(SEGMENT) {
                        life.segments += 1;
                        *begun.entry(offset).or_default() += 1;
                    }
                }
                Op::Size { file, size: new } if file == database => {
                    life.truncations += u64::from(new < size);
                    size = new;
                }
                Op::Rename { to, .. } if to.starts_with("state/queue/snap.") => life.snapshots += 1,
                Op::Create { .. }
                | Op::Folder { .. }
                | Op::Write { .. }
                | Op::Size { .. }
                | Op::Sync { .. }
                | Op::Synced { .. }
                | Op::Rename { .. }
                | Op::Remove { .. }
                | Op::Mark(_) => {}
            }
        }
        life.rewritten = begun.values().map(|times| times - 1).sum();
        life
    }
}

/// Writes, as told by the environment, and notes each batch that is acknowledged. It is started by
/// the other test, in a process that is recorded.
#[test]
#[ignore = "a part of the other test, which starts it"]
fn writer() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let records = PathBuf::from(std::env::var_os("CAPSULE_TRACE_FILE").unwrap());
    let (most, seed) = (number(BYTES).unwrap(), number(SEED).unwrap());
    let mut written = 0;
    let mut next = 1;
    while written < most {
        let state = StateDir::open(&dir).unwrap();
        let store = SledStore::open(&state, Timestamp::UNIX_EPOCH).unwrap().store;
        for _ in 0..SESSION {
            let batch = batch(seed, next);
            written += batch
                .changes
                .iter()
                .filter_map(|change| change.value.as_ref())
                .map(|value| value.len() as u64)
                .sum::<u64>();
            store.commit(&batch).unwrap();
            mark(&records, json!({ "batch": next, "seed": seed }).to_string().as_bytes());
            next += 1;
        }
        // As after a crash, every other time.
        if next % (2 * SESSION) == 1 {
            store.close().unwrap();
        }
    }
}

#[test]
fn no_power_cut_harms_a_database_that_reuses_its_segments() {
    let mut random = Random::from_environment("CAPSULE_SEED");
    let segments = number("CAPSULE_CHURN").unwrap_or(14);
    let cuts = number("CAPSULE_CHURN_CUTS").unwrap_or(30);
    let (place, outside) = (scratch(), tempfile::tempdir().unwrap());
    let Some(recorder) = Recorder::new(place.path(), outside.path()) else { return };
    let began = Instant::now();
    let bytes = (segments * SEGMENT / 3).to_string();
    record(
        &recorder,
        &[
            (DIR, place.path().join("state").into()),
            (BYTES, bytes.into()),
            (SEED, random.below(1 << 60).to_string().into()),
        ],
    );
    let life = Life::of(&recorder);
    eprintln!("{life:?} in {:?}", began.elapsed());
    assert!(life.snapshots > 0 && life.rewritten > 0, "{life:?}");

    let (disk, model) = States::<Model>::new(&recorder, None, 0).finish();
    let differences = disk.cut(Cut::Keep).differences(place.path(), &[]);
    assert!(differences.is_empty(), "what was recorded is not what is there: {differences:?}");
    model.judge(place.path()).unwrap();
    drop(disk);

    let tally = judge::<Model>(&recorder, None, cuts, random.bits());
    let mended = MENDED.load(Ordering::Relaxed);
    let (states, possible) = (tally.states, tally.possible);
    eprintln!("{states} states of {possible}, {mended} of them mended, in {:?}", began.elapsed());
    assert!(mended * 50 <= states, "a cut asks for a repair far too often: {mended} of {states}");
    tally.is_clean();
    let deaf: fn(&str) -> bool = |path| path == "state/queue/db";
    let tally = judge::<Model>(&recorder, Some(deaf), 10, random.bits());
    eprintln!(
        "without syncs: {} of {} wrong, {:?}",
        tally.wrong.len(),
        tally.states,
        began.elapsed()
    );
    assert!(!tally.wrong.is_empty(), "nobody misses the syncs");
}

#[expect(clippy::disallowed_methods, reason = "this very test, in a process that is recorded")]
fn record(recorder: &Recorder, told: &[(&str, std::ffi::OsString)]) {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "durable::churn::writer", "--ignored", "--nocapture", "--test-threads=1"])
        .envs(recorder.environment())
        .envs(told.iter().map(|(name, value)| (name, value)))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
