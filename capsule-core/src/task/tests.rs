//! The words that every surface shows, and what a task says of itself.

use std::fmt::Write;

use crate::attempt::{AttemptRecord, Failure, How, Loss, NotStarted, Source, Verdict, signal_name};
use crate::command::{Command, Report};
use crate::fixture::{NOW, after, cancel, claim, report, running, spec};
use crate::id::{AttemptNumber, TaskId};
use crate::retry::Backoff;
use crate::spec::{
    Delivery, Dependency, DependencyOn, FailureClass, LockPolicy, Payload, TaskSpec,
};
use crate::task::{Cancellation, Outcome, State, Status, Task};
use crate::time::{Span, Timestamp};

#[test]
fn statuses_have_the_words_of_the_sdk() {
    let words: Vec<String> = Status::ALL.iter().map(ToString::to_string).collect();
    let expected = [
        "scheduled",
        "pending",
        "claimed",
        "running",
        "retry",
        "completed",
        "failed",
        "timeout",
        "cancelled",
    ];
    assert_eq!(words, expected);
    let ended: Vec<bool> = Status::ALL.iter().map(|status| status.is_ended()).collect();
    assert_eq!(ended, [false, false, false, false, false, true, true, true, true]);
}

fn cannot_start() -> Failure {
    Failure::CannotStart { step: "program".into(), message: "no such file: sl".into() }
}

#[test]
fn outcomes_say_how_it_ended() {
    let before = |reason: &str| Cancellation::BeforeStart { reason: reason.into() };
    let stopped = |how, reason: &str| Cancellation::Stopped { how, reason: reason.into() };
    for (outcome, status, text) in [
        (Outcome::Completed, Status::Completed, ""),
        (Outcome::Failed(Failure::Exit(3)), Status::Failed, "exit 3"),
        (Outcome::Timeout(How::Killed), Status::Timeout, "killed"),
        (Outcome::Cancelled(before("")), Status::Cancelled, "before it started"),
        (Outcome::Cancelled(before("late")), Status::Cancelled, "before it started: late"),
        (Outcome::Cancelled(stopped(How::Graceful, "")), Status::Cancelled, "graceful"),
        (Outcome::Cancelled(stopped(How::Killed, "late")), Status::Cancelled, "killed: late"),
        (Outcome::Cancelled(Cancellation::Expired), Status::Cancelled, "did not start in time"),
        (
            Outcome::Cancelled(Cancellation::Dependency {
                task: TaskId(1842),
                status: Status::Failed,
            }),
            Status::Cancelled,
            "dependency 1842 failed",
        ),
    ] {
        assert_eq!((outcome.status(), outcome.to_string().as_str()), (status, text));
        assert_eq!(State::Ended { at: NOW, outcome }.status(), status);
    }
}

#[test]
fn verdicts_say_how_the_attempt_ended() {
    for (verdict, word, text) in [
        (Verdict::Completed, "completed", ""),
        (Verdict::Failed(Failure::Exit(1)), "failed", "exit 1"),
        (Verdict::Failed(Failure::Signal(9)), "failed", "killed by SIGKILL"),
        (Verdict::Failed(Failure::OutOfMemory), "failed", "out of memory"),
        (Verdict::Failed(cannot_start()), "failed", "cannot start: program: no such file: sl"),
        (Verdict::Failed(Failure::Lost(Loss::Reboot)), "failed", "lost: the machine was restarted"),
        (Verdict::Timeout(How::Graceful), "timeout", "graceful"),
        (Verdict::Stopped(How::Killed), "cancelled", "killed"),
        (Verdict::Lost(Loss::KeeperDied), "lost", "its keeper died"),
        (
            Verdict::NotStarted(NotStarted::NoResources),
            "not started",
            "no process or memory left on this machine",
        ),
        (Verdict::NotStarted(NotStarted::Released), "not started", "put back"),
    ] {
        assert_eq!((verdict.word(), verdict.to_string().as_str()), (word, text));
    }
    let words = [Source::None, Source::Cgroup, Source::Rusage].map(Source::word);
    assert_eq!(words, ["none", "cgroup", "rusage"]);
}

#[test]
fn signals_have_names() {
    for (number, name) in [
        (1, "SIGHUP"),
        (9, "SIGKILL"),
        (15, "SIGTERM"),
        (17, "SIGCHLD"),
        (31, "SIGSYS"),
        (0, "signal 0"),
        (32, "signal 32"),
        (-1, "signal -1"),
        (64, "signal 64"),
    ] {
        assert_eq!(signal_name(number), name);
    }
}

