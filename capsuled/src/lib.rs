//! The daemon.

pub mod jail;
pub mod keeper;
pub mod logs;
pub mod runner;
