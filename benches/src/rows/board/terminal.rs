//! The real `capsule board` on a terminal that `script` makes.

use std::io::Write as _;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use anyhow::Context as _;
use nix::sys::signal::Signal;

use super::{Screen, pass_on};
use crate::bench::Bench;
use crate::daemon::Daemon;
use crate::ending;
use crate::limit::spawn::quiet;

/// A board on a terminal of 120 columns and 40 rows.
#[derive(Debug)]
pub(super) struct Terminal {
    child: Child,
    keys: ChildStdin,
    reader: Option<JoinHandle<()>>,
    pub(super) screen: Screen,
}

impl Terminal {
    /// Opens it and waits for its first picture.
    pub(super) fn open(bench: &Bench, daemon: &Daemon) -> anyhow::Result<Self> {
        let capsule = bench.program("capsule");
        let board = format!("stty rows 40 cols 120; exec '{}' board", capsule.display());
        let mut command = quiet("script");
        command
            .args(["-qfc", &board, "/dev/null"])
            .env("TERM", "xterm")
            .env("CAPSULE_SOCKET", daemon.socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = ending::spawn(&mut command, Signal::SIGKILL).context("starting script")?;
        let keys = child.stdin.take().context("no keys")?;
        let output = child.stdout.take().context("no screen")?;
        let (sender, pieces) = channel();
        let reader = Some(std::thread::spawn(move || pass_on(output, &sender)));
        let mut screen = Screen::new(pieces);
        screen.until("live")?;
        Ok(Self { child, keys, reader, screen })
    }

    /// Leaves the board by its key.
    pub(super) fn leave(mut self) -> anyhow::Result<()> {
        self.keys.write_all(b"q")?;
        anyhow::ensure!(self.child.wait()?.success(), "capsule board did not end well");
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        ending::forget(self.child.id());
        drop(self.reader.take().map(JoinHandle::join));
    }
}
