//! Follows one task to its end: its log as it comes, its status, Ctrl-C.

use std::time::Duration;

use capsule_proto::v1::tail_event::Event;
use capsule_proto::v1::{
    CancelRequest, ResultRequest, ShowRequest, TailEvent, TailRequest, Targets, TaskView,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tonic::Streaming;

use crate::client::Client;
use crate::commands::patience::{again, leave, unless_interrupted};
use crate::commands::{Context, outcome};
use crate::error::{CliError, Exit};
use crate::ui::live::line::StatusLine;
use crate::ui::live::log::{Decor, Log};
use crate::ui::task::ended;
use crate::ui::{escape, json, shape};

/// How a task is followed.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    /// Ctrl-C leaves the task alone.
    pub(super) detach: bool,
    /// Exit by the program's own code.
    pub(super) by_code: bool,
    pub(super) data: Data,
}

/// What goes to our stdout; the rest of the log goes to stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    /// The stdout of a program.
    Output,
    /// What the task returned.
    Result,
    /// Nothing: the id stands there.
    Nothing,
}

/// Ctrl-C from now on. Taken before the submit, so that none falls between it and the following:
/// that one would end us and leave the task alone.
pub(super) fn interrupts() -> Result<Signal, CliError> {
    Ok(signal(SignalKind::interrupt())?)
}

/// Follows the task until it has ended, or the user leaves.
pub(super) async fn follow(
    context: &Context,
    client: &Client,
    task: TaskView,
    how: How,
    mut interrupts: Signal,
) -> Result<Exit, CliError> {
    let mut log =
        Log::new(&context.ui, how.data == Data::Output && !context.ui.is_json(), Decor::default());
    let mut line = StatusLine::new(context.ui.clone());
    let mut task = task;
    let id = task.id;
    let mut request = TailRequest { id: id.to_string(), follow: true, ..TailRequest::default() };
    let mut client = client.clone();
    let mut stream = client.answer(client.tasks().tail(request.clone())).await?;
    let mut asked = false;
    loop {
        match next(&mut stream, &mut interrupts, context.ui.talk_tty).await {
            Next::Event(event) => match *event {
                Event::Chunk(chunk) => {
                    line.clear(&chunk.data);
                    log.write(&chunk)?;
                    if !chunk.cursor.is_empty() {
                        request.cursor = chunk.cursor;
                    }
                }
                Event::Task(view) => task = view,
            },
            Next::Tick => line.draw(&task, running(&task)),
            Next::Interrupt if how.detach || asked => {
                line.clear(&[]);
                log.finish()?;
                return Ok(leave(&[id.to_string()]));
            }
            Next::Interrupt => {
                asked = true;
                line.clear(&[]);
                context.ui.talk(&format!("cancelling {id} (Ctrl-C again leaves it alone)"));
                cancel(&client, id).await?;
            }
            Next::End => break,
            Next::Failed(status) => {
                line.clear(&[]);
                let back = again(context, &client, status, async |client| {
                    client.answer(client.tasks().tail(request.clone())).await
                });
                let Some(back) = unless_interrupted(&mut interrupts, back).await? else {
                    return Ok(leave(&[id.to_string()]));
                };
                (client, stream) = back;
            }
        }
    }
    log.finish()?;
    if !ended(task.status()) {
        let end = super::super::task::wait::ended(&client, id);
        let Some(view) = unless_interrupted(&mut interrupts, end).await? else {
            return Ok(leave(&[id.to_string()]));
        };
        task = view;
    }
    line.end(&task);
    conclude(context, &client, &task, how).await
}

enum Next {
    Event(Box<Event>),
    Tick,
    Interrupt,
    End,
    Failed(tonic::Status),
}

async fn next(stream: &mut Streaming<TailEvent>, interrupts: &mut Signal, draws: bool) -> Next {
    tokio::select! {
        biased;
        _ = interrupts.recv() => Next::Interrupt,
        event = stream.message() => match event {
            Ok(Some(TailEvent { event: Some(event) })) => Next::Event(Box::new(event)),
            Ok(Some(TailEvent { event: None })) => Next::Tick,
            Ok(None) => Next::End,
            Err(status) => Next::Failed(status),
        },
        () = tokio::time::sleep(Duration::from_millis(200)), if draws => Next::Tick,
    }
}

fn running(task: &TaskView) -> Option<Duration> {
    let now = jiff::Timestamp::now().as_microsecond();
    task.started_us.map(|from| Duration::from_micros(u64::try_from(now - from).unwrap_or_default()))
}

async fn cancel(client: &Client, id: u64) -> Result<(), CliError> {
    let targets = Targets { ids: vec![id.to_string()], ..Targets::default() };
    let reason = "Ctrl-C of capsule run".to_owned();
    let request = CancelRequest { targets: Some(targets), reason, ..CancelRequest::default() };
    client.answer(client.tasks().cancel(request)).await.map(drop)
}

async fn conclude(
    context: &Context,
    client: &Client,
    task: &TaskView,
    how: How,
) -> Result<Exit, CliError> {
    let ui = &context.ui;
    let id = task.id.to_string();
    if ui.is_json() {
        let reply = client.answer(client.tasks().show(ShowRequest { id })).await?;
        ui.value(&shape::shown(&reply))?;
        return Ok(exit(task, &reply.error, how));
    }
    let reply = client.answer(client.tasks().result(ResultRequest { id })).await;
    let reply = match reply {
        Ok(reply) => reply,
        // The verdict is known; a result that is gone does not change it.
        Err(error) if error.exit() == Exit::Unreachable => return Err(error),
        Err(_) => return Ok(exit(task, "", how)),
    };
    if how.data == Data::Result && !reply.result_json.is_empty() {
        ui.say(&result_text(&reply.result_json))?;
    }
    if !reply.error.is_empty() && task.exit_code.is_none() && task.signal.is_none() {
        crate::ui::warn(&escape::block(reply.error.trim_end()));
    }
    Ok(exit(task, &reply.error, how))
}

fn exit(task: &TaskView, error: &str, how: How) -> Exit {
    if how.by_code { outcome::of_program(task, error) } else { outcome::of_task(task) }
}

/// A result on one line.
fn result_text(json: &str) -> String {
    json::embedded(json).to_string()
}
