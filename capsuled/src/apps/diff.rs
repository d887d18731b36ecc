//! What a deploy changes, a line each.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Definition, Kind, Param};

/// `+` for a new task, `-` for one that is gone, `~` for each changed option.
pub fn diff(
    before: &BTreeMap<String, Arc<Definition>>,
    after: &BTreeMap<String, Arc<Definition>>,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, new) in after {
        match before.get(name) {
            None => lines.push(format!("+ {} {name}", what(new))),
            Some(old) => {
                lines.extend(
                    changes(old, new).map(|line| format!("~ {} {name}: {line}", what(new))),
                );
            }
        }
    }
    let gone = before.iter().filter(|(name, _)| !after.contains_key(*name));
    lines.extend(gone.map(|(name, old)| format!("- {} {name}", what(old))));
    lines
}

fn what(definition: &Definition) -> &'static str {
    match definition.kind {
        Kind::Task => "task",
        Kind::Tick => "schedule",
    }
}

fn changes(old: &Definition, new: &Definition) -> impl Iterator<Item = String> {
    let fields = fields(old).into_iter().zip(fields(new));
    fields
        .filter(|((_, old), (_, new))| old != new)
        .map(|((what, old), (_, new))| format!("{what} {old} → {new}"))
}

fn fields(definition: &Definition) -> Vec<(&'static str, String)> {
    let Definition {
        name: _,
        help,
        runner,
        kind: _,
        command,
        params,
        more_params,
        retries,
        backoff,
        timeout,
        grace,
        lock,
        lock_policy,
        delivery,
        queue,
        priority,
        env,
        cwd,
        concurrency,
        no_retry_exit_codes,
        no_retry_on,
        rlimits,
        callback_url,
    } = definition;
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
    vec![
        ("help", format!("{help:?}")),
        ("runner", runner.word().to_owned()),
        ("command", format!("{:?}", command.written())),
        ("params", params.iter().map(param).collect::<Vec<_>>().join(", ")),
        ("any other argument", more_params.to_string()),
        ("retries", retries.to_string()),
        ("backoff", backoff.to_string()),
        ("timeout", or_none(timeout.map(|span| span.to_string()))),
        ("grace", grace.to_string()),
        ("lock", or_none(lock.clone())),
        ("lock_policy", format!("{lock_policy:?}").to_lowercase()),
        ("delivery", format!("{delivery:?}")),
        ("queue", queue.clone()),
        ("priority", priority.to_string()),
        // Values may be secrets.
        ("env", format!("{:?} ({:08x})", env.keys().collect::<Vec<_>>(), digest(env))),
        ("cwd", format!("{cwd:?}")),
        ("concurrency", or_none(concurrency.map(|limit| limit.to_string()))),
        ("no_retry_exit_codes", format!("{no_retry_exit_codes:?}")),
        ("no_retry_on", format!("{no_retry_on:?}").to_lowercase()),
        ("rlimits", format!("{rlimits:?}")),
        ("callback_url", or_none(callback_url.clone())),
    ]
}

fn digest(env: &BTreeMap<String, String>) -> u32 {
    let text: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}\0")).collect();
    crc32fast::hash(text.concat().as_bytes())
}

fn param(param: &Param) -> String {
    let mark = if param.required { "!" } else { "" };
    let default = param.default.as_ref().map(|value| format!("={value}")).unwrap_or_default();
    let choices = if param.choices.is_empty() {
        String::new()
    } else {
        format!("[{}]", param.choices.join("|"))
    };
    format!("{}{mark}:{}{choices}{default}", param.name, param.kind.word())
}
