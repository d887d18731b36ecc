//! `cancel`: stop tasks, and say how they ended.

use std::fmt::Write as _;
use std::time::Duration;

use capsule_proto::v1::{ActionReply, CancelRequest, ShowRequest, Targets, TaskView, WaitRequest};
use clap::Args;

use super::{confirm, nothing, preview, report};
use crate::args::filter::TargetArgs;
use crate::args::values;
use crate::client::Client;
use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::ui::task::status_word;
use crate::ui::{escape, shape};

/// Cancel tasks and wait until they have ended
///
/// A waiting task ends at once. A running one is asked to stop, and killed with all its processes
/// when the grace is over. A task that has ended stays as it is, which is no error.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  capsule cancel 1842\n  capsule cancel 1842 --now\n  capsule cancel --status running --all --yes"
)]
pub(crate) struct CancelArgs {
    /// Kill at once
    #[arg(long, conflicts_with = "grace")]
    now: bool,
    /// Time between asking it to stop and killing it [default: the task's own]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    grace: Option<Duration>,
    /// Kept with the task
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Do not wait until it has ended
    #[arg(long)]
    no_wait: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    targets: TargetArgs,
}

impl CancelArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let targets = self.targets.message("cancel", context.app())?;
        let client = context.client().await?;
        let grace = if self.now { Some(Duration::ZERO) } else { self.grace };
        let mut request = CancelRequest {
            targets: Some(targets),
            reason: self.reason.clone().unwrap_or_default(),
            grace_ms: grace.map(values::millis),
            dry_run: self.dry_run || self.targets.all,
        };
        if self.targets.all && !self.dry_run {
            let plan = client.answer(client.tasks().cancel(request.clone())).await?;
            if !confirm(context, "cancel", &plan)? {
                return nothing(context);
            }
            request.dry_run = false;
        }
        let mut reply = client.answer(client.tasks().cancel(request)).await?;
        if self.dry_run {
            return preview(context, reply);
        }
        if !self.no_wait {
            settle(context, &client, &mut reply).await?;
        }
        report(context, &reply)
    }
}

/// Waits for the tasks that are being cancelled, and puts how they ended in the reply.
async fn settle(
    context: &Context,
    client: &Client,
    reply: &mut ActionReply,
) -> Result<(), CliError> {
    let open: Vec<u64> =
        reply.results.iter().filter(|it| it.outcome == "cancelling").map(|it| it.id).collect();
    if open.is_empty() {
        return Ok(());
    }
    if context.ui.talk_tty && !context.ui.is_json() {
        let ids: Vec<String> = open.iter().map(u64::to_string).collect();
        context.ui.talk(&format!("cancelling {}", ids.join(", ")));
    }
    let ids = open.iter().map(u64::to_string).collect();
    let targets = Some(Targets { ids, ..Targets::default() });
    let request = WaitRequest { targets, until: "ended".to_owned(), any: false };
    let mut stream = client.answer(client.tasks().wait(request)).await?;
    loop {
        let task = match stream.message().await {
            Ok(Some(task)) => task,
            Ok(None) => return Ok(()),
            Err(status) => return Err(client.explain(status).await),
        };
        let text = how(client, &task).await;
        if let Some(result) = reply.results.iter_mut().find(|it| it.id == task.id) {
            result.outcome = status_word(&task);
            result.text = text;
            result.task = Some(task);
        }
    }
}

/// `1842  cancelled (killed)`.
async fn how(client: &Client, task: &TaskView) -> String {
    let mut text = format!("{}  {}", task.id, status_word(task));
    let request = ShowRequest { id: task.id.to_string() };
    // How it was stopped is a kindness; that it ended is known.
    if let Ok(reply) = client.answer(client.tasks().show(request)).await
        && let Some(attempt) = reply.attempts.last().filter(|attempt| !attempt.stopped.is_empty())
    {
        let _ = write!(text, " ({})", attempt.stopped);
    }
    if !task.reason.is_empty() && shape::status(task.status()) != "cancelled" {
        let _ = write!(text, ": {}", task.reason);
    }
    escape::line(&text).into_owned()
}
