//! What the keeper reports, on its way to the engine.

use std::sync::Arc;

use capsule_core::attempt::{Failure, ResultRefusal, Verdict};
use capsule_core::command::Report as Ending;
use capsule_core::id::{AttemptNumber, TaskId};
use capsule_core::spec::{INLINE_RESULT_MAX, Payload};
use capsule_core::time::Timestamp;

use super::report::{Raised, micros};
use super::{Dispatcher, names, plan, report};
use crate::apps::Runner;
use crate::engine::{Engine, EngineError, RESULT_MAX};
use crate::failpoint;
use crate::keeper::wire::{self, Report};
use crate::logs::{LogReader, Stream};
use crate::runner::process;
use crate::store::SideKind;

/// The longest event line that is looked at.
const EVENT_MAX: usize = 16 << 10;

impl Dispatcher {
    pub(super) fn hear(&self, report: &Report) -> Result<(), EngineError> {
        if report.key().is_some_and(|key| key.task & process::BIT != 0) {
            self.processes.hear(report);
            return Ok(());
        }
        match report {
            Report::Started(started) => {
                failpoint::pass("after-spawn");
                let (task, attempt) = names(started.key);
                let pid = u32::try_from(started.pid).unwrap_or(0);
                let at = Timestamp(micros(started.started_us));
                self.engine.started(task, attempt, pid, at)
            }
            Report::CannotStart(refused) => {
                let (task, _) = names(refused.key);
                let ending = report::cannot_start(refused, self.engine.now());
                self.engine.report(task, ending, true)
            }
            Report::Ended(ended) => self.ended(ended),
            Report::Gone(ended) => {
                let (task, attempt) = names(ended.key);
                self.engine.gone(task, attempt)
            }
            // An attempt that was never there needs no stopping.
            Report::NoSuch(_) => Ok(()),
            Report::Welcome(_) | Report::Refused(_) | Report::Inventory(_) => {
                tracing::warn!("the keeper said a second time what it says once");
                Ok(())
            }
        }
    }

    pub(super) fn ended(&self, ended: &wire::Ended) -> Result<(), EngineError> {
        failpoint::pass("after-exit");
        let (task, attempt) = names(ended.key);
        let mut ending = report::ended(ended);
        if matches!(ending.verdict, Verdict::Completed | Verdict::Stopped(_)) {
            match self.keep_result(task, attempt) {
                Ok(result) => ending.result = result,
                Err(why) => {
                    tracing::warn!(task.id = task.0, %why, "the result is not kept");
                    ending.receipt.result_refused = Some(why);
                }
            }
        }
        if matches!(ending.verdict, Verdict::Failed(_)) && ended.log.event > 0 {
            self.heed_event(task, &mut ending);
        }
        self.engine.report(task, ending, ended.tree_gone)
    }

    /// Heeds what the attempt's last event says: `{"retry_after": "30s"}`, and of a Python app's
    /// task, which error ended it.
    fn heed_event(&self, task: TaskId, ending: &mut Ending) {
        let mut reader = LogReader::open(Arc::clone(&self.logs), task.0, ending.attempt.0);
        let Ok(Some(line)) = reader.last_line(Stream::Event, EVENT_MAX) else { return };
        let Ok(event) = serde_json::from_slice::<serde_json::Value>(&line) else { return };
        ending.retry_after = event.get("retry_after").and_then(report::retry_after);
        let is_python = || {
            let task = self.engine.task(task).ok().flatten()?;
            plan::defined(&self.engine, &task).map(|(_, found)| found.runner == Runner::Process)
        };
        if let (Verdict::Failed(Failure::Exit(1)), Some(error)) =
            (&ending.verdict, event.get("error"))
            && is_python() == Some(true)
        {
            let error: Raised = serde_json::from_value(error.clone()).unwrap_or_default();
            ending.is_final = error.retry == Some(false);
            ending.verdict = error.verdict();
        }
    }

    fn keep_result(
        &self,
        task: TaskId,
        attempt: AttemptNumber,
    ) -> Result<Option<Payload>, ResultRefusal> {
        let Some(bytes) = self.surroundings.result(task, attempt)? else { return Ok(None) };
        keep(&self.engine, task, bytes).map(Some)
    }
}

/// Keeps a result, in a side file when it is large.
pub(super) fn keep(
    engine: &Engine,
    task: TaskId,
    bytes: Vec<u8>,
) -> Result<Payload, ResultRefusal> {
    if bytes.len() > RESULT_MAX {
        return Err(ResultRefusal::TooLarge);
    }
    if bytes.len() <= INLINE_RESULT_MAX {
        return Ok(Payload::Inline(bytes));
    }
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    engine.write_side(SideKind::Result, task, &bytes).map_err(|error| {
        tracing::error!(task.id = task.0, %error, "a result cannot be written");
        ResultRefusal::Unreadable
    })?;
    Ok(Payload::Side { length })
}
