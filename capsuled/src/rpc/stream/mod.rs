//! What goes on after the reply: logs, waits and the live feed.

pub(super) mod chat;
pub(super) mod progress;
pub(super) mod submits;
pub(super) mod tail;
pub(super) mod watch;
mod windows;

pub(super) use self::windows::{WINDOW_MAX, WINDOWS_MAX};
