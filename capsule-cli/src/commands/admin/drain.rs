//! `drain`: let running tasks finish and start no others.

use capsule_proto::v1::{DrainReply, DrainRequest, WatchRequest};
use clap::Args;
use serde_json::json;

use crate::client::Client;
use crate::commands::Context;
use crate::error::{CliError, Exit};

/// Start no more tasks and wait until the running ones have ended
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  capsule drain\n  capsule drain --off")]
pub(crate) struct DrainArgs {
    /// Start tasks again
    #[arg(long)]
    off: bool,
    /// Do not wait for the running ones
    #[arg(long)]
    no_wait: bool,
}

impl DrainArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let client = context.client().await?;
        // Watching begins first, so that the end of the last task cannot be missed.
        let request = WatchRequest { limit: 1, ..WatchRequest::default() };
        let mut changes = client.answer(client.tasks().watch(request)).await?;
        let mut reply = set(&client, !self.off).await?;
        let waits = !self.off && !self.no_wait;
        if waits && reply.running > 0 {
            context.ui.talk(&format!("{} running tasks may finish", reply.running));
        }
        while waits && reply.running > 0 {
            match changes.message().await {
                Ok(Some(_)) => reply = set(&client, true).await?,
                Ok(None) => break,
                Err(status) => return Err(client.explain(status).await),
            }
        }
        let ui = &context.ui;
        if ui.is_json() {
            ui.value(&json!({"draining": reply.draining, "running": reply.running}))?;
        } else if !ui.quiet {
            ui.say(&match (reply.draining, reply.running) {
                (false, _) => "tasks start again".to_owned(),
                (true, 0) => {
                    "idle: nothing runs, nothing starts; go on with capsule drain --off".to_owned()
                }
                (true, count) => format!("draining: {count} running"),
            })?;
        }
        Ok(Exit::Done)
    }
}

async fn set(client: &Client, on: bool) -> Result<DrainReply, CliError> {
    client.answer(client.daemon().drain(DrainRequest { on })).await
}
