//! `schedule import crontab`: shows what a crontab becomes, and adds it when told to.

use std::io::IsTerminal as _;
use std::path::Path;

use capsule_proto::v1::submit_request::Work;
use capsule_proto::v1::{AddScheduleRequest, Options, Program, SubmitRequest, When, when};
use clap::{Args, Subcommand};
use serde_json::json;

use super::add::local_zone;
use super::crontab::{Entry, Line, read};
use super::{upcoming, warn};
use crate::commands::Context;
use crate::commands::submit::read_text;
use crate::error::{CliError, Exit};
use crate::ui::escape;

/// Take schedules over from elsewhere
#[derive(Debug, Subcommand)]
pub(crate) enum ImportVerb {
    /// Show what a crontab becomes; with --yes, add it
    ///
    /// PATH and other variables go with each program, `%` makes its input, `flock -n` becomes a
    /// lock. Times are those of this machine's zone. The crontab stays: empty it yourself.
    #[command(after_help = "Examples:\n  crontab -l | capsule schedule import crontab -\n  \
                            capsule schedule import crontab /etc/my.cron --yes")]
    Crontab(CrontabArgs),
}

/// A crontab.
#[derive(Debug, Args)]
pub(crate) struct CrontabArgs {
    /// The file, or - for our stdin [default: our stdin, on a terminal your own crontab]
    #[arg(value_name = "FILE|-")]
    file: Option<String>,
}

impl ImportVerb {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let Self::Crontab(CrontabArgs { file }) = self;
        let text = match file {
            Some(file) => read_text(file)?,
            None => own_crontab()?,
        };
        let lines = read(&text);
        if lines.is_empty() {
            context.ui.talk("the crontab has no entries");
            return Ok(Exit::Done);
        }
        if context.globals.yes {
            return add_all(context, &lines).await;
        }
        show(context, &lines)?;
        Ok(Exit::Done)
    }
}

/// Where cron keeps the crontabs of users (Debian's crontab(1), and others').
const SPOOLS: [&str; 2] = ["/var/spool/cron/crontabs", "/var/spool/cron"];

/// What is piped to us, or this user's own crontab where it may be read.
fn own_crontab() -> Result<String, CliError> {
    if !std::io::stdin().is_terminal() {
        return read_text("-");
    }
    let user = std::env::var("USER").unwrap_or_default();
    let mut files = SPOOLS.iter().map(|spool| Path::new(spool).join(&user));
    let found = files.find_map(|file| std::fs::read_to_string(file).ok());
    found.ok_or_else(|| {
        CliError::usage("your crontab cannot be read from here")
            .hint("crontab -l | capsule schedule import crontab -")
    })
}

fn show(context: &Context, lines: &[Line]) -> Result<(), CliError> {
    let ui = &context.ui;
    if ui.is_json() {
        let rows: Vec<_> = lines.iter().map(line_json).collect();
        return ui.value(&json!(rows));
    }
    for line in lines {
        ui.say(escape::line(&format!("{:>4}  {}", line.number, line.text)).trim_end())?;
        match &line.becomes {
            Ok(entry) => {
                ui.say(escape::line(&format!("      → {}", told(entry))).trim_end())?;
                for note in &entry.notes {
                    ui.say(escape::line(&format!("        {note}")).trim_end())?;
                }
            }
            Err(why) => ui.say(&format!("      ✗ {why}"))?,
        }
    }
    ui.talk("nothing was added; to add them: the same again with --yes");
    Ok(())
}

fn told(entry: &Entry) -> String {
    let zone = entry.zone.as_deref().unwrap_or("local");
    let lock = entry.lock.as_ref().map(|lock| format!(" --lock {lock}")).unwrap_or_default();
    let stdin = if entry.stdin.is_some() { "  (with input)" } else { "" };
    format!(
        "{} --cron '{}' --tz {zone}{lock} --shell -- {}{stdin}",
        entry.name, entry.cron, entry.command
    )
}

fn line_json(line: &Line) -> serde_json::Value {
    match &line.becomes {
        Ok(entry) => json!({
            "line": line.number,
            "text": line.text,
            "name": entry.name,
            "cron": entry.cron,
            "command": entry.command,
            "stdin": entry.stdin,
            "lock": entry.lock,
            "env": entry.env,
            "zone": entry.zone,
            "notes": entry.notes,
        }),
        Err(why) => json!({"line": line.number, "text": line.text, "error": why}),
    }
}

/// Adds what can be; each line stands for itself.
async fn add_all(context: &Context, lines: &[Line]) -> Result<Exit, CliError> {
    let client = context.client().await?;
    let mut failed = 0;
    for line in lines {
        let added = match &line.becomes {
            Err(why) => Err(why.clone()),
            Ok(entry) => {
                let request = request(entry)?;
                let reply = client.answer(client.schedules().add_schedule(request)).await;
                reply.map_err(|error| error.to_string())
            }
        };
        match added {
            Ok(reply) => {
                warn(&reply.warnings);
                let schedule = reply.schedule.unwrap_or_default();
                context.ui.say(&format!("added {}, {}", schedule.label, upcoming(&schedule)))?;
            }
            Err(why) => {
                failed += 1;
                crate::ui::warn(&format!("line {}: {why}", line.number));
            }
        }
    }
    Ok(if failed == 0 { Exit::Done } else { Exit::Failure })
}

fn request(entry: &Entry) -> Result<AddScheduleRequest, CliError> {
    let zone = match &entry.zone {
        Some(zone) => zone.clone(),
        None => local_zone()?,
    };
    let mut env: std::collections::HashMap<String, String> = ["HOME", "USER", "LOGNAME", "LANG"]
        .iter()
        .filter_map(|name| std::env::var(name).ok().map(|value| ((*name).to_owned(), value)))
        .collect();
    // What cron gives unless the crontab says otherwise (crontab(5)).
    env.insert("PATH".to_owned(), "/usr/bin:/bin".to_owned());
    env.extend(entry.env.clone());
    let cwd = env.get("HOME").cloned().unwrap_or_else(|| "/".to_owned());
    let (argv, shell) = match &entry.shell {
        None => (vec![entry.command.clone()], true),
        Some(shell) => (vec![shell.clone(), "-c".to_owned(), entry.command.clone()], false),
    };
    let stdin = entry.stdin.as_ref().map(|text| text.clone().into_bytes());
    let program = Program { argv, shell, cwd, env, stdin };
    let options =
        Options { name: entry.name.clone(), lock: entry.lock.clone(), ..Options::default() };
    Ok(AddScheduleRequest {
        name: entry.name.clone(),
        when: Some(When { zone, rule: Some(when::Rule::Cron(entry.cron.clone())) }),
        policy: None,
        submit: Some(SubmitRequest {
            work: Some(Work::Program(program)),
            options: Some(options),
            ..SubmitRequest::default()
        }),
    })
}
