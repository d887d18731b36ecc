//! From the keeper's words about an attempt to a verdict.

use capsule_core::attempt::{Failure, How, NotStarted, Receipt, Source, Verdict};
use capsule_core::command::Report;
use capsule_core::id::AttemptNumber;
use capsule_core::task::{State, Status, Task};
use capsule_core::time::{Span, Timestamp};

use crate::callback;
use crate::jail::Step;
use crate::keeper::wire;
use crate::runner::process::ProcessEnd;
use crate::text::bounded;

/// How a receipt names the SDK's own runner.
pub const STOCK: &str = "stock";

/// The result of a schedule's run that was given to the SDK's own runner.
pub(super) const DELIVERED: &str =
    "delivered to the SDK's runner, which does not say how the run ends";

/// The verdict on an attempt that has ended.
pub(super) fn ended(ended: &wire::Ended) -> Report {
    let how = match wire::How::try_from(ended.how) {
        Ok(wire::How::Graceful) => Some(How::Graceful),
        Ok(wire::How::Killed) => Some(How::Killed),
        Ok(wire::How::None) | Err(_) => None,
    };
    let verdict = match (wire::StopWhy::try_from(ended.stop), how) {
        (Ok(wire::StopWhy::Timeout), Some(how)) => Verdict::Timeout(how),
        (Ok(wire::StopWhy::Cancel | wire::StopWhy::Drain), Some(how)) => Verdict::Stopped(how),
        (Ok(_) | Err(_), _) => by_exit(ended),
    };
    let times = &ended.receipt;
    let started = Timestamp(micros(times.started_us));
    Report {
        attempt: AttemptNumber(ended.key.attempt),
        verdict,
        before_signal: how.is_none(),
        is_final: false,
        retry_after: None,
        started: Some((started, 0)),
        ended: Timestamp(micros(times.ended_us)).max(started),
        receipt: receipt(ended),
        result: None,
    }
}

fn by_exit(ended: &wire::Ended) -> Verdict {
    match (ended.exit_code, ended.signal) {
        (Some(0), _) => Verdict::Completed,
        (Some(code), _) => Verdict::Failed(Failure::Exit(code)),
        (None, signal) => Verdict::Failed(Failure::Signal(signal.unwrap_or(0))),
    }
}

/// The verdict on an attempt that never ran.
pub(super) fn cannot_start(refused: &wire::CannotStart, now: Timestamp) -> Report {
    let verdict = if refused.transient {
        Verdict::NotStarted(NotStarted::NoResources)
    } else {
        let step = match Step::try_from(refused.step) {
            Ok(Step::Program) => "program",
            Ok(Step::Cwd) => "cwd",
            Ok(Step::Rlimit) => "rlimit",
            Ok(Step::User) => "user",
            Ok(Step::Cgroup) => "cgroup",
            Ok(Step::Exec) => "exec",
            Ok(Step::Fork) => "fork",
            Ok(Step::Setup) => "setup",
            Ok(Step::Plan) => "plan",
            Ok(Step::Unknown) | Err(_) => "unknown",
        };
        unstartable(step, &refused.message)
    };
    never_ran(AttemptNumber(refused.key.attempt), verdict, now)
}

/// A verdict without an attempt that ran.
pub(super) fn never_ran(attempt: AttemptNumber, verdict: Verdict, now: Timestamp) -> Report {
    Report {
        attempt,
        verdict,
        before_signal: true,
        is_final: false,
        retry_after: None,
        started: None,
        ended: now,
        receipt: Receipt::default(),
        result: None,
    }
}

/// An attempt that can never start as asked.
pub(super) fn unstartable(step: &str, message: &str) -> Verdict {
    let message = bounded(message, MESSAGE_MAX);
    Verdict::Failed(Failure::CannotStart { step: step.to_owned(), message })
}

/// The error that ended a Python task, as its process or host tells it.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Raised {
    /// Its class.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// What it said.
    pub(crate) message: String,
    /// False: no retry makes it good.
    pub(crate) retry: Option<bool>,
    /// It asks to be tried again after this long.
    pub(crate) retry_after: Option<serde_json::Value>,
}

