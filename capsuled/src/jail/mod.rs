//! What happens between the decision to start a program and its first instruction.
//!
//! Owns the plan of an attempt, the search for its program, the clone, the code that runs in the
//! child before exec, and the reaper that stands in for a cgroup. Knows nothing of sockets, logs or
//! deadlines. Invariant: between clone and exec only async-signal-safe calls are made and nothing
//! is allocated; a program either runs exactly as planned or the step that failed is reported.

mod child;
mod clone;
mod image;
mod plan;
mod pool;
mod reaper;
mod sweep;

pub use clone::{CannotStart, Spawner, Stdio};
pub use image::Image;
pub use plan::{Fork, Level, LogCapsPlan, Plan, Rlimit, Step};
pub use pool::{Pool, Start};
pub use reaper::{Note, Order, Reaper, Usage};
pub use sweep::{Swept, kill_children};
