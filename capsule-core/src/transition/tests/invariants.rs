//! What must be true of every history, whatever was asked and in whatever order.

use crate::attempt::{ERROR_MAX, Failure, Loss, NotStarted, Verdict};
use crate::command::{Command, Report};
use crate::event::Event;
use crate::id::AttemptNumber;
use crate::spec::{Delivery, Dependency, FailureClass, RECORD_MAX, TaskSpec};
use crate::task::{Cancellation, Outcome, REASON_MAX, State, Status, Task};
use crate::time::Timestamp;
use crate::{LOSSES_MAX, NO_RESOURCES_PAUSE, Rejected, evolve};

/// One thing asked, and what became of it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) now: Timestamp,
    pub(super) before: Option<Task>,
    pub(super) command: Command,
    pub(super) answer: Result<Vec<Event>, Rejected>,
    pub(super) after: Option<Task>,
}

/// Checks a whole history, which begins with the submit.
pub(super) fn check(history: &[Entry]) {
    replayed(history);
    numbered(history);
    counted(history);
    for entry in history {
        let (Some(before), Some(after)) = (&entry.before, &entry.after) else {
            assert!(matches!(entry.command, Command::Submit { .. }), "{entry:#?}");
            continue;
        };
        stored(entry, after);
        fenced(entry, before);
        moved(entry, before, after);
        if let (Command::Report(report), Ok(events)) = (&entry.command, &entry.answer) {
            ended(entry, (before, after), report, events);
        }
        cancelled(entry, before, after);
        depended(entry, before, after);
    }
}

/// The events alone, from nothing, make the same task.
fn replayed(history: &[Entry]) {
    let mut task = None;
    for entry in history {
        assert_eq!(task, entry.before, "the log and the store drifted apart");
        for event in entry.answer.iter().flatten() {
            evolve(&mut task, event);
        }
        assert_eq!(task, entry.after);
    }
}

/// Attempts rise by one, whatever lies between, and are never given twice.
fn numbered(history: &[Entry]) {
    let mut newest = AttemptNumber(0);
    for entry in history {
        let claims = entry.answer.iter().flatten().filter_map(Event::claims).collect::<Vec<_>>();
        if let (Command::Claim { .. }, Ok(_)) = (&entry.command, &entry.answer) {
            newest = AttemptNumber(newest.0 + 1);
            assert_eq!(claims, [newest], "{entry:#?}");
        } else {
            assert_eq!(claims, [], "{entry:#?}");
        }
    }
}

/// The two budgets, counted again from the log alone.
fn counted(history: &[Entry]) {
    let (mut failures, mut losses) = (0, 0);
    for entry in history {
        let Ok(events) = &entry.answer else { continue };
        match &entry.command {
            Command::Retry { .. } => (failures, losses) = (0, 0),
            Command::Report(report) => {
                let before = entry.before.as_ref().expect("a report of nothing is refused");
                let cancel = before.state.cancel().is_some();
                match &report.verdict {
                    Verdict::Completed if !cancel || report.before_signal => losses = 0,
                    Verdict::Failed(_) | Verdict::Timeout(_) if !cancel || report.before_signal => {
                        failures += 1;
                        losses = 0;
                    }
                    Verdict::Lost(_) | Verdict::NotStarted(NotStarted::NoResources) if !cancel => {
                        losses += 1;
                    }
                    Verdict::Completed
                    | Verdict::Failed(_)
                    | Verdict::Timeout(_)
                    | Verdict::Stopped(_)
                    | Verdict::Lost(_)
                    | Verdict::NotStarted(_) => {}
                }
            }
            Command::Submit { .. }
            | Command::Due
            | Command::Promote
            | Command::Claim { .. }
            | Command::Start { .. }
            | Command::Cancel { .. }
            | Command::Expire
            | Command::DependencyEnded { .. }
            | Command::Edit(_) => {}
        }
        let after = entry.after.as_ref().expect("something was accepted");
        assert_eq!((after.failures, after.losses), (failures, losses), "{entry:#?}");
        assert!(losses <= LOSSES_MAX, "{entry:#?}");
        assert!(!events.is_empty(), "accepted and nothing happened: {entry:#?}");
        if let Command::Claim { .. } = entry.command {
            assert!(losses < LOSSES_MAX, "a fourth attempt after three losses: {entry:#?}");
        }
    }
}

