//! What is printed while it happens: logs, the status line, boards.

pub(crate) mod card;
pub(crate) mod line;
pub(crate) mod log;
pub(crate) mod screen;
