//! `list`: the newest tasks that a filter lets through.

use capsule_proto::v1::{ListReply, ListRequest, TaskView};
use clap::Args;
use serde_json::json;

use super::watch;
use crate::args::filter::FilterArgs;
use crate::client::Client;
use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::ui::task::listing;

/// Tasks of one request when all are wanted.
const PAGE: u32 = 1000;

/// Show the newest tasks
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
                        capsule list --status failed --since 2h\n  \
                        capsule list --task sync_leads --json id,status\n  \
                        capsule list --filter 'task:sync* state:failed age:<1h'")]
pub(crate) struct ListArgs {
    /// At most this many
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// All of them
    #[arg(long)]
    all: bool,
    /// Only how many there are
    #[arg(long)]
    count: bool,
    /// Show changes as they come
    #[arg(short = 'W', long)]
    watch: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

impl ListArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let client = context.client().await?;
        let filter = self.filter.message(context.app());
        if self.watch {
            let limit = self.limit.unwrap_or(20);
            return watch::watch_list(context, &client, filter, limit).await;
        }
        let request =
            ListRequest { filter: Some(filter), count_only: self.count, ..ListRequest::default() };
        if self.count {
            let reply = client.answer(client.tasks().list(request)).await?;
            return counted(context, reply.total);
        }
        let wanted = if self.all { u32::MAX } else { self.limit.unwrap_or(0) };
        let reply = pages(&client, request, wanted).await?;
        print(context, &reply)?;
        Ok(Exit::Done)
    }
}

fn counted(context: &Context, total: u64) -> Result<Exit, CliError> {
    if context.ui.is_json() {
        context.ui.value(&json!({"count": total}))?;
    } else {
        context.ui.say(&total.to_string())?;
    }
    Ok(Exit::Done)
}

/// As many pages as make up the wanted number; 0 leaves the number to the daemon.
async fn pages(client: &Client, request: ListRequest, wanted: u32) -> Result<ListReply, CliError> {
    let mut request = ListRequest { limit: wanted.min(PAGE), ..request };
    let mut whole = client.answer(client.tasks().list(request.clone())).await?;
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    while let Some(before) = whole.next_before.filter(|_| whole.tasks.len() < wanted) {
        request.before = Some(before);
        let left = u32::try_from(wanted - whole.tasks.len()).unwrap_or(PAGE);
        request.limit = left.min(PAGE);
        let page = client.answer(client.tasks().list(request.clone())).await?;
        if page.tasks.is_empty() {
            break;
        }
        whole.tasks.extend(page.tasks);
        whole.next_before = page.next_before;
    }
    Ok(whole)
}

fn print(context: &Context, reply: &ListReply) -> Result<(), CliError> {
    let ui = &context.ui;
    let people = ui.tty && !ui.is_json() && !ui.quiet;
    if reply.tasks.is_empty() && people {
        ui.talk("no tasks");
        return Ok(());
    }
    ui.listing(listing(ui, &reply.tasks))?;
    let shown = shown(&reply.tasks);
    if people && reply.total > shown {
        ui.talk(&format!("{shown} of {} shown · capsule list --all", reply.total));
    }
    Ok(())
}

fn shown(tasks: &[TaskView]) -> u64 {
    u64::try_from(tasks.len()).unwrap_or(u64::MAX)
}

/// The newest tasks, for a bare `capsule`.
pub(crate) async fn newest(context: &Context, client: &Client, limit: u32) -> Result<(), CliError> {
    let filter = FilterArgs::default().message(context.app());
    let request = ListRequest { filter: Some(filter), limit, ..ListRequest::default() };
    let reply = client.answer(client.tasks().list(request)).await?;
    print(context, &reply)
}
