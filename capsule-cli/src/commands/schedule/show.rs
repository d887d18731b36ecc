//! How schedules, their fires and what became of those are shown.

use capsule_proto::v1::{
    AuditScheduleReply, FireView, ScheduleHistoryReply, SchedulePolicy, ScheduleView, Status,
    TaskView, TickView,
};
use serde_json::{Value, json};

use crate::error::CliError;
use crate::ui::table::{Cell, Table};
use crate::ui::{Listing, Ui, color, escape, json, shape, time};

/// All of one schedule, for people.
pub(super) fn one(ui: &Ui, it: &ScheduleView) -> Result<(), CliError> {
    let mut lines = vec![
        ("schedule", it.label.clone()),
        ("when", format!("{}  ({})", it.rule, it.prose)),
        ("runs", runs(it)),
        ("from", origin(it)),
        ("next", next(ui, it)),
    ];
    if let Some(paused) = &it.paused {
        let by = if paused.by.is_empty() { "by itself" } else { &paused.by };
        let note =
            if paused.note.is_empty() { String::new() } else { format!(": {}", paused.note) };
        lines.push(("paused", format!("{} {by}{note}", ui.times.told(paused.since_us))));
    }
    if let Some(until) = silent(ui, it) {
        lines.push(("silent", format!("until {} UTC: the clock was set back", time::utc(until))));
    }
    if let Some(skip) = it.skip_us {
        lines.push(("skips", format!("{} UTC", time::utc(skip))));
    }
    for waits in &it.waiting_us {
        lines.push(("waits", format!("{} UTC, until the run before has ended", time::utc(*waits))));
    }
    if it.backfill > 0 {
        lines.push(("backfills", backfills(it)));
    }
    lines.push(("policy", policy(it.policy.as_ref().unwrap_or(&SchedulePolicy::default()))));
    lines.push(("fired", it.fires.to_string()));
    if let Some(last) = &it.last {
        lines.push(("last", format!("{} {}", told(last), ui.times.told(last.planned_us))));
    }
    for (name, text) in lines {
        ui.say(escape::line(&format!("{name:<9} {text}")).trim_end())?;
    }
    Ok(())
}

/// Until when it does not fire because the clock was set back.
fn silent(ui: &Ui, it: &ScheduleView) -> Option<i64> {
    let now = ui.times.now.as_microsecond();
    it.decided_us.filter(|us| *us > now && it.ended_us.is_none() && it.next_us.is_some())
}

fn backfills(it: &ScheduleView) -> String {
    let fires = if it.backfill == 1 { "fire waits" } else { "fires wait" };
    let held = it.paused.as_ref().is_some_and(|paused| !paused.backfills);
    let until = if held { "until it is resumed" } else { "each until the run before has ended" };
    format!("{} {fires}, {until}", it.backfill)
}

fn runs(it: &ScheduleView) -> String {
    let name = if it.app.is_empty() { it.name.clone() } else { format!("{}/{}", it.app, it.name) };
    if it.submits.is_empty() { name } else { format!("{name}  {}", it.submits) }
}

fn origin(it: &ScheduleView) -> String {
    match it.origin.as_str() {
        "app" => format!("the code of app {}", it.app),
        "manifest" => format!("the manifest of app {}", it.app),
        "sdk" => "a task submitted with a recurrence".to_owned(),
        _ => format!("added by {}", it.owner),
    }
}

fn next(ui: &Ui, it: &ScheduleView) -> String {
    match (it.next_us, it.ended_us) {
        (_, Some(us)) => format!("ended {}", ui.times.told(us)),
        (None, None) => "done".to_owned(),
        (Some(_), None) if it.paused.is_some() => "not until it is resumed".to_owned(),
        (Some(us), None) => {
            let wall = if it.zone == "UTC" { String::new() } else { format!(", {}", it.next_wall) };
            format!("{} UTC{wall}, here {} ({})", time::utc(us), time::local(us), ui.times.told(us))
        }
    }
}

