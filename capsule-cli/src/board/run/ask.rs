//! The questions themselves, each a future of its own.

use std::time::Duration;

use capsule_proto::v1::{
    ActionReply, CancelRequest, EditRequest, ListAppsRequest, ListLocksRequest, ListQueuesRequest,
    ListSchedulesRequest, PauseScheduleRequest, ResumeScheduleRequest, RetryRequest,
    SetQueueRequest, ShowRequest, TailRequest, Targets, TargetsRequest, WatchRequest, WhyRequest,
};

use super::errands::Reply;
use crate::board::model::deed::Deed;
use crate::board::model::table::{Kind, Rows};
use crate::client::Client;
use crate::commands::Context;
use crate::error::CliError;

/// Opens a watch, over a new connection when there is none.
pub(super) async fn watch(
    context: Context,
    client: Option<Client>,
    request: WatchRequest,
    after: Duration,
) -> Reply {
    tokio::time::sleep(after).await;
    let opened = async {
        let client = match client {
            Some(client) => client,
            None => context.client().await?,
        };
        let stream = client.answer(client.tasks().watch(request)).await?;
        Ok((client, stream))
    };
    Reply::Watch(opened.await)
}

/// Everything about a task.
pub(super) async fn show(client: Client, id: u64) -> Reply {
    let asked = async {
        let show = ShowRequest { id: id.to_string() };
        let show = client.answer(client.tasks().show(show)).await?;
        let why = WhyRequest { id: id.to_string() };
        let why = client.answer(client.tasks().why(why)).await.unwrap_or_default();
        Ok(Box::new((show, why)))
    };
    Reply::Show(id, asked.await)
}

/// The log of a task.
pub(super) async fn tail(client: Client, id: u64, request: TailRequest) -> Reply {
    Reply::Tail(id, client.answer(client.tasks().tail(request)).await)
}

/// The boards there are by now.
pub(super) async fn sheets(context: Context, client: Client, page: Option<String>) -> Reply {
    let asked = crate::board::asked(&context, &client, page.as_deref()).await;
    Reply::Sheets(asked.map(|(_, sheets)| sheets))
}

/// What a list shows.
pub(super) async fn table(client: Client, kind: Kind, app: String) -> Reply {
    Reply::Table(rows(&client, kind, app).await)
}

async fn rows(client: &Client, kind: Kind, app: String) -> Result<Rows, CliError> {
    Ok(match kind {
        Kind::Schedules => {
            let request = ListSchedulesRequest { app, all: false };
            let reply = client.answer(client.schedules().list_schedules(request)).await?;
            Rows::Schedules(reply.schedules)
        }
        Kind::Queues => Rows::Queues(
            client.answer(client.daemon().list_queues(ListQueuesRequest {})).await?.queues,
        ),
        Kind::Locks => {
            let request = ListLocksRequest::default();
            Rows::Locks(client.answer(client.daemon().list_locks(request)).await?.locks)
        }
        Kind::Apps => {
            Rows::Apps(client.answer(client.apps().list_apps(ListAppsRequest {})).await?.apps)
        }
    })
}

/// Does something.
pub(super) async fn deed(client: Client, deed: Deed) -> Reply {
    Reply::Done(done(&client, deed).await)
}

async fn done(client: &Client, deed: Deed) -> Result<String, CliError> {
    let one = |id: u64| Some(Targets { ids: vec![id.to_string()], ..Targets::default() });
    let mut tasks = client.tasks();
    match deed {
        Deed::Cancel { id, now, .. } => {
            let (targets, grace_ms) = (one(id), now.then_some(0));
            let request = CancelRequest { targets, grace_ms, ..CancelRequest::default() };
            Ok(outcome(id, client.answer(tasks.cancel(request)).await?))
        }
        Deed::Retry { id, .. } => {
            let request = RetryRequest { targets: one(id), ..RetryRequest::default() };
            Ok(outcome(id, client.answer(tasks.retry(request)).await?))
        }
        Deed::Hold { id, on, .. } => {
            let request =
                EditRequest { targets: one(id), hold: Some(on), ..EditRequest::default() };
            client.answer(tasks.edit(request)).await?;
            Ok(format!("{id} {}", if on { "is held back" } else { "may start" }))
        }
        Deed::Promote { id, .. } => {
            let request = TargetsRequest { targets: one(id), dry_run: false };
            Ok(outcome(id, client.answer(tasks.promote(request)).await?))
        }
        Deed::Queue { name } => queue(client, name).await,
        Deed::Schedule { id, name } => schedule(client, id, &name).await,
    }
}

fn outcome(id: u64, reply: ActionReply) -> String {
    match reply.results.into_iter().next() {
        Some(result) if !result.text.is_empty() => result.text,
        Some(result) => format!("{id} {}", result.outcome.replace('_', " ")),
        None => format!("{id} is gone"),
    }
}

/// Pauses an open queue, opens a paused one.
async fn queue(client: &Client, name: String) -> Result<String, CliError> {
    let queues = client.answer(client.daemon().list_queues(ListQueuesRequest {})).await?.queues;
    let paused = queues.iter().any(|queue| queue.name == name && queue.paused);
    let request =
        SetQueueRequest { name: name.clone(), paused: Some(!paused), ..SetQueueRequest::default() };
    client.answer(client.daemon().set_queue(request)).await?;
    Ok(format!("the queue {name} is {}", if paused { "open" } else { "paused" }))
}

/// Pauses a schedule that fires, resumes one that does not.
async fn schedule(client: &Client, id: u64, name: &str) -> Result<String, CliError> {
    let (schedule, app) = (id.to_string(), String::new());
    let request = ListSchedulesRequest { app: String::new(), all: false };
    let all = client.answer(client.schedules().list_schedules(request)).await?.schedules;
    let paused = all.iter().any(|it| it.id == id && it.paused.is_some());
    if paused {
        let request = ResumeScheduleRequest { schedule, app };
        client.answer(client.schedules().resume_schedule(request)).await?;
        return Ok(format!("the schedule {name} fires again"));
    }
    let request = PauseScheduleRequest { schedule, app, note: "from the board".to_owned() };
    client.answer(client.schedules().pause_schedule(request)).await?;
    Ok(format!("the schedule {name} is paused"))
}
