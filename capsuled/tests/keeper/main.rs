//! The keeper with real children, through its socket.
#![cfg(test)]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test waits for one report among others")]
#![expect(clippy::result_large_err, reason = "the error is a report to look at")]

mod attempts;
mod folders;
mod forks;
mod harness;
mod links;
mod processes;
mod survival;
