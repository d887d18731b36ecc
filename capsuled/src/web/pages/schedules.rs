//! Schedules: when they fire, what became of the last fires, and what may be done with them.

use askama::Template;
use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use capsule_proto::v1::{ScheduleView, TickView};

use super::{Page, Shown, html, part};
use crate::web::ask::Refusal;
use crate::web::guard::{Fields, Visitor};
use crate::web::words::{self, Moment};
use crate::web::{Site, act};

/// Fires that are shown before they are due.
const AHEAD: u32 = 5;
/// Fires that are shown after they were decided.
const BACK: u32 = 50;

#[derive(Debug, Template)]
#[template(path = "schedules.html")]
struct Schedules<'a> {
    visitor: &'a Visitor,
    rows: Vec<Row>,
}

#[derive(Debug, Template)]
#[template(path = "schedule.html")]
struct Schedule<'a> {
    visitor: &'a Visitor,
    it: Row,
    submits: String,
    fires: Vec<Fire>,
    ticks: Vec<Tick>,
}

#[derive(Clone, Debug)]
struct Row {
    id: u64,
    name: String,
    app: String,
    rule: String,
    prose: String,
    zone: String,
    state: String,
    paused: bool,
    over: bool,
    next: Option<Moment>,
    wall: String,
    last: Option<Tick>,
}

#[derive(Clone, Debug)]
struct Fire {
    at: Moment,
    wall: String,
    note: String,
}

#[derive(Clone, Debug)]
struct Tick {
    at: Moment,
    outcome: String,
    task: Option<u64>,
    status: String,
    why: String,
}

/// Shows all schedules.
pub(in crate::web) async fn show(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Response, Refusal> {
    let mut page = Page::new(&site, &visitor, "schedules", "Schedules").await?;
    let now = site.now().0;
    let shown = all(&site, &visitor, now).await?;
    page.follow(&[("of", "schedules")], &shown, now);
    html(&Shown { page, shown })
}

/// What changes of all schedules.
pub(in crate::web) async fn all(
    site: &Site,
    visitor: &Visitor,
    now: i64,
) -> Result<String, Refusal> {
    let rows = site.schedules().await?.iter().map(|it| row(it, now)).collect();
    part(&Schedules { visitor, rows })
}

/// Shows one with its fires.
pub(in crate::web) async fn one(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<u64>,
) -> Result<Response, Refusal> {
    let now = site.now().0;
    let (name, shown) = fires(&site, &visitor, id, now).await?;
    let mut page = Page::new(&site, &visitor, "schedules", name).await?;
    page.follow(&[("of", "schedule"), ("id", &id.to_string())], &shown, now);
    html(&Shown { page, shown })
}

/// The name of one, and what changes of it.
pub(in crate::web) async fn fires(
    site: &Site,
    visitor: &Visitor,
    id: u64,
    now: i64,
) -> Result<(String, String), Refusal> {
    let history = site.fires_of(id, BACK).await?;
    let view = history.schedule.unwrap_or_default();
    let it = row(&view, now);
    let name = it.name.clone();
    // One that has ended or is paused has none; that is no reason not to show it.
    let ahead = site.next_fires(id, AHEAD).await.map(|reply| reply.fires).unwrap_or_default();
    let fires = ahead.iter().map(|fire| Fire {
        at: words::moment(fire.due_us.unwrap_or(fire.at_us), now),
        wall: words::line(&fire.wall),
        note: words::line(&fire.note),
    });
    let ticks = history.ticks.iter().map(|it| tick(it, now)).collect();
    let submits = if site.hides() { String::new() } else { words::line(&view.submits) };
    let fires = fires.collect();
    Ok((name, part(&Schedule { visitor, it, submits, fires, ticks })?))
}

fn row(view: &ScheduleView, now: i64) -> Row {
    let paused = view.paused.as_ref();
    let state = match paused {
        _ if view.ended_us.is_some() => "ended".to_owned(),
        _ if view.done => "done".to_owned(),
        None => "waits".to_owned(),
        Some(pause) => {
            let by = if pause.by.is_empty() { "itself, after failures" } else { &pause.by };
            format!("paused by {by} {}", pause.note)
        }
    };
    Row {
        id: view.id,
        name: words::line(&view.label),
        app: words::line(&view.app),
        rule: words::line(&view.rule),
        prose: words::line(&view.prose),
        zone: words::line(&view.zone),
        state: words::line(state.trim_end()),
        paused: paused.is_some(),
        over: view.ended_us.is_some() || view.done,
        next: view.next_us.filter(|_| paused.is_none()).map(|at| words::moment(at, now)),
        wall: words::line(&view.next_wall),
        last: view.last.as_ref().map(|last| tick(last, now)),
    }
}

fn tick(view: &TickView, now: i64) -> Tick {
    let task = view.task_view.as_ref();
    let many = if view.count > 1 { format!("{} ", view.count) } else { String::new() };
    Tick {
        at: words::moment(view.planned_us, now),
        outcome: format!("{many}{}", words::line(&view.outcome)),
        task: view.task,
        status: task.map(|task| words::status(task.status())).unwrap_or_default(),
        why: words::line(&view.why),
    }
}

/// Runs one now, pauses, resumes, or passes its next fire over.
pub(in crate::web) async fn change(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
    Extension(fields): Extension<Fields>,
    Path(id): Path<u64>,
) -> Result<Response, Refusal> {
    let next = match fields.get("do") {
        "trigger" => {
            let task = site.trigger(id).await?.task.unwrap_or_default();
            format!("/tasks/{}", task.id)
        }
        verb @ ("pause" | "resume" | "skip") => {
            site.change_schedule(id, verb).await?;
            format!("/schedules/{id}")
        }
        _ => return Err(Refusal::of_a_form("nothing was asked for")),
    };
    Ok(act::done(&visitor, &next))
}
