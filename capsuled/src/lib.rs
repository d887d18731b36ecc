//! The daemon: owns the queue, the scheduler and the worker pool. See `ARCHITECTURE.md`.

pub mod appdata;
pub mod apps;
pub mod book;
pub mod bridge;
pub mod callback;
pub mod clock;
pub mod daemon;
pub mod database;
pub mod deploying;
pub mod dispatcher;
pub mod engine;
mod failpoint;
pub mod gateway;
pub mod jail;
pub mod keep;
pub mod keeper;
pub mod logs;
pub mod rpc;
pub mod runner;
pub mod schedule;
pub mod secrets;
pub mod service;
pub mod socket;
pub mod store;
pub mod telemetry;
pub mod text;
pub mod work;
