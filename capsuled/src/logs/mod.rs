//! One log per attempt: what the task wrote, in order, with the time and the stream of each piece.
//!
//! Owns the format of the log files, their writer (used by the keeper, on a plain thread), their
//! reader and follower (used by the daemon, which may be of another version), and their removal.
//! Knows nothing of tasks beyond two numbers, and never turns bytes into text.
//!
//! A log is `<logs>/<task / 1000>/<task>.<attempt>.` followed by `head` (the first bytes, kept) and
//! by `t0` and `t1` (the newest bytes: when one is full the other is emptied and filled anew).
//! Invariant: each byte given to the writer has a logical offset, counted over all streams from the
//! start of the attempt, so a reader always knows exactly how many bytes it cannot see any more.

mod dir;
mod follow;
mod format;
mod ledger;
mod lines;
mod reader;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

pub use dir::{AttemptLog, LogDir};
pub use follow::LogFollower;
pub use ledger::{LOGS_MAX, LedgerThread, Standing};
pub use reader::{Batch, Chunk, Cursor, LogReader, LogSize};
pub use writer::LogWriter;

/// Where a piece of a log came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output of the task.
    Out = 1,
    /// Standard error of the task.
    Err = 2,
    /// The event descriptor of the task (NDJSON).
    Event = 3,
    /// Words of Capsule itself about the attempt.
    Note = 4,
}

/// How many bytes the files of one attempt may take on disk, frames included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogCaps {
    /// Bytes of the head file, which keeps the beginning.
    pub head: u64,
    /// Bytes of the two tail files together, which keep the end: at least half of it is the newest
    /// output once that much was written. Raised to 2 KiB when lower.
    pub tail: u64,
}

impl Default for LogCaps {
    fn default() -> Self {
        Self { head: 1 << 20, tail: 32 << 20 }
    }
}

/// What an attempt wrote, in bytes of payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSummary {
    /// Bytes written to standard output, kept or not.
    pub bytes_out: u64,
    /// Bytes written to standard error, kept or not.
    pub bytes_err: u64,
    /// Bytes written to the event descriptor, kept or not.
    pub bytes_event: u64,
    /// Bytes of all streams that never reached a file because writing failed (a full disk).
    pub dropped: u64,
}

/// A log could not be read, listed or removed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system refused.
    #[error("{doing} {name}")]
    Io {
        /// What was being done, as in `reading`.
        doing: &'static str,
        /// The file or folder, relative to the logs folder or absolute.
        name: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The file was written by a newer version in a format that this one does not know.
    #[error("reading {name}: it has log format {version}, newer than this program knows")]
    Newer {
        /// The file, relative to its shard folder.
        name: String,
        /// The version it carries.
        version: u16,
    },
}

impl LogError {
    fn io(doing: &'static str, name: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let name = name.into();
        move |source| Self::Io { doing, name, source }
    }
}
