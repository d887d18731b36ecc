//! What is asked of tasks that exist: several at once, each answered for itself.

use std::sync::Arc;

use capsule_core::Rejected;
use capsule_core::command::Command;
use capsule_core::id::TaskId;
use capsule_core::spec::Payload;
use capsule_core::time::Span;
use capsule_proto::v1;
use tonic::{Response, Status};

use super::Api;
use super::status::Refused;
use crate::engine::{self, Acted, How, Refusal};
use crate::store::SideKind;

type Answer<T> = Result<Response<T>, Status>;

/// Tasks removed in one step: others are answered between two steps.
const REMOVED_AT_ONCE: usize = 64;

impl Api {
    pub(super) async fn act(
        &self,
        ids: Vec<TaskId>,
        command: Command,
        dry_run: bool,
        done: &'static str,
    ) -> Answer<v1::ActionReply> {
        let results = if dry_run {
            let now = self.engine.now();
            let mut results = Vec::with_capacity(ids.len());
            for id in ids {
                let task = self.engine.task(id).map_err(Refused::from)?.map(Arc::new);
                let decided = capsule_core::decide(task.as_deref(), &command, now);
                let result = match (decided, &task) {
                    (Ok(_), Some(task)) => Ok(Arc::clone(task)),
                    (Err(rejected), _) => Err(rejected.into()),
                    (Ok(_), None) => Err(Rejected::Missing.into()),
                };
                results.push(Acted { id, before: task, result });
            }
            results
        } else {
            self.engine.act(ids, command).await.map_err(Refused::from)?
        };
        let results = results.iter().map(|acted| self.action_result(acted, done)).collect();
        Ok(Response::new(v1::ActionReply { results }))
    }

    pub(super) async fn remove_tasks(
        &self,
        ids: Vec<TaskId>,
        dry_run: bool,
    ) -> Answer<v1::ActionReply> {
        if dry_run {
            let tasks = self.views(&ids)?;
            let result = |task: v1::TaskView| v1::ActionResult {
                id: task.id,
                outcome: "removed".to_owned(),
                task: Some(task),
                ..v1::ActionResult::default()
            };
            let results = tasks.into_iter().map(result).collect();
            return Ok(Response::new(v1::ActionReply { results }));
        }
        let mut acted = Vec::with_capacity(ids.len());
        for some in ids.chunks(REMOVED_AT_ONCE) {
            acted.extend(self.engine.remove(some.to_vec()).await.map_err(Refused::from)?);
        }
        let results = acted.iter().map(|acted| self.action_result(acted, "removed")).collect();
        Ok(Response::new(v1::ActionReply { results }))
    }

    fn action_result(&self, acted: &Acted, done: &str) -> v1::ActionResult {
        let before = acted.before.as_ref().map(|task| self.view(task));
        let (outcome, text, exit) = match &acted.result {
            Ok(task) if done == "cancelled" && !task.status().is_ended() => {
                ("cancelling", String::new(), 0)
            }
            Ok(_) => (done, String::new(), 0),
            Err(refusal) => refusal_words(acted.id, *refusal, done),
        };
        let task = acted.result.as_ref().ok().map(|task| self.view(task)).or(before);
        v1::ActionResult { id: acted.id.0, outcome: outcome.to_owned(), text, task, exit }
    }

    /// Submits the same again under new ids.
    pub(super) async fn copy(
        &self,
        ids: Vec<TaskId>,
        retries: Option<u32>,
        timeout: Option<Span>,
    ) -> Answer<v1::ActionReply> {
        let mut results = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(task) = self.engine.task(id).map_err(Refused::from)? else {
                continue;
            };
            let payload = match &task.spec.payload {
                Payload::Inline(bytes) => bytes.clone(),
                Payload::Side { .. } => self
                    .engine
                    .side(SideKind::Payload, id)
                    .map_err(Refused::from)?
                    .unwrap_or_default(),
            };
            let mut spec = task.spec.clone();
            (spec.key, spec.not_before, spec.hold) = (None, None, false);
            spec.retries = retries.unwrap_or(spec.retries);
            spec.timeout = timeout.map_or(spec.timeout, |t| Some(t).filter(|t| *t != Span::ZERO));
            let new = engine::NewTask { spec, payload, parent: None, dry_run: false };
            let submitted = self.engine.submit(vec![new]).await.map_err(Refused::from)?;
            for submitted in submitted {
                let submitted = submitted.map_err(Refused::from)?;
                let merged = matches!(submitted.how, How::Merged { .. });
                results.push(v1::ActionResult {
                    id: submitted.task.id.0,
                    outcome: if merged { "merged" } else { "copied" }.to_owned(),
                    text: format!("copy of {id}"),
                    task: Some(self.view(&submitted.task)),
                    exit: 0,
                });
            }
        }
        Ok(Response::new(v1::ActionReply { results }))
    }
}

/// What a refusal means for the one who asked: asking again for what is so already is fine.
fn refusal_words(id: TaskId, refusal: Refusal, done: &str) -> (&'static str, String, i32) {
    let text = refusal.to_string();
    match refusal {
        Refusal::Rejected(Rejected::AlreadyEnded(status)) if done == "cancelled" => {
            ("already_ended", format!("already {status}"), 0)
        }
        Refusal::Rejected(Rejected::Unchanged) => ("unchanged", text, 0),
        Refusal::Rejected(Rejected::Missing) => ("refused", text, 4),
        Refusal::Rejected(Rejected::OutOfBounds) => ("refused", text, 2),
        Refusal::Rejected(Rejected::Completed) => {
            ("refused", format!("{text}: capsule retry {id} --as-new"), 5)
        }
        Refusal::Rejected(
            Rejected::Exists
            | Rejected::AlreadyEnded(_)
            | Rejected::StaleAttempt(_)
            | Rejected::NotNow(_)
            | Rejected::NotDue,
        )
        | Refusal::NotEnded(_)
        | Refusal::Lingers
        | Refusal::MayLinger
        | Refusal::ReadOnly => ("refused", text, 5),
    }
}
