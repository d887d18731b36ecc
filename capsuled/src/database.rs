//! `capsuled db`: looks after the database while no daemon runs.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::clock::{Clock as _, SystemClock};
use crate::daemon::explain;
use crate::engine::keep_ids;
use crate::store::{SledStore, StateDir, repair, verify};

/// What to do with the database.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum DbCommand {
    /// Read and check every record; exits 1 when something is damaged.
    Verify(DbArgs),
    /// Save every readable record into a fresh database; the damaged one is kept aside.
    Repair(DbArgs),
}

/// Which database.
#[derive(Clone, Debug, clap::Args)]
pub struct DbArgs {
    /// The daemon's state directory.
    #[arg(long, value_name = "DIR", env = "CAPSULE_STATE_DIR")]
    pub state_dir: PathBuf,
}

/// Runs one of the commands.
///
/// # Errors
/// The directory cannot be opened, read or written.
pub fn run(command: &DbCommand) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    match command {
        DbCommand::Verify(args) => {
            let state = StateDir::open_existing(&args.state_dir).map_err(explain)?;
            let report = verify(&state).map_err(explain)?;
            writeln!(out, "records     {}", counts(&report.records))?;
            if let Some(high_water) = report.high_water {
                writeln!(out, "last change {high_water}")?;
            }
            for damage in &report.damage {
                writeln!(out, "damage      {damage}")?;
            }
            let verdict = if report.is_whole() { "whole" } else { "damaged" };
            writeln!(out, "the store is {verdict}")?;
            Ok(if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        DbCommand::Repair(args) => {
            let state = StateDir::open_existing(&args.state_dir).map_err(explain)?;
            let now = jiff::Timestamp::from_microsecond(SystemClock.now().0)?;
            let repaired = repair(&state, now).map_err(explain)?;
            if repaired.high_water > repaired.durable_to {
                let opened = SledStore::open(&state, now).map_err(explain)?;
                keep_ids(&opened.store, repaired.durable_to).map_err(explain)?;
            }
            writeln!(out, "kept {}", counts(&repaired.kept))?;
            // A queue that ends too early lost whatever came later, counted nowhere.
            let undone = repaired.kept_to.filter(|kept_to| *kept_to < repaired.durable_to);
            if let Some(kept_to) = undone {
                let durable_to = repaired.durable_to;
                writeln!(
                    out,
                    "lost what changed after change {kept_to}, at least to {durable_to}"
                )?;
            }
            match repaired.lost {
                Some(0) if undone.is_some() => {}
                Some(lost) => writeln!(out, "lost {lost} records")?,
                None => writeln!(out, "lost an unknown number of records")?,
            }
            if let Some(aside) = &repaired.aside {
                writeln!(out, "the damaged queue is in {}", aside.display())?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn counts(counts: &crate::store::Counts) -> String {
    format!("{counts:?}")
}
