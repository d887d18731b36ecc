//! A task's state and its log as they go on.

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use capsule_core::id::TaskId;
use capsule_core::time::Span;
use capsule_proto::v1::{LogChunk, TailEvent, TailRequest, tail_event};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_stream::StreamExt as _;

use super::{GAP, Gone, Page, part, seen};
use crate::web::Site;
use crate::web::ask::{Refusal, TailStream};
use crate::web::guard::Visitor;
use crate::web::pages::task::log::{Piece, Text};
use crate::web::pages::task::state;
use crate::web::words;

/// Bytes of a log in one message, about.
const PIECE: usize = 64 << 10;
/// How far the page may be behind a log that grows faster than that; then it goes on at the end.
const BEHIND: Span = Span::from_secs(1);
/// Lines before that end that are shown.
const LINES: u64 = 200;

/// What the page was loaded with.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub(in crate::web) struct Asked {
    seen: Option<u64>,
    #[serde(default)]
    after: String,
}

/// The stream of a task.
pub(in crate::web) async fn task(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let id = site.show(&id).await?.task.unwrap_or_default().id;
    let told = seen(&headers).and_then(|id| id.split_once('~'));
    let (seq, after) = match told {
        Some((seq, after)) => (seq.parse().ok(), after.to_owned()),
        None => (asked.seen, asked.after),
    };
    let (page, response) = Page::open();
    let live = Live { site, id, visitor, page, seq, after, text: Text::default(), skipped: None };
    tokio::spawn(async move {
        let ending = live.site.api.ending.clone();
        ending.run_until_cancelled(live.run()).await;
    });
    Ok(response)
}

struct Live {
    site: Site,
    id: u64,
    visitor: Visitor,
    page: Page,
    /// The change that the page shows.
    seq: Option<u64>,
    /// Up to where it shows the log.
    after: String,
    text: Text,
    /// Up to where it showed the log before some of it was passed over.
    skipped: Option<String>,
}

impl Live {
    async fn run(mut self) -> Result<(), Gone> {
        loop {
            let mut feed = self.site.api.engine.feed().cursor();
            self.follow().await?;
            // All is said, until somebody has it run again.
            loop {
                tokio::select! {
                    news = self.site.api.engine.feed().next(&mut feed) => match news {
                        Ok(news) if !news.iter().any(|it| it.task == TaskId(self.id)) => {}
                        Ok(_) => break,
                        Err(_) => {
                            feed = self.site.api.engine.feed().cursor();
                            break;
                        }
                    },
                    () = self.page.gone() => return Err(Gone),
                }
            }
        }
    }

    /// Tells all that there is to tell, until the task has ended.
    async fn follow(&mut self) -> Result<(), Gone> {
        let id = self.id.to_string();
        let cursor = self.after.clone();
        let request = TailRequest { id, follow: true, cursor, ..TailRequest::default() };
        let mut stream = self.site.tail(request).await.map_err(|_| Gone)?;
        loop {
            let first = tokio::select! {
                event = stream.next() => event,
                () = self.page.gone() => return Err(Gone),
            };
            let Some(first) = first else { return Ok(()) };
            let mut gathered = Gathered::default();
            gathered.take(first.map_err(|_| Gone)?, self);
            // What comes at the same time is told together.
            let until = Instant::now() + GAP / 5;
            while !gathered.is_full() {
                match timeout_at(until, stream.next()).await {
                    Ok(Some(Ok(event))) => gathered.take(event, self),
                    Ok(Some(Err(_)) | None) | Err(_) => break,
                }
            }
            let behind = gathered.is_full() && self.is_behind(gathered.written);
            self.tell(gathered).await?;
            if behind {
                stream = self.skip().await?;
            }
            sleep(GAP).await;
        }
    }

    /// Whether what was written then is old by now.
    fn is_behind(&self, written: i64) -> bool {
        let late = self.site.now().0.saturating_sub(written);
        late > i64::try_from(BEHIND.0 * 1000).unwrap_or(i64::MAX)
    }

    /// Goes on at the end of the log; what is passed over is said before what comes there.
    async fn skip(&mut self) -> Result<TailStream, Gone> {
        self.skipped = Some(std::mem::take(&mut self.after));
        self.text = Text::default();
        let id = self.id.to_string();
        let request =
            TailRequest { id, follow: true, lines: Some(LINES), ..TailRequest::default() };
        self.site.tail(request).await.map_err(|_| Gone)
    }

    /// What is said of what was passed over before this chunk.
    fn note_skipped(&mut self, chunk: &LogChunk) -> Option<Piece> {
        let place = |cursor: &str| -> Option<(u32, u64)> {
            let (attempt, offset) = cursor.split_once(':')?;
            Some((attempt.parse().ok()?, offset.parse().ok()?))
        };
        let (attempt, shown) = place(&self.skipped.take()?)?;
        let (of, end) = place(&chunk.cursor)?;
        let passed = end.saturating_sub(chunk.data.len() as u64).saturating_sub(shown);
        let size = if of == attempt { words::bytes(passed) } else { "a part".to_owned() };
        (of != attempt || passed > 0).then(|| {
            let text = "grew too fast to be shown here; the whole log has it";
            Piece::note(format!("\n… {size} {text} …\n"))
        })
    }

    async fn tell(&mut self, gathered: Gathered) -> Result<(), Gone> {
        let mut markup = String::new();
        if gathered.seq.is_some_and(|seq| self.seq != Some(seq)) {
            let shown = self.site.show(&self.id.to_string()).await.map_err(|_| Gone)?;
            self.seq = shown.task.as_ref().map(|task| task.seq);
            let told = state(&shown, &self.visitor, self.site.now().0);
            markup.push_str(&part("state", "outerMorph", &told.to_string()));
        }
        if !gathered.log.is_empty() {
            markup.push_str(&part("log", "beforeend", &gathered.log));
        }
        if markup.is_empty() {
            return Ok(());
        }
        let seen = format!("{}~{}", self.seq.unwrap_or_default(), self.after);
        self.page.say(seen, &markup).await
    }
}

/// What is told in one message.
#[derive(Debug, Default)]
struct Gathered {
    seq: Option<u64>,
    log: String,
    /// When the last of it was written, in µs since 1970.
    written: i64,
}

impl Gathered {
    fn is_full(&self) -> bool {
        self.log.len() >= PIECE
    }

    fn take(&mut self, event: TailEvent, live: &mut Live) {
        match event.event {
            Some(tail_event::Event::Task(task)) => self.seq = Some(task.seq),
            Some(tail_event::Event::Chunk(chunk)) => {
                self.written = chunk.time_us;
                let note = live.note_skipped(&chunk);
                for piece in note.into_iter().chain(live.text.pieces(&chunk)) {
                    self.log.push_str(&piece.to_string());
                }
                if !chunk.cursor.is_empty() {
                    live.after = chunk.cursor;
                }
            }
            None => {}
        }
    }
}
