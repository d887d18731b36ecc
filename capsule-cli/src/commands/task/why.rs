//! `why`: what a waiting task waits for.

use capsule_proto::v1::{WhyReply, WhyRequest};
use clap::Args;
use serde_json::json;

use crate::args::filter::ids;
use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::ui::{Ui, escape, json, shape};

/// Say why a task waits, and when it can start
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  capsule why 1842")]
pub(crate) struct WhyArgs {
    /// Ids: 1842, a UUID or its last 6 digits, @last, @failed, or - for ids on stdin
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

impl WhyArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let client = context.client().await?;
        for id in ids(&self.ids)? {
            let reply = client.answer(client.tasks().why(WhyRequest { id })).await?;
            if context.ui.is_json() {
                context.ui.value(&value(&reply))?;
            } else {
                context.ui.say(&text(&context.ui, &reply))?;
            }
        }
        Ok(Exit::Done)
    }
}

fn value(reply: &WhyReply) -> serde_json::Value {
    json!({
        "id": reply.task.as_ref().map(|task| task.id),
        "gates": reply.gates.iter().map(shape::gate).collect::<Vec<_>>(),
        "earliest_at": json::maybe_at(reply.earliest_us),
        "text": json::text(&reply.text),
        "task": shape::maybe_task(reply.task.as_ref()),
    })
}

fn text(ui: &Ui, reply: &WhyReply) -> String {
    let mut lines = Vec::new();
    if !reply.text.is_empty() {
        lines.push(escape::block(&reply.text).into_owned());
    }
    for (number, gate) in reply.gates.iter().enumerate() {
        let until = gate.until_us.map_or(String::new(), |us| format!("  ({})", ui.times.told(us)));
        let text = if gate.text.is_empty() { &gate.kind } else { &gate.text };
        lines.push(format!("  {}. {}{until}", number + 1, escape::line(text)));
    }
    if let Some(us) = reply.earliest_us {
        lines.push(format!("  earliest start {}", ui.times.told(us)));
    }
    lines.join("\n")
}
