//! Verbs that steer tasks. Several at once are named and asked for before anything is done.

pub(crate) mod cancel;
pub(crate) mod edit;
pub(crate) mod promote;
pub(crate) mod prune;
pub(crate) mod retry;
pub(crate) mod rm;

use std::collections::BTreeMap;

use capsule_proto::v1::{ActionReply, ActionResult};

use super::Context;
use crate::error::{CliError, Exit};
use crate::ui::{escape, shape, warn};

/// Asks before something is done to many tasks; `plan` is the answer to a dry run.
///
/// True when there is anything to do.
pub(crate) fn confirm(context: &Context, verb: &str, plan: &ActionReply) -> Result<bool, CliError> {
    let affected: Vec<&ActionResult> = plan.results.iter().filter(|it| affects(it)).collect();
    if affected.is_empty() {
        return Ok(false);
    }
    let mut names: BTreeMap<&str, u64> = BTreeMap::new();
    for result in &affected {
        let name = result.task.as_ref().map_or("", |task| task.name.as_str());
        *names.entry(name).or_default() += 1;
    }
    let mut names: Vec<(&str, u64)> = names.into_iter().collect();
    names.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
    let told: Vec<String> = names
        .iter()
        .filter(|(name, _)| !name.is_empty())
        .take(5)
        .map(|(name, count)| format!("{} ×{count}", escape::line(name)))
        .collect();
    let more = if names.len() > 5 { ", …" } else { "" };
    let told =
        if told.is_empty() { String::new() } else { format!(" ({}{more})", told.join(", ")) };
    let noun = if affected.len() == 1 { "task" } else { "tasks" };
    let question = format!("About to {verb} {} {noun}{told}.", affected.len());
    context.ui.confirm(&context.globals, &question)?;
    Ok(true)
}

fn affects(result: &ActionResult) -> bool {
    !matches!(result.outcome.as_str(), "already_ended" | "unchanged" | "refused")
}

/// What a dry run prints: what would happen to each task.
pub(crate) fn preview(context: &Context, mut plan: ActionReply) -> Result<Exit, CliError> {
    if !context.ui.is_json() {
        for result in &mut plan.results {
            let words = result.outcome.replace('_', " ");
            let would = if affects(result) { "would be " } else { "" };
            result.text = match result.text.as_str() {
                "" => format!("{}  {would}{words}", result.id),
                text => format!("dry run: {text}"),
            };
        }
    }
    report(context, &plan)
}

/// Prints what happened to each task; the exit code is the first that is not 0.
pub(crate) fn report(context: &Context, reply: &ActionReply) -> Result<Exit, CliError> {
    let ui = &context.ui;
    if ui.is_json() {
        let values: Vec<_> = reply.results.iter().map(shape::action).collect();
        if ui.format == crate::args::Format::Ndjson {
            values.iter().try_for_each(|value| ui.event(value))?;
        } else {
            ui.value(&values.into())?;
        }
    } else {
        for result in &reply.results {
            tell(context, result)?;
        }
    }
    Ok(reply.results.iter().find(|it| it.exit != 0).map_or(Exit::Done, |it| Exit::of(it.exit)))
}

fn tell(context: &Context, result: &ActionResult) -> Result<(), CliError> {
    let words = result.outcome.replace('_', " ");
    let text = if result.text.is_empty() { words } else { result.text.clone() };
    let named = text.contains(&result.id.to_string());
    let line = if named { text } else { format!("{}  {text}", result.id) };
    if result.exit != 0 {
        warn(&format!("error: {}", escape::line(&line)));
        return Ok(());
    }
    if context.ui.quiet { Ok(()) } else { context.ui.say(&escape::line(&line)) }
}

/// Nothing matched a filter: not an error, but said.
pub(crate) fn nothing(context: &Context) -> Result<Exit, CliError> {
    if context.ui.is_json() {
        context.ui.value(&serde_json::Value::Array(Vec::new()))?;
    } else {
        context.ui.talk("no task matches");
    }
    Ok(Exit::Done)
}
