//! The state machine: the only place where a status may change.
//!
//! [`decide`] says what happens when something is asked; whatever it does not list is refused.
//! [`evolve`] applies what happened; it cannot fail, because an event is a fact.

mod evolve;
mod report;
#[cfg(test)]
mod tests;

pub use evolve::evolve;
use report::reported;
pub use report::{LOSSES_MAX, NO_RESOURCES_PAUSE};

use crate::command::{Command, Edit};
use crate::event::Event;
use crate::id::{AttemptNumber, Seq, TaskId};
use crate::task::{CancelRequest, Cancellation, Lease, Outcome, REASON_MAX, State, Status, Task};
use crate::time::{Span, Timestamp};

/// Why something asked of a task does not happen. Nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// There is no such task.
    #[error("there is no such task")]
    Missing,
    /// There is one already.
    #[error("the task exists already")]
    Exists,
    /// It is over.
    #[error("the task has already ended: {0}")]
    AlreadyEnded(Status),
    /// The report is of an attempt that is not the live one.
    #[error("attempt {0} is not the live attempt")]
    StaleAttempt(AttemptNumber),
    /// What was asked makes no sense in this state.
    #[error("the task is {0}")]
    NotNow(Status),
    /// Its instant has not come.
    #[error("the task is not due")]
    NotDue,
    /// It was asked for already, or changes nothing.
    #[error("nothing to change")]
    Unchanged,
    /// A completed task is only copied.
    #[error("a completed task is not run again, only copied")]
    Completed,
    /// A new value breaks a bound of the spec: [`Edit::check`] says which.
    #[error("a new value is out of its bounds")]
    OutOfBounds,
}

/// Decides what happens when `command` is asked of `task` at `now`.
///
/// # Errors
/// [`Rejected`]: nothing happens.
pub fn decide(
    task: Option<&Task>,
    command: &Command,
    now: Timestamp,
) -> Result<Vec<Event>, Rejected> {
    let Some(task) = task else {
        return match command {
            Command::Submit { .. } => Ok(vec![submitted(command, now)?]),
            Command::Due
            | Command::Promote
            | Command::Claim { .. }
            | Command::Start { .. }
            | Command::Report(_)
            | Command::Cancel { .. }
            | Command::Expire
            | Command::DependencyEnded { .. }
            | Command::Retry { .. }
            | Command::Edit(_) => Err(Rejected::Missing),
        };
    };
    match command {
        Command::Submit { .. } => Err(Rejected::Exists),
        Command::Due => due(task, now),
        Command::Promote => promote(task, now),
        Command::Claim { keeper, revision } => match &task.state {
            State::Pending { .. } => {
                let lease = Lease { attempt: task.attempts.next(), since: now, keeper: *keeper };
                Ok(vec![Event::Claimed { lease, revision: *revision }])
            }
            state @ (State::Scheduled { .. }
            | State::Claimed { .. }
            | State::Running { .. }
            | State::Retry { .. }
            | State::Ended { .. }) => Err(not_now(state)),
        },
        Command::Start { attempt, pid } => match &task.state {
            State::Claimed { lease, .. } if lease.attempt == *attempt => {
                Ok(vec![Event::Started { at: now, pid: *pid }])
            }
            State::Claimed { .. }
            | State::Scheduled { .. }
            | State::Pending { .. }
            | State::Running { .. }
            | State::Retry { .. }
            | State::Ended { .. } => Err(Rejected::StaleAttempt(*attempt)),
        },
        Command::Report(report) => reported(task, report, now),
        Command::Cancel { reason, grace } => cancelled(task, reason, *grace, now),
        Command::Expire => match task.expires() {
            Some(at) if at <= now => {
                Ok(vec![ended(now, Outcome::Cancelled(Cancellation::Expired))])
            }
            Some(_) => Err(Rejected::NotDue),
            None => Err(not_now(&task.state)),
        },
        Command::DependencyEnded { task: other, status } => dependency(task, *other, *status, now),
        Command::Retry { retries, timeout } => match &task.state {
            State::Ended { outcome: Outcome::Completed, .. } => Err(Rejected::Completed),
            State::Ended { .. } => {
                let edit = Edit { retries: *retries, timeout: *timeout, ..Edit::default() };
                edit.check(&task.spec).map_err(|_| Rejected::OutOfBounds)?;
                Ok(vec![
                    Event::BudgetRenewed { retries: *retries, timeout: *timeout },
                    Event::BecamePending { at: now },
                ])
            }
            state @ (State::Scheduled { .. }
            | State::Pending { .. }
            | State::Claimed { .. }
            | State::Running { .. }
            | State::Retry { .. }) => Err(Rejected::NotNow(state.status())),
        },
        Command::Edit(edit) => edited(task, edit, now),
    }
}

