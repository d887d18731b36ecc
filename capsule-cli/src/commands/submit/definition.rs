//! What a task's definition says, by a clap command built from it: help, and errors with hints.

use std::collections::BTreeSet;

use capsule_proto::v1::{Definition, DefinitionsRequest, Parameter};
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Args as _, Command};

use crate::args::submit::{RunArgs, SubmitArgs, What};
use crate::args::words::{Call, Work};
use crate::client::Client;
use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::ui::escape;

/// The definitions of a name; all of them for an empty one.
pub(crate) async fn fetch(
    client: &Client,
    app: Option<&str>,
    name: &str,
) -> Result<Vec<Definition>, CliError> {
    let (app, name) = (app.unwrap_or_default().to_owned(), name.to_owned());
    let request = DefinitionsRequest { app, name };
    match client.answer(client.apps().definitions(request)).await {
        Ok(reply) => Ok(reply.definitions),
        Err(error) if matches!(error.code(), "unknown_task" | "not_found") => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Flags that the task's own parameters take.
pub(super) fn flags(definition: &Definition) -> BTreeSet<String> {
    let mut flags = BTreeSet::new();
    for parameter in &definition.params {
        let flag = flag(&parameter.name);
        if parameter.r#type == "bool" {
            flags.insert(format!("no-{flag}"));
        }
        flags.insert(flag);
        flags.insert(parameter.name.clone());
    }
    flags
}

fn flag(name: &str) -> String {
    name.replace('_', "-")
}

/// Prints the help of the task that is named.
pub(super) async fn help(context: &Context, what: &What, verb: &str) -> Result<Exit, CliError> {
    let Work::Task(call) = &what.work else { return Ok(Exit::Done) };
    let client = context.client().await?;
    match fetch(&client, context.app(), &call.task).await?.first() {
        Some(definition)
            if call.taken.iter().any(|it| it == "help" && flags(definition).contains(it)) =>
        {
            let message = format!("--help is a parameter of {}", call.task);
            Err(CliError::new(Exit::Usage, "shadowed", message))
        }
        Some(definition) => {
            let mut command = command(definition, verb);
            context.ui.block(&command.render_long_help().to_string())?;
            Ok(Exit::Done)
        }
        None => Err(unknown(context, &client, &call.task).await),
    }
}

/// The precise error of a refused call, in clap's words when clap finds what is wrong.
pub(super) async fn explain(
    context: &Context,
    client: &Client,
    (what, call): (&What, &Call),
    error: CliError,
) -> CliError {
    match error.code() {
        "invalid_argument" | "usage" | "invalid_arguments" => {}
        "not_found" | "unknown_task" | "task_not_found" => {
            let found = fetch(client, context.app(), &call.task).await;
            if found.is_ok_and(|found| found.is_empty()) {
                return unknown(context, client, &call.task).await;
            }
            return error;
        }
        _ => return error,
    }
    let Ok(found) = fetch(client, context.app(), &call.task).await else { return error };
    let Some(definition) = found.first() else {
        return unknown(context, client, &call.task).await;
    };
    // clap knows the parameters alone.
    if definition.more_params {
        return error;
    }
    let given = &what.arguments;
    let mut command = command(definition, "submit");
    if given.payload.is_some() || !given.param.is_empty() || !given.param_json.is_empty() {
        command = command.mut_args(|arg| arg.required(false));
    }
    let words = std::iter::once(call.task.clone()).chain(call.raw.iter().cloned());
    match command.try_get_matches_from_mut(words) {
        Ok(_) => error,
        Err(precise) => CliError::from(precise),
    }
}

/// There is no such task; one with a similar name may be meant.
pub(crate) async fn unknown(context: &Context, client: &Client, name: &str) -> CliError {
    let error = CliError::new(Exit::Usage, "unknown_task", format!("unrecognized task '{name}'"));
    let known = fetch(client, context.app(), "").await.unwrap_or_default();
    let similar = similar(known.iter().map(|it| it.name.clone()), name);
    if !similar.is_empty() {
        let (noun, verb) = if similar.len() == 1 {
            ("a similar task", "exists")
        } else {
            ("similar tasks", "exist")
        };
        let names: Vec<String> = similar.iter().map(|name| format!("'{name}'")).collect();
        return error.hint(format!("tip: {noun} {verb}: {}", names.join(", ")));
    }
    if known.is_empty() {
        return error
            .hint("no app is deployed            capsule deploy")
            .hint(format!("a program stands behind --    capsule submit -- {name}"));
    }
    error.hint("all tasks    capsule tasks")
}

/// Names that clap holds for similar.
fn similar(known: impl Iterator<Item = String>, name: &str) -> Vec<String> {
    let names: BTreeSet<String> = known.filter(|name| !name.is_empty()).collect();
    let mut command = Command::new("capsule")
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .subcommands(names.into_iter().map(Command::new));
    let Err(error) = command.try_get_matches_from_mut(["capsule", name]) else { return Vec::new() };
    match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::String(one)) => vec![one.clone()],
        Some(ContextValue::Strings(several)) => several.clone(),
        _ => Vec::new(),
    }
}

