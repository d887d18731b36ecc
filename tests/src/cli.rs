//! The command line: runs `capsule`, never longer than a test may wait.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{PATIENCE, processes, wait_for_within};

/// One call that is being put together.
#[derive(Debug)]
pub struct Cli {
    command: Command,
    stdin: Option<Vec<u8>>,
    limit: Duration,
}

impl Cli {
    pub(crate) fn new(command: Command) -> Self {
        Self { command, stdin: None, limit: PATIENCE * 2 }
    }

    /// Adds words.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.command.args(words);
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the folder that it runs in.
    #[must_use]
    pub fn cwd(mut self, folder: impl AsRef<std::path::Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Gives it so long to end, where that is more than usual.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Gives it these bytes on its stdin.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(mut self) -> Started {
        let stdin = if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
        self.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap();
        if let (Some(bytes), Some(mut pipe)) = (self.stdin, child.stdin.take()) {
            // A program that does not read its stdin closes it; that is no failure of the test.
            std::thread::spawn(move || drop(pipe.write_all(&bytes)));
        }
        let out = Some(collect(child.stdout.take().unwrap()));
        let err = Some(collect(child.stderr.take().unwrap()));
        Started { child, out, err, limit: self.limit }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// It does not end.
    pub fn run(self) -> Output {
        self.start().end()
    }
}

fn collect(mut pipe: impl std::io::Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(pipe.read_to_end(&mut bytes));
        bytes
    })
}

/// A call that runs; killed when dropped.
#[derive(Debug)]
pub struct Started {
    child: Child,
    out: Option<JoinHandle<Vec<u8>>>,
    err: Option<JoinHandle<Vec<u8>>>,
    limit: Duration,
}

impl Started {
    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        processes::send(i32::try_from(self.child.id()).unwrap(), signal);
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// It does not end.
    pub fn end(mut self) -> Output {
        let what = format!("process {} ends", self.child.id());
        let status = wait_for_within(&what, self.limit, || self.child.try_wait().unwrap());
        let take =
            |thread: &mut Option<JoinHandle<Vec<u8>>>| thread.take().unwrap().join().unwrap();
        Output { status, out: take(&mut self.out), err: take(&mut self.err) }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // One that has ended is reaped; its id is ours until then.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a call left.
#[derive(Clone, Debug)]
pub struct Output {
    status: ExitStatus,
    /// Its stdout.
    pub out: Vec<u8>,
    /// Its stderr.
    pub err: Vec<u8>,
}

impl Output {
    /// Its exit code; 128+N when the signal N killed it.
    pub fn code(&self) -> i32 {
        let signal = self.status.signal().unwrap_or_default();
        self.status.code().unwrap_or(128 + signal)
    }

    /// Its stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Its stderr as text.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.err).into_owned()
    }

    /// Asserts how it ended; gives itself back.
    ///
    /// # Panics
    /// It ended with another code.
    #[expect(clippy::return_self_not_must_use, reason = "the assertion alone is of use")]
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "stdout: {}\nstderr: {}", self.text(), self.errors());
        self
    }

    /// Its stdout as one JSON value.
    ///
    /// # Panics
    /// It is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.out) {
            Ok(value) => value,
            Err(error) => panic!("{error}: {}\nstderr: {}", self.text(), self.errors()),
        }
    }
}
