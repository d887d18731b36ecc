//! Streams fed by the live feed: `wait` and `watch`. Nothing polls.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::pin::Pin;

use capsule_core::id::{ScheduleId, Seq, TaskId};
use capsule_core::task::Status;
use capsule_proto::v1;
use capsule_proto::v1::watch_event::Event;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;

use crate::book::Filter;
use crate::engine::Changed;
use crate::rpc::request::peer::Peer;
use crate::rpc::request::search::Search;
use crate::rpc::request::targets;
use crate::rpc::status::Refused;
use crate::rpc::{Api, convert, schedules};

use super::windows::{self, Pictures};

pub(in crate::rpc) type WaitStream =
    Pin<Box<dyn Stream<Item = Result<v1::TaskView, tonic::Status>> + Send>>;
pub(in crate::rpc) type WatchStream =
    Pin<Box<dyn Stream<Item = Result<v1::WatchEvent, tonic::Status>> + Send>>;

/// Tasks in the snapshot of a watch, unless said otherwise.
const SNAPSHOT: usize = 1000;
/// Messages that a slow client may leave unread before its changes are coalesced.
const BUFFER: usize = 64;
/// Changes looked up together: the book is held for less time than a commit takes.
const TOGETHER: usize = 128;

/// Gives a view of each task when it reaches the condition.
pub(in crate::rpc) fn wait(
    api: &Api,
    request: v1::WaitRequest,
    peer: &Peer,
) -> Result<WaitStream, Refused> {
    let reached = match request.until.as_str() {
        "" | "ended" | "done" => Status::is_ended,
        "completed" => |status: Status| status.is_ended(),
        "running" => |status: Status| status == Status::Running || status.is_ended(),
        other => {
            let message = format!("{other:?} is none of ended, running and completed");
            return Err(Refused::invalid(message));
        }
    };
    let mut feed = api.engine.feed().cursor();
    let ids = targets::all(&api.engine, request.targets, peer)?;
    if ids.is_empty() {
        return Err(Refused::not_found("no task matches").hint("capsule list"));
    }
    let (sender, receiver) = mpsc::channel(BUFFER);
    let api = api.clone();
    tokio::spawn(async move {
        let mut open: BTreeSet<TaskId> = ids.into_iter().collect();
        while !open.is_empty() {
            let there: Vec<TaskId> = {
                let book = api.engine.book();
                let is_there = |id: &TaskId| book.entries.get(id).is_none_or(|e| reached(e.status));
                open.iter().copied().filter(is_there).collect()
            };
            for id in &there {
                open.remove(id);
            }
            for view in api.views(&there).unwrap_or_default() {
                if sender.send(Ok(view)).await.is_err() {
                    return;
                }
                if request.any {
                    return;
                }
            }
            if open.is_empty() {
                return;
            }
            tokio::select! {
                news = api.engine.feed().next(&mut feed) => {
                    if news.is_err() {
                        feed = api.engine.feed().cursor();
                    }
                }
                () = sender.closed() => return,
                () = api.ending.cancelled() => {
                    let gone = Refused::new(tonic::Code::Unavailable, "unavailable", "the daemon ends", 3);
                    drop(sender.send(Err(gone.into())).await);
                    return;
                }
            }
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

/// A snapshot, then every change. A client that reads slowly gets the newest state of each task,
/// not every step.
pub(in crate::rpc) fn watch(api: &Api, request: v1::WatchRequest) -> WatchStream {
    let (sender, receiver) = mpsc::channel(BUFFER);
    let search = Search::of(&api.engine, request.filter.as_ref());
    let filter = convert::filter(request.filter);
    if !request.windows.is_empty() {
        let board = Pictures {
            api: api.clone(),
            filter,
            search,
            windows: windows::windows(request.windows),
            schedules: request.schedules,
            around: request.around.then(|| api.engine.feed().around()),
            sender,
            found: None,
            told: HashSet::new(),
            last: None,
        };
        let ending = api.ending.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = board.run() => {}
                () = ending.cancelled() => {}
            }
        });
        return Box::pin(ReceiverStream::new(receiver));
    }
    let watch = Watch {
        whatever_status: Filter { statuses: Vec::new(), ..filter.clone() },
        filter,
        search,
        schedules: request.schedules,
        limit: match usize::try_from(request.limit).unwrap_or(SNAPSHOT) {
            0 => SNAPSHOT,
            limit => limit,
        },
        api: api.clone(),
        sender,
    };
    let since = request.since_seq.map(Seq);
    let ending = api.ending.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = watch.run(since) => {}
            () = ending.cancelled() => {}
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

struct Watch {
    api: Api,
    filter: Filter,
    /// A task that leaves the wanted statuses must be told too, or a view would keep it.
    whatever_status: Filter,
    search: Search,
    /// Changes of schedules are wanted too.
    schedules: bool,
    limit: usize,
    sender: mpsc::Sender<Result<v1::WatchEvent, tonic::Status>>,
}

/// The client has gone.
pub(super) struct Gone;

impl Watch {
    async fn run(&self, since: Option<Seq>) -> Result<(), Gone> {
        let feed = self.api.engine.feed();
        let mut cursor = match since {
            Some(seen) => feed.cursor_behind(seen),
            None => self.snapshot().await?,
        };
        loop {
            tokio::select! {
                news = feed.next(&mut cursor) => if let Ok(news) = news {
                    self.tell(news).await?;
                } else {
                        self.send(feed.latest(), 0, Event::Reset(true)).await?;
                        cursor = self.snapshot().await?;
                    },
                () = self.sender.closed() => return Err(Gone),
            }
        }
    }

    async fn snapshot(&self) -> Result<crate::engine::Cursor, Gone> {
        let (cursor, seq, ids, counts) = {
            let book = self.api.engine.book();
            let cursor = self.api.engine.feed().cursor();
            let limit = if self.search.is_empty() { self.limit } else { usize::MAX };
            let ids: Vec<TaskId> = book.newest(&self.filter, None).take(limit).collect();
            (cursor, self.api.engine.feed().latest(), ids, crate::rpc::daemon::counts(&book))
        };
        let mut ids = self.search.keep(&self.api.engine, ids).unwrap_or_default();
        ids.truncate(self.limit);
        for view in self.api.views(&ids).unwrap_or_default() {
            self.send(Seq(view.seq), 0, Event::Task(view)).await?;
        }
        self.send(seq, 0, Event::Ready(v1::Counts { by_status: counts })).await?;
        Ok(cursor)
    }

    /// Tells the newest state of each task and schedule that changed, in the order of their last
    /// changes.
    async fn tell(&self, news: Vec<Changed>) -> Result<(), Gone> {
        let mut seen = BTreeSet::new();
        let mut last: Vec<Changed> =
            news.into_iter().rev().filter(|change| seen.insert(change.task)).collect();
        last.reverse();
        for changes in last.chunks(TOGETHER) {
            for (change, event) in self.events(changes) {
                self.send(change.seq, change.at.0, event).await?;
            }
        }
        Ok(())
    }

    /// What is told of these changes. The book is asked once for all: while many commits go on,
    /// each look at it waits for one.
    fn events(&self, changes: &[Changed]) -> Vec<(Changed, Event)> {
        let mut of_schedules = BTreeMap::new();
        let mut wanted = BTreeSet::new();
        let views = {
            let book = self.api.engine.book();
            for change in changes {
                if let Some(it) = book.schedules.get(ScheduleId(change.task.0)) {
                    let event = self.schedules.then(|| Event::Schedule(schedules::changed(it)));
                    of_schedules.insert(change.task, event);
                } else if let Some(entry) = book.entries.get(&change.task)
                    && self.whatever_status.matches(&book, entry)
                {
                    wanted.insert(change.task.0);
                }
            }
            let tasks = changes.iter().map(|change| change.task);
            let tasks = tasks.filter(|task| !of_schedules.contains_key(task));
            self.api.views_in(&book, tasks).unwrap_or_default()
        };
        let views = views.into_iter().map(|view| self.api.with_progress(view));
        let mut views: BTreeMap<u64, v1::TaskView> = views.map(|view| (view.id, view)).collect();
        let mut event = |change: &Changed| match of_schedules.remove(&change.task) {
            Some(event) => event,
            None => match views.remove(&change.task.0) {
                Some(view) => (wanted.contains(&view.id) && self.search.finds(&view))
                    .then_some(Event::Task(view)),
                None => change.status.is_none().then_some(Event::Removed(change.task.0)),
            },
        };
        changes.iter().filter_map(|change| Some((*change, event(change)?))).collect()
    }

    async fn send(&self, seq: Seq, at_us: i64, event: Event) -> Result<(), Gone> {
        let event = v1::WatchEvent { seq: seq.0, event: Some(event), at_us };
        self.sender.send(Ok(event)).await.map_err(|_| Gone)
    }
}
