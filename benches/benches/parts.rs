//! What the parts of the daemon cost one by one.

use std::hint::black_box;

use capsule_core::command::Command;
use capsule_core::id::{TaskId, Uuid};
use capsule_core::retry::Backoff;
use capsule_core::spec::{Delivery, LockPolicy, Payload, TaskSpec};
use capsule_core::task::Task;
use capsule_core::time::{Span, Timestamp};
use capsule_core::{decide, evolve};
use capsuled::book::{Book, Keeper};
use capsuled::logs::{LogCaps, LogDir, LogWriter, Stream};
use capsuled::store::{Batch, Change, SledStore, StateDir, Store, Table};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

fn spec() -> TaskSpec {
    TaskSpec {
        app: String::new(),
        name: "true".to_owned(),
        display_name: String::new(),
        owner: "root".to_owned(),
        uid: 0,
        queue: "default".to_owned(),
        priority: 0,
        labels: std::collections::BTreeMap::new(),
        payload: Payload::Inline(vec![7; 160]),
        retries: 0,
        backoff: Backoff::default(),
        timeout: None,
        grace: Span::from_secs(10),
        delivery: Delivery::AtMostOnce,
        lock: None,
        lock_policy: LockPolicy::Merge,
        key: None,
        start_within: None,
        after: Vec::new(),
        no_retry_exit_codes: Vec::new(),
        no_retry_on: Vec::new(),
        revision: 0,
        arguments: u64::MAX / 3,
        summary: "true".to_owned(),
        not_before: None,
        hold: false,
        tick: None,
        parent: None,
    }
}

fn submit(id: u64) -> Command {
    Command::Submit { id: TaskId(id), uuid: Uuid([7; 16]), spec: Box::new(spec()) }
}

fn after(before: Option<&Task>, command: &Command) -> Option<Task> {
    let events = decide(before, command, NOW).expect("what the bench asks is allowed");
    let mut task = before.cloned();
    for event in &events {
        evolve(&mut task, event);
    }
    task
}

fn task(id: u64) -> Task {
    after(None, &submit(id)).expect("a submit makes a task")
}

fn core(c: &mut Criterion) {
    let command = submit(1);
    c.bench_function("core/submit", |b| b.iter(|| after(None, black_box(&command))));
    let pending = task(1);
    let claim = Command::Claim { keeper: Uuid([1; 16]), revision: 0 };
    c.bench_function("core/claim", |b| b.iter(|| after(Some(black_box(&pending)), &claim)));
}

fn records(c: &mut Criterion) {
    let task = task(1);
    c.bench_function("record/encode", |b| {
        b.iter(|| minicbor::to_vec(black_box(&task)).expect("memory takes it"));
    });
    let bytes = minicbor::to_vec(&task).expect("memory takes it");
    c.bench_function("record/decode", |b| {
        b.iter(|| minicbor::decode::<Task>(black_box(&bytes)).expect("they are a task"));
    });
}

fn store(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let state = StateDir::open(&folder.path().join("state")).expect("it is a state folder");
    let store = SledStore::open(&state, jiff::Timestamp::now()).expect("it opens").store;
    let record = minicbor::to_vec(task(1)).expect("memory takes it");
    let mut group = c.benchmark_group("store/commit");
    let mut next: u64 = 0;
    for count in [1_u64, 64, 1000] {
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| {
                let changes = (next..next + count)
                    .map(|id| Change::put(Table::Task, id.to_be_bytes(), record.clone()))
                    .collect();
                next += count;
                store.commit(&Batch { changes, high_water: next }).expect("the disk takes it");
            });
        });
    }
    group.finish();
}

fn log(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let logs = LogDir::open(folder.path().join("logs")).expect("it opens");
    let dir = logs.handle().expect("it has a descriptor");
    let mut writer = LogWriter::new(dir, 1, 1, LogCaps::default());
    let mut group = c.benchmark_group("log/append");
    for bytes in [100_usize, 65_536] {
        let piece = vec![b'x'; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |b| {
            b.iter(|| writer.append(1_800_000_000_000_000, Stream::Out, black_box(&piece)));
        });
    }
    group.finish();
}

fn book(c: &mut Criterion) {
    let mut book = Book::new(4);
    let attribution = "cgroup".to_owned();
    book.keeper = Some(Keeper { instance: Uuid([1; 16]), pid: 1, attribution });
    for id in 1..=100_000 {
        book.apply(None, Some(&task(id)));
    }
    c.bench_function("book/pick of 100k", |b| {
        b.iter(|| {
            let id = book.pick().expect("there are ready tasks");
            let entry = book.entries.get(&id).expect("it is in the book").clone();
            book.ready.insert(entry.lane(), entry.rank(id));
        });
    });
    let waiting = task(1);
    c.bench_function("book/apply with 100k", |b| {
        b.iter(|| book.apply(Some(&waiting), Some(black_box(&waiting))));
    });
}

criterion_group!(parts, core, records, store, log, book);
criterion_main!(parts);
