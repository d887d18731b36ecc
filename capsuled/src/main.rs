//! The daemon's program.

use std::process::ExitCode;

use capsuled::{daemon, database, service, telemetry};
use clap::{Parser, Subcommand};

/// Why not the system's: see `docs/decisions/034-jemalloc.md`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The daemon of Capsule: a durable task queue with a process-isolating worker pool.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Program {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the queue in the foreground (also without a subcommand).
    Run(daemon::RunArgs),
    /// Look after the database while no daemon runs.
    #[command(subcommand)]
    Db(database::DbCommand),
    /// Own all children; started by the daemon or a service manager.
    #[command(hide = true)]
    Keeper(service::KeeperCommand),
}

fn main() -> ExitCode {
    let command = Program::parse().command;
    let result = match command.unwrap_or(Command::Run(daemon::RunArgs::default())) {
        // First of all, because it must be alone in its process.
        Command::Keeper(args) => service::keep(args),
        Command::Run(args) => {
            telemetry::start();
            daemon::run(&args).map(|()| ExitCode::SUCCESS)
        }
        Command::Db(command) => database::run(&command),
    };
    result.unwrap_or_else(|error| telemetry::explain(&error))
}