/// A task is kept as it is: read back equal, within the record's bound, and true to itself.
fn stored(entry: &Entry, after: &Task) {
    let bytes = minicbor::to_vec(after).expect("writing to memory cannot fail");
    assert_eq!(minicbor::decode::<Task>(&bytes).ok().as_ref(), Some(after));
    assert!(bytes.len() <= RECORD_MAX, "{} bytes: {entry:#?}", bytes.len());
    assert_eq!(after.spec.check(), Ok(()), "{entry:#?}");
    assert_eq!(after.last.as_ref().map_or(0, |last| last.number.0), after.attempts.0);
    if let Some(lease) = after.state.lease() {
        assert_eq!(lease.attempt, after.attempts, "{entry:#?}");
    }
    if after.spec.delivery == Delivery::AtMostOnce {
        assert_eq!(after.spec.retries, 0, "{entry:#?}");
    }
}

/// A start or a report of another attempt than the live one changes nothing.
fn fenced(entry: &Entry, before: &Task) {
    let named = match &entry.command {
        Command::Start { attempt, .. } => *attempt,
        Command::Report(report) => report.attempt,
        Command::Submit { .. }
        | Command::Due
        | Command::Promote
        | Command::Claim { .. }
        | Command::Cancel { .. }
        | Command::Expire
        | Command::DependencyEnded { .. }
        | Command::Retry { .. }
        | Command::Edit(_) => return,
    };
    if before.state.lease().is_none_or(|lease| lease.attempt != named) {
        assert_eq!(entry.answer, Err(Rejected::StaleAttempt(named)), "{entry:#?}");
    }
}

/// Only these moves exist; what has ended moves by nothing but a retry.
fn moved(entry: &Entry, before: &Task, after: &Task) {
    use Status as S;
    if entry.answer.is_err() {
        assert_eq!(before, after, "refused and changed: {entry:#?}");
        return;
    }
    let allowed = match &entry.command {
        Command::Due | Command::Promote => {
            &[(S::Scheduled, S::Pending), (S::Retry, S::Pending)][..]
        }
        Command::Claim { .. } => &[(S::Pending, S::Claimed)],
        Command::Start { .. } => &[(S::Claimed, S::Running)],
        Command::Retry { .. } => {
            &[(S::Failed, S::Pending), (S::Timeout, S::Pending), (S::Cancelled, S::Pending)]
        }
        Command::Expire => &[(S::Pending, S::Cancelled)],
        Command::Cancel { .. } => &[
            (S::Scheduled, S::Cancelled),
            (S::Pending, S::Cancelled),
            (S::Retry, S::Cancelled),
            (S::Claimed, S::Claimed),
            (S::Running, S::Running),
        ],
        Command::DependencyEnded { .. } => &[
            (S::Scheduled, S::Scheduled),
            (S::Scheduled, S::Cancelled),
            (S::Pending, S::Pending),
            (S::Pending, S::Cancelled),
        ],
        Command::Edit(_) => &[
            (S::Scheduled, S::Scheduled),
            (S::Scheduled, S::Pending),
            (S::Pending, S::Pending),
            (S::Pending, S::Scheduled),
            (S::Retry, S::Retry),
            (S::Retry, S::Pending),
            (S::Claimed, S::Claimed),
            (S::Running, S::Running),
        ],
        Command::Report(_) => {
            assert!(matches!(before.status(), S::Claimed | S::Running), "{entry:#?}");
            assert!(!matches!(after.status(), S::Scheduled | S::Claimed | S::Running));
            return;
        }
        Command::Submit { .. } => &[],
    };
    let edge = (before.status(), after.status());
    assert!(allowed.contains(&edge), "{edge:?} by {:?}", entry.command);
    if let (Command::Due, Some(due)) = (&entry.command, before.state.due()) {
        assert!(due <= entry.now, "{entry:#?}");
    }
    if let (Command::Claim { .. }, Some(last)) = (&entry.command, &after.last) {
        assert_eq!((last.verdict.as_ref(), after.result.as_ref()), (None, None), "{entry:#?}");
    }
}