/// A command whose flags are the task's parameters and, where no parameter has their name, ours.
pub(super) fn command(definition: &Definition, verb: &str) -> Command {
    let mut taken = BTreeSet::new();
    let mut command = Command::new(definition.name.clone())
        .bin_name(format!("capsule {verb} {}", definition.name))
        .disable_help_flag(true)
        .disable_version_flag(true)
        .no_binary_name(false);
    if !definition.help.is_empty() {
        command = command.about(escape::block(&definition.help).into_owned());
    }
    for parameter in &definition.params {
        for arg in parameter_args(parameter) {
            let long = arg.get_long().unwrap_or_default().to_owned();
            if taken.insert(long) {
                command = command.arg(arg.help_heading("Task parameters"));
            }
        }
    }
    let own = if verb == "run" {
        RunArgs::augment_args(Command::new("own"))
    } else {
        SubmitArgs::augment_args(Command::new("own"))
    };
    for arg in own.get_arguments() {
        let long = arg.get_long().unwrap_or_default();
        if !taken.contains(long) && for_tasks(long) {
            command = command.arg(arg.clone().help_heading("Capsule options"));
        }
    }
    // Errors name `--help` as long as no parameter is called so.
    command.disable_help_flag(taken.contains("help"))
}

/// Flags of ours that make sense beside a task's name.
fn for_tasks(long: &str) -> bool {
    !matches!(long, "shell" | "env" | "env-all" | "stdin" | "each" | "name" | "")
}

fn parameter_args(parameter: &Parameter) -> Vec<Arg> {
    let long = flag(&parameter.name);
    let odd = |c: char| c.is_whitespace() || c == '=' || c.is_control();
    if long.is_empty() || long.starts_with('-') || long.contains(odd) {
        return Vec::new();
    }
    let mut arg = Arg::new(format!("param:{}", parameter.name))
        .long(long.clone())
        .help(help_text(parameter))
        .required(parameter.required)
        .value_name(value_name(parameter));
    arg = match parameter.r#type.as_str() {
        "bool" => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        "list" => arg.action(ArgAction::Append),
        _ => arg,
    };
    arg = checked(arg, parameter);
    if parameter.r#type != "bool" {
        return vec![arg.allow_negative_numbers(true)];
    }
    let no = Arg::new(format!("no:{}", parameter.name))
        .long(format!("no-{long}"))
        .action(ArgAction::SetTrue)
        .hide(true);
    // Either spelling says it, so clap cannot ask for one of them.
    vec![arg.required(false), no]
}

fn checked(arg: Arg, parameter: &Parameter) -> Arg {
    if !parameter.choices.is_empty() {
        return arg.value_parser(parameter.choices.clone());
    }
    match parameter.r#type.as_str() {
        "int" => arg.value_parser(|text: &str| match text.parse::<i64>() {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err(error.to_string()),
        }),
        "float" => arg.value_parser(|text: &str| match text.parse::<f64>() {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err(error.to_string()),
        }),
        "bool" => arg.value_parser(["true", "false"]),
        _ => arg,
    }
}

