//! `submit` and `run`: a task by its definition, or any program.
//!
//! The words of a task go to the daemon as they are; only an error or `--help` makes us ask for its
//! definition. Invariant: an id is printed only when the daemon has said that it is on disk.

mod bulk;
mod call;
mod definition;
mod follow;
mod program;
mod run;

use std::collections::BTreeSet;

use capsule_proto::v1::submit_request::Work as Wire;
use capsule_proto::v1::{SubmitReply, SubmitRequest, TaskView};

use tokio::signal::unix::{SignalKind, signal};

use super::patience::{leave, unless_interrupted};
use super::{Context, outcome};
use crate::args::Format;
use crate::args::submit::{SubmitArgs, What};
use crate::args::words::{Work, split};
use crate::client::Client;
use crate::error::{CliError, Exit};
use crate::ui::task::submitted;
use crate::ui::{escape, json, shape};
pub(crate) use definition::{fetch, unknown};
use follow::{Data, How};
pub(crate) use program::read_text;

impl SubmitArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        if let Some(rows) = &self.each {
            return bulk::run(context, &self.what, rows, self.wait).await;
        }
        if asks_help(&self.what) {
            return definition::help(context, &self.what, "submit").await;
        }
        let request = request(context, &self.what)?;
        let client = context.client().await?;
        let interrupts = self.follow.then(follow::interrupts).transpose()?;
        let reply = send(context, &client, &self.what, request).await?;
        if self.what.dry_run {
            return show_plan(context, &reply);
        }
        let task = reply.task.clone().unwrap_or_default();
        let watches = self.wait || self.follow;
        if !(watches && context.ui.is_json()) {
            announce(context, &reply, watches)?;
        }
        if let Some(interrupts) = interrupts {
            let how = How { detach: true, by_code: false, data: Data::Nothing };
            return Box::pin(follow::follow(context, &client, task, how, interrupts)).await;
        }
        if self.wait {
            let mut interrupts = signal(SignalKind::interrupt())?;
            let end = super::task::wait::ended(&client, task.id);
            let Some(task) = unless_interrupted(&mut interrupts, end).await? else {
                return Ok(leave(&[task.id.to_string()]));
            };
            return told_end(context, &task);
        }
        Ok(Exit::Done)
    }
}

fn told_end(context: &Context, task: &TaskView) -> Result<Exit, CliError> {
    if context.ui.is_json() {
        context.ui.value(&shape::task(task))?;
    } else if context.ui.talk_tty {
        crate::ui::live::line::StatusLine::new(context.ui.clone()).end(task);
    }
    Ok(outcome::of_task(task))
}

fn asks_help(what: &What) -> bool {
    matches!(&what.work, Work::Task(call) if call.help)
}

/// The request of these arguments.
pub(crate) fn request(context: &Context, what: &What) -> Result<SubmitRequest, CliError> {
    let work = match &what.work {
        Work::Nothing => {
            return Err(CliError::usage("name a task, or a program behind --")
                .hint("tasks of your apps    capsule tasks")
                .hint("any program           capsule submit -- COMMAND"));
        }
        Work::Task(call) => Wire::Call(call::message(context, what, call)?),
        Work::Program(argv) => Wire::Program(program::message(what, argv)?),
    };
    let options = Some(what.options.message()?);
    let parent_task = std::env::var("CAPSULE_TASK_ID").ok().and_then(|id| id.parse().ok());
    Ok(SubmitRequest { work: Some(work), options, dry_run: what.dry_run, parent_task })
}

/// Submits; an error about a task's arguments is told by clap with its hints.
async fn send(
    context: &Context,
    client: &Client,
    what: &What,
    request: SubmitRequest,
) -> Result<SubmitReply, CliError> {
    let error = match client.answer(client.tasks().submit(request)).await {
        Ok(reply) => return Ok(reply),
        Err(error) => error,
    };
    match &what.work {
        Work::Task(call) => Err(definition::explain(context, client, (what, call), error).await),
        Work::Nothing | Work::Program(_) => Err(error),
    }
}

/// Says what became of the submit: the id off a terminal, a line for people on one.
fn announce(context: &Context, reply: &SubmitReply, quietly: bool) -> Result<(), CliError> {
    let ui = &context.ui;
    let id = reply.task.as_ref().map_or(0, |task| task.id);
    if ui.is_json() {
        return ui.value(&shape::submitted(reply));
    }
    if ui.quiet || ui.format != Format::Table {
        return ui.say(&id.to_string());
    }
    if ui.tty || ui.talk_tty {
        ui.talk(&submitted(ui, reply));
        if !quietly {
            ui.talk(&format!("  follow: capsule tail {id}"));
        }
    }
    if ui.tty { Ok(()) } else { ui.say(&id.to_string()) }
}

/// What a submit would do.
fn show_plan(context: &Context, reply: &SubmitReply) -> Result<Exit, CliError> {
    let ui = &context.ui;
    let task = reply.task.clone().unwrap_or_default();
    if ui.is_json() {
        let mut value = shape::submitted(reply);
        if let serde_json::Value::Object(object) = &mut value {
            object.insert("dry_run".to_owned(), true.into());
        }
        ui.value(&value)?;
        return Ok(Exit::Done);
    }
    let text = format!("would submit {}  {}", task.name, task.summary);
    ui.talk(escape::line(&text).trim_end());
    if !reply.payload_json.is_empty() {
        ui.say(&format!("{:#}", json::embedded(&reply.payload_json)))?;
    }
    if reply.merged || reply.existing {
        ui.talk(&format!("it would become {}", task.id));
    }
    Ok(Exit::Done)
}

/// The flags that the task of this command line takes for its own parameters; none when none of
/// ours that stand behind its name is among them.
pub(crate) async fn shadowed(argv: &[String]) -> BTreeSet<String> {
    let Work::Task(call) = split(argv, &BTreeSet::new()).work else { return BTreeSet::new() };
    let taken: BTreeSet<String> = call.taken.into_iter().collect();
    let mut others = taken.clone();
    // Where the daemon is; only when that makes no sense either, these too may be the task's.
    let found = others.remove("socket") | others.remove("app");
    let tries = if found { vec![others, taken.clone()] } else { vec![others] };
    for left in tries {
        let definition = definition_of(argv, &left, &call.task).await;
        if let Some(flags) = definition.as_ref().map(definition::flags) {
            return if flags.is_disjoint(&taken) { BTreeSet::new() } else { flags };
        }
    }
    BTreeSet::new()
}

/// The definition of the task, asked for without the flags in `left`.
async fn definition_of(
    argv: &[String],
    left: &BTreeSet<String>,
    task: &str,
) -> Option<capsule_proto::v1::Definition> {
    let (_, context) = super::parse(argv, left).ok()?;
    let client = context.client().await.ok()?;
    fetch(&client, context.app(), task).await.ok()?.into_iter().next()
}