/// A dependency that ended is either met and no longer waited for, or ends the task.
fn depended(entry: &Entry, before: &Task, after: &Task) {
    let (Command::DependencyEnded { task, status }, Ok(_)) = (&entry.command, &entry.answer) else {
        return;
    };
    assert!(status.is_ended(), "{entry:#?}");
    let (named, others): (Vec<&Dependency>, Vec<_>) =
        before.spec.after.iter().partition(|d| d.task == *task);
    assert!(!named.is_empty(), "{entry:#?}");
    if named.iter().all(|dependency| dependency.on.satisfied_by(*status)) {
        assert_eq!(after.spec.after.iter().collect::<Vec<_>>(), others, "{entry:#?}");
        assert_eq!(after.state, before.state, "{entry:#?}");
    } else {
        let how = Cancellation::Dependency { task: *task, status: *status };
        let ended = State::Ended { at: entry.now, outcome: Outcome::Cancelled(how) };
        assert_eq!(after.state, ended, "{entry:#?}");
    }
}

/// What follows from the end of an attempt.
fn ended(entry: &Entry, (before, after): (&Task, &Task), report: &Report, events: &[Event]) {
    let last = after.last.as_ref().expect("an attempt ended");
    assert_eq!((last.number, last.ended), (report.attempt, Some(report.ended)));
    let told = report.started.map(|(at, _)| at);
    assert_eq!(last.started, before_started(before).or(told), "a known start stays");
    let cannot_start = matches!(report.verdict, Verdict::Failed(Failure::CannotStart { .. }));
    if report.result.is_some() && !cannot_start {
        assert_eq!(after.result, report.result, "a result is kept: {entry:#?}");
    } else {
        assert_eq!(after.result, before.result, "{entry:#?}");
    }
    if before.state.cancel().is_some() {
        return;
    }
    let began = !matches!(report.verdict, Verdict::NotStarted(_));
    match &report.verdict {
        Verdict::Completed => assert_eq!(after.status(), Status::Completed),
        Verdict::Failed(_) | Verdict::Timeout(_) => {
            assert!(events.contains(&Event::FailureCounted));
            own_failure(entry, before, after, report);
        }
        Verdict::Stopped(_) | Verdict::NotStarted(NotStarted::Released) => {
            assert_eq!(after.state, State::Pending { since: entry.now }, "{entry:#?}");
            assert_eq!((after.failures, after.losses), (before.failures, before.losses));
        }
        Verdict::Lost(_) | Verdict::NotStarted(NotStarted::NoResources) => {
            assert_eq!(after.failures, before.failures, "a loss uses up no retry");
            let over = before.losses + 1 == LOSSES_MAX
                || (began && before.spec.delivery == Delivery::AtMostOnce);
            if over {
                let loss =
                    if let Verdict::Lost(loss) = report.verdict { loss } else { Loss::NoResources };
                let outcome = Outcome::Failed(Failure::Lost(loss));
                assert_eq!(after.state, State::Ended { at: entry.now, outcome }, "{entry:#?}");
            } else if began {
                assert_eq!(after.state, State::Pending { since: entry.now }, "{entry:#?}");
            } else {
                let pauses = NO_RESOURCES_PAUSE.as_micros() * 3u64.pow(before.losses);
                let due = Timestamp(entry.now.0 + i64::try_from(pauses).unwrap());
                assert_eq!(after.state, State::Retry { due }, "{entry:#?}");
            }
        }
    }
}

fn before_started(before: &Task) -> Option<Timestamp> {
    if let State::Running { started, .. } = &before.state { Some(*started) } else { None }
}

/// At most `retries` + 1 own failures; the pause lies within the bounds of the backoff.
fn own_failure(entry: &Entry, before: &Task, after: &Task, report: &Report) {
    let spec = &before.spec;
    if report.is_final || is_final(spec, &report.verdict) || before.failures >= spec.retries {
        let State::Ended { at, outcome } = &after.state else { panic!("goes on: {entry:#?}") };
        assert_eq!(*at, entry.now);
        if let (Verdict::Failed(failure), Outcome::Failed(kept)) = (&report.verdict, outcome) {
            same_failure(failure, kept);
        } else if let (Verdict::Timeout(how), Outcome::Timeout(kept)) = (&report.verdict, outcome) {
            assert_eq!(how, kept);
        } else {
            panic!("another end: {entry:#?}");
        }
        return;
    }
    let State::Retry { due } = after.state else { panic!("no retry: {entry:#?}") };
    let pause = u64::try_from(due.0 - entry.now.0).unwrap();
    if let Some(asked) = report.retry_after {
        assert_eq!(pause, asked.as_micros(), "retry_after is honoured: {entry:#?}");
    } else {
        let longest = spec.backoff.longest(after.failures).as_micros();
        assert!(pause <= longest && pause >= longest / 2, "{pause} of {longest}");
    }
}

