//! What a task is and what may happen to it.
//!
//! No I/O, no async, no clock: [`decide`] is a function of a task, a command and an instant.
//! Losing a daemon in the middle loses nothing, because recovery goes through the same code.
//!
//! ```text
//! submit ─► scheduled ─due─► pending ─claim─► claimed ─start─► running ─► completed
//!                               ▲                                  │ ├──► failed
//!                               ├──────── due ── retry ◄───────────┘ ├──► timeout
//!                               └── retry command ◄── failed/timeout/cancelled
//! ```

pub mod command;
pub mod event;
pub mod id;
pub mod lock;
pub mod pick;
pub mod retry;
pub mod task;
pub mod time;
mod transition;

#[cfg(test)]
mod fixture;

pub use task::{attempt, spec};
pub use transition::{LOSSES_MAX, NO_RESOURCES_PAUSE, Rejected, decide, evolve};
