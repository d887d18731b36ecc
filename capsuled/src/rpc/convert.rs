//! From our words to the wire's and back, by hand: the wire is a promise, our types are not.

use capsule_core::attempt::{AttemptRecord, How, Receipt};
use capsule_core::id::ScheduleId;
use capsule_core::spec::{Delivery, LockPolicy, TaskSpec};
use capsule_core::task::{Outcome, State, Status, Task};
use capsule_core::time::Timestamp;
use capsule_proto::v1;

use crate::book::{Book, Filter, Gate};
use crate::dispatcher::STOCK;
use crate::schedule::Schedule;

pub(super) fn status(status: Status) -> v1::Status {
    match status {
        Status::Scheduled => v1::Status::Scheduled,
        Status::Pending => v1::Status::Pending,
        Status::Claimed => v1::Status::Claimed,
        Status::Running => v1::Status::Running,
        Status::Retry => v1::Status::Retry,
        Status::Completed => v1::Status::Completed,
        Status::Failed => v1::Status::Failed,
        Status::Timeout => v1::Status::Timeout,
        Status::Cancelled => v1::Status::Cancelled,
    }
}

fn status_from(wire: i32) -> Option<Status> {
    Status::ALL.into_iter().find(|known| status(*known) as i32 == wire)
}

/// A task for the wire; `waiting` is the first gate it stands at.
pub(super) fn view(book: &Book, task: &Task, waiting: Option<String>) -> v1::TaskView {
    let spec = &task.spec;
    let last = task.last.as_ref();
    let (reason, ended) = match &task.state {
        State::Ended { outcome, at } => (reason(task, outcome), Some(at.0)),
        State::Retry { .. } => {
            let verdict = last.and_then(|last| last.verdict.as_ref());
            (verdict.map(ToString::to_string).unwrap_or_default(), None)
        }
        State::Scheduled { .. }
        | State::Pending { .. }
        | State::Claimed { .. }
        | State::Running { .. } => (String::new(), None),
    };
    let pid = match &task.state {
        State::Running { pid, .. } => Some(*pid),
        State::Scheduled { .. }
        | State::Pending { .. }
        | State::Claimed { .. }
        | State::Retry { .. }
        | State::Ended { .. } => None,
    };
    v1::TaskView {
        id: task.id.0,
        uuid: task.uuid.to_string(),
        app: spec.app.clone(),
        name: spec.name.clone(),
        display_name: spec.display_name.clone(),
        revision: last.map_or(spec.revision, |last| last.revision),
        status: status(task.status()).into(),
        reason,
        waiting: waiting.unwrap_or_default(),
        owner: spec.owner.clone(),
        uid: spec.uid,
        queue: spec.queue.clone(),
        priority: spec.priority.into(),
        labels: spec.labels.clone().into_iter().collect(),
        lock: spec.lock.clone().unwrap_or_default(),
        key: spec.key.clone().unwrap_or_default(),
        created_us: task.created.0,
        due_us: task.state.due().map(|due| due.0),
        started_us: last.and_then(|last| last.started).map(|at| at.0),
        ended_us: ended,
        attempt: task.attempts.0,
        failures: task.failures,
        retries: spec.retries,
        exit_code: last.and_then(|last| last.receipt.exit_code),
        signal: last.and_then(|last| last.receipt.signal),
        pid,
        summary: spec.summary.clone(),
        progress: None,
        hold: spec.hold,
        cancelling: task.state.cancel().is_some(),
        schedule: schedule(book, task),
        seq: task.seq.0,
        merged_into: None,
    }
}

/// What people call the schedule that made a task: its id once it is forgotten. Empty = none did.
pub(super) fn schedule(book: &Book, task: &Task) -> String {
    let label =
        |id: ScheduleId| book.schedules.get(id).map_or_else(|| id.to_string(), Schedule::label);
    task.spec.tick.map_or_else(String::new, |tick| label(tick.schedule))
}

/// How a task ended, in a few words.
pub(super) fn reason(task: &Task, outcome: &Outcome) -> String {
    let limit = task.spec.timeout.map(|span| format!(" {span}")).unwrap_or_default();
    match outcome {
        Outcome::Timeout(How::Graceful) => format!("ran over its timeout{limit}, stopped"),
        Outcome::Timeout(How::Killed) => format!("ran over its timeout{limit}, killed"),
        Outcome::Completed | Outcome::Failed(_) | Outcome::Cancelled(_) => outcome.to_string(),
    }
}

