//! Measures a real `capsuled` end to end, and in the same run the limit that each figure is to be
//! compared with, so that the ratios hold on any machine.
//!
//! Everything is private to a temporary folder and speaks over Unix sockets; every process that a
//! row starts is ended by it, also when it is interrupted. Nothing here asserts a time: the reader judges.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measuring program starts programs and prints"
)]

mod bench;
mod daemon;
mod ending;
mod limit;
mod peers;
mod proc;
mod report;
mod rows;
mod sample;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

use crate::bench::Bench;

/// Measures capsuled against the limits of this machine.
#[derive(Debug, Parser)]
struct Args {
    /// Rows to measure [default: all but those beside peers]
    #[arg(value_name = "ROW")]
    rows: Vec<String>,
    /// Fewer rounds and smaller amounts
    #[arg(long)]
    quick: bool,
    /// Show the rows and what they measure
    #[arg(long)]
    list: bool,
    /// Where capsule, capsuled and capsule-stamp are [default: beside this program]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Where the private state lies: on the disk that is to be measured
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Serve calls that do nothing
    #[arg(long, value_name = "SOCKET", hide = true)]
    serve_noop: Option<PathBuf>,
}

fn main() -> ExitCode {
    let code = run(&Args::parse()).unwrap_or_else(|error| {
        eprintln!("capsule-bench: {error:#}");
        ExitCode::FAILURE
    });
    ending::settle();
    code
}

fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(socket) = &args.serve_noop {
        limit::noop::serve(socket)?;
        return Ok(ExitCode::SUCCESS);
    }
    let known = || rows::all().iter().chain(peers::ROWS);
    if args.list {
        for row in known() {
            println!("{:<16} {}", row.name, row.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(odd) = args.rows.iter().find(|name| known().all(|row| row.name != **name)) {
        anyhow::bail!("there is no row {odd}; see capsule-bench --list");
    }
    let bench = Bench::new(args.programs.clone(), args.dir.clone(), args.quick)?;
    ending::watch();
    println!("{}", report::heading(args.quick));
    let chosen: Vec<_> = match args.rows.as_slice() {
        [] => rows::all().iter().collect(),
        asked => asked.iter().filter_map(|name| known().find(|row| row.name == *name)).collect(),
    };
    let mut failed = false;
    for row in chosen {
        eprintln!("measuring {}", row.name);
        match (row.run)(&bench).with_context(|| format!("measuring {}", row.name)) {
            Ok(lines) => lines.iter().for_each(|line| println!("{line}")),
            Err(error) => {
                eprintln!("capsule-bench: {error:#}");
                failed = true;
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
