//! The service `Tasks`.

use capsule_core::command::{Command, Edit};
use capsule_core::id::TaskId;
use capsule_core::task::Task;
use capsule_core::time::{Span, Timestamp};
use capsule_proto::v1;
use capsule_proto::v1::tasks_server::Tasks;
use tonic::{Request, Response, Status, Streaming};

use super::request::search::Search;
use super::request::{submit, targets};
use super::status::Refused;
use super::stream::{submits, tail, watch};
use super::{Api, convert, show};
use crate::book::Book;
use crate::engine;

/// Tasks on a page of `list`, unless said otherwise, and at the most.
const PAGE: usize = 20;
pub(super) const PAGE_MAX: usize = 10_000;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Tasks for Api {
    type TailStream = tail::TailStream;
    type WaitStream = watch::WaitStream;
    type WatchStream = watch::WatchStream;
    type SubmitStreamStream = submits::SubmitStream;

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
        let results = submit::each(&self.engine, &peer, request.into_inner().submits).await?;
        Ok(Response::new(v1::SubmitBatchReply { results }))
    }

    async fn submit_stream(
        &self,
        request: Request<Streaming<v1::SubmitRequest>>,
    ) -> Answer<Self::SubmitStreamStream> {
        let peer = self.peers.of(&request)?;
        Ok(Response::new(submits::submits(self, peer, request.into_inner())))
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Answer<v1::ListReply> {
        let request = request.into_inner();
        let search = Search::of(&self.engine, request.filter.as_ref());
        let filter = convert::filter(request.filter);
        let limit = match usize::try_from(request.limit).unwrap_or(PAGE_MAX) {
            0 => PAGE,
            limit => limit.min(PAGE_MAX),
        };
        let wanted = if request.count_only { 0 } else { limit + 1 };
        let before = request.before.map(TaskId);
        let (total, mut ids) = if search.is_empty() {
            self.engine.book().page(&filter, before, wanted)
        } else {
            let all = self.engine.book().newest(&filter, None).collect();
            let all = search.keep(&self.engine, all)?;
            let page = all.iter().filter(|id| before.is_none_or(|before| **id < before));
            (all.len() as u64, page.take(wanted).copied().collect())
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
        let search = Search::of(&self.engine, request.filter.as_ref());
        let filter = convert::filter(request.filter);
        let now = self.engine.now();
        let oldest = request.older_than_ms.map(Span);
        let keep = request.keep.and_then(|keep| usize::try_from(keep).ok()).unwrap_or(0);
        let ids: Vec<TaskId> = {
            let book = self.engine.book();
            book.newest(&filter, None)
                .filter(|id| {
                    book.entries.get(id).is_some_and(|entry| {
                        entry.status.is_ended()
                            && oldest.is_none_or(|span| now.since(entry.at) >= span)
                    })
                })
                .collect()
        };
        let ids = search.keep(&self.engine, ids)?.into_iter().skip(keep).collect();
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
        let now = self.engine.now();
        let view = {
            let book = self.engine.book();
            convert::view(&book, task, book.waiting(task, now))
        };
        self.with_progress(view)
    }

    pub(super) fn views(&self, ids: &[TaskId]) -> Result<Vec<v1::TaskView>, Refused> {
        let views = self.views_in(&self.engine.book(), ids.iter().copied())?;
        Ok(views.into_iter().map(|view| self.with_progress(view)).collect())
    }

    /// Without progress, for those who hold the book already.
    pub(super) fn views_in(
        &self,
        book: &Book,
        ids: impl Iterator<Item = TaskId>,
    ) -> Result<Vec<v1::TaskView>, Refused> {
        let now = self.engine.now();
        let mut views = Vec::with_capacity(ids.size_hint().0);
        for id in ids {
            if let Some(task) = engine::task(self.engine.store(), id)? {
                views.push(convert::view(book, &task, book.waiting(&task, now)));
            }
        }
        Ok(views)
    }
}