impl Raised {
    /// The verdict on the attempt that it ended.
    pub(crate) fn verdict(&self) -> Verdict {
        let kind = bounded(&self.kind, MESSAGE_MAX);
        Verdict::Failed(Failure::Error { kind, message: bounded(&self.message, MESSAGE_MAX) })
    }
}

/// What is reported of an attempt that waited for a host or runner that cannot be started.
pub(super) fn unserved(number: AttemptNumber, raised: &Raised, now: Timestamp) -> Report {
    let verdict = match raised.verdict() {
        Verdict::Failed(Failure::Error { kind, message }) => {
            let message = format!("the app cannot be served: {message}");
            Verdict::Failed(Failure::Error { kind, message })
        }
        other @ (Verdict::Completed
        | Verdict::Failed(_)
        | Verdict::Timeout(_)
        | Verdict::Stopped(_)
        | Verdict::Lost(_)
        | Verdict::NotStarted(_)) => other,
    };
    never_ran(number, verdict, now)
}

/// What is known of a host or runner that died without a word.
pub(super) fn unbooted(what: &str, end: &ProcessEnd) -> Raised {
    let how = match (end.signal, end.exit_code) {
        (Some(signal), _) => capsule_core::attempt::signal_name(signal),
        (None, Some(code)) => format!("exit {code}"),
        (None, None) => "it could not be started".to_owned(),
    };
    let last = end.tail.last().map(|line| format!(": {line}")).unwrap_or_default();
    let message = format!("its {what} ended while it booted ({how}){last}");
    Raised { kind: "HostError".to_owned(), message, ..Raised::default() }
}

/// How long an attempt asks to wait: `"30s"`, at most [`RETRY_AFTER_MAX`].
pub(super) fn retry_after(asked: &serde_json::Value) -> Option<Span> {
    Some(Span::parse(asked.as_str()?).ok()?.min(RETRY_AFTER_MAX))
}

/// The longest pause that an attempt may ask for: a day.
const RETRY_AFTER_MAX: Span = Span::from_secs(86_400);

/// What is told of a task that has ended.
pub(super) fn told(task: &Task) -> callback::Ended {
    let status = task.status();
    let ran = task.last.as_ref().and_then(capsule_core::attempt::AttemptRecord::ran);
    callback::Ended {
        task_id: task.id.to_string(),
        status: status.word(),
        duration: ran.map(|ran| ran.to_std().as_secs_f64()),
        error: match &task.state {
            State::Ended { outcome, .. } => {
                Some(outcome.to_string()).filter(|_| status != Status::Completed)
            }
            State::Scheduled { .. }
            | State::Retry { .. }
            | State::Pending { .. }
            | State::Claimed { .. }
            | State::Running { .. } => None,
        },
    }
}

/// The record of a task has room for so much.
const MESSAGE_MAX: usize = 400;

fn receipt(ended: &wire::Ended) -> Receipt {
    let used = &ended.receipt;
    let attribution = match wire::Attribution::try_from(used.attribution) {
        Ok(wire::Attribution::Cgroup) => "cgroup",
        Ok(wire::Attribution::Reaper) => "reaper",
        Ok(_) | Err(_) => "",
    };
    Receipt {
        wall_us: Some(used.wall_us),
        cpu_user_us: used.cpu_user_us,
        cpu_system_us: used.cpu_sys_us,
        cpu_source: source(used.cpu_source),
        peak_memory: used.peak_rss,
        memory_source: source(used.rss_source),
        read_bytes: used.io_read,
        written_bytes: used.io_write,
        io_source: source(used.io_source),
        max_pids: None,
        exit_code: ended.exit_code,
        signal: ended.signal,
        output_bytes: ended.log.out,
        error_bytes: ended.log.err,
        dropped_bytes: ended.log.dropped,
        result_refused: None,
        attribution: attribution.to_owned(),
    }
}

fn source(wire: i32) -> Source {
    match wire::Source::try_from(wire) {
        Ok(wire::Source::Cgroup) => Source::Cgroup,
        Ok(wire::Source::Rusage) => Source::Rusage,
        Ok(wire::Source::None) | Err(_) => Source::None,
    }
}

pub(super) fn micros(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}
