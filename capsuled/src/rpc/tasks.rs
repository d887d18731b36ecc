//! The service `Tasks`.

use capsule_core::command::{Command, Edit};
use capsule_core::id::TaskId;
use capsule_core::task::Task;
use capsule_core::time::{Span, Timestamp};
use capsule_proto::v1;
use capsule_proto::v1::tasks_server::Tasks;
use tonic::{Request, Response, Status};

use super::request::search::Search;
use super::request::{submit, targets};
use super::status::Refused;
use super::stream::{tail, watch};
use super::{Api, convert, show};
use crate::engine::{self, How};

/// Tasks on a page of `list`, unless said otherwise, and at the most.
const PAGE: usize = 20;
const PAGE_MAX: usize = 10_000;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Tasks for Api {
    type TailStream = tail::TailStream;
    type WaitStream = watch::WaitStream;
    type WatchStream = watch::WatchStream;

    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Answer<v1::SubmitReply> {
        let peer = self.peers.of(&request)?;
        let new = submit::new_task(&self.engine, request.into_inner(), &peer)?;
        let mut results = self.engine.submit(vec![new]).await.map_err(Refused::from)?;
        let submitted = results
            .pop()
            .ok_or_else(|| Status::internal("a submit had no result"))?
            .map_err(Refused::from)?;
        Ok(Response::new(self.submit_reply(submitted)))
    }

    async fn submit_batch(
        &self,
        request: Request<v1::SubmitBatchRequest>,
    ) -> Answer<v1::SubmitBatchReply> {
        let peer = self.peers.of(&request)?;
        let rows = request.into_inner().submits;
        let mut results = vec![v1::SubmitResult::default(); rows.len()];
        let mut submits = Vec::with_capacity(rows.len());
        let mut places = Vec::with_capacity(rows.len());
        for (row, result) in rows.into_iter().zip(&mut results) {
            match submit::new_task(&self.engine, row, &peer) {
                Ok(new) => {
                    submits.push(new);
                    places.push(result);
                }
                Err(refused) => fail(result, refused),
            }
        }
        let submitted = self.engine.submit(submits).await.map_err(Refused::from)?;
        for (place, submitted) in places.into_iter().zip(submitted) {
            match submitted {
                Ok(submitted) => {
                    place.id = submitted.task.id.0;
                    place.merged = matches!(submitted.how, How::Merged { .. });
                    place.existing = submitted.how == How::Existing;
                }
                Err(error) => fail(place, error.into()),
            }
        }
        Ok(Response::new(v1::SubmitBatchReply { results }))
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Answer<v1::ListReply> {
        let request = request.into_inner();
        let search = Search::of(request.filter.as_ref());
        let filter = convert::filter(request.filter);
        let limit = match usize::try_from(request.limit).unwrap_or(PAGE_MAX) {
            0 => PAGE,
            limit => limit.min(PAGE_MAX),
        };
        let wanted = if request.count_only { 0 } else { limit + 1 };
        let before = request.before.map(TaskId);
<<<<<<< HEAD
        let (total, mut ids) = if filter.text.is_empty() {
            let book = self.engine.book();
            let ids: Vec<TaskId> = book.newest(&filter, before).take(wanted).collect();
            (book.count(&filter), ids)
        } else {
            let all = targets::matching(&self.engine, &filter, None)?;
            let below = all.iter().copied().filter(|id| before.is_none_or(|end| *id < end));
            (u64::try_from(all.len()).unwrap_or(u64::MAX), below.take(wanted).collect())
=======
        let (total, mut ids) = if search.is_empty() {
            let book = self.engine.book();
            let total = book.count(&filter);
            (total, book.newest(&filter, before).take(wanted).collect::<Vec<_>>())
        } else {
            let all = self.engine.book().newest(&filter, None).collect();
            let all = search.keep(&self.engine, all)?;
            let page = all.iter().filter(|id| before.is_none_or(|before| **id < before));
            (all.len() as u64, page.take(wanted).copied().collect())
>>>>>>> main
        };
        let more = ids.len() > limit;
        ids.truncate(limit);
        let next_before = ids.last().filter(|_| more).map(|id| id.0);
        if request.ascending {
            ids.reverse();
        }
        let tasks = self.views(&ids)?;
        Ok(Response::new(v1::ListReply { tasks, total, next_before }))
    }

    async fn show(&self, request: Request<v1::ShowRequest>) -> Answer<v1::ShowReply> {
        let peer = self.peers.of(&request)?;
        let task = targets::load(&self.engine, &request.into_inner().id, &peer)?;
        Ok(Response::new(self.show_reply(&task)?))
    }

    async fn tail(&self, request: Request<v1::TailRequest>) -> Answer<Self::TailStream> {
        let peer = self.peers.of(&request)?;
        Ok(Response::new(tail::start(self, &request.into_inner(), &peer)?))
    }

    async fn wait(&self, request: Request<v1::WaitRequest>) -> Answer<Self::WaitStream> {
        let peer = self.peers.of(&request)?;
        Ok(Response::new(watch::wait(self, request.into_inner(), &peer)?))
    }

    async fn result(&self, request: Request<v1::ResultRequest>) -> Answer<v1::ResultReply> {
        let peer = self.peers.of(&request)?;
        let task = targets::load(&self.engine, &request.into_inner().id, &peer)?;
        let (result_json, error) = (self.result_of(&task)?, show::error_of(&task));
        let view = self.view(&task);
        Ok(Response::new(v1::ResultReply { task: Some(view), result_json, error }))
    }

    async fn cancel(&self, request: Request<v1::CancelRequest>) -> Answer<v1::ActionReply> {
        let peer = self.peers.of(&request)?;
        let request = request.into_inner();
        let ids = targets::all(&self.engine, request.targets, &peer)?;
        let grace = request.grace_ms.map(Span);
        let command = Command::Cancel { reason: request.reason, grace };
        self.act(ids, command, request.dry_run, "cancelled").await
    }

    async fn retry(&self, request: Request<v1::RetryRequest>) -> Answer<v1::ActionReply> {
        let peer = self.peers.of(&request)?;
        let request = request.into_inner();
        let ids = targets::all(&self.engine, request.targets, &peer)?;
        let timeout = request.timeout_ms.map(Span);
        if request.as_new {
            return self.copy(ids, request.retries, timeout).await;
        }
        let command = Command::Retry { retries: request.retries, timeout };
        self.act(ids, command, request.dry_run, "retried").await
    }

    async fn promote(&self, request: Request<v1::TargetsRequest>) -> Answer<v1::ActionReply> {
        let peer = self.peers.of(&request)?;
        let request = request.into_inner();
        let ids = targets::all(&self.engine, request.targets, &peer)?;
        self.act(ids, Command::Promote, request.dry_run, "promoted").await
    }

    async fn edit(&self, request: Request<v1::EditRequest>) -> Answer<v1::ActionReply> {
        let peer = self.peers.of(&request)?;
        let request = request.into_inner();
        let ids = targets::all(&self.engine, request.targets.clone(), &peer)?;
        let command = Command::Edit(Box::new(edit(request)?));
        self.act(ids, command, false, "changed").await
    }

    async fn remove(&self, request: Request<v1::TargetsRequest>) -> Answer<v1::ActionReply> {
        let peer = self.peers.of(&request)?;
        let request = request.into_inner();
        let ids = targets::all(&self.engine, request.targets, &peer)?;
        self.remove_tasks(ids, request.dry_run).await
    }

    async fn prune(&self, request: Request<v1::PruneRequest>) -> Answer<v1::ActionReply> {
        let request = request.into_inner();
        let search = Search::of(request.filter.as_ref());
        let filter = convert::filter(request.filter);
        let now = self.engine.now();
        let oldest = request.older_than_ms.map(Span);
        let keep = request.keep.and_then(|keep| usize::try_from(keep).ok()).unwrap_or(0);
        let mut ids = targets::matching(&self.engine, &filter, None)?;
        {
            let book = self.engine.book();
            ids.retain(|id| {
                book.entries.get(id).is_some_and(|entry| {
                    entry.status.is_ended() && oldest.is_none_or(|span| now.since(entry.at) >= span)
                })
<<<<<<< HEAD
            });
        }
        let ids = ids.into_iter().skip(keep).collect();
=======
                .collect()
        };
        let ids = search.keep(&self.engine, ids)?.into_iter().skip(keep).collect();
>>>>>>> main
        self.remove_tasks(ids, request.dry_run).await
    }

    async fn why(&self, request: Request<v1::WhyRequest>) -> Answer<v1::WhyReply> {
        let peer = self.peers.of(&request)?;
        let task = targets::load(&self.engine, &request.into_inner().id, &peer)?;
        Ok(Response::new(self.why_reply(&task)))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Answer<Self::WatchStream> {
        Ok(Response::new(watch::watch(self, request.into_inner())))
    }
}

fn fail(result: &mut v1::SubmitResult, refused: Refused) {
    result.error = refused.message;
    refused.name.clone_into(&mut result.error_code);
}

fn edit(request: v1::EditRequest) -> Result<Edit, Refused> {
    let priority = request
        .priority
        .map(|priority| i8::try_from(priority).ok().filter(|p| (-100..=100).contains(p)))
        .map(|priority| priority.ok_or_else(|| Refused::invalid("priority goes from -100 to 100")))
        .transpose()?;
    if let Some(queue) = &request.queue {
        capsule_core::spec::name("queue", queue)?;
    }
    Ok(Edit {
        priority,
        queue: request.queue,
        hold: request.hold,
        at: request.at_us.map(Timestamp),
        retries: request.retries,
        timeout: request.timeout_ms.map(Span),
        labels: request.labels.into_iter().collect(),
        display_name: request.display_name,
    })
}

impl Api {
    pub(super) fn view(&self, task: &Task) -> v1::TaskView {
        let waiting = self.engine.book().waiting(task, self.engine.now());
        self.with_progress(convert::view(task, waiting))
    }

    pub(super) fn views(&self, ids: &[TaskId]) -> Result<Vec<v1::TaskView>, Refused> {
        let now = self.engine.now();
        let mut views = Vec::with_capacity(ids.len());
        {
            let book = self.engine.book();
            for id in ids {
                if let Some(task) = engine::task(self.engine.store(), *id)? {
                    views.push(convert::view(&task, book.waiting(&task, now)));
                }
            }
        }
        Ok(views.into_iter().map(|view| self.with_progress(view)).collect())
    }
<<<<<<< HEAD

    fn submit_reply(&self, submitted: Submitted) -> v1::SubmitReply {
        let Submitted { task, how } = submitted;
        let (mut merged, mut existing, mut arguments_differ) = (false, false, false);
        let note = match how {
            How::Created => String::new(),
            How::Checked => "nothing was queued".to_owned(),
            How::Replaced(ids) => {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                format!("cancelled for it: {}", ids.join(" "))
            }
            How::Existing => {
                existing = true;
                format!("the key was used by {}", task.id)
            }
            How::Merged { arguments_differ: differ, pulled_forward } => {
                (merged, arguments_differ) = (true, differ);
                let lock = task.spec.lock.as_deref().unwrap_or_default();
                let doing = self.engine.book().doing(task.id, self.engine.now());
                let forward = if pulled_forward { ", pulled forward" } else { "" };
                format!("lock {lock} held ({doing}){forward}")
            }
        };
        v1::SubmitReply {
            lock_policy: convert::lock_policy(task.spec.lock_policy).into(),
            payload_json: self.payload_of(&task).map(|(_, json)| json).unwrap_or_default(),
            task: Some(self.view(&task)),
            merged,
            existing,
            arguments_differ,
            note,
        }
    }

    fn show_reply(&self, task: &Task) -> Result<v1::ShowReply, Refused> {
        let now = self.engine.now();
        let (program, payload_json) = self.payload_of(task).unwrap_or_default();
        let attempts = engine::attempts(self.engine.store(), task)?;
        let gates = self.engine.book().gates(task, now);
        Ok(v1::ShowReply {
            timeline: timeline(task, &attempts),
            attempts: attempts.iter().map(convert::attempt).collect(),
            program,
            payload_json,
            result_json: self.result_of(task)?,
            error: error_of(task),
            gates: gates.into_iter().map(convert::gate).collect(),
            options: Some(convert::options(&task.spec)),
            longest_ms: task.spec.longest_run().map(|span| span.0),
            task: Some(self.view(task)),
        })
    }

    /// The program, or the arguments of a call.
    fn payload_of(&self, task: &Task) -> Option<(Option<v1::Program>, String)> {
        let bytes = match &task.spec.payload {
            Payload::Inline(bytes) => bytes.clone(),
            Payload::Side { .. } => self.engine.side(SideKind::Payload, task.id).ok()??,
        };
        match Work::decode(&bytes)? {
            Work::Program(program) => {
                let env = program.env.into_iter().collect();
                let (argv, shell, cwd) = (program.argv, program.shell, program.cwd);
                Some((Some(v1::Program { argv, shell, cwd, env, stdin: None }), String::new()))
            }
            Work::Call(call) => Some((None, call.arguments)),
        }
    }

    pub(super) fn result_of(&self, task: &Task) -> Result<String, Refused> {
        let bytes = match &task.result {
            None => return Ok(String::new()),
            Some(Payload::Inline(bytes)) => bytes.clone(),
            Some(Payload::Side { .. }) => {
                self.engine.side(SideKind::Result, task.id)?.unwrap_or_default()
            }
        };
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn why_reply(&self, task: &Task) -> v1::WhyReply {
        let now = self.engine.now();
        let gates = self.engine.book().gates(task, now);
        let status = task.status();
        let text = match gates.split_first() {
            _ if status.is_ended() => format!("{} has ended: {status} {}", task.id, error_of(task)),
            None if task.state.lease().is_some() => format!("{} is {status}", task.id),
            None => format!("{} starts next", task.id),
            Some((first, rest)) => {
                let rest: Vec<&str> = rest.iter().map(|gate| gate.text.as_str()).collect();
                let rest = if rest.is_empty() {
                    String::new()
                } else {
                    format!("; then {}", rest.join("; "))
                };
                format!("{} waits: {}{rest}", task.id, first.text)
            }
        };
        let earliest = gates.iter().filter_map(|gate| gate.until).max();
        v1::WhyReply {
            task: Some(self.view(task)),
            gates: gates.into_iter().map(convert::gate).collect(),
            earliest_us: earliest.map(|at| at.0),
            text: text.trim_end().to_owned(),
        }
    }

    async fn act(
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
                let task = engine::task(self.engine.store(), id).map_err(Refused::from)?;
                let decided = capsule_core::decide(task.as_ref(), &command, now);
                let result = match (decided, &task) {
                    (Ok(_), Some(task)) => Ok(task.clone()),
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

    async fn remove_tasks(&self, ids: Vec<TaskId>, dry_run: bool) -> Answer<v1::ActionReply> {
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
        let acted = self.engine.remove(ids).await.map_err(Refused::from)?;
        for acted in &acted {
            if let Ok(task) = &acted.result {
                for number in 1..=task.attempts.0 {
                    if let Err(error) = self.logs.remove(task.id.0, number) {
                        tracing::warn!(task.id = task.id.0, %error, "a log stays behind");
                    }
                }
            }
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
    async fn copy(
        &self,
        ids: Vec<TaskId>,
        retries: Option<u32>,
        timeout: Option<Span>,
    ) -> Answer<v1::ActionReply> {
        let mut results = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(task) = engine::task(self.engine.store(), id).map_err(Refused::from)? else {
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
        | Refusal::Lingers => ("refused", text, 5),
    }
}

fn timeline(
    task: &Task,
    attempts: &[capsule_core::attempt::AttemptRecord],
) -> Vec<v1::TimelineEntry> {
    let mut entries =
        vec![v1::TimelineEntry { at_us: task.created.0, what: "submitted".to_owned() }];
    let mut note = |at: Timestamp, what: String| {
        entries.push(v1::TimelineEntry { at_us: at.0, what });
    };
    for attempt in attempts {
        let number = attempt.number;
        note(attempt.claimed, format!("attempt {number} claimed"));
        if let Some(at) = attempt.started {
            note(at, format!("attempt {number} started"));
        }
        if let (Some(at), Some(verdict)) = (attempt.ended, &attempt.verdict) {
            note(
                at,
                format!("attempt {number} {} {verdict}", verdict.word()).trim_end().to_owned(),
            );
        }
    }
    if let State::Ended { at, outcome } = &task.state {
        note(*at, format!("{} {outcome}", outcome.status()).trim_end().to_owned());
    }
    if let Some(due) = task.state.due() {
        note(due, "due".to_owned());
    }
    entries
=======
>>>>>>> main
}
