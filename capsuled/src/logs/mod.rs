//! Stand-in for the log writer: one raw frame after the other, no caps.

use std::{
    fs::File,
    io::Write,
    os::fd::{AsFd, OwnedFd},
};

use nix::{fcntl::OFlag, sys::stat::Mode};

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

/// How many bytes the files of one attempt may take on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogCaps {
    /// Bytes of the head file.
    pub head: u64,
    /// Bytes of the tail files together.
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
    /// Bytes written to standard output.
    pub bytes_out: u64,
    /// Bytes written to standard error.
    pub bytes_err: u64,
    /// Bytes written to the event descriptor.
    pub bytes_event: u64,
    /// Bytes that never reached a file.
    pub dropped: u64,
}

/// Writes the log of one attempt.
#[derive(Debug)]
pub struct LogWriter {
    dir: OwnedFd,
    name: String,
    file: Option<File>,
    summary: LogSummary,
}

impl LogWriter {
    /// Prepares the log of `task`.`attempt`; nothing is created before the first append.
    pub fn new(dir: OwnedFd, task: u64, attempt: u32, _caps: LogCaps) -> Self {
        Self {
            dir,
            name: format!("{task}.{attempt}.raw"),
            file: None,
            summary: LogSummary::default(),
        }
    }

    /// Appends one piece of output.
    pub fn append(&mut self, time_unix_us: u64, stream: Stream, bytes: &[u8]) {
        let len = bytes.len() as u64;
        match stream {
            Stream::Out => self.summary.bytes_out += len,
            Stream::Err => self.summary.bytes_err += len,
            Stream::Event => self.summary.bytes_event += len,
            Stream::Note => {}
        }
        if self.file.is_none() {
            let flags = OFlag::O_CREAT | OFlag::O_APPEND | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
            let made = nix::fcntl::openat(
                self.dir.as_fd(),
                &*self.name,
                flags,
                Mode::from_bits_truncate(0o600),
            );
            self.file = made.ok().map(File::from);
        }
        let Some(file) = &mut self.file else {
            self.summary.dropped += len;
            return;
        };
        let mut frame = Vec::with_capacity(bytes.len() + 13);
        frame.extend_from_slice(&time_unix_us.to_le_bytes());
        frame.push(stream as u8);
        frame.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
        frame.extend_from_slice(bytes);
        if file.write_all(&frame).is_err() {
            self.summary.dropped += len;
        }
    }

    /// Ends the log.
    #[must_use]
    pub fn close(&mut self) -> LogSummary {
        self.file = None;
        self.summary
    }
}
