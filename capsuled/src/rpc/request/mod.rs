//! From what a client asks to what the engine understands: who asks, which tasks, what to run.

pub(super) mod call;
pub(super) mod peer;
pub(super) mod search;
pub(super) mod submit;
pub(super) mod targets;
