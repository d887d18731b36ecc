//! What changes, for pages that are open: one stream each, fed by the engine's feed.
//!
//! Nothing polls: a stream sleeps until a commit, or until a log grows. Each message is markup for the
//! places of the page that changed. A reader that is slow, or was away, gets the newest state and not
//! every step; `Last-Event-ID` says what it has seen.

mod board;
mod place;
mod task;

use std::convert::Infallible;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, HeaderValue};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

pub(super) use self::board::board;
pub(super) use self::place::place;
pub(super) use self::task::task;

/// The shortest time between two messages of a stream.
const GAP: Duration = Duration::from_millis(25);
/// Messages that are made before the browser has taken them.
const AHEAD: usize = 1;

/// What a stream says, for the page behind it.
type Told = Result<Event, Infallible>;

/// The page is gone, or the daemon ends.
struct Gone;

/// The other end of a page.
struct Page {
    sender: mpsc::Sender<Told>,
}

impl Page {
    /// A page and what it is answered with.
    fn open() -> (Self, Response) {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let mut response = Sse::new(ReceiverStream::new(receiver)).into_response();
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        (Self { sender }, response)
    }

    /// Sends markup, and what has been seen with it.
    async fn say(&self, seen: String, markup: &str) -> Result<(), Gone> {
        // A return would end the message; pages have none, but this must hold whatever they have.
        let event = Event::default().id(seen).data(markup.replace('\r', ""));
        self.sender.send(Ok(event)).await.map_err(|_| Gone)
    }

    /// Waits until the page is gone.
    async fn gone(&self) {
        self.sender.closed().await;
    }
}

/// A place of the page that changes.
fn part(target: &str, swap: &str, markup: &str) -> String {
    format!("<hx-partial hx-target=\"#{target}\" hx-swap=\"{swap}\">{markup}</hx-partial>")
}

/// What the page says it has seen: what its stream last told, else what it was loaded with.
fn seen(headers: &HeaderMap) -> Option<&str> {
    headers.get("last-event-id").and_then(|value| value.to_str().ok())
}
