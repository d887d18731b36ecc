//! The daemon's ends of the sockets: of the keeper's, and of those that app hosts open.

pub mod files;
pub mod host;
pub mod link;
pub mod process;
