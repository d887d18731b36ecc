//! The store alone: a batch of records, flushed and synced, in this process.

use std::time::{Duration, Instant};

use capsule_core::command::Command;
use capsule_core::id::{TaskId, Uuid};
use capsule_core::retry::Backoff;
use capsule_core::spec::{Delivery, LockPolicy, Payload, TaskSpec};
use capsule_core::time::{Span, Timestamp};
use capsuled::store::{Batch, Change, SledStore, StateDir, Store as _, Table};
use capsuled::work::{Program, Work};
use tempfile::TempDir;

use crate::bench::Bench;
use crate::sample::Sample;

/// A store of its own, with the records that a submit of `true` makes.
#[derive(Debug)]
pub(crate) struct Records {
    store: SledStore,
    _folder: TempDir,
    next: u64,
}

impl Records {
    /// An empty store.
    pub(crate) fn open(bench: &Bench) -> anyhow::Result<Self> {
        let folder = bench.folder()?;
        let state = StateDir::open(&folder.path().join("state"))?;
        let store = SledStore::open(&state, jiff::Timestamp::now())?.store;
        Ok(Self { store, _folder: folder, next: 1 })
    }

    /// Commits so many new tasks in one batch; gives the time.
    pub(crate) fn commit(&mut self, tasks: u64) -> anyhow::Result<Duration> {
        let changes = (self.next..self.next + tasks)
            .map(|id| Change::put(Table::Task, id.to_be_bytes(), record(id)))
            .collect();
        self.next += tasks;
        let batch = Batch { changes, high_water: self.next };
        let began = Instant::now();
        self.store.commit(&batch)?;
        Ok(began.elapsed())
    }

    /// The times of so many commits of one task, in microseconds.
    pub(crate) fn serial(&mut self, commits: usize) -> anyhow::Result<Sample> {
        let mut times = Sample::default();
        for _ in 0..commits {
            times.push_micros(self.commit(1)?);
        }
        Ok(times)
    }
}

/// The record of a fresh task that runs `true`.
pub(crate) fn record(id: u64) -> Vec<u8> {
    let now = Timestamp(1_800_000_000_000_000);
    let submit = Command::Submit { id: TaskId(id), uuid: Uuid([7; 16]), spec: Box::new(spec()) };
    let mut task = None;
    for event in &capsule_core::decide(None, &submit, now).unwrap_or_default() {
        capsule_core::evolve(&mut task, event);
    }
    task.map(|task| minicbor::to_vec(task).unwrap_or_default()).unwrap_or_default()
}

fn spec() -> TaskSpec {
    let env = [
        ("HOME", "/root"),
        ("LANG", "C.UTF-8"),
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("SHELL", "/bin/bash"),
        ("USER", "root"),
    ];
    let work = Work::Program(Program {
        argv: vec!["true".to_owned()],
        shell: false,
        cwd: "/".to_owned(),
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        stdin: None,
    });
    TaskSpec {
        app: String::new(),
        name: "true".to_owned(),
        display_name: String::new(),
        owner: "root".to_owned(),
        uid: 0,
        queue: "still".to_owned(),
        priority: 0,
        labels: std::collections::BTreeMap::new(),
        payload: Payload::Inline(work.encode()),
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
