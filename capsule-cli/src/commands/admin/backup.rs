//! `backup`: the whole state in one file. Making one is asked of the daemon; looking at one,
//! checking and restoring is done by `capsuled db`, which works without a daemon and which this
//! process becomes.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use capsule_proto::v1::CreateBackupRequest;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::commands::Context;
use crate::commands::admin::status;
use crate::error::{CliError, Exit};

/// Save everything into one file while the daemon runs, list, verify and restore such files
#[derive(Debug, Subcommand)]
pub(crate) enum BackupVerb {
    /// Write tasks, payloads, results, app data and revisions into one file
    #[command(
        after_help = "Not in it: secrets and logs.\n\nExamples:\n  capsule backup create\n  \
                      capsule backup create before-upgrade\n  capsule backup create /mnt/usb/capsule.capsule"
    )]
    Create {
        /// A name, or a path [default: the time]
        #[arg(value_name = "NAME|PATH")]
        name: Option<PathBuf>,
    },
    /// Show backups, the newest first
    #[command(visible_alias = "ls")]
    List(Place),
    /// Read a backup to its end and compare every checksum; exit 65 when it is damaged
    Verify {
        /// A name, or a path
        #[arg(value_name = "NAME|PATH")]
        name: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Put back what a backup holds, while no daemon runs; what is there is put aside
    #[command(
        after_help = "Tasks that ran when the backup was made are taken for lost and tried again as \
                      their retries allow.\nIds that were given since are not given again.\n\n\
                      Examples:\n  capsule backup restore before-upgrade"
    )]
    Restore {
        /// A name, or a path
        #[arg(value_name = "NAME|PATH")]
        name: PathBuf,
        #[command(flatten)]
        place: Place,
    },
}

/// Where backups lie.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// State directory of the daemon
    #[arg(long, value_name = "DIR", env = "CAPSULE_STATE_DIR", hide_env_values = true)]
    state_dir: Option<PathBuf>,
}

impl BackupVerb {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        match self {
            Self::Create { name } => create(context, name.as_deref()).await,
            Self::List(place) => {
                let dir = place.of(context).await;
                become_capsuled(context, "backups", None, dir).map(|never| match never {})
            }
            Self::Verify { name, place } => {
                let dir = place.of(context).await;
                become_capsuled(context, "check", Some(name), dir).map(|never| match never {})
            }
            Self::Restore { name, place } => {
                stopped(context, name, place).await?;
                let dir = place.state_dir.clone();
                become_capsuled(context, "restore", Some(name), dir).map(|never| match never {})
            }
        }
    }
}

async fn create(context: &Context, name: Option<&Path>) -> Result<Exit, CliError> {
    let name = name.map(Path::as_os_str).unwrap_or_default();
    let mut name =
        name.to_str().ok_or_else(|| CliError::usage("the name is not UTF-8"))?.to_owned();
    if name.contains('/') {
        name = std::path::absolute(&name)?.display().to_string();
    }
    let client = context.client().await?.patient();
    let made = client.answer(client.daemon().create_backup(CreateBackupRequest { name })).await?;
    let ui = &context.ui;
    if ui.is_json() {
        ui.value(&json!({
            "path": made.path,
            "taken_us": made.taken_us,
            "bytes": made.bytes,
            "tasks": made.tasks,
            "records": made.records,
            "files": made.files,
            "left_out": made.left_out,
        }))?;
    } else {
        ui.say(&made.path)?;
        let without = made.left_out.join(" and ");
        ui.talk(&format!("{} tasks, {} bytes; without {without}", made.tasks, made.bytes));
    }
    Ok(Exit::Done)
}

impl Place {
    /// The directory asked for, else that of the daemon that runs, else the usual one.
    async fn of(&self, context: &Context) -> Option<PathBuf> {
        if self.state_dir.is_some() {
            return self.state_dir.clone();
        }
        let client = context.client().await.ok()?;
        status::ask(&client).await.ok().map(|status| PathBuf::from(status.state_dir))
    }
}

/// Refuses while a daemon uses the state.
async fn stopped(context: &Context, name: &Path, place: &Place) -> Result<(), CliError> {
    let Ok(client) = context.client().await else { return Ok(()) };
    let status = status::ask(&client).await?;
    let same = place.state_dir.as_ref().is_none_or(|dir| {
        let real = |dir: &Path| std::fs::canonicalize(dir).ok();
        real(dir).is_some_and(|dir| Some(dir) == real(Path::new(&status.state_dir)))
    });
    if !same {
        return Ok(());
    }
    let (pid, name) = (status.pid, name.display());
    let dir = status.state_dir;
    Err(CliError::new(Exit::Refused, "running", format!("a daemon runs on {dir} (process {pid})"))
        .hint(format!("stop it with its tasks    kill -INT {pid}"))
        .hint(format!("then    capsule backup restore {name} --state-dir {dir}")))
}

/// Goes on as `capsuled db`, from beside this program or from the search path.
fn become_capsuled(
    context: &Context,
    verb: &str,
    file: Option<&PathBuf>,
    dir: Option<PathBuf>,
) -> Result<Infallible, CliError> {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("capsuled"));
    let program = beside.filter(|path| path.is_file()).unwrap_or_else(|| "capsuled".into());
    let mut words: Vec<OsString> = vec!["capsuled".into(), "db".into(), verb.into()];
    words.extend(context.ui.is_json().then(|| OsString::from("--json")));
    if let Some(dir) = dir {
        words.extend(["--state-dir".into(), dir.into()]);
    }
    if let Some(file) = file {
        words.extend(["--".into(), file.into()]);
    }
    let text = |word: OsString| {
        CString::new(word.into_vec()).map_err(|_| CliError::usage("a zero byte in an argument"))
    };
    let words: Vec<CString> = words.into_iter().map(text).collect::<Result<_, _>>()?;
    let shown = program.display().to_string();
    nix::unistd::execvp(&text(program.into())?, &words).map_err(|errno| {
        CliError::new(Exit::Failure, "no_capsuled", format!("cannot run {shown}: {errno}"))
            .hint("install capsuled beside capsule, or put it on PATH")
    })
}
