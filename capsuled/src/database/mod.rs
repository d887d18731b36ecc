//! `capsuled db`: looks after the database while no daemon runs.

mod archive;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use serde_json::json;

use self::archive::{FileArgs, StateArgs};
use crate::clock::{Clock as _, SystemClock};
use crate::daemon::state_dir;
use crate::engine::keep_ids;
use crate::store::{Compacted, SledStore, StateDir, Store as _, repair, verify};
use crate::telemetry::helped;

/// What to do with the database.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum DbCommand {
    /// Read and check every record; exits 1 when something is damaged.
    Verify(DbArgs),
    /// Save every readable record into a fresh database; the damaged one is kept aside.
    Repair(DbArgs),
    /// Give disk space back that the database no longer needs.
    Compact(StateArgs),
    /// Write records, side files, app data and revisions into one file.
    Export(FileArgs),
    /// Take such a file as the state of a directory that has none; numbers go on as they were.
    Import(FileArgs),
    /// Put back what a backup holds; what is there is put aside, and ids are not given again.
    Restore(FileArgs),
    /// Read a backup to its end and compare all sums; exits 65 when it is damaged.
    Check(FileArgs),
    /// Show the backups of a state directory.
    Backups(StateArgs),
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
    match command {
        DbCommand::Verify(args) => check(args),
        DbCommand::Repair(args) => mend(args),
        DbCommand::Compact(args) => compact(args),
        DbCommand::Export(args) => archive::export(args),
        DbCommand::Import(args) => archive::import(args),
        DbCommand::Restore(args) => archive::restore(args),
        DbCommand::Check(args) => archive::verify(args),
        DbCommand::Backups(args) => archive::backups(args),
    }
}

fn check(args: &DbArgs) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    let state = StateDir::open_existing(&args.state_dir).map_err(helped)?;
    let report = verify(&state).map_err(helped)?;
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

fn mend(args: &DbArgs) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    let state = StateDir::open_existing(&args.state_dir).map_err(helped)?;
    let now = now()?;
    let repaired = repair(&state, now).map_err(helped)?;
    if repaired.high_water > repaired.durable_to {
        let opened = SledStore::open(&state, now).map_err(helped)?;
        keep_ids(&opened.store, repaired.durable_to).map_err(helped)?;
    }
    writeln!(out, "kept {}", counts(&repaired.kept))?;
    // A queue that ends too early lost whatever came later, counted nowhere.
    let undone = repaired.kept_to.filter(|kept_to| *kept_to < repaired.durable_to);
    if let Some(kept_to) = undone {
        let durable_to = repaired.durable_to;
        writeln!(out, "lost what changed after change {kept_to}, at least to {durable_to}")?;
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

fn compact(args: &StateArgs) -> anyhow::Result<ExitCode> {
    let dir = state_dir(args.state_dir.as_deref())?;
    let state = StateDir::open_existing(&dir).map_err(helped)?;
    let opened = SledStore::open(&state, now()?).map_err(helped)?;
    let done = opened.store.compact(&AtomicBool::new(false)).map_err(helped)?;
    opened.store.close().map_err(helped)?;
    let Compacted { before, after, .. } = done;
    let text = format!("{} before, {} now", archive::size(before), archive::size(after));
    archive::say(args.json, &json!({"before": before, "after": after}), &text)
}

fn now() -> anyhow::Result<jiff::Timestamp> {
    Ok(jiff::Timestamp::from_microsecond(SystemClock.now().0)?)
}

fn counts(counts: &crate::store::Counts) -> String {
    format!("{counts:?}")
}
