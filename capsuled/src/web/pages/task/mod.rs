//! One task: what it is, why it waits, what became of it, its log, and what may be done with it.

pub(in crate::web) mod download;
pub(in crate::web) mod log;

use askama::Template;
use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use capsule_proto::v1::{self, AttemptView, ShowReply, TailRequest, tail_event};
use tokio_stream::StreamExt as _;

use self::log::{Piece, Text};
use super::card::{Progress, progress};
use super::{Page, address, html};
use crate::web::ask::Refusal;
use crate::web::guard::Visitor;
use crate::web::words::{self, Moment};
use crate::web::{Site, act};

/// Lines of the log that a page begins with.
const LINES: u64 = 200;
/// Bytes of the log that a page begins with, at the most.
const LOG_MAX: usize = 128 << 10;
/// Bytes of arguments and results that are shown.
const SHOWN_MAX: usize = 64 << 10;

/// What a page tells of a task besides its log.
#[derive(Clone, Debug, PartialEq, Template)]
#[template(path = "state.html")]
pub(in crate::web) struct Told {
    pub(in crate::web) id: u64,
    status: String,
    sign: &'static str,
    note: String,
    gates: Vec<String>,
    rows: Vec<(&'static str, String)>,
    progress: Option<Progress>,
    since: Option<Moment>,
    attempts: Vec<Attempt>,
    timeline: Vec<(Moment, String)>,
    arguments: String,
    result: String,
    error: String,
    verbs: Vec<act::Verb>,
    mark: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Attempt {
    number: u32,
    verdict: String,
    reason: String,
    started: Option<Moment>,
    took: String,
    cpu: String,
    memory: String,
    isolation: String,
}

#[derive(Debug, Template)]
#[template(path = "task.html")]
struct TaskPage {
    page: Page,
    id: u64,
    state: Told,
    log: Vec<Piece>,
    cut: bool,
}

#[derive(Debug, Template)]
#[template(path = "confirm.html")]
struct Confirm {
    page: Page,
    id: u64,
    title: String,
    status: String,
    verb: act::Verb,
}

/// Shows a task.
pub(in crate::web) async fn show(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let shown = site.show(&id).await?;
    let task = shown.task.clone().unwrap_or_default();
    let log = log(&site, &task).await?;
    let title = words::title(&task);
    let mut page = Page::new(&site, &visitor, "tasks", format!("{} {title}", task.id)).await?;
    let seen = task.seq.to_string();
    let pairs = [("seen", seen.as_str()), ("after", log.cursor.as_str())];
    page.live = format!("/live/tasks/{}?{}", task.id, address(&pairs));
    let state = state(&shown, &visitor, site.now().0);
    html(&TaskPage { page, id: task.id, state, log: log.pieces, cut: log.cut })
}

/// Asks before a task is cancelled or removed.
pub(in crate::web) async fn confirm(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
    Path((id, verb)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let verb = act::verb(&verb)
        .filter(|verb| verb.asks)
        .ok_or_else(|| Refusal::new(axum::http::StatusCode::NOT_FOUND, "there is no such page"))?;
    let task = site.show(&id).await?.task.unwrap_or_default();
    let title = words::title(&task);
    let heading = format!("{} task {}?", verb.label, task.id);
    let page = Page::new(&site, &visitor, "tasks", heading).await?;
    let status = words::status(task.status());
    html(&Confirm { page, id: task.id, title, status, verb })
}

struct Log {
    pieces: Vec<Piece>,
    /// From where it goes on.
    cursor: String,
    /// There is more before it.
    cut: bool,
}

/// The end of the log of the newest attempt.
async fn log(site: &Site, task: &v1::TaskView) -> Result<Log, Refusal> {
    let mut log = Log { pieces: Vec::new(), cursor: String::new(), cut: false };
    let id = task.id.to_string();
    let request = TailRequest { id, lines: Some(LINES), ..TailRequest::default() };
    let (mut events, mut plain) = (site.tail(request).await?, Text::default());
    let mut held = 0;
    while let Some(event) = events.next().await {
        let Some(tail_event::Event::Chunk(chunk)) = event?.event else { continue };
        for piece in plain.pieces(&chunk) {
            held += piece.len();
            log.pieces.push(piece);
        }
        if !chunk.cursor.is_empty() {
            log.cursor = chunk.cursor;
        }
        while held > LOG_MAX && log.pieces.len() > 1 {
            held -= log.pieces.remove(0).len();
            log.cut = true;
        }
    }
    Ok(log)
}

/// What a page tells of a task.
pub(in crate::web) fn state(shown: &ShowReply, visitor: &Visitor, now: i64) -> Told {
    let task = shown.task.clone().unwrap_or_default();
    let status = task.status();
    let live = words::runs(status);
    let program = shown.program.as_ref().map(|program| program.argv.join(" "));
    let arguments = program.unwrap_or_else(|| words::json(&shown.payload_json));
    let moments = shown.timeline.iter();
    Told {
        id: task.id,
        status: words::status(status),
        sign: words::sign(status),
        note: words::note(&task),
        gates: shown.gates.iter().map(|gate| words::line(&gate.text)).collect(),
        rows: rows(&task),
        progress: progress(&task).filter(|_| live),
        since: task.started_us.filter(|_| live).map(|at| words::moment(at, now)),
        attempts: shown.attempts.iter().rev().map(|it| attempt(it, now)).collect(),
        timeline: moments.map(|it| (words::moment(it.at_us, now), words::line(&it.what))).collect(),
        arguments: bounded(&words::block(&arguments)),
        result: bounded(&words::json(&shown.result_json)),
        error: words::block(&shown.error).into_owned(),
        verbs: act::verbs(&task, visitor),
        mark: visitor.mark.clone(),
    }
}

fn bounded(text: &str) -> String {
    crate::text::bounded(text, SHOWN_MAX)
}

fn rows(task: &v1::TaskView) -> Vec<(&'static str, String)> {
    let labels: Vec<String> =
        task.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let app = match task.revision {
        0 => task.app.clone(),
        revision => format!("{}@r{revision}", task.app),
    };
    let rows = [
        ("Task", task.name.clone()),
        ("App", if task.app.is_empty() { String::new() } else { app }),
        ("Owner", task.owner.clone()),
        ("Queue", task.queue.clone()),
        ("Priority", if task.priority == 0 { String::new() } else { task.priority.to_string() }),
        ("Lock", task.lock.clone()),
        ("Key", task.key.clone()),
        ("Labels", labels.join(" ")),
        ("Schedule", task.schedule.clone()),
        ("Attempt", words::tries(task)),
        ("Process", task.pid.map(|pid| pid.to_string()).unwrap_or_default()),
        ("UUID", task.uuid.clone()),
    ];
    let told = rows.into_iter().filter(|(_, value)| !value.is_empty());
    told.map(|(name, value)| (name, words::line(&value))).collect()
}

fn attempt(view: &AttemptView, now: i64) -> Attempt {
    let receipt = view.receipt.clone().unwrap_or_default();
    let cpu = receipt.cpu_user_us.zip(receipt.cpu_system_us).map(|(user, system)| user + system);
    Attempt {
        number: view.number,
        verdict: if view.verdict.is_empty() {
            "runs".to_owned()
        } else {
            words::line(&view.verdict)
        },
        reason: words::line(&view.reason),
        started: view.started_us.map(|at| words::moment(at, now)),
        took: receipt.wall_us.map(|us| words::span(us / 1000)).unwrap_or_default(),
        cpu: cpu.map(|us| words::span(us / 1000)).unwrap_or_default(),
        memory: receipt.peak_memory_bytes.map(words::bytes).unwrap_or_default(),
        isolation: words::line(&view.isolation),
    }
}
