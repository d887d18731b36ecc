//! Whole histories by chance. What fails is shown in its shortest form; `PROPTEST_RNG_SEED` gives
//! the same ones again and `CAPSULE_SIM_CASES` says how many.

use std::collections::BTreeMap;

use capsule_core::attempt::{Failure, Receipt, Verdict};
use capsule_core::command::{Command, Edit, Report};
use capsule_core::id::{AttemptNumber, TaskId, Uuid};
use capsule_core::spec::{Dependency, DependencyOn, TaskSpec};
use capsule_core::task::Status;
use capsule_core::time::{Span, Timestamp};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use super::super::{Book, Filter, Queue};
use super::model::Model;

const SLOTS: u32 = 3;

#[derive(Clone, Debug)]
enum Step {
    Submit { shape: Shape, key: bool, delay: u64, within: Option<u64>, after: Option<usize> },
    Claim,
    Start { which: usize },
    End { which: usize, well: bool, lingers: bool },
    Gone { which: usize },
    Cancel { which: usize },
    Retry { which: usize },
    Edit { which: usize, shape: Shape },
    Remove { which: usize },
    Clock { seconds: u64 },
}

/// What a task is filtered by.
#[derive(Clone, Debug)]
struct Shape {
    name: &'static str,
    owner: &'static str,
    queue: &'static str,
    lock: Option<&'static str>,
    team: &'static str,
    site: &'static str,
    priority: i8,
    hold: bool,
}

fn queue() -> impl Strategy<Value = &'static str> {
    select(vec!["default", "narrow", "slow"])
}

