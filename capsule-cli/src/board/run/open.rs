//! What is open at the daemon: the watch of the columns, the log of the open task.

use std::time::{Duration, Instant};

use capsule_proto::v1::tail_event::Event;
use capsule_proto::v1::{TailEvent, TailRequest, WatchEvent, WatchRequest, watch_event};
use tonic::{Status, Streaming};

use super::errands::{Errands, Reply};
use super::{ask, errand};
use crate::board::model::table::Kind;
use crate::board::model::{Ask, Board, Link};
use crate::client::Client;
use crate::commands::Context;
use crate::error::Exit;
use crate::ui::task;

/// Lines of a log that are read at first.
const LINES: u64 = 1000;
/// Before another look for a daemon that went away: it doubles, up to the longest.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);
/// Between two answers for a list that changes.
const RELIST: Duration = Duration::from_millis(250);

/// The streams of a board, and what they were asked for.
#[expect(clippy::struct_excessive_bools, reason = "questions on their way, each its own")]
pub(super) struct Open {
    context: Context,
    /// The page that was asked for.
    page: Option<String>,
    client: Option<Client>,
    watch: Option<Streaming<WatchEvent>>,
    /// What the watch, or the one on its way, was asked for.
    asked: Option<WatchRequest>,
    opening: bool,
    /// Before the next watch is opened, and before the one after it.
    pause: Duration,
    retry: Duration,
    tail: Option<Streaming<TailEvent>>,
    /// The task of the log, its last change when that was opened, and the life of the connection.
    tailed: Option<(u64, u64, u64)>,
    tail_opening: bool,
    /// Rises with each connection.
    life: u64,
    /// The open task's change that is known, or asked for.
    shown: Option<(u64, u64)>,
    showing: bool,
    /// It has changed again meanwhile.
    stale: bool,
    listing: bool,
    /// What the list shows has changed since it was asked for.
    relist: bool,
    listed: Option<Instant>,
    /// An app has changed since its boards were asked for.
    reshape: bool,
}

impl Open {
    pub(super) const fn new(context: Context, client: Client, page: Option<String>) -> Self {
        Self {
            context,
            page,
            client: Some(client),
            watch: None,
            asked: None,
            opening: false,
            pause: Duration::ZERO,
            retry: FIRST,
            tail: None,
            tailed: None,
            tail_opening: false,
            life: 0,
            shown: None,
            showing: false,
            stale: false,
            listing: false,
            relist: false,
            listed: None,
            reshape: false,
        }
    }

    /// Sees to it that what the board needs is open, or on its way.
    pub(super) fn keep_up(&mut self, board: &mut Board, errands: &mut Errands) {
        let wanted = board.watch();
        if !self.opening && self.asked.as_ref() != Some(&wanted) {
            self.begin_watch(wanted, errands);
        }
        let Some(client) = self.client.clone() else { return };
        if std::mem::take(&mut self.reshape) {
            let (context, page) = (self.context.clone(), self.page.clone());
            errands.push(errand(ask::sheets(context, client.clone(), page)));
        }
        let due = self.listed.is_none_or(|at| at.elapsed() >= RELIST);
        if let Some(table) = board.table.as_ref().filter(|_| self.relist && due && !self.listing) {
            self.list(table.kind, client.clone(), errands);
        }
        self.keep_open(client, board, errands);
    }

    /// The same for the open task.
    fn keep_open(&mut self, client: Client, board: &Board, errands: &mut Errands) {
        let Some(detail) = &board.detail else {
            (self.tail, self.tailed, self.shown) = (None, None, None);
            return;
        };
        let id = detail.id;
        let card = board.card(id).map_or(0, |card| card.seq);
        let known = detail.task().map_or(0, |task| task.seq);
        let changed = self.shown.is_none_or(|(of, seq)| of != id || card.max(known) > seq);
        if (changed || self.stale) && !self.showing {
            self.shown = Some((id, card.max(known)));
            (self.showing, self.stale) = (true, false);
            errands.push(errand(ask::show(client.clone(), id)));
        }
        let over = detail.task().is_some_and(|task| task::ended(task.status()));
        let new = self.tailed.is_none_or(|(of, _, _)| of != id);
        if new {
            self.tail = None;
        }
        let seq = card.max(known);
        let again = !over && self.tail.is_none() && self.tailed != Some((id, seq, self.life));
        if (new || again) && !self.tail_opening {
            self.tailed = Some((id, seq, self.life));
            self.tail_opening = true;
            let request = TailRequest {
                id: id.to_string(),
                follow: true,
                lines: detail.log.cursor.is_empty().then_some(LINES),
                cursor: detail.log.cursor.clone(),
                streams: ["out", "err", "event", "note"].map(str::to_owned).to_vec(),
                ..TailRequest::default()
            };
            errands.push(errand(ask::tail(client, id, request)));
        }
    }

