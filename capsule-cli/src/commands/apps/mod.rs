//! Verbs about apps and their task definitions.

pub(crate) mod app;
pub(crate) mod deploy;
mod entry;
mod python;
pub(crate) mod secret;
pub(crate) mod serve;
pub(crate) mod tasks;
