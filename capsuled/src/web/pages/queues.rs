//! Queues, and who holds and waits for locks.

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use capsule_proto::v1::{LockView, QueueView, SetQueueRequest};

use super::{Page, Shown, address, html, part};
use crate::web::ask::Refusal;
use crate::web::guard::{Fields, Visitor};
use crate::web::words::{self, Moment};
use crate::web::{Site, act};

#[derive(Debug, Template)]
#[template(path = "queues.html")]
struct Queues<'a> {
    visitor: &'a Visitor,
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    name: String,
    shown: String,
    paused: bool,
    note: String,
    limit: String,
    waiting: String,
    running: String,
    href: String,
}

#[derive(Debug, Template)]
#[template(path = "locks.html")]
struct Locks {
    rows: Vec<Lock>,
}

#[derive(Clone, Debug)]
struct Lock {
    key: String,
    app: String,
    holder: Option<(u64, String)>,
    since: Option<Moment>,
    waiters: Vec<u64>,
    more: usize,
}

/// Waiting tasks of a lock that are named.
const WAITERS: usize = 10;

/// Shows queues.
pub(in crate::web) async fn show(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Response, Refusal> {
    let mut page = Page::new(&site, &visitor, "queues", "Queues").await?;
    let shown = queues(&site, &visitor).await?;
    page.follow(&[("of", "queues")], &shown, site.now().0);
    html(&Shown { page, shown })
}

/// What changes of queues.
pub(in crate::web) async fn queues(site: &Site, visitor: &Visitor) -> Result<String, Refusal> {
    let rows = site.queues().await?.into_iter().map(row).collect();
    part(&Queues { visitor, rows })
}

fn row(queue: QueueView) -> Row {
    let asked = format!("queue:\"{}\"", queue.name);
    Row {
        shown: words::line(&queue.name),
        paused: queue.paused,
        note: words::line(&queue.note),
        limit: queue.limit.map(|limit| limit.to_string()).unwrap_or_default(),
        waiting: words::count(queue.waiting),
        running: words::count(queue.running),
        href: format!("/tasks?{}", address(&[("q", &asked)])),
        name: queue.name,
    }
}

/// Pauses, resumes or limits a queue.
pub(in crate::web) async fn change(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
    Extension(fields): Extension<Fields>,
) -> Result<Response, Refusal> {
    let name = fields.get("queue").to_owned();
    let note = fields.get("note").to_owned();
    let request = match fields.get("do") {
        "pause" => SetQueueRequest { name, note, paused: Some(true), ..SetQueueRequest::default() },
        "resume" => SetQueueRequest { name, paused: Some(false), ..SetQueueRequest::default() },
        "limit" if fields.get("limit").trim().is_empty() => {
            SetQueueRequest { name, no_limit: true, ..SetQueueRequest::default() }
        }
        "limit" => {
            let limit = fields.get("limit").trim().parse();
            let limit = limit.map_err(|_| Refusal::of_a_form("a limit is a number, or empty"))?;
            SetQueueRequest { name, limit: Some(limit), ..SetQueueRequest::default() }
        }
        _ => return Err(Refusal::of_a_form("nothing was asked for")),
    };
    site.set_queue(request).await?;
    Ok(act::done(&visitor, "/queues"))
}

/// Shows locks.
pub(in crate::web) async fn locks(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Response, Refusal> {
    let mut page = Page::new(&site, &visitor, "locks", "Locks").await?;
    let now = site.now().0;
    let shown = held(&site, now).await?;
    page.follow(&[("of", "locks")], &shown, now);
    html(&Shown { page, shown })
}

/// What changes of locks.
pub(in crate::web) async fn held(site: &Site, now: i64) -> Result<String, Refusal> {
    let rows = site.locks().await?.into_iter().map(|it| lock(&it, now)).collect();
    part(&Locks { rows })
}

fn lock(view: &LockView, now: i64) -> Lock {
    let since = view.since_us.filter(|_| view.holder.is_some());
    Lock {
        key: words::line(&view.key),
        app: words::line(&view.app),
        holder: view.holder.map(|id| (id, words::line(&view.holder_name))),
        since: since.map(|at| words::moment(at, now)),
        waiters: view.waiters.iter().take(WAITERS).copied().collect(),
        more: view.waiters.len().saturating_sub(WAITERS),
    }
}
