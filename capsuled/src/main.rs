//! The daemon's program.

use std::process::ExitCode;

use capsuled::keeper::{self, KeeperArgs};
use clap::Parser;

#[derive(Parser)]
enum Program {
    /// Owns all children; started by the daemon.
    #[command(hide = true)]
    Keeper(KeeperArgs),
}

fn main() -> anyhow::Result<ExitCode> {
    match Program::parse() {
        Program::Keeper(args) => Ok(keeper::run(&args)?),
    }
}
