//! One attempt as the keeper knows it, and the verdict made of it.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::memfd::{MFdFlags, memfd_create},
    unistd::{Pid, pipe2},
};

use super::{
    cgroup::{CgroupUse, Leaf},
    wire::{self, Attribution, How, Key, LogTally, Receipt, Source, StopWhy},
    writer::Pipes,
};
use crate::{
    jail::{CannotStart, Reaper, Usage},
    logs::LogCaps,
};

/// What holds the processes of an attempt together.
#[derive(Debug)]
pub(super) enum Body {
    /// A cgroup, watched for its end once the main process has ended.
    Cgroup { leaf: Leaf, watch: Option<OwnedFd> },
    /// A reaper.
    Reaper(Reaper),
    /// A reaper that was killed; its orphans are ours now.
    Strays,
    /// No process is left.
    Gone,
}

/// Who has the pipes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// The control thread: nothing was written yet.
    Silent,
    /// The writer.
    Moving,
    /// The writer, asked to move what is there.
    Flushing,
    /// The writer, asked to close.
    Finishing,
    /// Nobody: the log is closed.
    Closed,
}

/// A stop that has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    pub(super) why: StopWhy,
    /// A signal was sent.
    pub(super) signalled: bool,
    /// The kill was sent.
    pub(super) killed: bool,
    /// When to kill, or to kill again.
    pub(super) kill_at: Instant,
}

/// The end of the main process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exit {
    /// As `wait4` gave it.
    pub(super) status: i32,
    pub(super) how: How,
    pub(super) ended_us: u64,
    pub(super) wall: Duration,
    /// When patience with the rest of the tree, or with the disk, ends.
    pub(super) limit: Instant,
}

/// How far the daemon was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Told {
    Running,
    Ended,
    Gone,
}

#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) key: Key,
    pub(super) pid: Pid,
    pub(super) started: Instant,
    pub(super) started_us: u64,
    pub(super) deadline: Option<Instant>,
    pub(super) grace: Duration,
    pub(super) body: Body,
    pub(super) attribution: Attribution,
    pub(super) pipes: Pipes,
    pub(super) caps: LogCaps,
    pub(super) output: Output,
    pub(super) stop: Option<Stop>,
    pub(super) exit: Option<Exit>,
    pub(super) usage: Usage,
    pub(super) group: CgroupUse,
    pub(super) tally: LogTally,
    pub(super) told: Told,
    pub(super) acked: bool,
    /// The alarm that is set.
    pub(super) alarm: Option<Instant>,
}

impl Attempt {
    /// When something is to be done even if nothing happens.
    pub(super) fn next_alarm(&self) -> Option<Instant> {
        match (&self.exit, &self.stop) {
            (Some(exit), _) => (self.told != Told::Gone).then_some(exit.limit),
            (None, Some(stop)) => Some(stop.kill_at),
            (None, None) => self.deadline,
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        matches!(self.body, Body::Gone)
    }

    /// How the end that happens now came about.
    pub(super) fn how(&self) -> How {
        match &self.stop {
            Some(stop) if stop.killed => How::Killed,
            Some(stop) if stop.signalled => How::Graceful,
            Some(_) | None => How::None,
        }
    }

    /// The verdict, once the main process has ended.
    pub(super) fn verdict(&self) -> Option<wire::Ended> {
        let exit = self.exit.as_ref()?;
        let signal = libc::WIFSIGNALED(exit.status).then(|| libc::WTERMSIG(exit.status));
        Some(wire::Ended {
            key: self.key,
            exit_code: libc::WIFEXITED(exit.status).then(|| libc::WEXITSTATUS(exit.status)),
            signal,
            core_dumped: signal.is_some() && libc::WCOREDUMP(exit.status),
            stop: self.stop.as_ref().map_or(StopWhy::None, |stop| stop.why).into(),
            how: exit.how.into(),
            tree_gone: self.is_gone() && self.output == Output::Closed,
            receipt: self.receipt(exit),
            log: self.tally,
        })
    }

    fn receipt(&self, exit: &Exit) -> Receipt {
        let cpu = self.group.cpu_us.unwrap_or((self.usage.user_us, self.usage.sys_us));
        let io = self.group.io.unwrap_or((self.usage.read_bytes, self.usage.write_bytes));
        let source = |known: bool| i32::from(if known { Source::Cgroup } else { Source::Rusage });
        Receipt {
            started_us: self.started_us,
            ended_us: exit.ended_us,
            wall_us: u64::try_from(exit.wall.as_micros()).unwrap_or(u64::MAX),
            cpu_user_us: Some(cpu.0),
            cpu_sys_us: Some(cpu.1),
            cpu_source: source(self.group.cpu_us.is_some()),
            peak_rss: Some(self.group.peak.unwrap_or(self.usage.peak_rss)),
            rss_source: source(self.group.peak.is_some()),
            io_read: Some(io.0),
            io_write: Some(io.1),
            io_source: source(self.group.io.is_some()),
            attribution: self.attribution.into(),
        }
    }

    pub(super) fn item(&self) -> wire::Item {
        wire::Item {
            key: self.key,
            pid: if self.exit.is_none() { self.pid.as_raw() } else { 0 },
            started_us: self.started_us,
            cancelling: self.stop.is_some(),
            ended: self.verdict().filter(|_| self.told >= Told::Ended),
        }
    }
}

/// Whether the control thread would find something in pipes it still has.
pub(super) fn has_unread(pipes: &Pipes) -> bool {
    let mut fds: Vec<PollFd<'_>> =
        pipes.iter().flatten().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)).collect();
    let polled = !fds.is_empty() && poll(&mut fds, PollTimeout::ZERO).is_ok();
    polled && fds.iter().any(|fd| fd.revents().is_some_and(|r| r.contains(PollFlags::POLLIN)))
}

/// Pipes for output: our ends, and the ends of the child.
pub(super) fn make_pipes(event: bool) -> Result<(Pipes, Pipes), CannotStart> {
    let (mut ours, mut theirs) = (Pipes::default(), Pipes::default());
    let count = if event { 3 } else { 2 };
    for (our, their) in ours.iter_mut().zip(&mut theirs).take(count) {
        let failed = |errno| CannotStart::no_room(errno, "making a pipe");
        let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
        set_nonblocking(read.as_fd()).map_err(failed)?;
        (*our, *their) = (Some(read), Some(write));
    }
    Ok((ours, theirs))
}

fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map(|_| ())
}

/// A file in memory that a program reads as its standard input.
pub(super) fn stdin_of(bytes: &[u8]) -> Result<OwnedFd, CannotStart> {
    let failed = |errno| CannotStart::no_room(errno, "holding the standard input");
    let fd = memfd_create(c"stdin", MFdFlags::MFD_CLOEXEC).map_err(failed)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = nix::unistd::write(&fd, rest).map_err(failed)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    nix::unistd::lseek(&fd, 0, nix::unistd::Whence::SeekSet).map_err(failed)?;
    Ok(fd)
}