fn submitted(command: &Command, now: Timestamp) -> Result<Event, Rejected> {
    let Command::Submit { id, uuid, spec } = command else {
        return Err(Rejected::Missing);
    };
    let due = spec.not_before.filter(|at| *at > now);
    let state = match due {
        Some(due) => State::Scheduled { due },
        None => State::Pending { since: now },
    };
    Ok(Event::Submitted(Box::new(Task {
        id: *id,
        uuid: *uuid,
        spec: spec.as_ref().clone(),
        created: now,
        state,
        attempts: AttemptNumber(0),
        failures: 0,
        losses: 0,
        last: None,
        seq: Seq(0),
        due_since: due.unwrap_or(now),
        result: None,
    })))
}

fn due(task: &Task, now: Timestamp) -> Result<Vec<Event>, Rejected> {
    match task.state.due() {
        Some(due) if due <= now => Ok(vec![Event::BecamePending { at: now }]),
        Some(_) => Err(Rejected::NotDue),
        None => Err(not_now(&task.state)),
    }
}

fn promote(task: &Task, now: Timestamp) -> Result<Vec<Event>, Rejected> {
    match &task.state {
        State::Scheduled { .. } | State::Retry { .. } => Ok(vec![Event::BecamePending { at: now }]),
        State::Pending { .. } => Err(Rejected::Unchanged),
        state @ (State::Claimed { .. } | State::Running { .. } | State::Ended { .. }) => {
            Err(not_now(state))
        }
    }
}

fn cancelled(
    task: &Task,
    reason: &str,
    grace: Option<Span>,
    now: Timestamp,
) -> Result<Vec<Event>, Rejected> {
    let reason = cut(reason, REASON_MAX).to_owned();
    match &task.state {
        State::Scheduled { .. } | State::Pending { .. } | State::Retry { .. } => {
            let how = Cancellation::BeforeStart { reason };
            Ok(vec![ended(now, Outcome::Cancelled(how))])
        }
        State::Claimed { cancel, .. } | State::Running { cancel, .. } => {
            let grace = grace.unwrap_or(task.spec.grace);
            if cancel.as_ref().is_some_and(|asked| asked.at.plus(asked.grace) <= now.plus(grace)) {
                return Err(Rejected::Unchanged);
            }
            Ok(vec![Event::CancelRequested(CancelRequest { at: now, grace, reason })])
        }
        State::Ended { outcome, .. } => Err(Rejected::AlreadyEnded(outcome.status())),
    }
}

fn dependency(
    task: &Task,
    other: TaskId,
    status: Status,
    now: Timestamp,
) -> Result<Vec<Event>, Rejected> {
    let mut named = task.spec.after.iter().filter(|d| d.task == other).peekable();
    if named.peek().is_none() {
        return Err(Rejected::Unchanged);
    }
    match &task.state {
        State::Scheduled { .. } | State::Pending { .. } if !status.is_ended() => {
            Err(Rejected::Unchanged)
        }
        State::Scheduled { .. } | State::Pending { .. }
            if named.all(|dependency| dependency.on.satisfied_by(status)) =>
        {
            Ok(vec![Event::DependencyMet { task: other }])
        }
        State::Scheduled { .. } | State::Pending { .. } => {
            let how = Cancellation::Dependency { task: other, status };
            Ok(vec![ended(now, Outcome::Cancelled(how))])
        }
        state @ (State::Claimed { .. }
        | State::Running { .. }
        | State::Retry { .. }
        | State::Ended { .. }) => Err(not_now(state)),
    }
}

fn edited(task: &Task, edit: &Edit, now: Timestamp) -> Result<Vec<Event>, Rejected> {
    if let State::Ended { outcome, .. } = &task.state {
        return Err(Rejected::AlreadyEnded(outcome.status()));
    }
    if *edit == Edit::default() {
        return Err(Rejected::Unchanged);
    }
    edit.check(&task.spec).map_err(|_| Rejected::OutOfBounds)?;
    let mut events = vec![Event::Edited(Box::new(edit.clone()))];
    match (edit.at, &task.state) {
        (None, _) => {}
        (Some(at), State::Scheduled { .. } | State::Pending { .. } | State::Retry { .. }) => {
            events.push(if at > now {
                Event::Rescheduled { due: at }
            } else {
                Event::BecamePending { at: now }
            });
        }
        (
            Some(_),
            state @ (State::Claimed { .. } | State::Running { .. } | State::Ended { .. }),
        ) => {
            return Err(not_now(state));
        }
    }
    Ok(events)
}

/// The longest beginning of `text` that has at most `limit` bytes.
fn cut(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

fn ended(at: Timestamp, outcome: Outcome) -> Event {
    Event::Ended { at, outcome }
}

fn not_now(state: &State) -> Rejected {
    match state {
        State::Ended { outcome, .. } => Rejected::AlreadyEnded(outcome.status()),
        State::Scheduled { .. }
        | State::Pending { .. }
        | State::Claimed { .. }
        | State::Running { .. }
        | State::Retry { .. } => Rejected::NotNow(state.status()),
    }
}
