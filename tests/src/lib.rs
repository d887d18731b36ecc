//! What the end-to-end tests stand on: the real `capsuled` and `capsule`, each test with a home of
//! its own, and nothing left behind.
//!
//! Owns starting, killing and ending the programs under test, and looking at what they say about
//! themselves. It must not know how they work inside. Invariant: whatever a test starts, directly
//! or through the daemon, is gone when its [`Home`] is dropped, and a keeper that is killed takes
//! all its attempts with it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "whatever the harness cannot do fails the test that asked for it, out loud"
)]

mod badfs;
mod cli;
mod clock;
mod daemon;
mod home;
pub mod power;
pub mod processes;
pub mod python;
mod random;
pub mod rpc;
pub mod trace;
mod wait;
pub mod web;

pub use badfs::{BadDisk, Faults};
pub use cli::{Cli, Output, Started};
pub use clock::{now, turned};
pub use daemon::Daemon;
pub use home::Home;
pub use random::{Random, number};
pub use wait::{PATIENCE, wait_for, wait_for_within};