pub(super) fn attempt(record: &AttemptRecord) -> v1::AttemptView {
    let verdict = record.verdict.as_ref();
    let stopped = verdict.and_then(|verdict| match verdict {
        capsule_core::attempt::Verdict::Timeout(how)
        | capsule_core::attempt::Verdict::Stopped(how) => Some(how.to_string()),
        capsule_core::attempt::Verdict::Completed
        | capsule_core::attempt::Verdict::Failed(_)
        | capsule_core::attempt::Verdict::Lost(_)
        | capsule_core::attempt::Verdict::NotStarted(_) => None,
    });
    let level = match record.receipt.attribution.as_str() {
        "" => String::new(),
        "host" => "app host".to_owned(),
        STOCK => "the SDK's runner".to_owned(),
        attribution => format!("process ({attribution})"),
    };
    v1::AttemptView {
        number: record.number.0,
        verdict: verdict.map(|verdict| verdict.word().to_owned()).unwrap_or_default(),
        reason: verdict.map(ToString::to_string).unwrap_or_default(),
        claimed_us: Some(record.claimed.0),
        started_us: record.started.map(|at| at.0),
        ended_us: record.ended.map(|at| at.0),
        pid: record.pid,
        receipt: Some(receipt(&record.receipt)),
        revision: record.revision,
        stopped: stopped.unwrap_or_default(),
        isolation: level,
        error: String::new(),
    }
}

fn receipt(receipt: &Receipt) -> v1::Receipt {
    v1::Receipt {
        wall_us: receipt.wall_us,
        cpu_user_us: receipt.cpu_user_us,
        cpu_system_us: receipt.cpu_system_us,
        peak_memory_bytes: receipt.peak_memory,
        read_bytes: receipt.read_bytes,
        written_bytes: receipt.written_bytes,
        max_pids: receipt.max_pids,
        exit_code: receipt.exit_code,
        signal: receipt.signal,
        out_of_memory: false,
        cpu_source: receipt.cpu_source.word().to_owned(),
        memory_source: receipt.memory_source.word().to_owned(),
        io_source: receipt.io_source.word().to_owned(),
        output_bytes: receipt.output_bytes,
        error_bytes: receipt.error_bytes,
        dropped_bytes: receipt.dropped_bytes,
        result_refused: receipt.result_refused.map(|why| why.to_string()).unwrap_or_default(),
    }
}

pub(super) fn gate(gate: Gate) -> v1::Gate {
    v1::Gate {
        kind: gate.kind.word().to_owned(),
        text: gate.text,
        until_us: gate.until.map(|at| at.0),
        tasks: gate.tasks.into_iter().map(|task| task.0).collect(),
    }
}

pub(super) fn options(spec: &TaskSpec) -> v1::Options {
    v1::Options {
        name: spec.name.clone(),
        display_name: spec.display_name.clone(),
        owner: spec.owner.clone(),
        queue: spec.queue.clone(),
        priority: Some(spec.priority.into()),
        labels: spec.labels.clone().into_iter().collect(),
        delay_ms: None,
        at_us: spec.not_before.map(|at| at.0),
        start_within_ms: spec.start_within.map(|span| span.0),
        after: spec
            .after
            .iter()
            .map(|dependency| v1::Dependency {
                id: dependency.task.to_string(),
                on: match dependency.on {
                    capsule_core::spec::DependencyOn::Ok => "ok",
                    capsule_core::spec::DependencyOn::Any => "any",
                    capsule_core::spec::DependencyOn::Failed => "failed",
                }
                .to_owned(),
            })
            .collect(),
        hold: spec.hold,
        retries: Some(spec.retries),
        backoff: spec.backoff.to_string(),
        timeout_ms: spec.timeout.map(|span| span.0),
        grace_ms: Some(spec.grace.0),
        lock: spec.lock.clone(),
        lock_policy: lock_policy(spec.lock_policy).into(),
        key: spec.key.clone().unwrap_or_default(),
        delivery: delivery(spec.delivery).into(),
        no_retry_exit_codes: spec.no_retry_exit_codes.clone(),
        no_retry_on: spec
            .no_retry_on
            .iter()
            .map(|class| super::request::submit::class_word(*class).to_owned())
            .collect(),
    }
}

pub(super) fn delivery(delivery: Delivery) -> v1::Delivery {
    match delivery {
        Delivery::AtLeastOnce => v1::Delivery::AtLeastOnce,
        Delivery::AtMostOnce => v1::Delivery::AtMostOnce,
    }
}

pub(super) fn lock_policy(policy: LockPolicy) -> v1::LockPolicy {
    match policy {
        LockPolicy::Merge => v1::LockPolicy::Merge,
        LockPolicy::Wait => v1::LockPolicy::Wait,
        LockPolicy::Replace => v1::LockPolicy::Replace,
        LockPolicy::Reject => v1::LockPolicy::Reject,
    }
}

pub(super) fn filter(wire: Option<v1::Filter>) -> Filter {
    let wire = wire.unwrap_or_default();
    Filter {
        statuses: wire.statuses.into_iter().filter_map(status_from).collect(),
        app: wire.app,
        names: wire.names,
        except_names: wire.except_names,
        owner: wire.owner,
        queue: wire.queue,
        lock: wire.lock,
        labels: wire.labels.into_iter().collect(),
        since: wire.since_us.map(Timestamp),
        until: wire.until_us.map(Timestamp),
    }
}