fn policy(it: &SchedulePolicy) -> String {
    let bound = |word: &str, at: Option<i64>| at.map(|us| format!("{word} {} UTC", time::utc(us)));
    let parts = [
        Some(format!("overlap {}", it.overlap)),
        Some(format!("catch-up {}", it.catch_up)),
        (it.overlap_counts == "submitted").then(|| "counting what its runs submit".to_owned()),
        (it.jitter_ms > 0).then(|| format!("jitter {}", time::millis(it.jitter_ms))),
        bound("from", it.start_us),
        bound("until", it.end_us),
        it.limit.map(|limit| format!("at most {limit} fires")),
        it.pause_after_failures.map(|count| format!("paused after {count} failures in a row")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The list of schedules.
pub(crate) fn schedules(ui: &Ui, schedules: &[ScheduleView]) -> Listing {
    let mut table =
        Table::new(vec!["SCHEDULE", "APP", "WHEN", "NEXT (UTC)", "NEXT (LOCAL)", "", "LAST"])
            .sparing_first(&["NEXT (LOCAL)", "APP", ""]);
    for it in schedules {
        let (utc, local, left) = match (it.next_us, it.ended_us) {
            (_, Some(us)) => ("ended".to_owned(), time::local(us), String::new()),
            (Some(_), None) if it.paused.is_some() => {
                ("paused".to_owned(), "-".to_owned(), String::new())
            }
            (Some(us), None) => {
                (time::utc(us), time::local(us), format!("({})", ui.times.told(us)))
            }
            (None, None) => ("done".to_owned(), "-".to_owned(), String::new()),
        };
        let mut rule =
            if it.origin == "sdk" { format!("{} {}", it.name, it.rule) } else { it.rule.clone() };
        if it.zone != "UTC" && !it.zone.is_empty() {
            rule = format!("{rule} {}", it.zone);
        }
        let last = it.last.as_ref().map_or("-".to_owned(), |last| {
            format!("{} {}", told(last), ui.times.told(last.planned_us))
        });
        table.push(vec![
            Cell::new(&it.label).style(color::BOLD),
            Cell::new(&it.app),
            Cell::new(rule),
            Cell::new(utc),
            Cell::new(local),
            Cell::new(left),
            Cell::new(last),
        ]);
    }
    let json = schedules.iter().map(schedule_json).collect();
    let ids = schedules.iter().map(|it| it.id.to_string()).collect();
    Listing { table, json, ids }
}

/// What became of a fire: `fired 1842`, `missed 3`.
fn told(tick: &TickView) -> String {
    match (tick.outcome.as_str(), tick.task) {
        (what @ ("missed" | "paused"), _) if tick.count >= MISSED_MAX => {
            format!("{what} {MISSED_MAX} or more")
        }
        (what @ ("missed" | "paused"), _) => format!("{what} {}", tick.count),
        ("waiting", Some(task)) => format!("waits for {task} to end"),
        ("buffered", Some(task)) => format!("fired {task} after a wait"),
        ("passed_over", _) if tick.why.is_empty() => "passed over".to_owned(),
        ("passed_over", _) => format!("passed over by {}", tick.why),
        ("skipped", Some(task)) => format!("skipped, {task} had not ended"),
        ("refused", _) => format!("refused: {}", tick.why),
        ("caught_up", Some(task)) => format!("caught up {task}"),
        (outcome, Some(task)) => format!("{outcome} {task}"),
        (outcome, None) => outcome.to_owned(),
    }
}

/// The daemon counts missed fires up to here.
const MISSED_MAX: u32 = 1000;

/// What became of fires.
pub(super) fn history(ui: &Ui, reply: &ScheduleHistoryReply) -> Listing {
    let mut table =
        Table::new(vec!["PLANNED (UTC)", "", "WHAT", "TASK", "OUTCOME"]).sparing_first(&[""]);
    for tick in &reply.ticks {
        let what = match tick.until_us {
            Some(until) if tick.count > 1 => format!("{} until {}", told(tick), time::utc(until)),
            Some(_) => told(tick),
            None if matches!(tick.outcome.as_str(), "refused" | "passed_over") => told(tick),
            None => tick.outcome.replace('_', " "),
        };
        table.push(vec![
            Cell::new(time::utc(tick.planned_us)),
            Cell::new(format!("({})", ui.times.told(tick.planned_us))),
            Cell::new(what),
            Cell::new(tick.task.map_or("-".to_owned(), |id| id.to_string())),
            Cell::new(outcome(tick)),
        ]);
        for child in &tick.submitted {
            table.push(vec![
                Cell::new(""),
                Cell::new(""),
                Cell::new(format!("  submitted {}", child.name)),
                Cell::new(child.id.to_string()),
                Cell::new(standing(child)),
            ]);
        }
    }
    let json = reply.ticks.iter().map(tick_json).collect();
    let tasks = reply.ticks.iter().filter_map(|tick| tick.task);
    let ids = tasks.map(|id| id.to_string()).collect();
    Listing { table, json, ids }
}

/// How its task stands.
fn outcome(tick: &TickView) -> String {
    let Some(task) = &tick.task_view else {
        return if tick.task.is_some() { "removed" } else { "-" }.to_owned();
    };
    if tick.delivered {
        return "delivered".to_owned();
    }
    standing(task)
}

fn standing(task: &TaskView) -> String {
    let status = shape::status(Status::try_from(task.status).unwrap_or_default());
    let status = status.as_str().unwrap_or_default().to_owned();
    if task.reason.is_empty() { status } else { format!("{status}: {}", task.reason) }
}

/// The status of its task; `delivered` when nobody says how its run ends.
fn status(tick: &TickView, task: &TaskView) -> Value {
    if tick.delivered {
        return json!("delivered");
    }
    shape::status(Status::try_from(task.status).unwrap_or_default())
}

/// Planned fires to come; `zone` is where they are planned.
pub(super) fn fires(ui: &Ui, zone: &str, fires: &[FireView]) -> Listing {
    let table = Table::new(heads(zone, ["NEXT (UTC)", "NEXT (ITS ZONE)", "NEXT (LOCAL)"]));
    fill(ui, zone, fires, table.sparing_first(&["", "NEXT (LOCAL)"]))
}

/// Planned fires of a time that is over.
pub(super) fn planned(ui: &Ui, zone: &str, fires: &[FireView]) -> Listing {
    let table = Table::new(heads(zone, ["PLANNED (UTC)", "IN ITS ZONE", "LOCAL"]));
    fill(ui, zone, fires, table.sparing_first(&["", "LOCAL"]))
}

fn is_walled(zone: &str) -> bool {
    zone != "UTC" && !zone.is_empty()
}

fn heads(zone: &str, names: [&'static str; 3]) -> Vec<&'static str> {
    let [utc, own, local] = names;
    let own = is_walled(zone).then_some(own);
    [Some(utc), own, Some(local), Some(""), Some("NOTE")].into_iter().flatten().collect()
}

fn fill(ui: &Ui, zone: &str, fires: &[FireView], mut table: Table) -> Listing {
    for fire in fires {
        let us = fire.at_us;
        let jitter =
            fire.due_us.map(|due| format!("{} by its jitter", time::utc(due))).unwrap_or_default();
        let note = if fire.note.is_empty() { jitter } else { fire.note.clone() };
        let mut cells = vec![
            Cell::new(time::utc(us)),
            Cell::new(time::local(us)),
            Cell::new(format!("({})", ui.times.told(us))),
            Cell::new(note),
        ];
        if is_walled(zone) {
            cells.insert(1, Cell::new(&fire.wall));
        }
        table.push(cells);
    }
    let json = fires.iter().map(fire_json).collect();
    let ids = fires.iter().map(|fire| time::iso(fire.at_us)).collect();
    Listing { table, json, ids }
}

pub(super) fn fire_json(it: &FireView) -> Value {
    json!({
        "planned_at": json::at(it.at_us),
        "wall": json::text(&it.wall),
        "note": json::text(&it.note),
        "due_at": json::maybe_at(it.due_us),
    })
}

/// What an audit found, for people.
pub(super) fn audit(ui: &Ui, reply: &AuditScheduleReply) -> Result<(), CliError> {
    if ui.is_json() {
        return ui.value(&json!({
            "from": json::at(reply.from_us),
            "to": json::at(reply.to_us),
            "planned": reply.planned,
            "outcomes": reply.outcomes,
            "gaps": reply.gaps,
            "gaps_at": reply.gaps_us.iter().map(|us| json::at(*us)).collect::<Vec<_>>(),
        }));
    }
    let period = format!("{} to {} UTC", time::utc(reply.from_us), time::utc(reply.to_us));
    ui.say(&format!("{period}: {} planned", reply.planned))?;
    let mut outcomes: Vec<_> = reply.outcomes.iter().collect();
    outcomes.sort();
    for (outcome, count) in outcomes {
        ui.say(&format!("  {count:>6} {}", outcome.replace('_', " ")))?;
    }
    for us in &reply.gaps_us {
        ui.say(&format!("  no record of {} UTC", time::utc(*us)))?;
    }
    ui.say(&match reply.gaps {
        0 => "no gap".to_owned(),
        gaps => format!("{gaps} without a record"),
    })
}

/// A schedule as JSON.
pub(super) fn schedule_json(it: &ScheduleView) -> Value {
    json!({
        "id": it.id,
        "app": json::text(&it.app),
        "name": it.name,
        "label": it.label,
        "rule": it.rule,
        "generation": it.generation,
        "origin": it.origin,
        "owner": json::text(&it.owner),
        "created_at": json::at(it.created_us),
        "next_at": json::maybe_at(it.next_us),
        "ended_at": json::maybe_at(it.ended_us),
        "last": it.last.as_ref().map_or(Value::Null, tick_json),
        "prose": json::text(&it.prose),
        "zone": json::text(&it.zone),
        "next_wall": json::text(&it.next_wall),
        "paused": it.paused.as_ref().map_or(Value::Null, |paused| json!({
            "since": json::at(paused.since_us),
            "by": json::text(&paused.by),
            "note": json::text(&paused.note),
        })),
        "skip_at": json::maybe_at(it.skip_us),
        "decided_at": json::maybe_at(it.decided_us),
        "backfill": it.backfill,
        "waiting": it.waiting_us.iter().map(|us| json::at(*us)).collect::<Vec<_>>(),
        "fires": it.fires,
        "done": it.done,
        "submits": json::text(&it.submits),
        "policy": it.policy.as_ref().map_or(Value::Null, policy_json),
    })
}

fn tick_json(it: &TickView) -> Value {
    json!({
        "planned_at": json::at(it.planned_us),
        "at": json::maybe_at(it.at_us),
        "generation": it.generation,
        "what": it.outcome,
        "task": it.task,
        "status": it.task_view.as_ref().map_or(Value::Null, |task| status(it, task)),
        "reason": it.task_view.as_ref().map_or(Value::Null, |task| json::text(&task.reason)),
        "until": json::maybe_at(it.until_us),
        "count": it.count,
        "why": json::text(&it.why),
        "submitted": it.submitted.iter().map(shape::task).collect::<Vec<_>>(),
    })
}

fn policy_json(it: &SchedulePolicy) -> Value {
    json!({
        "overlap": it.overlap,
        "catch_up": it.catch_up,
        "jitter_ms": it.jitter_ms,
        "start": json::maybe_at(it.start_us),
        "end": json::maybe_at(it.end_us),
        "limit": it.limit,
        "pause_after_failures": it.pause_after_failures,
        "overlap_counts": it.overlap_counts,
    })
}
