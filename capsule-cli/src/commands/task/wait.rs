//! `wait`: block until tasks have ended, run or completed.

use std::collections::BTreeSet;
use std::time::Duration;

use capsule_proto::v1::{Targets, TaskView, WaitRequest};
use clap::{Args, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tokio::time::error::Elapsed;
use tonic::Streaming;

use crate::args::filter::TargetArgs;
use crate::args::values;
use crate::client::Client;
use crate::commands::patience::{again, unless_interrupted};
use crate::commands::{Context, outcome};
use crate::error::{CliError, Exit};
use crate::ui::task::status_word;
use crate::ui::{escape, shape, warn};

/// Wait for tasks, exit by how they ended
///
/// 0 when all completed; else the code of the first that did not: 20 failed, 21 cancelled, 22
/// timeout, 23 lost. 124 when --timeout ran out, 24 for `--timeout 0` and a task that goes on.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  capsule wait 1842 --timeout 5m\n  capsule wait --task sync_leads --status running --all"
)]
pub(crate) struct WaitArgs {
    /// What to wait for
    #[arg(long = "for", value_name = "WHAT")]
    condition: Option<Until>,
    /// The first task is enough
    #[arg(long)]
    any: bool,
    /// Wait no longer; 0 only looks
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    targets: TargetArgs,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Until {
    /// It completed
    Completed,
    /// It runs
    Running,
    /// It ended, however: exit 0
    Done,
}

impl WaitArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let targets = self.targets.message("wait", context.app())?;
        let mut client = context.client().await?;
        let request =
            WaitRequest { targets: Some(targets), until: self.until().to_owned(), any: self.any };
        let mut stream = client.answer(client.tasks().wait(request.clone())).await?;
        let mut interrupts = signal(SignalKind::interrupt())?;
        let mut worst = Exit::Done;
        let mut seen = BTreeSet::new();
        let look = self.timeout.is_some_and(|timeout| timeout.is_zero());
        let timeout = if look { Some(Duration::from_millis(250)) } else { self.timeout };
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            match next(&mut stream, &mut interrupts, deadline).await {
                Next::Task(task) => {
                    // After a restart of the daemon all are told once more.
                    if !seen.insert(task.id) {
                        continue;
                    }
                    tell(context, &task)?;
                    if worst == Exit::Done {
                        worst = self.verdict(&task);
                    }
                }
                Next::End if seen.is_empty() && self.targets.all => {
                    return Err(CliError::new(Exit::Missing, "not_found", "no task matches")
                        .hint("all tasks    capsule list --all"));
                }
                Next::End => return Ok(worst),
                Next::RanOut if look => return Ok(Exit::Unfinished),
                Next::RanOut => return Ok(Exit::WaitRanOut),
                Next::Interrupt => {
                    for id in self.targets.ids.iter().filter(|id| !id.starts_with('@')) {
                        warn(&format!("{id} goes on: capsule tail {id}"));
                    }
                    return Ok(Exit::Interrupted);
                }
                Next::Failed(status) => {
                    let back = again(context, &client, status, async |client| {
                        client.answer(client.tasks().wait(request.clone())).await
                    });
                    let back = unless_interrupted(&mut interrupts, back);
                    let Ok(back) = Box::pin(within(deadline, back)).await else {
                        return Ok(Exit::WaitRanOut);
                    };
                    let Some(back) = back? else { return Ok(Exit::Interrupted) };
                    (client, stream) = back;
                }
            }
        }
    }

    const fn until(&self) -> &'static str {
        match self.condition {
            None | Some(Until::Done) => "ended",
            Some(Until::Completed) => "completed",
            Some(Until::Running) => "running",
        }
    }

    fn verdict(&self, task: &TaskView) -> Exit {
        match (self.condition, outcome::of_task(task)) {
            (Some(Until::Done), _) | (Some(Until::Running), Exit::Unfinished) => Exit::Done,
            (_, exit) => exit,
        }
    }
}

fn tell(context: &Context, task: &TaskView) -> Result<(), CliError> {
    let ui = &context.ui;
    if ui.is_json() {
        return ui.event(&shape::task(task));
    }
    if ui.quiet {
        return Ok(());
    }
    let reason = if task.reason.is_empty() { String::new() } else { format!("  {}", task.reason) };
    let text = format!("{}  {}  {}{reason}", task.id, status_word(task), task.name);
    ui.say(&escape::line(&text))
}

enum Next {
    Task(Box<TaskView>),
    End,
    RanOut,
    Interrupt,
    Failed(tonic::Status),
}

async fn next(
    stream: &mut Streaming<TaskView>,
    interrupts: &mut Signal,
    deadline: Option<Instant>,
) -> Next {
    tokio::select! {
        biased;
        _ = interrupts.recv() => Next::Interrupt,
        next = within(deadline, stream.message()) => match next {
            Ok(Ok(Some(task))) => Next::Task(Box::new(task)),
            Ok(Ok(None)) => Next::End,
            Ok(Err(status)) => Next::Failed(status),
            Err(_) => Next::RanOut,
        },
    }
}

/// The value, if it comes before the deadline.
async fn within<T>(
    deadline: Option<Instant>,
    value: impl Future<Output = T>,
) -> Result<T, Elapsed> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, value).await,
        None => Ok(value.await),
    }
}

/// The task when it has ended.
pub(crate) async fn ended(client: &Client, id: u64) -> Result<TaskView, CliError> {
    let targets = Targets { ids: vec![id.to_string()], ..Targets::default() };
    let request = WaitRequest { targets: Some(targets), until: "ended".to_owned(), any: false };
    let mut stream = client.answer(client.tasks().wait(request)).await?;
    match stream.message().await {
        Ok(Some(task)) => Ok(task),
        Ok(None) => {
            let message = format!("the daemon did not say how {id} ended");
            Err(CliError::new(Exit::Failure, "internal", message)
                .hint(format!("capsule show {id}")))
        }
        Err(status) => Err(client.explain(status).await),
    }
}
