//! A server of somebody else: an instance of our own, with its log in our folder.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;

use crate::ending;
use crate::proc::wait_until;

/// How long a server may take until it answers, and until it has ended.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server; ended when dropped.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    by: Signal,
}

impl Server {
    /// Starts it in the foreground and waits until it answers. `by` is the signal that ends it.
    pub(super) fn start(
        mut command: Command,
        log: &Path,
        by: Signal,
        mut answers: impl FnMut() -> bool,
    ) -> anyhow::Result<Self> {
        let program = command.get_program().display().to_string();
        let words = std::fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(words.try_clone()?).stderr(words);
        let child =
            ending::spawn(&mut command, by).with_context(|| format!("starting {program}"))?;
        let mut server = Self { child, by };
        let up = wait_until(PATIENCE, || answers() || server.has_ended());
        if !up || server.has_ended() {
            anyhow::bail!("{program} did not become ready: {}", last_words(log));
        }
        Ok(server)
    }

    fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)) | Err(_))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = self.child.id();
        if !self.has_ended() {
            ending::send(pid, self.by);
        }
        if !wait_until(PATIENCE, || self.has_ended()) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
        ending::forget(pid);
    }
}

/// The end of what a program said.
pub(super) fn last_words(log: &Path) -> String {
    let said = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    lines.iter().rev().take(4).rev().copied().collect::<Vec<_>>().join(" / ")
}
