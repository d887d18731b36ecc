//! Applies what happened.

use crate::attempt::AttemptRecord;
use crate::command::Edit;
use crate::event::Event;
use crate::task::{State, Task};

/// Applies what happened. With nothing there, only `Submitted` has an effect.
pub fn evolve(task: &mut Option<Task>, event: &Event) {
    if let Event::Submitted(new) = event {
        *task = Some(new.as_ref().clone());
    } else if let Some(task) = task {
        apply(task, event);
    }
}

fn apply(task: &mut Task, event: &Event) {
    match event {
        Event::Submitted(new) => *task = new.as_ref().clone(),
        Event::BecamePending { at } => {
            task.due_since = *at;
            task.state = State::Pending { since: *at };
        }
        Event::Claimed { lease, revision } => {
            task.attempts = lease.attempt;
            task.result = None;
            task.last = Some(AttemptRecord::claimed(lease.attempt, lease.since, *revision));
            task.state = State::Claimed { lease: *lease, cancel: None };
        }
        Event::Started { at, pid } => {
            if let State::Claimed { lease, cancel } = &task.state {
                let (lease, cancel) = (*lease, cancel.clone());
                task.state = State::Running { lease, started: *at, pid: *pid, cancel };
            }
            if let Some(last) = &mut task.last {
                last.started = Some(*at);
                last.pid = Some(*pid);
            }
        }
        Event::AttemptEnded(record) => task.last = Some(record.as_ref().clone()),
        Event::ResultKept(result) => task.result = Some(result.clone()),
        Event::FailureCounted => task.failures = task.failures.saturating_add(1),
        Event::LossCounted => task.losses = task.losses.saturating_add(1),
        Event::LossesForgotten => task.losses = 0,
        Event::RetryScheduled { due } => task.state = State::Retry { due: *due },
        Event::Rescheduled { due } => {
            task.due_since = *due;
            task.state = match task.state {
                State::Retry { .. } => State::Retry { due: *due },
                State::Scheduled { .. }
                | State::Pending { .. }
                | State::Claimed { .. }
                | State::Running { .. }
                | State::Ended { .. } => State::Scheduled { due: *due },
            };
        }
        Event::CancelRequested(request) => {
            if let State::Claimed { cancel, .. } | State::Running { cancel, .. } = &mut task.state {
                *cancel = Some(request.clone());
            }
        }
        Event::DependencyMet { task: other } => task.spec.after.retain(|d| d.task != *other),
        Event::Ended { at, outcome } => {
            task.state = State::Ended { at: *at, outcome: outcome.clone() };
        }
        Event::BudgetRenewed { retries, timeout } => {
            task.failures = 0;
            task.losses = 0;
            task.result = None;
            task.spec.after.clear();
            let edit = Edit { retries: *retries, timeout: *timeout, ..Edit::default() };
            edit.apply(&mut task.spec);
        }
        Event::Edited(edit) => edit.apply(&mut task.spec),
    }
}
