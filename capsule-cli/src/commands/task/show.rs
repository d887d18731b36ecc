//! `show`: everything about a task.

use capsule_proto::v1::tail_event::Event;
use capsule_proto::v1::{ShowReply, ShowRequest, TailRequest};
use clap::Args;
use serde_json::Value;

use crate::args::Format;
use crate::args::filter::ids;
use crate::client::Client;
use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::ui::{shape, task};

/// Lines of the log that are shown.
const LINES: u64 = 5;

/// Show everything about a task: attempts, arguments, why it waits, its last log lines
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  capsule show 1842\n  capsule show @failed --json attempts")]
pub(crate) struct ShowArgs {
    /// Ids: 1842, a UUID or its last 6 digits, @last, @failed, or - for ids on stdin
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

impl ShowArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let client = context.client().await?;
        let ui = &context.ui;
        let mut values: Vec<Value> = Vec::new();
        for (number, id) in ids(&self.ids)?.into_iter().enumerate() {
            let reply = client.answer(client.tasks().show(ShowRequest { id })).await?;
            let number_of = reply.task.as_ref().map_or(0, |task| task.id);
            if ui.is_json() {
                values.push(shape::shown(&reply));
                continue;
            }
            if ui.quiet || ui.format == Format::Id {
                ui.say(&number_of.to_string())?;
                continue;
            }
            if number > 0 {
                ui.say("")?;
            }
            let log = last_lines(&client, &reply).await?;
            ui.say(&task::block(ui, &reply, &log))?;
        }
        match values.as_slice() {
            [] => {}
            [one] => ui.value(one)?,
            several if ui.format == Format::Ndjson => {
                several.iter().try_for_each(|value| ui.event(value))?;
            }
            several => ui.value(&several.to_vec().into())?,
        }
        Ok(Exit::Done)
    }
}

async fn last_lines(client: &Client, reply: &ShowReply) -> Result<Vec<String>, CliError> {
    let Some(task) = reply.task.as_ref().filter(|task| task.attempt > 0) else {
        return Ok(Vec::new());
    };
    let id = task.id.to_string();
    let request = TailRequest { id, lines: Some(LINES), ..TailRequest::default() };
    // The log may be pruned; the rest of the answer is as good without it.
    let Ok(mut stream) = client.answer(client.tasks().tail(request)).await else {
        return Ok(Vec::new());
    };
    let mut bytes = Vec::new();
    while let Ok(Some(event)) = stream.message().await {
        if let Some(Event::Chunk(chunk)) = event.event {
            bytes.extend(chunk.data);
        }
    }
    let text = crate::ui::escape::Filter::new(false).pass(&bytes);
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let keep = lines.len().saturating_sub(usize::try_from(LINES).unwrap_or_default());
    Ok(lines.into_iter().skip(keep).collect())
}
