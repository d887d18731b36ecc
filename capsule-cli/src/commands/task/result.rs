//! `result`: what a task returned.

use capsule_proto::v1::ResultRequest;
use clap::Args;
use serde_json::{Value, json};

use super::wait;
use crate::args::filter::ids;
use crate::commands::{Context, outcome};
use crate::error::{CliError, Exit};
use crate::ui::task::ended;
use crate::ui::{escape, shape, warn};

/// Print what a task returned, exit by how it ended
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  capsule result 1842 | jq .synced\n  capsule result @last --wait --raw"
)]
pub(crate) struct ResultArgs {
    /// Id: 1842, a UUID or its last 6 digits, @last, @failed
    #[arg(value_name = "ID")]
    id: String,
    /// Wait until it has ended
    #[arg(short, long)]
    wait: bool,
    /// Print a string without quotes
    #[arg(short, long)]
    raw: bool,
}

impl ResultArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let client = context.client().await?;
        let Some(id) = ids(std::slice::from_ref(&self.id))?.into_iter().next() else {
            return Err(CliError::usage("no id on stdin").hint("find one    capsule list"));
        };
        let request = ResultRequest { id };
        let mut reply = client.answer(client.tasks().result(request.clone())).await?;
        let mut task = reply.task.take().unwrap_or_default();
        if self.wait && !ended(task.status()) {
            task = wait::ended(&client, task.id).await?;
            reply = client.answer(client.tasks().result(request)).await?;
        }
        let value = crate::ui::json::embedded(&reply.result_json);
        if context.ui.is_json() {
            let id = task.id;
            let (status, error) =
                (shape::status(task.status()), crate::ui::json::text(&reply.error));
            let object = json!({"id": id, "status": status, "result": value, "error": error});
            context.ui.value(&object)?;
            return Ok(outcome::of_task(&task));
        }
        match (&value, self.raw) {
            _ if reply.result_json.is_empty() => {}
            (Value::String(text), true) => context.ui.say(text)?,
            _ => context.ui.value(&value)?,
        }
        if !reply.error.is_empty() {
            warn(&escape::block(reply.error.trim_end()));
        }
        if !ended(task.status()) {
            let error =
                format!("{} has not ended: {}", task.id, crate::ui::task::status_word(&task));
            return Err(CliError::new(Exit::Unfinished, "unfinished", error)
                .hint(format!("wait for it    capsule result {} --wait", task.id)));
        }
        Ok(outcome::of_task(&task))
    }
}
