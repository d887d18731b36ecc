//! `events`: every change of every task and schedule, as it is committed.

use capsule_proto::v1::watch_event::Event;
use capsule_proto::v1::{Filter, ScheduleChange, WatchEvent, WatchRequest};
use clap::Args;
use serde_json::{Value, json};

use crate::args::Format;
use crate::args::filter::FilterArgs;
use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::ui::{Ui, escape, json, shape, task};

/// Print every change of tasks and schedules as it is committed, one JSON object a line
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  capsule events --task sync_leads\n  capsule events --from 0 -o table"
)]
pub(crate) struct EventsArgs {
    /// Begin behind this number; without it, with what comes next
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,
    /// Print the tasks there are first
    #[arg(long)]
    snapshot: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

impl EventsArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let client = context.client().await?;
        let filter = self.filter.message(context.app());
        let request = WatchRequest {
            filter: Some(filter.clone()),
            since_seq: self.from,
            limit: u32::from(!self.snapshot),
            // Somebody who asks for certain tasks wants nothing else.
            schedules: filter == Filter::default(),
            ..WatchRequest::default()
        };
        let mut stream = client.answer(client.tasks().watch(request)).await?;
        let lines = context.globals.format == Some(Format::Table)
            || (context.ui.tty && !context.ui.is_json());
        let mut live = self.snapshot || self.from.is_some();
        loop {
            let event = match stream.message().await {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(Exit::Done),
                Err(status) => return Err(client.explain(status).await),
            };
            let ready = matches!(event.event, Some(Event::Ready(_)));
            if live && lines {
                line(&context.ui, &event)?;
            } else if live {
                context.ui.event(&value(&event))?;
            }
            live |= ready;
        }
    }
}

/// The JSON of a change.
fn value(event: &WatchEvent) -> Value {
    let (kind, view, removed, counts) = match &event.event {
        Some(Event::Task(view)) => ("task", shape::task(view), Value::Null, Value::Null),
        Some(Event::Removed(id)) => ("removed", Value::Null, (*id).into(), Value::Null),
        Some(Event::Ready(counts)) => {
            ("ready", Value::Null, Value::Null, json::map(&counts.by_status))
        }
        Some(Event::Reset(_)) => ("reset", Value::Null, Value::Null, Value::Null),
        Some(Event::Schedule(it)) => return schedule(event, it),
        Some(Event::Columns(_) | Event::Around(_)) | None => {
            ("unknown", Value::Null, Value::Null, Value::Null)
        }
    };
    json!({"seq": event.seq, "at": at(event), "event": kind, "task": view, "removed": removed, "by_status": counts})
}

fn at(event: &WatchEvent) -> Value {
    if event.at_us == 0 { Value::Null } else { json::at(event.at_us) }
}

/// The JSON of a change of a schedule.
fn schedule(event: &WatchEvent, it: &ScheduleChange) -> Value {
    let time = |at: Option<i64>| at.map_or(Value::Null, json::at);
    let schedule = json!({
        "id": it.id, "app": it.app, "name": it.label, "state": it.state,
        "next": time(it.next_us), "planned": time(it.planned_us),
        "outcome": it.outcome, "task": it.task,
    });
    json!({"seq": event.seq, "at": at(event), "event": "schedule", "schedule": schedule})
}

fn line(ui: &Ui, event: &WatchEvent) -> Result<(), CliError> {
    let text = match &event.event {
        Some(Event::Task(view)) => {
            let status = task::status_word(view);
            let note = if view.reason.is_empty() { &view.waiting } else { &view.reason };
            format!("{}  {status:<9}  {}  {note}", view.id, view.name)
        }
        Some(Event::Removed(id)) => format!("{id}  removed"),
        Some(Event::Reset(_)) => "changes were missed; a snapshot follows".to_owned(),
        Some(Event::Schedule(it)) => {
            let task = it.task.map_or_else(String::new, |task| format!(" {task}"));
            format!("schedule {}  {}  {}{task}", it.label, it.state, it.outcome)
        }
        Some(Event::Ready(_) | Event::Columns(_) | Event::Around(_)) | None => return Ok(()),
    };
    let at = if event.at_us == 0 { ui.times.now.as_microsecond() } else { event.at_us };
    ui.say(escape::line(&format!("{}  {text}", ui.times.clock(at))).trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_has_the_same_keys() {
        let event = WatchEvent { seq: 9, event: Some(Event::Removed(7)), at_us: 1_000_000 };
        let expected = concat!(
            r#"{"seq":9,"at":"1970-01-01T00:00:01Z","event":"removed","task":null,"#,
            r#""removed":7,"by_status":null}"#
        );
        assert_eq!(value(&event).to_string(), expected);
    }

    #[test]
    fn a_schedule_that_has_fired_says_so() {
        let it = ScheduleChange {
            id: 4,
            label: "nightly".to_owned(),
            state: "waits".to_owned(),
            next_us: Some(1_000_000),
            outcome: "fired".to_owned(),
            task: Some(9),
            ..ScheduleChange::default()
        };
        let event = WatchEvent { seq: 9, event: Some(Event::Schedule(it)), at_us: 1_000_000 };
        let expected = concat!(
            r#"{"seq":9,"at":"1970-01-01T00:00:01Z","event":"schedule","schedule":{"id":4,"#,
            r#""app":"","name":"nightly","state":"waits","next":"1970-01-01T00:00:01Z","#,
            r#""planned":null,"outcome":"fired","task":9}}"#
        );
        assert_eq!(value(&event).to_string(), expected);
    }
}
