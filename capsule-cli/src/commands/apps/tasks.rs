//! `tasks`: what can be submitted.

use std::fmt::Write as _;

use capsule_proto::v1::{Definition, Delivery, LockPolicy, Parameter};
use clap::Args;
use serde_json::Value;

use crate::commands::Context;
use crate::commands::submit::{fetch, unknown};
use crate::error::{CliError, Exit};
use crate::ui::table::{Cell, Table};
use crate::ui::task::shell_line;
use crate::ui::{Listing, Ui, color, escape, json, shape, time};

/// Show what can be submitted: the tasks of deployed apps, or all about one
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  capsule tasks\n  capsule tasks sync_leads")]
pub(crate) struct TasksArgs {
    /// Name of a task
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

impl TasksArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let client = context.client().await?;
        let ui = &context.ui;
        let name = self.name.as_deref().unwrap_or_default();
        let found = fetch(&client, context.app(), name).await?;
        match (self.name.as_deref(), found.as_slice()) {
            (Some(name), []) => return Err(unknown(context, &client, name).await),
            (Some(_), [one]) if ui.is_json() => ui.value(&shape::definition(one))?,
            (Some(_), several) if !ui.is_json() && !ui.quiet => {
                for definition in several {
                    ui.say(&explained(ui, definition))?;
                }
            }
            (None, []) if ui.tty && !ui.is_json() => {
                ui.talk("no app is deployed\n  hint: capsule deploy");
            }
            (_, several) => ui.listing(listing(several))?,
        }
        Ok(Exit::Done)
    }
}

/// Definitions as a list.
pub(super) fn listing(definitions: &[Definition]) -> Listing {
    let mut table =
        Table::new(vec!["TASK", "APP", "PARAMETERS", "RETRIES", "TIMEOUT", "LOCK", "HELP"])
            .sparing(&["RETRIES", "TIMEOUT", "LOCK", "HELP"]);
    for it in definitions {
        let params: Vec<String> = it
            .params
            .iter()
            .map(|parameter| {
                if parameter.required {
                    parameter.name.clone()
                } else {
                    format!("[{}]", parameter.name)
                }
            })
            .collect();
        table.push(vec![
            Cell::new(&it.name).style(color::BOLD),
            Cell::new(format!("{}@r{}", it.app, it.revision)),
            Cell::new(params.join(" ")),
            Cell::new(it.retries.to_string()),
            Cell::new(it.timeout_ms.filter(|ms| *ms > 0).map_or("-".to_owned(), time::millis)),
            Cell::new(lock(it)),
            Cell::new(it.help.lines().next().unwrap_or_default()),
        ]);
    }
    let json: Vec<Value> = definitions.iter().map(shape::definition).collect();
    let ids = definitions.iter().map(|it| it.name.clone()).collect();
    Listing { table, json, ids }
}

fn lock(it: &Definition) -> String {
    let policy = LockPolicy::try_from(it.lock_policy).unwrap_or_default();
    match json::name(policy.as_str_name()).as_str() {
        Some(policy) if !it.lock.is_empty() => format!("{} ({policy})", it.lock),
        Some(_) | None => it.lock.clone(),
    }
}

/// All about a definition.
fn explained(ui: &Ui, it: &Definition) -> String {
    let name = ui.paint(color::BOLD, &escape::line(&it.name));
    let mut lines = vec![format!("{name}  {}@r{}", escape::line(&it.app), it.revision)];
    let mut push = |label: &str, text: String| {
        if !text.is_empty() {
            lines.push(format!("  {label:<12} {}", escape::line(&text)));
        }
    };
    push("about", it.help.clone());
    push("runs as", runner(it));
    push("command", shell_line(&it.command));
    push("folder", it.cwd.clone());
    push("retries", format!("{} {}", it.retries, it.backoff).trim_end().to_owned());
    push("timeout", it.timeout_ms.filter(|ms| *ms > 0).map_or("none".to_owned(), time::millis));
    push("grace", time::millis(it.grace_ms));
    push("longest run", it.longest_ms.map_or("no limit".to_owned(), time::millis));
    push("lock", lock(it));
    let delivery = Delivery::try_from(it.delivery).unwrap_or_default();
    if let Value::String(delivery) = json::name(delivery.as_str_name()) {
        push("delivery", delivery.replace('_', " "));
    }
    push("queue", it.queue.clone());
    push("at once", it.concurrency.map_or(String::new(), |count| format!("at most {count}")));
    for (number, parameter) in it.params.iter().enumerate() {
        push(if number == 0 { "parameters" } else { "" }, parameter_line(parameter));
    }
    if it.more_params {
        push(
            if it.params.is_empty() { "parameters" } else { "" },
            "any other, as text or JSON".to_owned(),
        );
    }
    push("callback", it.callback_url.clone());
    push("submit", example(it));
    lines.join("\n")
}

/// What carries an attempt, in words.
fn runner(it: &Definition) -> String {
    match it.runner.as_str() {
        "loop" => "a coroutine of the app's host",
        "thread" => "a thread of the app's host",
        "process" => "a Python process of its own",
        "stock" => "a task of the SDK's own runner",
        // A program shows its command.
        _ => "",
    }
    .to_owned()
}

fn parameter_line(it: &Parameter) -> String {
    let mut text = format!("--{} {}", it.name.replace('_', "-"), it.r#type);
    if it.required {
        text.push_str(" (required)");
    }
    if let Some(default) = &it.default_json {
        let _ = write!(text, " (default {default})");
    }
    if !it.choices.is_empty() {
        let _ = write!(text, " ({})", it.choices.join(", "));
    }
    if !it.help.is_empty() {
        let _ = write!(text, "  {}", it.help);
    }
    text
}

fn example(it: &Definition) -> String {
    let required: Vec<String> = it
        .params
        .iter()
        .filter(|parameter| parameter.required)
        .map(|parameter| format!(" --{} …", parameter.name.replace('_', "-")))
        .collect();
    format!("capsule submit {}{}", it.name, required.concat())
}
