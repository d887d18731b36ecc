//! What the parts of the daemon cost one by one.

use std::hint::black_box;

use capsule_core::command::Command;
use capsule_core::id::{TaskId, Uuid};
use capsule_core::retry::Backoff;
use capsule_core::spec::{Delivery, LockPolicy, Payload, TaskSpec};
use capsule_core::task::{Status, Task};
use capsule_core::time::{Span, Timestamp};
use capsule_core::{decide, evolve};
use capsuled::book::{Book, Filter, Keeper};
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

/// The book of as many queued tasks, each as `of` makes it of the plain one.
#[expect(clippy::print_stdout, reason = "a figure that no timing shows")]
fn queued(count: u64, of: impl Fn(u64, &mut TaskSpec)) -> Book {
    let before = resident();
    let mut book = Book::new(4);
    let attribution = "cgroup".to_owned();
    book.keeper = Some(Keeper { instance: Uuid([1; 16]), pid: 1, attribution });
    for id in 1..=count {
        book.apply(None, Some(&numbered(id, &of)));
    }
    let each = resident().saturating_sub(before) / count;
    println!("a book of {count}: {each} bytes a task");
    book
}

fn numbered(id: u64, of: &impl Fn(u64, &mut TaskSpec)) -> Task {
    let mut spec = spec();
    of(id, &mut spec);
    let submit = Command::Submit { id: TaskId(id), uuid: Uuid([7; 16]), spec: Box::new(spec) };
    after(None, &submit).expect("a submit makes a task")
}

/// Bytes of memory of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("it is there on Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.expect("it is a number of kB") * 1024
}

fn book(c: &mut Criterion) {
    let mut book = queued(1_000_000, |_, _| {});
    c.bench_function("book/pick of 1M", |b| {
        b.iter(|| {
            let id = book.pick().expect("there are ready tasks");
            let entry = *book.entries.get(&id).expect("it is in the book");
            book.ready.insert(entry.lane(), entry.rank(id));
        });
    });
    let waiting = task(1);
    c.bench_function("book/apply with 1M", |b| {
        b.iter(|| book.apply(Some(&waiting), Some(black_box(&waiting))));
    });
}

/// First pages of a million tasks in 40 names, 20 sets of labels and 10 queues, and of a million
/// with a lock and labels of their own. Where nothing or all fits, all are looked at.
fn pages(c: &mut Criterion) {
    let none = Filter::default;
    let label = |name: &str, value: &str| [(name.to_owned(), value.to_owned())].into();
    let of = |id: u64, spec: &mut TaskSpec| {
        spec.name = format!("name-{}", id % 40);
        spec.queue = format!("queue-{}", id % 10);
        spec.labels = label("team", &(id % 20).to_string());
    };
    let filters = [
        ("name", Filter { names: vec!["name-1*".to_owned()], ..none() }),
        ("owner", Filter { owner: "root".to_owned(), ..none() }),
        ("queue", Filter { queue: "queue-7".to_owned(), ..none() }),
        ("label", Filter { labels: label("team", "7"), ..none() }),
        ("time", Filter { until: Some(Timestamp(1)), ..none() }),
        (
            "all at once",
            Filter {
                statuses: vec![Status::Pending, Status::Running],
                names: vec!["name-*".to_owned()],
                owner: "root".to_owned(),
                queue: "queue-7".to_owned(),
                labels: label("team", ""),
                since: Some(Timestamp(1)),
                ..none()
            },
        ),
    ];
    by_each(c, "1M", &queued(1_000_000, of), &filters);
    let of = |id: u64, spec: &mut TaskSpec| {
        spec.lock = Some(format!("order-{id}"));
        spec.labels = label("order", &id.to_string());
    };
    let filters = [
        ("lock", Filter { lock: "order-5".to_owned(), ..none() }),
        ("label", Filter { labels: label("order", "5"), ..none() }),
        ("label of all", Filter { labels: label("order", ""), ..none() }),
        ("queue", Filter { queue: "default".to_owned(), ..none() }),
    ];
    by_each(c, "1M with their own", &queued(1_000_000, of), &filters);
}

fn by_each(c: &mut Criterion, of: &str, book: &Book, filters: &[(&str, Filter)]) {
    let mut group = c.benchmark_group(format!("book/page of {of} by"));
    group.sample_size(20);
    for (what, filter) in filters {
        group.bench_function(*what, |b| b.iter(|| book.page(black_box(filter), None, 101)));
    }
    group.finish();
}

criterion_group!(parts, core, records, store, log, book, pages);
criterion_main!(parts);
