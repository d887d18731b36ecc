//! Two processes that watch each other. The guard adopts what the keeper leaves, and only waits; if
//! either dies by force, the other kills everything below.
#![expect(unsafe_code, reason = "forks of a process that has a single thread")]

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    process::ExitCode,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe, setsid},
};

use super::{Keeper, KeeperError, cgroup::Base, control};
use crate::jail::kill_children;

/// Leaves the starter: makes the guard and, below it, the keeper. In the starter it returns when the
/// keeper listens; in the other two when they end.
pub(super) fn detach(keeper: Keeper, log: &OwnedFd) -> Result<ExitCode, KeeperError> {
    let (ready, tell) = pipe().map_err(|e| KeeperError::system("making a pipe", e))?;
    // SAFETY: no other thread was started in this process, so the copy may do anything.
    match unsafe { fork() }.map_err(|e| KeeperError::system("forking", e))? {
        ForkResult::Parent { .. } => {
            drop(tell);
            let mut word = [0];
            match File::from(ready).read_exact(&mut word) {
                Ok(()) => Ok(ExitCode::SUCCESS),
                Err(_) => Err(KeeperError::DiedAtStart),
            }
        }
        ForkResult::Child => {
            drop(ready);
            setsid().map_err(|e| KeeperError::system("leaving the starter", e))?;
            settle(log).map_err(|e| KeeperError::system("leaving the starter", e))?;
            guard(keeper, File::from(tell))
        }
    }
}

/// Makes this process the guard and starts the keeper below it. Returns when they end.
pub(super) fn stay(keeper: Keeper, log: &OwnedFd) -> Result<ExitCode, KeeperError> {
    let (_, tell) = pipe().map_err(|e| KeeperError::system("making a pipe", e))?;
    // Fails only for the leader of a process group, which is as far from a terminal as it gets.
    match setsid() {
        Ok(_) | Err(Errno::EPERM) => {}
        Err(e) => return Err(KeeperError::system("leaving the starter", e)),
    }
    settle(log).map_err(|e| KeeperError::system("leaving the starter", e))?;
    guard(keeper, File::from(tell))
}

/// Nothing inherited but the log.
fn settle(log: &OwnedFd) -> Result<(), Errno> {
    nix::unistd::chdir("/")?;
    let null = nix::fcntl::open(
        "/dev/null",
        nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(log)?;
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false);
    // It fails only when there is one already.
    let _present = log.try_init();
    // Every signal is blocked from here on: the keeper reads the few it wants from a descriptor,
    // the guard wants none, and children start with a clean mask.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)
}

fn guard(keeper: Keeper, tell: File) -> Result<ExitCode, KeeperError> {
    prctl::set_child_subreaper(true).map_err(|e| KeeperError::system("adopting orphans", e))?;
    prctl::set_name(c"capsule-guard").map_err(|e| KeeperError::system("taking a name", e))?;
    let guard = super::cgroup::pidfd(Pid::this())
        .map_err(|e| KeeperError::system("watching the guard", e))?;
    // SAFETY: still a single thread, so the copy may do anything.
    match unsafe { fork() }.map_err(|e| KeeperError::system("forking", e))? {
        ForkResult::Child => control::run(keeper, guard, tell),
        ForkResult::Parent { child } => {
            drop(tell);
            drop(guard);
            Ok(watch(&keeper, child))
        }
    }
}

/// Waits for the keeper; then nothing of its attempts may live on.
fn watch(keeper: &Keeper, child: Pid) -> ExitCode {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => {
                sweep(keeper.cgroups.as_ref());
                return ExitCode::from(u8::try_from(code).unwrap_or(1));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                sweep(keeper.cgroups.as_ref());
                tracing::error!(%signal, "the keeper was killed; all attempts are killed too");
                return ExitCode::FAILURE;
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return ExitCode::FAILURE,
        }
    }
}

/// Kills all attempts and every descendant of this process; gives up on what cannot be killed after
/// one second.
pub(super) fn sweep(cgroups: Option<&Base>) {
    if let Some(base) = cgroups {
        base.clear();
    }
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        // A reaper notices by itself that the keeper has gone, and takes its tree with it. Killed
        // before that it would only set its tree free, should this process be killed too.
        let trusting = start.elapsed() < Duration::from_millis(400);
        kill_children(&|pid| trusting && is_reaper(pid));
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => break,
            Ok(WaitStatus::StillAlive) => {
                let _timeout = nix::poll::poll(&mut [], 1_u16);
            }
            Ok(_) | Err(_) => {}
        }
    }
    if let Some(base) = cgroups {
        base.retire();
    }
}

pub(super) fn is_reaper(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"capsule-reaper\n")
}

/// Tells the starter that the keeper listens.
pub(super) fn report_ready(mut tell: File) {
    // A starter that has gone does not wait for the word.
    let _gone = tell.write_all(b"!");
}

/// Signals a keeper takes from outside: all mean that it is to end.
pub(super) fn ending_signals() -> [Signal; 3] {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]
}

/// Puts something on descriptor 3, so that no descriptor of ours can lie where a child's event
/// descriptor goes.
pub(super) fn reserve_third(null: &impl AsFd) -> Result<Option<OwnedFd>, Errno> {
    let fd = nix::fcntl::fcntl(null, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: fcntl just made this descriptor for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok((fd.as_raw_fd() == 3).then_some(fd))
}
