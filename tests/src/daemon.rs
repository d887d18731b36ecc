//! One run of `capsuled`.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::Signal;

use crate::{processes, wait_for};

/// A daemon that was started; killed when dropped, which leaves its keeper to the home.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
}

impl Daemon {
    pub(crate) fn spawn(mut command: Command, log: File) -> Self {
        let errors = log.try_clone().unwrap();
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().unwrap();
        Self { child }
    }

    /// Its process id.
    ///
    /// # Panics
    /// The kernel gave one that no process has.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// How it ended; none while it runs.
    ///
    /// # Panics
    /// It cannot be waited for.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        processes::send(self.pid(), signal);
    }

    /// Kills it as a crash would, and waits until it has gone.
    ///
    /// # Panics
    /// It had ended before.
    pub fn kill(mut self) {
        assert!(self.ended().is_none(), "the daemon had ended before it was killed");
        self.signal(Signal::SIGKILL);
        assert_eq!(self.child.wait().unwrap().signal(), Some(9));
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// It does not end.
    pub fn end(mut self) -> ExitStatus {
        wait_for("the daemon ends", || self.ended())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
