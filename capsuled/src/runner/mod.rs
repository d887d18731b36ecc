//! Carrying attempts to their verdicts: the daemon's side of the keeper's socket.

pub mod link;
