//! What every row is given: programs, a private folder, how much to measure.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use tempfile::TempDir;

use crate::ending;

/// What every row is given.
#[derive(Debug)]
pub(crate) struct Bench {
    programs: PathBuf,
    dir: Option<PathBuf>,
    pub(crate) quick: bool,
}

impl Bench {
    /// Finds the programs.
    pub(crate) fn new(
        programs: Option<PathBuf>,
        dir: Option<PathBuf>,
        quick: bool,
    ) -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        let beside = own.parent().map(Path::to_path_buf).unwrap_or_default();
        let bench = Self { programs: programs.unwrap_or(beside), dir, quick };
        for name in ["capsule", "capsuled", "capsule-stamp"] {
            let path = bench.program(name);
            anyhow::ensure!(
                path.is_file(),
                "{} is missing; build it with cargo build --release --bins",
                path.display()
            );
        }
        let place = bench.dir.clone().unwrap_or_else(std::env::temp_dir);
        if statfs(&place).is_ok_and(|system| system.filesystem_type() == TMPFS_MAGIC) {
            let place = place.display();
            eprintln!(
                "capsule-bench: {place} lies in memory, where a sync costs nothing; see --dir"
            );
        }
        Ok(bench)
    }

    /// The path of one of our programs.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// One of our programs, to be started.
    pub(crate) fn command(&self, name: &str) -> Command {
        Command::new(self.program(name))
    }

    /// A private folder that goes away with its owner.
    pub(crate) fn folder(&self) -> anyhow::Result<TempDir> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("cb");
        let made = match &self.dir {
            Some(dir) => builder.tempdir_in(dir),
            None => builder.tempdir(),
        };
        let made = made.context("making a private folder")?;
        ending::folder(made.path());
        Ok(made)
    }

    /// How often a noisy measure is repeated.
    pub(crate) const fn rounds(&self) -> usize {
        if self.quick { 3 } else { 7 }
    }

    /// How long a round of a rate takes.
    pub(crate) const fn round(&self) -> Duration {
        if self.quick { Duration::from_millis(700) } else { Duration::from_millis(1500) }
    }

    /// An amount, or the smaller one of a quick run.
    pub(crate) const fn amount(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }
}

/// Runs a future on a runtime with one thread, as the daemon and the command line have.
pub(crate) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
