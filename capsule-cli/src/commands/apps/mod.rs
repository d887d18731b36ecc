//! Verbs about apps and their task definitions.

pub(crate) mod app;
pub(crate) mod deploy;
pub(crate) mod schedule;
pub(crate) mod tasks;
