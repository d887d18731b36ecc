//! What follows from the end of an attempt: the two budgets.

use super::{Rejected, ended};
use crate::attempt::{AttemptRecord, Failure, How, Loss, NotStarted, Verdict};
use crate::command::Report;
use crate::event::Event;
use crate::spec::{Delivery, FailureClass};
use crate::task::{CancelRequest, Cancellation, Outcome, Task};
use crate::time::{Span, Timestamp};

/// Losses in a row after which a task fails.
pub const LOSSES_MAX: u32 = 3;
/// The pause after the first attempt that the machine had no room for; three times longer each.
pub const NO_RESOURCES_PAUSE: Span = Span::from_secs(1);

pub(super) fn reported(
    task: &Task,
    report: &Report,
    now: Timestamp,
) -> Result<Vec<Event>, Rejected> {
    let lease = task
        .state
        .lease()
        .filter(|lease| lease.attempt == report.attempt)
        .ok_or(Rejected::StaleAttempt(report.attempt))?;
    let mut record =
        task.last.clone().filter(|last| last.number == report.attempt).unwrap_or_else(|| {
            AttemptRecord::claimed(lease.attempt, lease.since, task.spec.revision)
        });
    if let (Some((started, pid)), None) = (report.started, record.started) {
        record.started = Some(started);
        record.pid = Some(pid).filter(|pid| *pid != 0);
    }
    record.ended = Some(report.ended);
    record.verdict = Some(report.verdict.clone());
    record.receipt = report.receipt.clone();
    let mut events = vec![Event::AttemptEnded(Box::new(record))];
    events.extend(report.result.clone().map(Event::ResultKept));
    events.extend(follow(task, report, now));
    Ok(events)
}

/// What follows from the end of an attempt.
fn follow(task: &Task, report: &Report, now: Timestamp) -> Vec<Event> {
    let cancel = task.state.cancel();
    match &report.verdict {
        Verdict::Completed => match cancel.filter(|_| !report.before_signal) {
            Some(cancel) => vec![stopped(now, cancel, How::Graceful)],
            None => vec![Event::LossesForgotten, ended(now, Outcome::Completed)],
        },
        Verdict::Stopped(how) => match cancel {
            Some(cancel) => vec![stopped(now, cancel, *how)],
            // Stopped, but nobody asked for a cancel: a shutdown, so it is put back.
            None => vec![Event::BecamePending { at: now }],
        },
        Verdict::Failed(failure) => {
            own_failure(task, report, now, (failure.class(), Outcome::Failed(failure.clone())))
        }
        Verdict::Timeout(how) => {
            own_failure(task, report, now, (Some(FailureClass::Timeout), Outcome::Timeout(*how)))
        }
        Verdict::NotStarted(NotStarted::Released) => match cancel {
            Some(cancel) => vec![stopped(now, cancel, How::Graceful)],
            None => vec![Event::BecamePending { at: now }],
        },
        Verdict::NotStarted(NotStarted::NoResources) => lost(task, Loss::NoResources, now),
        Verdict::Lost(loss) => lost(task, *loss, now),
    }
}

/// An own failure uses up `retries`, unless no retry makes it good.
fn own_failure(
    task: &Task,
    report: &Report,
    now: Timestamp,
    (class, outcome): (Option<FailureClass>, Outcome),
) -> Vec<Event> {
    let cancel = task.state.cancel();
    if let (Some(cancel), false) = (cancel, report.before_signal) {
        let how = if let Outcome::Timeout(how) = outcome { how } else { How::Graceful };
        return vec![stopped(now, cancel, how)];
    }
    let code_is_final =
        report.receipt.exit_code.is_some_and(|code| task.spec.no_retry_exit_codes.contains(&code));
    let is_final =
        class.is_none_or(|class| task.spec.no_retry_on.contains(&class)) || code_is_final;
    let failures = task.failures.saturating_add(1);
    let mut events = vec![Event::FailureCounted, Event::LossesForgotten];
    if is_final || failures > task.spec.retries {
        events.push(ended(now, outcome));
    } else if let Some(cancel) = cancel {
        events.push(stopped(now, cancel, How::Graceful));
    } else {
        let pause = report
            .retry_after
            .unwrap_or_else(|| task.spec.backoff.pause(failures, task.uuid, report.attempt));
        events.push(Event::RetryScheduled { due: now.plus(pause) });
    }
    events
}

/// An infrastructure loss uses up no retry; three in a row end the task.
fn lost(task: &Task, loss: Loss, now: Timestamp) -> Vec<Event> {
    if let Some(cancel) = task.state.cancel() {
        return vec![stopped(now, cancel, How::Killed)];
    }
    let losses = task.losses.saturating_add(1);
    let began = loss != Loss::NoResources;
    let mut events = vec![Event::LossCounted];
    if losses >= LOSSES_MAX || (began && task.spec.delivery == Delivery::AtMostOnce) {
        events.push(ended(now, Outcome::Failed(Failure::Lost(loss))));
    } else if began {
        events.push(Event::BecamePending { at: now });
    } else {
        let pause = Span(NO_RESOURCES_PAUSE.0.saturating_mul(3u64.saturating_pow(losses - 1)));
        events.push(Event::RetryScheduled { due: now.plus(pause) });
    }
    events
}

fn stopped(at: Timestamp, cancel: &CancelRequest, how: How) -> Event {
    let reason = cancel.reason.clone();
    ended(at, Outcome::Cancelled(Cancellation::Stopped { how, reason }))
}

impl Failure {
    /// The class that `no_retry_on` may name; `None` = no retry makes it good.
    pub const fn class(&self) -> Option<FailureClass> {
        match self {
            Self::Exit(_) => Some(FailureClass::Exit),
            Self::Signal(_) => Some(FailureClass::Signal),
            Self::OutOfMemory => Some(FailureClass::Memory),
            Self::CannotStart { .. } | Self::Lost(_) => None,
        }
    }
}
