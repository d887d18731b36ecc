//! `capsuled keeper`: the keeper's command line, for the daemon that starts it and for a service
//! manager, which knows a state directory but not the store in it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use nix::poll::{PollTimeout, poll};
use uuid::Uuid;

use crate::keeper::{self, Choice, KeeperArgs};
use crate::store::store_id;
use crate::telemetry::helped;

/// What `capsuled keeper` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct KeeperCommand {
    /// Private folder of the socket.
    #[arg(long, value_name = "DIR")]
    pub runtime_dir: PathBuf,
    /// The store that the keeper serves.
    #[arg(long, value_name = "UUID", required_unless_present = "state_dir")]
    pub uuid: Option<Uuid>,
    /// The state directory of that store, in place of its id; waited for until a store is in it.
    #[arg(long, value_name = "DIR", env = "CAPSULE_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Stay where it is started, and do not end for want of work: for a service manager.
    #[arg(long)]
    pub foreground: bool,
    /// How processes are attributed to attempts.
    #[arg(long, value_enum, default_value = "auto")]
    pub attribution: Choice,
    /// Seconds without session, attempts and verdicts after which the keeper ends.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub linger_secs: u64,
}

/// Runs the keeper. Must be called before any other thread is started.
///
/// # Errors
/// The store cannot be looked at, or the keeper cannot serve.
pub fn keep(command: KeeperCommand) -> anyhow::Result<ExitCode> {
    let KeeperCommand { runtime_dir, uuid, state_dir, foreground, attribution, linger_secs } =
        command;
    let uuid = match (uuid, state_dir) {
        (Some(uuid), _) => uuid,
        (None, Some(dir)) => wait_for_store(&dir)?,
        (None, None) => anyhow::bail!("name the store with --uuid or --state-dir"),
    };
    let args = KeeperArgs { runtime_dir, uuid, attribution, linger_secs };
    let ended = if foreground { keeper::run_here(&args) } else { keeper::run(&args) };
    Ok(ended?)
}

/// The id of the store in `dir`. The daemon makes the store, and may be started after us.
fn wait_for_store(dir: &Path) -> anyhow::Result<Uuid> {
    loop {
        if let Some(uuid) = store_id(dir).map_err(helped)? {
            return Ok(uuid);
        }
        poll(&mut [], PollTimeout::from(200_u8)).context("waiting for a store")?;
    }
}
