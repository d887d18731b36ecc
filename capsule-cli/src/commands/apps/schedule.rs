//! `schedule`: what fires again and again, when next, and what became of it.

use capsule_proto::v1::{
    EndScheduleRequest, ListSchedulesRequest, NextFiresReply, NextFiresRequest,
    ScheduleHistoryReply, ScheduleHistoryRequest, ScheduleView, Status, TaskView, TickView,
    TriggerScheduleRequest,
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::ui::table::{Cell, Table};
use crate::ui::{Listing, Ui, color, json, shape, time};

/// Show schedules, their next fires and what became of the last ones, run one now
#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleVerb {
    /// Show schedules of apps and recurrences, with their next and last fire
    #[command(visible_alias = "ls")]
    List {
        /// Also those that have ended, while their history is kept
        #[arg(long)]
        all: bool,
    },
    /// Show what became of the fires of a schedule, newest first
    #[command(after_help = "Examples:\n  capsule schedule history hourly_sync\n  \
                            capsule schedule history leads/hourly_sync -n 5\n\n\
                            Kept: 90 days, and at most the last 1,000.")]
    History {
        #[command(flatten)]
        which: Which,
        /// How many
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 50,
              value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show when a schedule fires next, in UTC and in your zone
    Next {
        #[command(flatten)]
        which: Which,
        /// How many
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 5,
              value_parser = clap::value_parser!(u32).range(1..=1000))]
        count: u32,
    },
    /// Run a schedule now, besides its plan; print the id of the task
    Trigger {
        #[command(flatten)]
        which: Which,
    },
    /// End a recurrence; the task that it submitted last goes on
    End {
        #[command(flatten)]
        which: Which,
    },
}

/// A schedule.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Name of the handler, APP/NAME, or the id of a recurrence
    #[arg(value_name = "NAME")]
    name: String,
}

impl ScheduleVerb {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let client = context.client().await?;
        let ui = &context.ui;
        let app = context.app().unwrap_or_default().to_owned();
        match self {
            Self::List { all } => {
                let request = ListSchedulesRequest { app, all: *all };
                let reply = client.answer(client.schedules().list_schedules(request)).await?;
                if reply.schedules.is_empty() && ui.tty && !ui.is_json() {
                    ui.talk("nothing is scheduled");
                } else {
                    ui.listing(schedules(ui, &reply.schedules))?;
                }
            }
            Self::History { which, limit } => {
                let schedule = which.name.clone();
                let request = ScheduleHistoryRequest { schedule, app, limit: *limit };
                let reply = client.answer(client.schedules().schedule_history(request)).await?;
                ui.listing(history(ui, &reply))?;
            }
            Self::Next { which, count } => {
                let schedule = which.name.clone();
                let request = NextFiresRequest { schedule, app, count: *count };
                let reply = client.answer(client.schedules().next_fires(request)).await?;
                ui.listing(fires(ui, &reply))?;
            }
            Self::Trigger { which } => {
                let request = TriggerScheduleRequest { schedule: which.name.clone(), app };
                let reply = client.answer(client.schedules().trigger_schedule(request)).await?;
                let task = reply.task.unwrap_or_default();
                if ui.is_json() {
                    ui.value(&shape::task(&task))?;
                } else {
                    ui.say(&task.id.to_string())?;
                }
            }
            Self::End { which } => {
                let request = EndScheduleRequest { schedule: which.name.clone(), app };
                let reply = client.answer(client.schedules().end_schedule(request)).await?;
                let ended = reply.schedule.unwrap_or_default();
                if ui.is_json() {
                    ui.value(&schedule_json(&ended))?;
                } else if !ui.quiet {
                    ui.say(&format!("ended {}", ended.label))?;
                }
            }
        }
        Ok(Exit::Done)
    }
}

fn schedules(ui: &Ui, schedules: &[ScheduleView]) -> Listing {
    let mut table =
        Table::new(vec!["SCHEDULE", "APP", "WHEN", "NEXT (UTC)", "NEXT (LOCAL)", "", "LAST"]);
    for it in schedules {
        let (utc, local, left) = match (it.next_us, it.ended_us) {
            (Some(us), _) => (time::utc(us), time::local(us), format!("({})", ui.times.told(us))),
            (None, Some(us)) => ("ended".to_owned(), time::local(us), String::new()),
            (None, None) => ("-".to_owned(), "-".to_owned(), String::new()),
        };
        let rule =
            if it.origin == "sdk" { format!("{} {}", it.name, it.rule) } else { it.rule.clone() };
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
        ("missed", _) if tick.count >= MISSED_MAX => format!("missed {MISSED_MAX} or more"),
        ("missed", _) => format!("missed {}", tick.count),
        ("skipped", Some(task)) => format!("skipped, {task} had not ended"),
        ("refused", _) => format!("refused: {}", tick.why),
        ("caught_up", Some(task)) => format!("caught up {task}"),
        (outcome, Some(task)) => format!("{outcome} {task}"),
        (outcome, None) => outcome.to_owned(),
    }
}

/// The daemon counts missed fires up to here.
const MISSED_MAX: u32 = 1000;

fn history(ui: &Ui, reply: &ScheduleHistoryReply) -> Listing {
    let mut table = Table::new(vec!["PLANNED (UTC)", "", "WHAT", "TASK", "OUTCOME"]);
    for tick in &reply.ticks {
        let what = match tick.until_us {
            Some(until) if tick.count > 1 => format!("{} until {}", told(tick), time::utc(until)),
            Some(_) => told(tick),
            None if tick.outcome == "refused" => told(tick),
            None => tick.outcome.replace('_', " "),
        };
        table.push(vec![
            Cell::new(time::utc(tick.planned_us)),
            Cell::new(format!("({})", ui.times.told(tick.planned_us))),
            Cell::new(what),
            Cell::new(tick.task.map_or("-".to_owned(), |id| id.to_string())),
            Cell::new(outcome(tick)),
        ]);
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
    let status = status(tick, task).as_str().unwrap_or_default().to_owned();
    if task.reason.is_empty() { status } else { format!("{status}: {}", task.reason) }
}

/// The status of its task; `delivered` when nobody says how its run ends.
fn status(tick: &TickView, task: &TaskView) -> Value {
    if tick.delivered {
        return json!("delivered");
    }
    shape::status(Status::try_from(task.status).unwrap_or_default())
}

fn fires(ui: &Ui, reply: &NextFiresReply) -> Listing {
    let mut table = Table::new(vec!["NEXT (UTC)", "NEXT (LOCAL)", ""]);
    for us in &reply.fires_us {
        table.push(vec![
            Cell::new(time::utc(*us)),
            Cell::new(time::local(*us)),
            Cell::new(format!("({})", ui.times.told(*us))),
        ]);
    }
    let json = reply.fires_us.iter().map(|us| json!({"planned_at": json::at(*us)})).collect();
    let ids = reply.fires_us.iter().map(|us| time::iso(*us)).collect();
    Listing { table, json, ids }
}

fn schedule_json(it: &ScheduleView) -> Value {
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
    })
}
