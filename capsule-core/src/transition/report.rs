//! What follows from the end of an attempt: the two budgets.

use super::{Rejected, cut, ended};
use crate::attempt::{
    ATTRIBUTION_MAX, AttemptRecord, ERROR_MAX, Failure, How, Loss, NotStarted, Verdict,
};
use crate::command::Report;
use crate::event::Event;
use crate::spec::{Delivery, FailureClass};
use crate::task::{CancelRequest, Cancellation, Outcome, Task};
use crate::time::{Span, Timestamp};

/// Losses in a row after which a task fails.
pub const LOSSES_MAX: u32 = 3;
/// The pause after the first attempt that the machine had no room for; three times longer each.
pub const NO_RESOURCES_PAUSE: Span = Span::from_secs(1);

/// The longest step of an error, in bytes.
const STEP_MAX: usize = 32;
/// The longest name of an error's class, in bytes.
const KIND_MAX: usize = 96;

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
    let verdict = bounded(&report.verdict);
    record.ended = Some(report.ended);
    record.verdict = Some(verdict.clone());
    record.receipt = report.receipt.clone();
    let attribution = cut(&report.receipt.attribution, ATTRIBUTION_MAX);
    attribution.clone_into(&mut record.receipt.attribution);
    let mut events = vec![Event::AttemptEnded(Box::new(record))];
    if !matches!(verdict, Verdict::Failed(Failure::CannotStart { .. })) {
        events.extend(report.result.clone().map(Event::ResultKept));
    }
    events.extend(follow(task, report, verdict, now));
    Ok(events)
}

/// The verdict with its texts cut, so that the task's record stays within its bound.
fn bounded(verdict: &Verdict) -> Verdict {
    match verdict {
        Verdict::Failed(Failure::CannotStart { step, message }) => {
            let step = cut(step, STEP_MAX).to_owned();
            let message = cut(message, ERROR_MAX - step.len()).to_owned();
            Verdict::Failed(Failure::CannotStart { step, message })
        }
        Verdict::Failed(Failure::Error { kind, message }) => {
            let kind = cut(kind, KIND_MAX).to_owned();
            let message = cut(message, ERROR_MAX - kind.len()).to_owned();
            Verdict::Failed(Failure::Error { kind, message })
        }
        Verdict::Completed
        | Verdict::Failed(
            Failure::Exit(_) | Failure::Signal(_) | Failure::OutOfMemory | Failure::Lost(_),
        )
        | Verdict::Timeout(_)
        | Verdict::Stopped(_)
        | Verdict::Lost(_)
        | Verdict::NotStarted(_) => verdict.clone(),
    }
}

/// What follows from the end of an attempt.
fn follow(task: &Task, report: &Report, verdict: Verdict, now: Timestamp) -> Vec<Event> {
    let cancel = task.state.cancel();
    match verdict {
        Verdict::Completed => match cancel.filter(|_| !report.before_signal) {
            Some(cancel) => vec![stopped(now, cancel, How::Graceful)],
            None => vec![Event::LossesForgotten, ended(now, Outcome::Completed)],
        },
        Verdict::Stopped(how) => match cancel {
            Some(cancel) => vec![stopped(now, cancel, how)],
            // Stopped, but nobody asked for a cancel: a shutdown, so it is put back.
            None => vec![Event::BecamePending { at: now }],
        },
        Verdict::Failed(failure) => {
            own_failure(task, report, now, (failure.class(), Outcome::Failed(failure)))
        }
        Verdict::Timeout(how) => {
            own_failure(task, report, now, (Some(FailureClass::Timeout), Outcome::Timeout(how)))
        }
        Verdict::NotStarted(why) => match (cancel, why) {
            (Some(cancel), _) => {
                let how = Cancellation::BeforeStart { reason: cancel.reason.clone() };
                vec![ended(now, Outcome::Cancelled(how))]
            }
            (None, NotStarted::Released) => vec![Event::BecamePending { at: now }],
            (None, NotStarted::NoResources) => lost(task, Loss::NoResources, false, now),
        },
        Verdict::Lost(loss) => match cancel {
            Some(cancel) => vec![stopped(now, cancel, How::Killed)],
            None => lost(task, loss, true, now),
        },
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
    let how = if let Outcome::Timeout(how) = outcome { how } else { How::Graceful };
    if let (Some(cancel), false) = (cancel, report.before_signal) {
        return vec![stopped(now, cancel, how)];
    }
    let code_is_final = match &outcome {
        Outcome::Failed(Failure::Exit(code)) => task.spec.no_retry_exit_codes.contains(code),
        Outcome::Failed(_) | Outcome::Completed | Outcome::Timeout(_) | Outcome::Cancelled(_) => {
            false
        }
    };
    let is_final = report.is_final
        || class.is_none_or(|class| task.spec.no_retry_on.contains(&class))
        || code_is_final;
    let failures = task.failures.saturating_add(1);
    let mut events = vec![Event::FailureCounted, Event::LossesForgotten];
    if is_final || failures > task.spec.retries {
        events.push(ended(now, outcome));
    } else if let Some(cancel) = cancel {
        events.push(stopped(now, cancel, how));
    } else {
        let pause = report
            .retry_after
            .unwrap_or_else(|| task.spec.backoff.pause(failures, task.uuid, report.attempt));
        events.push(Event::RetryScheduled { due: now.plus(pause) });
    }
    events
}

/// An infrastructure loss uses up no retry; three in a row end the task.
fn lost(task: &Task, loss: Loss, began: bool, now: Timestamp) -> Vec<Event> {
    let losses = task.losses.saturating_add(1);
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
            Self::Exit(_) | Self::Error { .. } => Some(FailureClass::Exit),
            Self::Signal(_) => Some(FailureClass::Signal),
            Self::OutOfMemory => Some(FailureClass::Memory),
            Self::CannotStart { .. } | Self::Lost(_) => None,
        }
    }
}
