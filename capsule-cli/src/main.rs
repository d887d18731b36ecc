//! `capsule`: submits, watches and steers tasks of `capsuled`.

mod args;
mod board;
mod client;
mod commands;
mod error;
mod ui;

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(commands::main().code())
}
