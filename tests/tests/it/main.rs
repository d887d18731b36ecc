//! The whole path: real binaries, a real socket, real processes.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is a test module")]
#![expect(unused_crate_dependencies, reason = "the harness uses them")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "in tests, also in what their functions call"
)]

mod adoption;
mod adversary;
mod apps;
mod backup;
mod board;
mod cli;
mod durable;
mod faults;
mod hosts;
mod kill;
mod logs;
mod machine;
mod queue;
mod rounds;
mod run;
mod schedules;
mod submit;
mod web;
