//! `capsule` alone: how things stand, the newest tasks, one hint.

use clap::CommandFactory as _;

use super::status;
use crate::args::Cli;
use crate::commands::{Context, task};
use crate::error::{CliError, Exit};
use crate::ui::warn;

/// Tasks that are shown.
const NEWEST: u32 = 5;

pub(crate) async fn run(context: &Context) -> Result<Exit, CliError> {
    if !context.ui.tty || context.ui.is_json() {
        warn(&Cli::command().render_help().to_string());
        return Ok(Exit::Usage);
    }
    let client = context.client().await?;
    let reply = status::ask(&client).await?;
    context.ui.say(&status::headline(&reply))?;
    context.ui.say("")?;
    task::list::newest(context, &client, NEWEST).await?;
    let hint = if reply.by_status.values().sum::<u64>() == 0 {
        "queue any program: capsule submit -- COMMAND"
    } else {
        "all about one: capsule show ID"
    };
    context.ui.talk(hint);
    Ok(Exit::Done)
}
