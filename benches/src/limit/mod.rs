//! What this machine can do at most: the bare operations that the daemon is made of.

pub(crate) mod log;
pub(crate) mod noop;
pub(crate) mod spawn;
pub(crate) mod store;