fn shape() -> impl Strategy<Value = Shape> {
    let lock = proptest::option::of(select(vec!["ledger", "ledger:2", "mail"]));
    let names = (select(vec!["send", "sync", "sync.all"]), select(vec!["ada", "bob"]), queue());
    let labels = (select(vec!["", "a", "b"]), select(vec!["", "a", "a=b"]));
    (names, lock, labels, -2i8..3, proptest::bool::weighted(0.1)).prop_map(
        |((name, owner, queue), lock, (team, site), priority, hold)| Shape {
            name,
            owner,
            queue,
            lock,
            team,
            site,
            priority,
            hold,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let submit = (shape(), any::<bool>(), 0u64..9, proptest::option::of(1u64..90), 0usize..40);
    let which = any::<usize>;
    prop_oneof![
        6 => submit.prop_map(|(shape, key, delay, within, after)| {
            let after = (after < 10).then_some(after);
            Step::Submit { shape, key, delay, within, after }
        }),
        6 => Just(Step::Claim),
        3 => which().prop_map(|which| Step::Start { which }),
        5 => (which(), any::<bool>(), proptest::bool::weighted(0.3))
            .prop_map(|(which, well, lingers)| Step::End { which, well, lingers }),
        2 => which().prop_map(|which| Step::Gone { which }),
        1 => which().prop_map(|which| Step::Cancel { which }),
        1 => which().prop_map(|which| Step::Retry { which }),
        2 => (which(), shape()).prop_map(|(which, shape)| Step::Edit { which, shape }),
        3 => which().prop_map(|which| Step::Remove { which }),
        3 => (1u64..60).prop_map(|seconds| Step::Clock { seconds }),
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    let of = proptest::option::weighted::<proptest::sample::Select<&'static str>>;
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let label = || of(0.2, select(vec!["", "a", "b", "a=b"]));
    let texts = (
        of(0.1, select(vec!["shop"])),
        of(0.3, select(vec!["ada", "bob", "eve"])),
        of(0.3, select(vec!["default", "narrow", "slow", "none"])),
        of(0.2, select(vec!["ledger", "mail", "none"])),
    );
    let names = prop::collection::vec(select(vec!["send", "s*", "sync*", "sync", "none*"]), 0..2);
    let statuses = prop::collection::vec(select(Status::ALL.to_vec()), 0..4);
    let instant = || proptest::option::weighted(0.2, (0i64..900).prop_map(at));
    (texts, names, statuses, (label(), label()), (instant(), instant())).prop_map(
        move |((app, owner, queue, lock), names, statuses, (team, site), (since, until))| Filter {
            statuses,
            app: text(app),
            names: names.into_iter().map(str::to_owned).collect(),
            except_names: Vec::new(),
            owner: text(owner),
            queue: text(queue),
            lock: text(lock),
            labels: labels([("team", team), ("site", site)]),
            since,
            until,
        },
    )
}

fn labels<const N: usize>(all: [(&str, Option<&str>); N]) -> BTreeMap<String, String> {
    let there = all.into_iter().filter_map(|(name, value)| Some((name, value?)));
    there.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp(1_700_000_000_000_000 + seconds * 1_000_000)
}

struct Life {
    book: Book,
    model: Model,
    now: Timestamp,
    last: u64,
}

impl Life {
    fn new() -> Self {
        let mut book = super::open(SLOTS);
        book.queues.insert("narrow".to_owned(), Queue { limit: Some(1), ..Queue::default() });
        Self { book, model: Model::default(), now: at(0), last: 0 }
    }

    /// Asks one thing of one task, of both; whether it was granted.
    fn ask(&mut self, id: TaskId, command: &Command) -> bool {
        let before = self.model.tasks.get(&id).cloned();
        let Ok(events) = capsule_core::decide(before.as_ref(), command, self.now) else {
            return false;
        };
        let mut after = before.clone();
        for event in &events {
            capsule_core::evolve(&mut after, event);
        }
        let task = after.unwrap();
        self.book.apply(before.as_ref(), Some(&task));
        let status = task.status();
        self.model.tasks.insert(id, task);
        if status.is_ended() {
            for dependant in self.model.dependants(id) {
                self.ask(dependant, &Command::DependencyEnded { task: id, status });
            }
        }
        true
    }

    /// One of the tasks that `is` picks out.
    fn nth(&self, which: usize, is: impl Fn(Status) -> bool) -> Option<TaskId> {
        let ids: Vec<TaskId> =
            self.model.tasks.values().filter(|t| is(t.status())).map(|t| t.id).collect();
        ids.get(which.checked_rem(ids.len())?).copied()
    }

    fn submit(&mut self, shape: &Shape, rest: (bool, u64, Option<u64>, Option<usize>)) {
        let (key, delay, within, after) = rest;
        // Ids are not all dense.
        self.last += if delay == 1 { 90 } else { 1 };
        let after = after.and_then(|which| self.nth(which, |status| !status.is_ended()));
        let spec = TaskSpec {
            owner: shape.owner.to_owned(),
            priority: shape.priority,
            hold: shape.hold,
            lock: shape.lock.map(str::to_owned),
            labels: shape.labels(),
            key: key.then(|| format!("key-{}", self.last)),
            not_before: (delay > 5).then(|| self.now.plus(Span::from_secs(delay * 5))),
            start_within: within.map(Span::from_secs),
            after: after
                .map(|task| Dependency { task, on: DependencyOn::Any })
                .into_iter()
                .collect(),
            retries: 1,
            ..super::spec(shape.name, shape.queue)
        };
        let uuid = Uuid::default();
        let submit = Command::Submit { id: TaskId(self.last), uuid, spec: Box::new(spec) };
        assert!(self.ask(TaskId(self.last), &submit));
    }

    fn claim(&mut self) {
        let expected = self.model.pick(SLOTS, &self.book.queues);
        assert_eq!(self.book.pick(), expected);
        if let Some(id) = expected {
            assert!(self.ask(id, &Command::Claim { keeper: Uuid([1; 16]), revision: 0 }));
        }
    }

    fn end(&mut self, id: TaskId, well: bool, lingers: bool) {
        let attempt = self.model.tasks[&id].attempts;
        let verdict = if well { Verdict::Completed } else { Verdict::Failed(Failure::Exit(1)) };
        let report = Report {
            attempt,
            verdict,
            before_signal: true,
            is_final: false,
            retry_after: None,
            started: None,
            ended: self.now,
            receipt: Receipt::default(),
            result: None,
        };
        assert!(self.ask(id, &Command::Report(Box::new(report))));
        if lingers {
            self.book.linger(&self.model.tasks[&id], attempt);
            self.model.lingering.insert(id, attempt);
        }
    }

    fn gone(&mut self, id: TaskId, attempt: AttemptNumber) {
        self.model.lingering.remove(&id);
        self.book.gone(id, attempt);
    }

    fn remove(&mut self, id: TaskId) {
        if !self.model.lingering.contains_key(&id) {
            self.book.apply(self.model.tasks.remove(&id).as_ref(), None);
        }
    }

    fn edit(&mut self, id: TaskId, shape: &Shape) {
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let edit = Edit {
            priority: Some(shape.priority),
            queue: Some(shape.queue.to_owned()),
            hold: Some(shape.hold),
            labels: vec![label("team", shape.team), label("site", shape.site)],
            ..Edit::default()
        };
        self.ask(id, &Command::Edit(Box::new(edit)));
    }

    fn play(&mut self, step: Step) {
        let live = |status| matches!(status, Status::Claimed | Status::Running);
        match step {
            Step::Submit { shape, key, delay, within, after } => {
                self.submit(&shape, (key, delay, within, after));
            }
            Step::Claim => self.claim(),
            Step::Start { which } => {
                if let Some(id) = self.nth(which, |status| status == Status::Claimed) {
                    let attempt = self.model.tasks[&id].attempts;
                    assert!(self.ask(id, &Command::Start { attempt, pid: 5 }));
                }
            }
            Step::End { which, well, lingers } => {
                let id = self.nth(which, live);
                if let Some(id) = id {
                    self.end(id, well, lingers);
                }
            }
            Step::Gone { which } => {
                let (count, all) = (self.model.lingering.len(), self.model.lingering.clone());
                let one = which.checked_rem(count).and_then(|nth| all.into_iter().nth(nth));
                if let Some((id, attempt)) = one {
                    self.gone(id, attempt);
                }
            }
            Step::Cancel { which } => {
                let cancel = Command::Cancel { reason: String::new(), grace: None };
                let id = self.nth(which, |_| true);
                if let Some(id) = id {
                    self.ask(id, &cancel);
                }
            }
            Step::Retry { which } => {
                let retry = Command::Retry { retries: None, timeout: None };
                let id = self.nth(which, Status::is_ended);
                if let Some(id) = id {
                    self.ask(id, &retry);
                }
            }
            Step::Edit { which, shape } => {
                let id = self.nth(which, |_| true);
                if let Some(id) = id {
                    self.edit(id, &shape);
                }
            }
            Step::Remove { which } => {
                let id = self.nth(which, Status::is_ended);
                if let Some(id) = id {
                    self.remove(id);
                }
            }
            Step::Clock { seconds } => {
                self.now = self.now.plus(Span::from_secs(seconds));
                while let Some((_, id)) = self.book.next_alarm().filter(|(at, _)| *at <= self.now) {
                    let pending = self.model.tasks[&id].status() == Status::Pending;
                    let command = if pending { Command::Expire } else { Command::Due };
                    assert!(self.ask(id, &command), "an alarm finds nothing to do");
                }
            }
        }
    }

    /// Everything ends and goes.
    fn clear(&mut self) {
        for (id, attempt) in self.model.lingering.clone() {
            self.gone(id, attempt);
        }
        while let Some(task) = self.model.tasks.pop_first() {
            self.book.apply(Some(&task.1), None);
        }
        super::assert_empty(&self.book);
    }
}

impl Shape {
    fn labels(&self) -> BTreeMap<String, String> {
        let there = |value: &'static str| Some(value).filter(|value| !value.is_empty());
        labels([("team", there(self.team)), ("site", there(self.site))])
    }
}

#[test]
fn a_book_says_what_a_list_of_its_tasks_says() {
    let cases = std::env::var("CAPSULE_SIM_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(64);
    let steps = prop::collection::vec(step(), 1..120);
    let question = (filter(), 0u64..300, 0usize..30);
    let questions = prop::collection::vec(question, 20);
    let mut runner = TestRunner::new(Config { cases, ..Config::default() });
    let result = runner.run(&(steps, questions), |(steps, questions)| {
        let mut life = Life::new();
        for (step, (filter, before, wanted)) in steps.into_iter().zip(questions.iter().cycle()) {
            life.play(step);
            life.model.assert_same(&life.book);
            life.model.assert_finds(&life.book, filter, TaskId(*before), *wanted);
        }
        let now = life.now;
        life.model.assert_like_new(&mut life.book, now);
        life.clear();
        Ok(())
    });
    result.unwrap();
}
