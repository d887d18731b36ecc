//! The `capsule` command as a user meets it, against a daemon that is part of the test.

mod daemon;
mod errors;
mod fake;
mod help;
mod output;
mod run;
mod steer;
mod submit;
