//! The flags of `capsuled run`, and what stands for those that are not given.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::unistd::{User, geteuid};

use crate::keep::KeepArgs;
use crate::keeper::Choice;
use crate::web::WebArgs;

/// What `capsuled run` is told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct RunArgs {
    /// Where the queue, logs and side files live [default: `$XDG_STATE_HOME/capsule`].
    #[arg(long, value_name = "DIR", env = "CAPSULE_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// The socket to serve [default: `$XDG_RUNTIME_DIR/capsule/capsuled.sock`].
    #[arg(long, value_name = "PATH", env = "CAPSULE_SOCKET")]
    pub socket: Option<PathBuf>,
    /// How many processes run at once [default: the number of cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub slots: Option<u32>,
    #[command(flatten)]
    pub keep: KeepArgs,
    #[command(flatten)]
    pub web: WebArgs,
    /// Who starts the keeper.
    #[arg(long, value_enum, value_name = "WHO", default_value = "own")]
    pub keeper: Option<KeeperStart>,
    /// How processes are attributed to attempts.
    #[arg(long, value_enum, default_value = "auto", hide = true)]
    pub attribution: Option<Choice>,
}

/// Who starts the keeper, which owns all processes of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum KeeperStart {
    /// The daemon, when none runs.
    Own,
    /// A service manager: the daemon waits for it.
    External,
}

/// The state directory: the one asked for, else the user's own.
///
/// # Errors
/// None was asked for, and no home folder is known.
pub fn state_dir(asked: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(dir) = asked {
        return Ok(dir.to_path_buf());
    }
    if let Some(dir) = std::env::var_os("XDG_STATE_HOME").filter(|dir| Path::new(dir).is_absolute())
    {
        return Ok(PathBuf::from(dir).join("capsule"));
    }
    let home = std::env::var_os("HOME")
        .map(PathBuf::from)
        .or_else(|| User::from_uid(geteuid()).ok().flatten().map(|user| user.dir))
        .context("no home folder is known; name one with --state-dir")?;
    Ok(home.join(".local/state/capsule"))
}

pub(super) fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1))
}
