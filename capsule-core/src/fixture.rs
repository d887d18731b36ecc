//! A task and a report for tests, plain in every respect that a test does not name.

use std::collections::BTreeMap;

use crate::attempt::{Receipt, Verdict};
use crate::command::{Command, Report};
use crate::event::Event;
use crate::id::{AttemptNumber, TaskId, Uuid};
use crate::retry::Backoff;
use crate::spec::{Delivery, LockPolicy, Payload, TaskSpec};
use crate::task::Task;
use crate::time::{Span, Timestamp};
use crate::{Rejected, decide, evolve};

/// Some instant in 2027.
pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000_000_000);
/// The task's uuid.
pub(crate) const UUID: Uuid = Uuid([7; 16]);
/// The keeper that claims.
pub(crate) const KEEPER: Uuid = Uuid([9; 16]);

/// Two retries, five minutes, nothing else.
pub(crate) fn spec() -> TaskSpec {
    TaskSpec {
        app: String::new(),
        name: "build".into(),
        display_name: String::new(),
        owner: "ann".into(),
        uid: 1000,
        queue: "default".into(),
        priority: 0,
        labels: BTreeMap::new(),
        payload: Payload::Inline(b"true".to_vec()),
        retries: 2,
        backoff: Backoff::default(),
        timeout: Some(Span::from_secs(300)),
        grace: Span::from_secs(10),
        delivery: Delivery::AtLeastOnce,
        lock: None,
        lock_policy: LockPolicy::Merge,
        key: None,
        start_within: None,
        after: Vec::new(),
        no_retry_exit_codes: Vec::new(),
        no_retry_on: Vec::new(),
        revision: 1,
        arguments: 0,
        summary: "true".into(),
        not_before: None,
        hold: false,
        tick: None,
        parent: None,
    }
}

/// The submit of `spec`.
pub(crate) fn submit(spec: TaskSpec) -> Command {
    Command::Submit { id: TaskId(1842), uuid: UUID, spec: Box::new(spec) }
}

/// A claim by [`KEEPER`].
pub(crate) const fn claim() -> Command {
    Command::Claim { keeper: KEEPER, revision: 3 }
}

/// A cancel with the task's own grace.
pub(crate) fn cancel(reason: &str) -> Command {
    Command::Cancel { reason: reason.into(), grace: None }
}

/// The end of an attempt, nothing known but its verdict.
pub(crate) fn report(attempt: u32, verdict: Verdict) -> Report {
    Report {
        attempt: AttemptNumber(attempt),
        verdict,
        before_signal: false,
        is_final: false,
        retry_after: None,
        started: None,
        ended: NOW,
        receipt: Receipt::default(),
        result: None,
    }
}

/// Asks and applies.
pub(crate) fn ask(
    task: &mut Option<Task>,
    command: &Command,
    now: Timestamp,
) -> Result<Vec<Event>, Rejected> {
    let events = decide(task.as_ref(), command, now)?;
    for event in &events {
        evolve(task, event);
    }
    Ok(events)
}

/// The task that `commands`, all accepted at [`NOW`], make of `spec`.
pub(crate) fn after(spec: TaskSpec, commands: &[Command]) -> Task {
    let mut task = None;
    ask(&mut task, &submit(spec), NOW).expect("a submit of nothing is accepted");
    for command in commands {
        if let Err(rejected) = ask(&mut task, command, NOW) {
            panic!("{command:?}: {rejected}");
        }
    }
    task.expect("it was submitted")
}

/// The same, claimed and started for the `attempt`-th time.
pub(crate) fn running(spec: TaskSpec, attempt: u32) -> Task {
    let start = Command::Start { attempt: AttemptNumber(attempt), pid: 77 };
    let mut commands = Vec::new();
    for number in 1..attempt {
        let released = Verdict::NotStarted(crate::attempt::NotStarted::Released);
        commands.extend([claim(), Command::Report(Box::new(report(number, released)))]);
    }
    commands.extend([claim(), start]);
    after(spec, &commands)
}
