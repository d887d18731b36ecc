//! The verbs: each has its arguments and what it does with them.
//!
//! This module takes the command line from words to an exit code. A verb asks the daemon through
//! [`Context::client`] and prints through [`Ui`]; it decides nothing that the daemon decides.

pub(crate) mod admin;
pub(crate) mod apps;
pub(crate) mod change;
pub(crate) mod chat;
pub(crate) mod outcome;
pub(crate) mod patience;
pub(crate) mod schedule;
pub(crate) mod submit;
pub(crate) mod task;
pub(crate) mod web;

use std::collections::BTreeSet;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::args::submit::{RunArgs, SubmitArgs, What};
use crate::args::words::{Split, split};
use crate::args::{Cli, Globals, Verb};
use crate::client::Client;
use crate::error::{CliError, Exit};
use crate::ui::{self, Ui};

/// What every verb is given.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) globals: Globals,
    pub(crate) ui: Ui,
}

impl Context {
    /// Connects to the daemon.
    pub(crate) async fn client(&self) -> Result<Client, CliError> {
        let deadline = self.globals.request_timeout;
        let client = Client::connect(self.globals.socket.as_deref(), deadline).await?;
        if self.ui.verbose {
            ui::warn(&format!("connected to {}", client.socket.display()));
        }
        Ok(client)
    }

    pub(crate) fn app(&self) -> Option<&str> {
        self.globals.app.as_deref()
    }
}

/// Runs the command line of this process.
pub(crate) fn main() -> Exit {
    let mut as_json = false;
    match words().and_then(|argv| {
        as_json = wants_json(&argv);
        run(&argv)
    }) {
        Ok(exit) => exit,
        Err(error) => {
            let error = with_help(error);
            ui::error::tell(&error, as_json);
            error.exit()
        }
    }
}

/// A command line that makes no sense is sent to the help of its verb, unless it has a better hint.
fn with_help(error: CliError) -> CliError {
    match &error {
        CliError::Told(told) if told.exit == Exit::Usage && told.hints.is_empty() => {}
        CliError::Told(_) | CliError::Usage(_) | CliError::BrokenPipe => return error,
    }
    let mut words = std::env::args_os().skip(1).filter_map(|word| word.into_string().ok());
    let known = Cli::command();
    match words.find_map(|word| known.find_subcommand(&word).map(|verb| verb.get_name().to_owned()))
    {
        Some(verb) => error.hint(format!("capsule {verb} --help")),
        None => error.hint("capsule --help"),
    }
}

fn words() -> Result<Vec<String>, CliError> {
    let words = std::env::args_os().enumerate().map(|(position, word)| {
        word.into_string().map_err(|word| {
            let shown = word.to_string_lossy().into_owned();
            CliError::usage(format!("argument {position} is not UTF-8: {shown}"))
        })
    });
    words.collect()
}

/// Errors are JSON when the output is; this must be known before the words make sense.
fn wants_json(argv: &[String]) -> bool {
    let own: Vec<&str> = argv.iter().map(String::as_str).take_while(|word| *word != "--").collect();
    let format = |name: &str| matches!(name, "json" | "ndjson");
    own.iter().any(|word| {
        *word == "--json"
            || word.starts_with("--json=")
            || word.strip_prefix("--format=").is_some_and(format)
            || word.strip_prefix("-o").is_some_and(format)
    }) || own.windows(2).any(
        |pair| matches!(pair, [flag, name] if matches!(*flag, "-o" | "--format") && format(name)),
    ) || std::env::var("CAPSULE_FORMAT").is_ok_and(|name| format(&name))
}

fn run(argv: &[String]) -> Result<Exit, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let nothing = BTreeSet::new();
    let done = runtime.block_on(async {
        match attempt(argv, &nothing).await {
            Err(error) if may_be_shadowed(&error) => {
                let shadowed = submit::shadowed(argv).await;
                if shadowed.is_empty() { Err(error) } else { attempt(argv, &shadowed).await }
            }
            done => done,
        }
    });
    // Stdin may be read by a thread that nothing ends.
    runtime.shutdown_background();
    done
}