fn value_name(parameter: &Parameter) -> String {
    match parameter.r#type.as_str() {
        "" => "VALUE".to_owned(),
        "str" => "TEXT".to_owned(),
        "list" => "ITEM".to_owned(),
        name => name.to_ascii_uppercase(),
    }
}

fn help_text(parameter: &Parameter) -> String {
    let mut parts = Vec::new();
    if !parameter.help.is_empty() {
        parts.push(escape::block(&parameter.help).into_owned());
    }
    if parameter.required {
        parts.push("[required]".to_owned());
    }
    if let Some(default) = &parameter.default_json {
        parts.push(format!("[default: {default}]"));
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Globals;

    fn parameter(name: &str, kind: &str) -> Parameter {
        Parameter { name: name.to_owned(), r#type: kind.to_owned(), ..Parameter::default() }
    }

    fn sync_leads() -> Definition {
        let owner = Parameter {
            required: true,
            help: "Whose leads".to_owned(),
            ..parameter("owner_id", "str")
        };
        let limit = Parameter { default_json: Some("50".to_owned()), ..parameter("limit", "int") };
        let mode = Parameter {
            choices: vec!["full".to_owned(), "delta".to_owned()],
            ..parameter("mode", "str")
        };
        Definition {
            name: "sync_leads".to_owned(),
            help: "Sync the leads of an owner".to_owned(),
            params: vec![owner, limit, mode, parameter("dry", "bool"), parameter("tags", "list")],
            ..Definition::default()
        }
    }

    fn error_of(line: &str) -> String {
        let words = std::iter::once("sync_leads").chain(line.split_whitespace());
        match command(&sync_leads(), "submit").try_get_matches_from(words) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_definition_with_every_reserved_name_builds() {
        let own = SubmitArgs::augment_args(Globals::augment_args(RunArgs::augment_args(
            Command::new("all"),
        )));
        let mut params: Vec<Parameter> = own
            .get_arguments()
            .filter_map(|arg| arg.get_long())
            .flat_map(|long| [parameter(long, "str"), parameter(&long.replace('-', "_"), "bool")])
            .collect();
        let odd = ["help", "version", "no_help", "", "-x", "a b", "a=b", "日本", "h", "param:x"];
        params.extend(odd.map(|name| parameter(name, "bool")));
        let definition = Definition { params, ..sync_leads() };
        for verb in ["submit", "run"] {
            command(&definition, verb).debug_assert();
            command(&definition, verb).render_long_help();
        }
    }

    #[test]
    fn a_plain_definition_passes_claps_own_check() {
        command(&sync_leads(), "submit").debug_assert();
        command(&sync_leads(), "run").debug_assert();
    }

    #[test]
    fn good_words_pass() {
        for line in [
            "--owner-id acme",
            "--owner-id=acme --limit -5 --mode full --dry --tags a --tags b",
            "--owner-id acme --no-dry",
            "--owner-id acme --dry=false",
        ] {
            assert_eq!(error_of(line), "", "{line}");
        }
    }

    #[test]
    fn errors_say_what_is_meant() {
        let cases = [
            ("--owner-idd acme", "a similar argument exists: '--owner-id'"),
            ("--owner-id", "a value is required for '--owner-id <TEXT>'"),
            ("--limit 5", "--owner-id <TEXT>"),
            ("--owner-id a --limit many", "invalid value 'many' for '--limit <INT>'"),
            ("--owner-id a --mode ful", "[possible values: full, delta]"),
            ("--owner-id a extra", "unexpected argument 'extra'"),
        ];
        for (line, expected) in cases {
            let told = error_of(line);
            assert!(told.contains(expected), "{line}: {told}");
        }
    }

    #[test]
    fn similar_names_are_found() {
        let known = || ["sync_leads", "report"].map(str::to_owned).into_iter();
        assert_eq!(similar(known(), "sync_lead"), ["sync_leads"]);
        assert!(similar(known(), "zzz").is_empty());
    }

    #[test]
    fn flags_have_both_spellings() {
        let flags = flags(&sync_leads());
        for flag in ["owner-id", "owner_id", "dry", "no-dry"] {
            assert!(flags.contains(flag), "{flag}");
        }
    }
}
