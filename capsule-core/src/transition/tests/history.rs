//! Histories built from the task's own state: most commands fit, so that they go deep.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::invariants::{Entry, check};
use super::table::refusal;
use crate::attempt::{Failure, How, Loss, NotStarted, Receipt, Verdict};
use crate::command::{Command, Edit, Report};
use crate::fixture::{self, NOW, ask, claim, submit};
use crate::id::{AttemptNumber, TaskId};
use crate::retry::Backoff;
use crate::spec::{Delivery, Dependency, DependencyOn, FailureClass, Payload, TaskSpec};
use crate::task::{State, Status, Task};
use crate::time::{Span, Timestamp};

/// The chances of one step; what they mean depends on where the task stands.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// Of 100: below 90 the command fits the state, above it is any command at all.
    fits: u8,
    /// Which of the commands.
    which: Index,
    clock: Clock,
    attempt: Fence,
    report: Report,
    cancel: (String, Option<Span>),
    edit: Edit,
    retries: Option<u32>,
    dependency: (TaskId, Status),
}

/// Where the clock goes before the step.
#[derive(Clone, Copy, Debug)]
enum Clock {
    Stays,
    /// To the instant the task waits for, and so many microseconds more.
    ToDue(i64),
    /// By so many microseconds, perhaps backwards.
    By(i64),
}

/// Which attempt a start or a report names.
#[derive(Clone, Copy, Debug)]
enum Fence {
    Live,
    Older,
    Newer,
}

/// Texts around the bounds, with characters of one byte and of two.
fn texts() -> impl Strategy<Value = String> {
    (0usize..600, any::<bool>()).prop_map(|(length, odd)| {
        let start = if odd { "x" } else { "" };
        start.to_owned() + &"ü".repeat(length / 2)
    })
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    let how = || select(vec![How::Graceful, How::Killed]);
    let loss = || select(vec![Loss::KeeperDied, Loss::Reboot, Loss::NoResources, Loss::HostDied]);
    prop_oneof![
        2 => Just(Verdict::Completed),
        8 => select(vec![1, 1, 1, 2, 3]).prop_map(|code| Verdict::Failed(Failure::Exit(code))),
        1 => Just(Verdict::Failed(Failure::Signal(11))),
        1 => Just(Verdict::Failed(Failure::OutOfMemory)),
        1 => (texts(), texts()).prop_map(|(step, message)| {
            Verdict::Failed(Failure::CannotStart { step, message })
        }),
        2 => (texts(), texts()).prop_map(|(kind, message)| {
            Verdict::Failed(Failure::Error { kind, message })
        }),
        1 => loss().prop_map(|loss| Verdict::Failed(Failure::Lost(loss))),
        2 => how().prop_map(Verdict::Timeout),
        2 => how().prop_map(Verdict::Stopped),
        4 => loss().prop_map(Verdict::Lost),
        3 => select(vec![NotStarted::NoResources, NotStarted::Released])
            .prop_map(Verdict::NotStarted),
    ]
}

fn payloads(most: usize) -> impl Strategy<Value = Payload> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..=most).prop_map(Payload::Inline),
        any::<u32>().prop_map(|length| Payload::Side { length }),
    ]
}

fn reports() -> impl Strategy<Value = Report> {
    let finals = (any::<bool>(), prop::bool::weighted(0.1));
    let chances = (finals, prop::option::weighted(0.2, (0u64..100_000).prop_map(Span)));
    let started = prop::option::weighted(0.3, ((0i64..1000).prop_map(Timestamp), any::<u32>()));
    let receipt = (prop::option::of(0i32..4), texts());
    (verdicts(), chances, started, receipt, prop::option::of(payloads(16))).prop_map(
        |(
            verdict,
            ((before_signal, is_final), retry_after),
            started,
            (exit_code, attribution),
            result,
        )| {
            let receipt = Receipt { exit_code, attribution, ..Receipt::default() };
            let report = fixture::report(0, verdict);
            Report { before_signal, is_final, retry_after, started, receipt, result, ..report }
        },
    )
}

fn edits() -> impl Strategy<Value = Edit> {
    let label = prop_oneof![Just(String::new()), texts()];
    (
        prop::option::of(-110i8..=110),
        prop::option::of(select(vec!["slow", "", "a b"])),
        prop::option::of(any::<bool>()),
        prop::option::weighted(0.3, (-5_000_000i64..5_000_000).prop_map(|n| Timestamp(NOW.0 + n))),
        prop::option::weighted(0.2, prop_oneof![0u32..4, 99u32..103]),
        prop::option::of((0u64..3).prop_map(Span)),
        prop::collection::vec((select(vec!["x", "y", "z"]), label), 0..3),
    )
        .prop_map(|(priority, queue, hold, at, retries, timeout, labels)| Edit {
            priority,
            queue: queue.map(Into::into),
            hold,
            at,
            retries,
            timeout,
            labels: labels.into_iter().map(|(label, value)| (label.into(), value)).collect(),
            display_name: None,
        })
}