/// Whether a flag of ours that stands behind a task's name may be why the words made no sense.
/// Nothing was queued: a daemon refuses words whose flags the definition wants for itself.
fn may_be_shadowed(error: &CliError) -> bool {
    let codes = ["shadowed", "usage", "unreadable", "not_running", "not_found", "unknown_task"];
    codes.contains(&error.code())
}

async fn attempt(argv: &[String], shadowed: &BTreeSet<String>) -> Result<Exit, CliError> {
    let (verb, context) = parse(argv, shadowed)?;
    if context.globals.json.as_deref() == Some("help") {
        context.ui.say(&ui::json::help())?;
        return Ok(Exit::Done);
    }
    match verb {
        Some(verb) => dispatch(&verb, &context).await,
        None => Box::pin(admin::bare::run(&context)).await,
    }
}

/// Reads the words; flags in `shadowed` belong to the task when they stand behind its name.
pub(crate) fn parse(
    argv: &[String],
    shadowed: &BTreeSet<String>,
) -> Result<(Option<Verb>, Context), CliError> {
    let split = split(argv, shadowed);
    let command = crate::args::command(&split);
    let Split { words, work } = split;
    let matches = command.try_get_matches_from(words)?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    if let Some(what) = cli.verb.as_mut().and_then(what_of) {
        what.work = work;
    }
    let ui = Ui::new(&cli.globals);
    Ok((cli.verb, Context { globals: cli.globals, ui }))
}

fn what_of(verb: &mut Verb) -> Option<&mut What> {
    if let Verb::Submit(SubmitArgs { what, .. }) | Verb::Run(RunArgs { what, .. }) = verb {
        return Some(what);
    }
    None
}

async fn dispatch(verb: &Verb, context: &Context) -> Result<Exit, CliError> {
    match verb {
        Verb::Submit(args) => Box::pin(args.run(context)).await,
        Verb::Run(args) => Box::pin(args.run(context)).await,
        Verb::List(args) => Box::pin(args.run(context)).await,
        Verb::Show(args) => Box::pin(args.run(context)).await,
        Verb::Tail(args) => Box::pin(args.run(context)).await,
        Verb::Result(args) => Box::pin(args.run(context)).await,
        Verb::Wait(args) => Box::pin(args.run(context)).await,
        Verb::Why(args) => Box::pin(args.run(context)).await,
        Verb::Board(args) => Box::pin(args.run(context)).await,
        Verb::Web => Box::pin(web::run(context)).await,
        Verb::Chat(args) => Box::pin(args.run(context)).await,
        Verb::Events(args) => Box::pin(args.run(context)).await,
        Verb::Cancel(args) => Box::pin(args.run(context)).await,
        Verb::Retry(args) => Box::pin(args.run(context)).await,
        Verb::Promote(args) => Box::pin(args.run(context)).await,
        Verb::Edit(args) => Box::pin(args.run(context)).await,
        Verb::Rm(args) => Box::pin(args.run(context)).await,
        Verb::Prune(args) => Box::pin(args.run(context)).await,
        Verb::Deploy(args) => Box::pin(args.run(context)).await,
        Verb::App(args) => Box::pin(args.run(context)).await,
        Verb::Tasks(args) => Box::pin(args.run(context)).await,
        Verb::Serve(args) => Box::pin(args.run(context)).await,
        Verb::Secret(verb) => Box::pin(verb.run(context)).await,
        Verb::Schedule(args) => Box::pin(args.run(context)).await,
        Verb::Queue(args) => Box::pin(args.run(context)).await,
        Verb::Lock(args) => Box::pin(args.run(context)).await,
        Verb::Backup(verb) => Box::pin(verb.run(context)).await,
        Verb::Drain(args) => Box::pin(args.run(context)).await,
        Verb::Status => Box::pin(admin::status::run(context)).await,
        Verb::Limits => Box::pin(admin::limits::run(context)).await,
        Verb::Version => Box::pin(admin::version::run(context)).await,
        Verb::Help(args) => args.run(context),
    }
}
