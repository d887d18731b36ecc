//! Schedules: when they fire, what became of the last fires, and what may be done with them.

use askama::Template;
use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use capsule_proto::v1::{ScheduleView, TickView};

use super::{Page, html};
use crate::web::Site;
use crate::web::ask::Refusal;
use crate::web::guard::{Fields, Visitor};
use crate::web::words::{self, Moment};

/// Fires that are shown before they are due.
const AHEAD: u32 = 5;
/// Fires that are shown after they were decided.
const BACK: u32 = 50;

#[derive(Debug, Template)]
#[template(path = "schedules.html")]
struct SchedulesPage {
    page: Page,
    rows: Vec<Row>,
}

#[derive(Debug, Template)]
#[template(path = "schedule.html")]
struct SchedulePage {
    page: Page,
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
    let page = Page::new(&site, &visitor, "schedules", "Schedules").await?;
    let now = site.now().0;
    let rows = site.schedules().await?.iter().map(|it| row(it, now)).collect();
    html(&SchedulesPage { page, rows })
}

/// Shows one with its fires.
pub(in crate::web) async fn one(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<u64>,
) -> Result<Response, Refusal> {
    let history = site.fires_of(id, BACK).await?;
    let now = site.now().0;
    let view = history.schedule.unwrap_or_default();
    let it = row(&view, now);
    let page = Page::new(&site, &visitor, "schedules", it.name.clone()).await?;
    // One that has ended or is paused has none; that is no reason not to show it.
    let ahead = site.next_fires(id, AHEAD).await.map(|reply| reply.fires).unwrap_or_default();
    let fires = ahead.iter().map(|fire| Fire {
        at: words::moment(fire.due_us.unwrap_or(fire.at_us), now),
        wall: words::line(&fire.wall),
        note: words::line(&fire.note),
    });
    let ticks = history.ticks.iter().map(|it| tick(it, now)).collect();
    html(&SchedulePage {
        page,
        it,
        submits: words::line(&view.submits),
        fires: fires.collect(),
        ticks,
    })
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
    Ok(Redirect::to(&next).into_response())
}