fn steps() -> impl Strategy<Value = Step> {
    let clock = prop_oneof![
        2 => Just(Clock::Stays),
        6 => select(vec![-1i64, 0, 1]).prop_map(Clock::ToDue),
        2 => (-1_000_000i64..10_000_000).prop_map(Clock::By),
    ];
    let attempt = prop_oneof![
        8 => Just(Fence::Live),
        1 => Just(Fence::Older),
        1 => Just(Fence::Newer),
    ];
    let cancel = (texts(), prop::option::of((0u64..20_000).prop_map(Span)));
    let small = (
        prop::option::weighted(0.3, 0u32..103),
        ((1u64..4).prop_map(TaskId), select(Status::ALL.to_vec())),
    );
    (0u8..100, any::<Index>(), clock, attempt, reports(), cancel, edits(), small).prop_map(
        |(fits, which, clock, attempt, report, cancel, edit, (retries, dependency))| Step {
            fits,
            which,
            clock,
            attempt,
            report,
            cancel,
            edit,
            retries,
            dependency,
        },
    )
}

fn specs() -> impl Strategy<Value = TaskSpec> {
    let backoff = prop_oneof![
        Just(Backoff::default()),
        (0u64..1000).prop_map(|ms| Backoff::Fixed(Span(ms))),
    ];
    let delivery = prop_oneof![3 => Just(Delivery::AtLeastOnce), 1 => Just(Delivery::AtMostOnce)];
    let on = select(vec![DependencyOn::Ok, DependencyOn::Any, DependencyOn::Failed]);
    let after = (1u64..4, on).prop_map(|(task, on)| Dependency { task: TaskId(task), on });
    let classes =
        vec![FailureClass::Exit, FailureClass::Signal, FailureClass::Timeout, FailureClass::Memory];
    let rules = (
        prop::collection::vec(2i32..4, 0..2),
        prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(select(classes), 1..3)],
    );
    (
        (0u32..4, backoff, delivery),
        prop::collection::vec(after, 0..3),
        rules,
        prop::option::of((0i64..5_000_000).prop_map(|wait| Timestamp(NOW.0 + wait))),
        prop::option::weighted(0.3, (0u64..1000).prop_map(Span)),
    )
        .prop_map(
            |((retries, backoff, delivery), after, (codes, classes), not_before, within)| {
                TaskSpec {
                    retries: if delivery == Delivery::AtMostOnce { 0 } else { retries },
                    backoff,
                    delivery,
                    after,
                    no_retry_exit_codes: codes,
                    no_retry_on: classes,
                    not_before,
                    start_within: within,
                    ..fixture::spec()
                }
            },
        )
}

/// One command of each kind, as this step would ask it of `task`.
fn commands(step: &Step, task: &Task) -> [Command; 11] {
    let live = task.attempts;
    let attempt = match step.attempt {
        Fence::Live => live,
        Fence::Older => AttemptNumber(live.0.saturating_sub(1)),
        Fence::Newer => live.next(),
    };
    let (other, status) = step.dependency;
    let (reason, grace) = step.cancel.clone();
    [
        submit(task.spec.clone()),
        Command::Due,
        Command::Promote,
        claim(),
        Command::Start { attempt, pid: 77 },
        Command::Report(Box::new(Report { attempt, ..step.report.clone() })),
        Command::Cancel { reason, grace },
        Command::Expire,
        Command::DependencyEnded { task: other, status },
        Command::Retry { retries: step.retries, timeout: step.edit.timeout },
        Command::Edit(Box::new(step.edit.clone())),
    ]
}

/// The commands that fit where the task stands, as places in [`commands`]: those that carry it on
/// stand several times.
fn fitting(state: &State) -> &'static [usize] {
    match state {
        State::Scheduled { .. } | State::Retry { .. } => &[1, 1, 1, 1, 2, 2, 6, 8, 10],
        State::Pending { .. } => &[3, 3, 3, 3, 3, 3, 6, 7, 8, 10],
        State::Claimed { .. } => &[4, 4, 4, 4, 4, 4, 4, 5, 5, 6, 10],
        State::Running { .. } => &[5, 5, 5, 5, 5, 5, 5, 6, 10],
        State::Ended { .. } => &[9, 9, 9, 6],
    }
}

