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

use crate::keeper::{
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
pub(in crate::keeper) enum Body {
    /// A cgroup, watched for its end once the main process has ended.
    Cgroup { leaf: Leaf, watched: bool },
    /// A reaper.
    Reaper(Reaper),
    /// A reaper that was killed; its orphans are ours now.
    Strays,
    /// No process is left.
    Gone,
}

/// Who has the pipes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::keeper) enum Output {
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
pub(in crate::keeper) struct Stop {
    pub(in crate::keeper) why: StopWhy,
    /// A signal was sent.
    pub(in crate::keeper) signalled: bool,
    /// The kill was sent.
    pub(in crate::keeper) killed: bool,
    /// When to kill, or to kill again.
    pub(in crate::keeper) kill_at: Instant,
}

/// The end of the main process.
#[derive(Clone, Copy, Debug)]
pub(in crate::keeper) struct Exit {
    /// As `wait4` gave it.
    pub(in crate::keeper) status: i32,
    pub(in crate::keeper) how: How,
    pub(in crate::keeper) ended_us: u64,
    pub(in crate::keeper) wall: Duration,
    /// When patience with the rest of the tree, or with the disk, ends.
    pub(in crate::keeper) limit: Instant,
}

/// How far the daemon was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::keeper) enum Told {
    Running,
    Ended,
    Gone,
}

#[derive(Debug)]
pub(in crate::keeper) struct Attempt {
    pub(in crate::keeper) key: Key,
    pub(in crate::keeper) pid: Pid,
    pub(in crate::keeper) started: Instant,
    pub(in crate::keeper) started_us: u64,
    pub(in crate::keeper) deadline: Option<Instant>,
    pub(in crate::keeper) grace: Duration,
    pub(in crate::keeper) body: Body,
    pub(in crate::keeper) attribution: Attribution,
    pub(in crate::keeper) pipes: Pipes,
    pub(in crate::keeper) caps: LogCaps,
    pub(in crate::keeper) output: Output,
    pub(in crate::keeper) stop: Option<Stop>,
    pub(in crate::keeper) exit: Option<Exit>,
    pub(in crate::keeper) usage: Usage,
    pub(in crate::keeper) group: CgroupUse,
    pub(in crate::keeper) tally: LogTally,
    pub(in crate::keeper) told: Told,
    pub(in crate::keeper) acked: bool,
    /// The alarm that is set.
    pub(in crate::keeper) alarm: Option<Instant>,
}

impl Attempt {
    /// When something is to be done even if nothing happens.
    pub(in crate::keeper) fn next_alarm(&self) -> Option<Instant> {
        match (&self.exit, &self.stop) {
            (Some(exit), _) => (self.told != Told::Gone).then_some(exit.limit),
            (None, Some(stop)) => Some(stop.kill_at),
            (None, None) => self.deadline,
        }
    }

    pub(in crate::keeper) fn is_gone(&self) -> bool {
        matches!(self.body, Body::Gone)
    }

    /// How the end that happens now came about.
    pub(in crate::keeper) fn how(&self) -> How {
        match &self.stop {
            Some(stop) if stop.killed => How::Killed,
            Some(stop) if stop.signalled => How::Graceful,
            Some(_) | None => How::None,
        }
    }

    /// The verdict, once the main process has ended.
    pub(in crate::keeper) fn verdict(&self) -> Option<wire::Ended> {
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

    pub(in crate::keeper) fn item(&self) -> wire::Item {
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
pub(in crate::keeper) fn has_unread(pipes: &Pipes) -> bool {
    let mut fds: Vec<PollFd<'_>> =
        pipes.iter().flatten().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)).collect();
    let polled = !fds.is_empty() && poll(&mut fds, PollTimeout::ZERO).is_ok();
    polled && fds.iter().any(|fd| fd.revents().is_some_and(|r| r.contains(PollFlags::POLLIN)))
}

/// Pipes for output: our ends, and the ends of the child.
pub(in crate::keeper) fn make_pipes(event: bool) -> Result<(Pipes, Pipes), CannotStart> {
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
pub(in crate::keeper) fn stdin_of(bytes: &[u8]) -> Result<OwnedFd, CannotStart> {
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
