//! Every end of an attempt, in every situation that matters for what follows.

use super::table::grouped;
use crate::attempt::{ATTRIBUTION_MAX, ERROR_MAX, Failure, How, Loss, NotStarted, Verdict};
use crate::command::{Command, Report};
use crate::fixture::{NOW, after, ask, cancel, claim, report, running, spec};
use crate::id::AttemptNumber;
use crate::retry::Backoff;
use crate::spec::{Delivery, FailureClass, Payload, TaskSpec};
use crate::task::{State, Status, Task};
use crate::time::{Span, Timestamp};

pub(super) fn verdicts() -> Vec<(&'static str, Verdict)> {
    let cannot_start =
        Failure::CannotStart { step: "cwd".into(), message: "no such directory".into() };
    vec![
        ("completed", Verdict::Completed),
        ("exit 1", Verdict::Failed(Failure::Exit(1))),
        ("exit 3", Verdict::Failed(Failure::Exit(3))),
        ("signal", Verdict::Failed(Failure::Signal(11))),
        ("out of memory", Verdict::Failed(Failure::OutOfMemory)),
        ("cannot start", Verdict::Failed(cannot_start)),
        (
            "an error",
            Verdict::Failed(Failure::Error { kind: "ValueError".into(), message: "no".into() }),
        ),
        ("failed as lost", Verdict::Failed(Failure::Lost(Loss::Reboot))),
        ("timeout, graceful", Verdict::Timeout(How::Graceful)),
        ("timeout, killed", Verdict::Timeout(How::Killed)),
        ("stopped, graceful", Verdict::Stopped(How::Graceful)),
        ("stopped, killed", Verdict::Stopped(How::Killed)),
        ("lost, keeper", Verdict::Lost(Loss::KeeperDied)),
        ("lost, reboot", Verdict::Lost(Loss::Reboot)),
        ("lost, host", Verdict::Lost(Loss::HostDied)),
        ("lost, no resources", Verdict::Lost(Loss::NoResources)),
        ("not started, no resources", Verdict::NotStarted(NotStarted::NoResources)),
        ("not started, released", Verdict::NotStarted(NotStarted::Released)),
    ]
}

/// Where an attempt can end, and whether it was over before our signal.
pub(super) fn situations() -> Vec<(&'static str, Task, bool)> {
    let left = || TaskSpec {
        backoff: Backoff::Fixed(Span::from_secs(7)),
        no_retry_exit_codes: vec![3],
        ..spec()
    };
    let spent = || TaskSpec { retries: 0, ..left() };
    let once = TaskSpec { delivery: Delivery::AtMostOnce, ..spent() };
    let classes =
        vec![FailureClass::Exit, FailureClass::Signal, FailureClass::Timeout, FailureClass::Memory];
    let no_retry = TaskSpec { no_retry_on: classes, ..left() };
    let stopped = |spec| {
        let mut task = Some(running(spec, 1));
        ask(&mut task, &cancel("enough"), NOW).expect("it runs");
        task.expect("it was there")
    };
    let lost = |losses: u32| {
        let mut commands = Vec::new();
        for attempt in 1..=losses {
            let lost = Verdict::Lost(Loss::Reboot);
            commands.extend([claim(), Command::Report(Box::new(report(attempt, lost)))]);
        }
        after(left(), &[commands, vec![claim()]].concat())
    };
    vec![
        ("retries left", running(left(), 1), false),
        ("retries spent", running(spent(), 1), false),
        ("no_retry_on", running(no_retry, 1), false),
        ("at_most_once", running(once, 1), false),
        ("after one loss", lost(1), false),
        ("after two losses", lost(2), false),
        ("cancel", stopped(left()), false),
        ("cancel/spent", stopped(spent()), false),
        ("late cancel", stopped(left()), true),
        ("late cancel/spent", stopped(spent()), true),
    ]
}

/// `ends.txt` is the specification: under each verdict what follows, and in which situations;
/// `1f 0l` = one own failure, no loss counted.
#[test]
fn every_end_in_every_situation() {
    let mut table = String::new();
    for (name, verdict) in verdicts() {
        let mut cells = Vec::new();
        for (situation, task, before_signal) in situations() {
            let report = Report { before_signal, ..report(task.attempts.0, verdict.clone()) };
            let mut ended = Some(task);
            ask(&mut ended, &Command::Report(Box::new(report)), NOW).expect("it is live");
            let ended = ended.expect("it was there");
            assert_eq!(ended.last.as_ref().and_then(|last| last.verdict.as_ref()), Some(&verdict));
            let what = if let State::Retry { due } = &ended.state {
                format!("retry in {}", due.since(NOW))
            } else if let State::Ended { outcome, .. } = &ended.state {
                format!("{} ({outcome})", ended.status())
            } else {
                ended.status().to_string()
            };
            cells.push((situation, format!("{what}, {}f {}l", ended.failures, ended.losses)));
        }
        table.push_str(&grouped(name, &cells));
    }
    assert_eq!(table, include_str!("ends.txt"), "\n{table}");
}

