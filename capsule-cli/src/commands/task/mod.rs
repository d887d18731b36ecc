//! Verbs that look at tasks and change nothing.

pub(crate) mod board;
pub(crate) mod events;
pub(crate) mod list;
pub(crate) mod result;
pub(crate) mod show;
pub(crate) mod tail;
pub(crate) mod wait;
mod watch;
pub(crate) mod why;