fn history(spec: TaskSpec, steps: &[Step]) -> Vec<Entry> {
    let mut now = NOW;
    let mut task = None;
    let mut entries = Vec::new();
    let mut ask_and_note = |task: &mut Option<Task>, command: Command, now| {
        let before = task.clone();
        let answer = ask(task, &command, now);
        entries.push(Entry { now, before, command, answer, after: task.clone() });
    };
    ask_and_note(&mut task, submit(spec), now);
    for step in steps {
        let there = task.clone().expect("the first command submitted it");
        now = match step.clock {
            Clock::Stays => now,
            Clock::By(micros) => Timestamp(now.0 + micros),
            Clock::ToDue(micros) => {
                let due = there.state.due().or(there.expires());
                due.map_or(now, |due| Timestamp(due.0.saturating_add(micros)))
            }
        };
        let all = commands(step, &there);
        let command = if step.fits < 90 {
            all[*step.which.get(fitting(&there.state))].clone()
        } else {
            step.which.get(&all).clone()
        };
        ask_and_note(&mut task, command, now);
    }
    entries
}

fn histories() -> impl Strategy<Value = (TaskSpec, Vec<Step>)> {
    (specs(), prop::collection::vec(steps(), 10..40))
}

proptest! {
    #[test]
    fn every_history_keeps_the_invariants((spec, steps) in histories()) {
        check(&history(spec, &steps));
    }
}

/// A property test is worth what its histories reach: of 300 of them, always the same, each of
/// these must be in at least three.
#[test]
fn the_histories_reach_every_corner() {
    let mut runner = TestRunner::deterministic();
    let mut seen = std::collections::BTreeMap::<String, u32>::new();
    let histories = histories();
    for _ in 0..300 {
        let tree = histories.new_tree(&mut runner).expect("nothing is filtered out");
        let (spec, steps) = tree.current();
        let corners: std::collections::BTreeSet<String> =
            history(spec, &steps).iter().flat_map(corners).collect();
        for corner in corners {
            *seen.entry(corner).or_default() += 1;
        }
    }
    let rejections =
        ["stale", "not due", "ended", "not now", "unchanged", "out of bounds", "completed"];
    let ends = ["lost", "expired", "dependency", "stopped", "before start"];
    let verdicts = ["completed", "failed", "timeout", "cancelled", "lost", "not started"];
    let expected = (Status::ALL.iter().map(|status| format!("is {status}")))
        .chain(rejections.iter().map(|word| format!("refused: {word}")))
        .chain(ends.iter().map(|word| format!("ends: {word}")))
        .chain(verdicts.iter().map(|word| format!("verdict {word}")))
        .chain(verdicts.iter().map(|word| format!("verdict {word} after a cancel")))
        .chain(["attempt 6", "third failure", "retried by hand", "dependency met"].map(Into::into));
    let seldom: Vec<String> =
        expected.filter(|corner| seen.get(corner).is_none_or(|n| *n < 3)).collect();
    assert!(seldom.is_empty(), "seldom reached: {seldom:?}\nseen: {seen:#?}");
}

fn corners(entry: &Entry) -> Vec<String> {
    use crate::task::{Cancellation as C, Outcome as O};
    let mut corners = Vec::new();
    if let Err(rejected) = &entry.answer {
        corners.push(format!("refused: {}", refusal(*rejected)));
    }
    if let (Ok(_), Some(before)) = (&entry.answer, &entry.before) {
        if let Command::Report(report) = &entry.command {
            corners.push(format!("verdict {}", report.verdict.word()));
            if before.state.cancel().is_some() {
                corners.push(format!("verdict {} after a cancel", report.verdict.word()));
            }
        }
        if let Command::DependencyEnded { .. } = entry.command {
            let ended = entry.after.as_ref().is_some_and(|after| after.status().is_ended());
            corners.extend((!ended).then(|| "dependency met".into()));
        }
        if let Command::Retry { .. } = entry.command {
            corners.push("retried by hand".into());
        }
    }
    let Some(task) = &entry.after else { return corners };
    corners.push(format!("is {}", task.status()));
    corners.extend((task.attempts.0 >= 6).then(|| "attempt 6".into()));
    corners.extend((task.failures >= 3).then(|| "third failure".into()));
    if let State::Ended { outcome, .. } = &task.state {
        corners.extend(match outcome {
            O::Failed(Failure::Lost(_)) => Some("ends: lost".into()),
            O::Cancelled(C::Expired) => Some("ends: expired".into()),
            O::Cancelled(C::Dependency { .. }) => Some("ends: dependency".into()),
            O::Cancelled(C::Stopped { .. }) => Some("ends: stopped".into()),
            O::Cancelled(C::BeforeStart { .. }) => Some("ends: before start".into()),
            O::Completed | O::Failed(_) | O::Timeout(_) => None,
        });
    }
    corners
}
