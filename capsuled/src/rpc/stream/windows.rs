//! What stands in the windows of a board, and again after every change.
//!
//! A picture is worked out after a change at once, then not again before a while that is longer the
//! longer the last one took: many changes cost one picture, and boards never take much of the
//! daemon's time. A client that does not read holds up nobody: it gets the next picture late.

use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant};

use capsule_core::id::{Seq, TaskId};
use capsule_proto::v1;
use capsule_proto::v1::watch_event::Event;
use tokio::sync::mpsc;

use crate::book::{Filter, Seen, Window};
use crate::engine::Changed;
use crate::rpc::request::search::Search;
use crate::rpc::{Api, convert, schedules};

use super::watch::Gone;

/// Changes that come within this time make one picture.
const PAUSE: Duration = Duration::from_millis(20);
/// One part in so many of the time may go into the pictures of a board.
const SHARE: u32 = 10;
/// Tasks in a window, at the most.
pub(in crate::rpc) const WINDOW_MAX: usize = 1000;
/// Windows of a board, at the most: no board has so many columns.
pub(in crate::rpc) const WINDOWS_MAX: usize = 64;

pub(super) type Sender = mpsc::Sender<Result<v1::WatchEvent, tonic::Status>>;

/// One board that somebody looks at.
pub(super) struct Pictures {
    pub(super) api: Api,
    pub(super) filter: Filter,
    pub(super) search: Search,
    pub(super) windows: Vec<Window>,
    pub(super) schedules: bool,
    /// Changes around the tasks, when they are wanted.
    pub(super) around: Option<tokio::sync::watch::Receiver<u64>>,
    pub(super) sender: Sender,
    /// Those that the search finds, when there is one.
    pub(super) found: Option<BTreeSet<TaskId>>,
    /// The client has the newest view of these.
    pub(super) told: HashSet<TaskId>,
    /// The last picture.
    pub(super) last: Option<Vec<Seen>>,
}

/// The windows as the book has them.
pub(super) fn windows(wire: Vec<v1::Window>) -> Vec<Window> {
    let window = |wire: v1::Window| Window {
        skip: wire.skip,
        limit: usize::try_from(wire.limit).unwrap_or(WINDOW_MAX).min(WINDOW_MAX),
        statuses: convert::filter(Some(v1::Filter {
            statuses: wire.statuses,
            ..v1::Filter::default()
        }))
        .statuses,
    };
    wire.into_iter().take(WINDOWS_MAX).map(window).collect()
}

impl Pictures {
    /// Tells pictures until the client goes.
    pub(super) async fn run(mut self) -> Result<(), Gone> {
        let api = self.api.clone();
        let feed = api.engine.feed();
        let mut cursor = feed.cursor();
        self.look_everywhere();
        let mut at = 0;
        loop {
            let began = Instant::now();
            self.picture(feed.latest(), at).await?;
            let pause = PAUSE.max(began.elapsed() * SHARE);
            let news = async {
                tokio::time::sleep(pause).await;
                feed.next(&mut cursor).await
            };
            let news = tokio::select! {
                news = news => news,
                () = changed(&mut self.around) => {
                    self.send(feed.latest(), 0, Event::Around(true)).await?;
                    continue;
                }
                () = self.sender.closed() => return Err(Gone),
            };
            at = self.note(news.as_deref().ok()).await?;
            if news.is_err() {
                cursor = feed.cursor();
            }
        }
    }

    /// Notes what changed, and says when; `None` = more than the feed has kept.
    async fn note(&mut self, news: Option<&[Changed]>) -> Result<i64, Gone> {
        let Some(news) = news else {
            self.told.clear();
            self.look_everywhere();
            return Ok(0);
        };
        for change in news {
            self.told.remove(&change.task);
        }
        if self.schedules {
            self.tell_schedules(news).await?;
        }
        let changed: BTreeSet<TaskId> = news.iter().map(|change| change.task).collect();
        if let Some(found) = &mut self.found {
            for id in changed {
                let view = self.api.views(&[id]).unwrap_or_default().pop();
                if view.is_some_and(|view| self.search.finds(&view)) {
                    found.insert(id);
                } else {
                    found.remove(&id);
                }
            }
        }
        Ok(news.last().map_or(0, |change| change.at.0))
    }

    fn look_everywhere(&mut self) {
        if self.search.is_empty() {
            return;
        }
        let any = Filter { statuses: Vec::new(), ..self.filter.clone() };
        let ids = self.api.engine.book().newest(&any, None).collect();
        let kept = self.search.keep(&self.api.engine, ids).unwrap_or_default();
        self.found = Some(kept.into_iter().collect());
    }

    async fn tell_schedules(&self, news: &[Changed]) -> Result<(), Gone> {
        let changed: BTreeSet<u64> = news.iter().map(|change| change.task.0).collect();
        for id in changed {
            if let Some(it) = self.api.engine.schedule(capsule_core::id::ScheduleId(id)) {
                let seq = self.api.engine.feed().latest();
                self.send(seq, 0, Event::Schedule(schedules::changed(&it))).await?;
            }
        }
        Ok(())
    }

    /// Tells what the client does not know of what stands in the windows now.
    async fn picture(&mut self, seq: Seq, at_us: i64) -> Result<(), Gone> {
        let seen = self.api.engine.book().windows(&self.filter, self.found.as_ref(), &self.windows);
        let shown: HashSet<TaskId> =
            seen.iter().flat_map(|seen| seen.ids.iter().copied()).collect();
        self.told.retain(|id| shown.contains(id));
        let unknown: BTreeSet<TaskId> = shown.difference(&self.told).copied().collect();
        let unknown: Vec<TaskId> = unknown.into_iter().collect();
        for view in self.api.views(&unknown).unwrap_or_default() {
            self.send(Seq(view.seq), at_us, Event::Task(view)).await?;
        }
        self.told = shown;
        if unknown.is_empty() && self.last.as_ref() == Some(&seen) {
            return Ok(());
        }
        self.last = Some(seen.clone());
        let column = |seen: Seen| v1::ColumnView {
            total: seen.total,
            skip: seen.skip,
            ids: seen.ids.iter().map(|id| id.0).collect(),
        };
        let columns = v1::Columns { columns: seen.into_iter().map(column).collect() };
        self.send(seq, at_us, Event::Columns(columns)).await
    }

    async fn send(&self, seq: Seq, at_us: i64, event: Event) -> Result<(), Gone> {
        let event = v1::WatchEvent { seq: seq.0, event: Some(event), at_us };
        self.sender.send(Ok(event)).await.map_err(|_| Gone)
    }
}

/// Waits for a change around the tasks; for ever when none is wanted.
async fn changed(around: &mut Option<tokio::sync::watch::Receiver<u64>>) {
    match around {
        // The feed lives as long as the daemon.
        Some(around) => drop(around.changed().await),
        None => std::future::pending().await,
    }
}
