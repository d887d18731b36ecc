//! Verbs about the daemon, its queues and locks, and this command itself.

pub(crate) mod backup;
pub(crate) mod bare;
pub(crate) mod drain;
pub(crate) mod help;
pub(crate) mod limits;
pub(crate) mod lock;
pub(crate) mod queue;
pub(crate) mod status;
pub(crate) mod version;