fn is_final(spec: &TaskSpec, verdict: &Verdict) -> bool {
    let class = match verdict {
        Verdict::Failed(Failure::Exit(code)) if spec.no_retry_exit_codes.contains(code) => {
            return true;
        }
        Verdict::Failed(Failure::Exit(_) | Failure::Error { .. }) => FailureClass::Exit,
        Verdict::Failed(Failure::Signal(_)) => FailureClass::Signal,
        Verdict::Failed(Failure::OutOfMemory) => FailureClass::Memory,
        Verdict::Timeout(_) => FailureClass::Timeout,
        Verdict::Failed(Failure::CannotStart { .. } | Failure::Lost(_))
        | Verdict::Completed
        | Verdict::Stopped(_)
        | Verdict::Lost(_)
        | Verdict::NotStarted(_) => return true,
    };
    spec.no_retry_on.contains(&class)
}

/// The same, but for texts that were cut.
fn same_failure(reported: &Failure, kept: &Failure) {
    let (head, body, kept_head, kept_body, head_max) = match (reported, kept) {
        (
            Failure::CannotStart { step, message },
            Failure::CannotStart { step: kept_step, message: kept_message },
        ) => (step, message, kept_step, kept_message, 32),
        (
            Failure::Error { kind, message },
            Failure::Error { kind: kept_kind, message: kept_message },
        ) => (kind, message, kept_kind, kept_message, 96),
        _ => return assert_eq!(reported, kept),
    };
    assert!(head.starts_with(kept_head) && body.starts_with(kept_body));
    assert!(kept_head.len() <= head_max);
    let length = kept_head.len() + kept_body.len();
    assert!(length <= ERROR_MAX);
    assert!(head.len() + body.len() == length || length > ERROR_MAX - 2 || head.len() >= head_max);
}

/// A committed cancel ends the task `cancelled` with the attempt, unless that was over before.
fn cancelled(entry: &Entry, before: &Task, after: &Task) {
    if let (Command::Cancel { reason, .. }, Ok(_)) = (&entry.command, &entry.answer) {
        let kept = if let State::Ended { outcome, .. } = &after.state {
            let Outcome::Cancelled(Cancellation::BeforeStart { reason }) = outcome else {
                panic!("it waited: {entry:#?}")
            };
            reason
        } else {
            &after.state.cancel().expect("a cancel was committed").reason
        };
        assert!(reason.starts_with(kept) && kept.len() <= REASON_MAX);
        assert!(kept == reason || kept.len() > REASON_MAX - 2, "cut too short: {kept}");
    }
    let Some(cancel) = before.state.cancel() else { return };
    let (Command::Report(report), Ok(_)) = (&entry.command, &entry.answer) else {
        assert!(after.state.cancel().is_some(), "a cancel is forgotten: {entry:#?}");
        return;
    };
    let State::Ended { at, outcome } = &after.state else {
        panic!("goes on after a cancel: {entry:#?}")
    };
    assert_eq!(*at, entry.now);
    let too_late = report.before_signal
        && match &report.verdict {
            Verdict::Completed => true,
            verdict @ (Verdict::Failed(_) | Verdict::Timeout(_)) => {
                report.is_final
                    || is_final(&before.spec, verdict)
                    || before.failures >= before.spec.retries
            }
            Verdict::Stopped(_) | Verdict::Lost(_) | Verdict::NotStarted(_) => false,
        };
    if let Outcome::Cancelled(
        Cancellation::Stopped { reason, .. } | Cancellation::BeforeStart { reason },
    ) = outcome
    {
        assert!(!too_late, "it had ended before: {entry:#?}");
        assert_eq!(*reason, cancel.reason);
    } else {
        assert!(too_late, "not cancelled: {entry:#?}");
    }
}