#[test]
fn an_attempt_ran_from_start_to_end() {
    let mut record = AttemptRecord::claimed(AttemptNumber(4), NOW, 7);
    assert_eq!((record.number, record.claimed, record.revision), (AttemptNumber(4), NOW, 7));
    assert_eq!(record.ran(), None);
    record.started = Some(NOW);
    assert_eq!(record.ran(), None);
    record.ended = Some(NOW.plus(Span::from_secs(3)));
    assert_eq!(record.ran(), Some(Span::from_secs(3)));
}

#[test]
fn the_title_is_the_display_name_if_there_is_one() {
    assert_eq!(after(spec(), &[]).title(), "build");
    let named = TaskSpec { display_name: "Build it".into(), ..spec() };
    assert_eq!(after(named, &[]).title(), "Build it");
}

#[test]
fn only_a_pending_task_expires() {
    let within = || TaskSpec { start_within: Some(Span::from_secs(5)), ..spec() };
    let pending = after(within(), &[]);
    assert_eq!(pending.expires(), Some(NOW.plus(Span::from_secs(5))));
    assert_eq!(after(spec(), &[]).expires(), None);
    assert_eq!(after(within(), &[claim()]).expires(), None);
    assert_eq!(running(within(), 1).expires(), None);
    assert_eq!(after(within(), &[cancel("")]).expires(), None);
    let later = TaskSpec { not_before: Some(Timestamp(NOW.0 + 1)), ..within() };
    let scheduled = after(later, &[]);
    assert_eq!((scheduled.expires(), scheduled.due_since), (None, Timestamp(NOW.0 + 1)));
    // An instant that is not in the future is now.
    let at_once = after(TaskSpec { not_before: Some(NOW), ..within() }, &[]);
    assert_eq!((at_once.state, at_once.due_since), (State::Pending { since: NOW }, NOW));
}

#[test]
fn the_state_says_what_is_live() {
    let claimed = after(spec(), &[claim()]);
    let stopped = after(spec(), &[claim(), cancel("enough")]);
    assert_eq!(claimed.state.lease().map(|lease| lease.attempt), Some(AttemptNumber(1)));
    assert_eq!(claimed.state.cancel(), None);
    assert_eq!(stopped.state.cancel().map(|cancel| cancel.reason.as_str()), Some("enough"));
    assert_eq!(stopped.state.cancel().map(|cancel| cancel.grace), Some(Span::from_secs(10)));
    assert_eq!((claimed.state.due(), after(spec(), &[]).state.lease()), (None, None));
}

/// Records on disk outlive the code: `records.hex` was written once and is not written again.
#[test]
fn records_of_the_first_format_are_still_read() {
    let records = include_str!("records.hex").lines().map(|line| {
        let digits = line.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect::<Vec<_>>()
    });
    let expected = recorded();
    assert_eq!(records.clone().count(), expected.len(), "\n{}", hex(&expected));
    for (record, task) in records.zip(expected) {
        assert_eq!(minicbor::decode::<Task>(&record).expect("it was a record once"), task);
    }
}

/// One task in each state, with every field of a spec in use.
fn recorded() -> Vec<Task> {
    let full = || TaskSpec {
        app: "leads".into(),
        display_name: "Build it".into(),
        labels: [("team".into(), "blue".into())].into(),
        delivery: Delivery::AtMostOnce,
        retries: 0,
        backoff: Backoff::Fixed(Span(7)),
        lock: Some("owner:acme".into()),
        lock_policy: LockPolicy::Wait,
        key: Some("once".into()),
        start_within: Some(Span(9)),
        after: vec![Dependency { task: TaskId(5), on: DependencyOn::Any }],
        no_retry_exit_codes: vec![3],
        no_retry_on: vec![FailureClass::Timeout],
        arguments: 77,
        ..spec()
    };
    let later = TaskSpec { not_before: Some(Timestamp(NOW.0 + 1)), hold: true, ..full() };
    let ended = |spec, verdict| {
        let end = Report { result: Some(Payload::Side { length: 9 }), ..report(1, verdict) };
        let start = Command::Start { attempt: AttemptNumber(1), pid: 77 };
        after(spec, &[claim(), start, Command::Report(Box::new(end))])
    };
    vec![
        after(later, &[]),
        after(full(), &[]),
        after(full(), &[claim(), cancel("enough")]),
        running(full(), 1),
        ended(spec(), Verdict::Failed(Failure::Exit(1))),
        ended(spec(), Verdict::Completed),
        ended(full(), Verdict::Failed(cannot_start())),
        ended(full(), Verdict::Timeout(How::Killed)),
        ended(full(), Verdict::Lost(Loss::Reboot)),
        after(full(), &[cancel("enough")]),
    ]
}

fn hex(tasks: &[Task]) -> String {
    let mut text = String::new();
    for task in tasks {
        for byte in minicbor::to_vec(task).expect("writing to memory cannot fail") {
            write!(text, "{byte:02x}").expect("a string takes everything");
        }
        text.push('\n');
    }
    text
}