    fn begin_watch(&mut self, wanted: WatchRequest, errands: &mut Errands) {
        let same = |asked: &WatchRequest| {
            let statuses = |it: &WatchRequest| -> Vec<Vec<i32>> {
                it.windows.iter().map(|window| window.statuses.clone()).collect()
            };
            asked.filter == wanted.filter && statuses(asked) == statuses(&wanted)
        };
        // Pictures of other columns would be taken for pictures of these.
        if !self.asked.as_ref().is_some_and(same) {
            self.watch = None;
        }
        self.asked = Some(wanted.clone());
        self.opening = true;
        let (client, pause) = (self.client.clone(), self.pause);
        errands.push(errand(ask::watch(self.context.clone(), client, wanted, pause)));
    }

    /// Does what the board asks for.
    pub(super) fn ask(&mut self, ask: Ask, board: &Board, errands: &mut Errands) {
        let Some(client) = self.client.clone() else { return };
        match ask {
            Ask::Do(deed) => errands.push(errand(ask::deed(client, deed))),
            Ask::Table => {
                if let Some(table) = &board.table {
                    self.list(table.kind, client, errands);
                }
            }
            Ask::Quit | Ask::Suspend => {}
        }
    }

    fn list(&mut self, kind: Kind, client: Client, errands: &mut Errands) {
        (self.listing, self.relist, self.listed) = (true, false, Some(Instant::now()));
        let app = self.context.app().unwrap_or_default().to_owned();
        errands.push(errand(ask::table(client, kind, app)));
    }

    /// Takes in a reply.
    pub(super) fn take(&mut self, reply: Reply, board: &mut Board, errands: &mut Errands) {
        match reply {
            Reply::Watch(Ok((client, stream))) => {
                if self.client.is_none() {
                    self.life += 1;
                    self.stale = true;
                }
                (self.client, self.watch) = (Some(client), Some(stream));
                self.opening = false;
            }
            Reply::Watch(Err(error)) if error.exit() == Exit::Unreachable => self.lose(board),
            Reply::Watch(Err(error)) => {
                self.opening = false;
                board.warn(error.to_string());
            }
            Reply::Show(id, reply) => {
                self.showing = false;
                let Some(detail) = board.detail.as_mut().filter(|detail| detail.id == id) else {
                    self.stale = true;
                    return;
                };
                match reply {
                    Ok(reply) => {
                        let seq = reply.0.task.as_ref().map_or(0, |task| task.seq);
                        self.shown = Some((id, seq));
                        (detail.show, detail.why) = (Some(reply.0), Some(reply.1));
                    }
                    Err(error) => board.warn(error.to_string()),
                }
            }
            Reply::Tail(id, reply) => {
                self.tail_opening = false;
                let is_open = board.detail.as_ref().is_some_and(|detail| detail.id == id);
                if let Some(stream) = reply.ok().filter(|_| is_open) {
                    self.tail = Some(stream);
                }
            }
            Reply::Table(reply) => {
                self.listing = false;
                match reply {
                    Ok(rows) => board.table.iter_mut().for_each(|it| it.fill(rows.clone())),
                    Err(error) => board.warn(error.to_string()),
                }
            }
            Reply::Sheets(Ok(sheets)) => board.reshape(sheets),
            Reply::Done(Ok(text)) => {
                board.tell(text);
                if let Some((table, client)) = board.table.as_ref().zip(self.client.clone()) {
                    self.list(table.kind, client, errands);
                }
            }
            Reply::Sheets(Err(error)) | Reply::Done(Err(error)) => board.warn(error.to_string()),
        }
    }

    /// The daemon went away: the last picture stays, and it is looked for.
    fn lose(&mut self, board: &mut Board) {
        board.link = Link::Lost;
        (self.client, self.watch, self.tail) = (None, None, None);
        (self.asked, self.opening) = (None, false);
        self.pause = self.retry;
        self.retry = (self.retry * 2).min(LONGEST);
    }

    /// Waits for what the streams tell; true when there is something new to see.
    pub(super) async fn next(&mut self, board: &mut Board) -> bool {
        tokio::select! {
            event = following(&mut self.watch) => self.watched(event, board),
            event = following(&mut self.tail) => self.told(event, board),
        }
    }

    fn watched(&mut self, event: Result<Option<WatchEvent>, Status>, board: &mut Board) -> bool {
        let Ok(Some(event)) = event else {
            self.lose(board);
            return true;
        };
        self.relist = true;
        self.reshape |= matches!(event.event, Some(watch_event::Event::Around(_)));
        let is_whole = board.apply(event);
        if is_whole {
            (self.pause, self.retry) = (Duration::ZERO, FIRST);
        }
        is_whole
    }

    fn told(&mut self, event: Result<Option<TailEvent>, Status>, board: &mut Board) -> bool {
        let Ok(Some(TailEvent { event: Some(event) })) = event else {
            self.tail = None;
            self.stale = true;
            return true;
        };
        match event {
            Event::Task(_) => self.stale = true,
            Event::Chunk(chunk) if chunk.stream == "event" => self.stale = true,
            Event::Chunk(chunk) => {
                if let Some(detail) = &mut board.detail {
                    detail.push(&chunk);
                }
            }
        }
        true
    }
}

/// The next message; waits for ever when nothing is open.
async fn following<T>(stream: &mut Option<Streaming<T>>) -> Result<Option<T>, Status> {
    match stream {
        Some(stream) => stream.message().await,
        None => std::future::pending().await,
    }
}