fn end(task: &mut Option<Task>, report: Report, now: Timestamp) {
    ask(task, &Command::Report(Box::new(report)), now).expect("the report is of the live attempt");
}

#[test]
fn two_retries_are_exactly_three_attempts() {
    let mut task = Some(running(spec(), 1));
    let mut now = NOW;
    for attempt in 1..=3 {
        end(&mut task, report(attempt, Verdict::Failed(Failure::Exit(1))), now);
        let there = task.clone().expect("it was submitted");
        assert_eq!(there.failures, attempt);
        if attempt < 3 {
            now = there.state.due().expect("it waits for its next attempt");
            for command in [Command::Due, claim()] {
                ask(&mut task, &command, now).expect("it is due");
            }
        }
    }
    let ended = task.clone().expect("it was submitted");
    assert_eq!((ended.status(), ended.attempts), (Status::Failed, AttemptNumber(3)));
    // A fresh budget of one retry; the attempt numbers go on.
    let retry = Command::Retry { retries: Some(1), timeout: Some(Span::ZERO) };
    ask(&mut task, &retry, now).expect("it failed");
    let fresh = task.clone().expect("it was submitted");
    assert_eq!((fresh.failures, fresh.spec.retries, fresh.spec.timeout), (0, 1, None));
    assert_eq!((fresh.attempts, fresh.due_since), (AttemptNumber(3), now));
    for attempt in 4..=5 {
        if attempt == 5 {
            ask(&mut task, &Command::Promote, now).expect("it waits for its retry");
        }
        ask(&mut task, &claim(), now).expect("it is pending");
        end(&mut task, report(attempt, Verdict::Timeout(How::Killed)), now);
    }
    assert_eq!(task.map(|task| task.status()), Some(Status::Timeout));
}

#[test]
fn a_result_belongs_to_its_attempt() {
    let result = Payload::Inline(b"7".to_vec());
    let mut task = Some(running(spec(), 1));
    let failed = report(1, Verdict::Failed(Failure::Exit(1)));
    end(&mut task, Report { result: Some(result.clone()), ..failed }, NOW);
    assert_eq!(task.as_ref().and_then(|task| task.result.as_ref()), Some(&result));
    for command in [Command::Promote, claim()] {
        ask(&mut task, &command, NOW).expect("it waits for its retry");
    }
    assert_eq!(task.as_ref().and_then(|task| task.result.as_ref()), None);
    // A result survives a cancel, and is gone with a fresh budget.
    ask(&mut task, &cancel(""), NOW).expect("it is claimed");
    let stopped = report(2, Verdict::Stopped(How::Graceful));
    end(&mut task, Report { result: Some(result.clone()), ..stopped }, NOW);
    assert_eq!(task.as_ref().and_then(|task| task.result.as_ref()), Some(&result));
    let retry = Command::Retry { retries: None, timeout: None };
    ask(&mut task, &retry, NOW).expect("it was cancelled");
    assert_eq!(task.and_then(|task| task.result), None);
}

#[test]
fn the_attempt_is_kept_as_reported() {
    let started = (Timestamp(NOW.0 + 5), 78);
    let mut receipt =
        crate::attempt::Receipt { attribution: "reaper".into(), ..Default::default() };
    receipt.exit_code = Some(1);
    let failed = report(1, Verdict::Failed(Failure::Exit(1)));
    let ended = Timestamp(NOW.0 + 2_000_005);
    let report = Report { started: Some(started), ended, receipt: receipt.clone(), ..failed };
    let mut task = Some(after(spec(), &[claim()]));
    end(&mut task, report, NOW);
    let last = task.and_then(|task| task.last).expect("an attempt ended");
    assert_eq!((last.claimed, last.started, last.pid), (NOW, Some(started.0), Some(started.1)));
    assert_eq!((last.revision, last.receipt.clone()), (3, receipt));
    assert_eq!(last.ran(), Some(Span::from_secs(2)));
}

#[test]
fn texts_of_an_attempt_are_cut_between_characters() {
    let long = "ü".repeat(ERROR_MAX);
    let cases = [
        (("cwd", "gone"), ("cwd", "gone".len())),
        (("cwd", &long), ("cwd", ERROR_MAX - 4)),
        (("four", &long), ("four", ERROR_MAX - 4)),
        ((&long, ""), (&long[..32], 0)),
    ];
    for ((step, message), (kept_step, kept_length)) in cases {
        let failure = Failure::CannotStart { step: step.into(), message: message.into() };
        let mut report = report(1, Verdict::Failed(failure));
        report.receipt.attribution = "x".repeat(ATTRIBUTION_MAX + 1);
        let mut task = Some(after(spec(), &[claim()]));
        end(&mut task, report, NOW);
        let last = task.and_then(|task| task.last).expect("an attempt ended");
        let kept =
            Failure::CannotStart { step: kept_step.into(), message: message[..kept_length].into() };
        assert_eq!(last.verdict, Some(Verdict::Failed(kept)));
        assert_eq!(last.receipt.attribution.len(), ATTRIBUTION_MAX);
    }
}
