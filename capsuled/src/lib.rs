//! The daemon: owns the queue, the scheduler and the worker pool. See `ARCHITECTURE.md`.

pub mod book;
pub mod clock;
pub mod engine;
pub mod jail;
pub mod keeper;
pub mod logs;
pub mod rpc;
pub mod runner;
pub mod store;
pub mod work;
