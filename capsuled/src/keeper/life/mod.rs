//! The life of an attempt: start, stop, end of the main process, end of the tree, verdict.

pub(in crate::keeper) mod attempt;
pub(in crate::keeper) mod fork;
mod start;

use std::{
    mem::replace,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        epoll::EpollFlags,
        signal::{Signal, kill, killpg},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::Pid,
};

use self::attempt::{Attempt, Body, Exit, Output, Stop, Told, has_unread};
use super::{
    control::{Control, Token, now_us},
    wire::{self, Report, StopWhy},
    writer::{Drained, Order, Pipes, Take},
};
use crate::failpoint;
use crate::jail::{Note, Order as ReaperOrder, Usage, kill_children};

/// How long the rest of a tree may live on after its main process, to finish and to drain.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long until a kill that had no effect is repeated.
const AGAIN: Duration = Duration::from_secs(1);

impl Control {
    fn admit(&mut self, attempt: Attempt) -> u64 {
        let slot = self.new_slot();
        for (index, pipe) in attempt.pipes.iter().enumerate() {
            if let Some(pipe) = pipe {
                self.watch(pipe.as_fd(), EpollFlags::EPOLLIN, Token::Pipe(slot, index));
            }
        }
        if let Body::Reaper(reaper) = &attempt.body {
            self.watch(reaper.socket.as_fd(), EpollFlags::EPOLLIN, Token::Reaper(slot));
        }
        self.pids.insert(attempt.pid, slot);
        self.keys.insert(attempt.key, slot);
        self.attempts.insert(slot, attempt);
        self.set_alarm(slot);
        slot
    }

    /// Begins to stop an attempt, or shortens the grace of one being stopped.
    pub(in crate::keeper) fn stop(&mut self, slot: u64, why: StopWhy, grace: Duration) {
        self.look_for_end(slot);
        self.server_gone(slot);
        let Some(attempt) = self.attempts.get_mut(&slot) else { return };
        let kill_at = Instant::now() + grace;
        if attempt.exit.is_some() {
            if attempt.stop.is_none() {
                attempt.stop = Some(Stop { why, signalled: false, killed: false, kill_at });
            }
            self.kill_tree(slot);
            return;
        }
        match &mut attempt.stop {
            Some(stop) if !stop.killed => stop.kill_at = stop.kill_at.min(kill_at),
            Some(_) => {}
            None => {
                attempt.stop = Some(Stop { why, signalled: true, killed: false, kill_at });
                if !grace.is_zero() {
                    terminate(attempt);
                }
            }
        }
        if grace.is_zero() {
            self.kill_tree(slot);
        }
        self.set_alarm(slot);
    }

    /// Kills all that is left of the attempt.
    pub(in crate::keeper) fn kill_tree(&mut self, slot: u64) {
        let Some(attempt) = self.attempts.get_mut(&slot) else { return };
        let now = Instant::now();
        if let Some(stop) = &mut attempt.stop {
            stop.killed = true;
            stop.kill_at = now + AGAIN;
        }
        if let Some(exit) = &mut attempt.exit {
            exit.limit = now + AGAIN;
        }
        match &mut attempt.body {
            Body::Cgroup { leaf, .. } => {
                if let Some(base) = &self.cgroups {
                    base.kill(leaf);
                }
            }
            Body::Reaper(reaper) => reaper.order(ReaperOrder::Kill),
            Body::Strays => self.kill_strays(),
            Body::Gone => {}
        }
        self.set_alarm(slot);
    }

    /// Notices an end that has happened but was not handled yet, so that no signal is blamed for it.
    fn look_for_end(&mut self, slot: u64) {
        let Some(attempt) = self.attempts.get(&slot) else { return };
        match &attempt.body {
            Body::Cgroup { .. } if attempt.exit.is_none() && has_ended(attempt.pid) => {
                self.wait_for_children();
            }
            Body::Reaper(_) => self.hear_reaper(slot),
            Body::Cgroup { .. } | Body::Strays | Body::Gone => {}
        }
    }

    /// The main process was waited for.
    pub(in crate::keeper) fn on_exit(&mut self, slot: u64, status: i32, usage: Usage) {
        self.server_gone(slot);
        let Some(attempt) = self.attempts.get_mut(&slot) else { return };
        let now = Instant::now();
        attempt.usage = usage;
        attempt.exit = Some(Exit {
            status,
            how: attempt.how(),
            ended_us: now_us(),
            wall: now.duration_since(attempt.started),
            limit: now + PATIENCE,
        });
        self.pids.remove(&attempt.pid);
        self.check_group(slot);
        let Some(attempt) = self.attempts.get(&slot) else { return };
        if !attempt.is_gone() && attempt.stop.is_some() {
            self.kill_tree(slot);
            self.check_group(slot);
        }
        self.settle(slot);
    }

    /// Gives up the attempt's cgroup if it is empty; else watches it.
    pub(in crate::keeper) fn check_group(&mut self, slot: u64) {
        let Some(base) = &mut self.cgroups else { return };
        let Some(attempt) = self.attempts.get_mut(&slot) else { return };
        let Body::Cgroup { leaf, watched } = &mut attempt.body else { return };
        let mut empty = leaf.is_empty();
        if !empty && !*watched {
            let event = Token::Group(slot).event(EpollFlags::EPOLLPRI);
            // Should this fail, the alarm looks again.
            *watched = self.epoll.add(leaf.events(), event).is_ok();
            // It may have become empty before the watch began.
            empty = leaf.is_empty();
        }
        attempt.group = base.usage(leaf);
        if empty && let Body::Cgroup { leaf, watched } = replace(&mut attempt.body, Body::Gone) {
            // What the tree did after its main process, or who killed it, is not known.
            let plain = |exit: &Exit| !libc::WIFSIGNALED(exit.status);
            if !watched && attempt.exit.as_ref().is_some_and(plain) {
                base.give_back(leaf);
            } else {
                base.discard(&leaf);
            }
        }
    }

    /// Takes what the reaper has to tell.
    pub(in crate::keeper) fn hear_reaper(&mut self, slot: u64) {
        loop {
            let Some(attempt) = self.attempts.get_mut(&slot) else { return };
            let Body::Reaper(reaper) = &attempt.body else { return };
            let (pid, main) = (reaper.pid, attempt.pid);
            match reaper.note() {
                Ok(Some(Note::Exited { status, usage, empty })) => {
                    if empty {
                        self.reaper_done(slot, pid, main);
                    }
                    self.on_exit(slot, status, usage);
                }
                Ok(Some(Note::Empty { usage })) => {
                    attempt.usage = usage;
                    self.reaper_done(slot, pid, main);
                    self.settle(slot);
                }
                Ok(Some(Note::Started { .. } | Note::Failed { .. })) => {}
                Ok(None) => return self.reaper_lost(slot),
                Err(Errno::EAGAIN) => return,
                Err(error) => {
                    tracing::error!(%error, "cannot hear a reaper");
                    return self.reaper_lost(slot);
                }
            }
        }
    }

    fn reaper_done(&mut self, slot: u64, reaper: Pid, main: Pid) {
        self.registry.remove(reaper);
        self.registry.remove(main);
        if let Some(attempt) = self.attempts.get_mut(&slot) {
            attempt.body = Body::Gone;
        }
    }

    /// Somebody killed the reaper: the death signal took the main process, the rest is ours now.
    fn reaper_lost(&mut self, slot: u64) {
        let Some(attempt) = self.attempts.get_mut(&slot) else { return };
        let main = attempt.pid;
        tracing::error!(task = attempt.key.task, "a reaper was killed; its attempt is killed too");
        if let Body::Reaper(reaper) = replace(&mut attempt.body, Body::Strays) {
            self.registry.remove(reaper.pid);
            self.registry.remove(main);
        }
        let exited = attempt.exit.is_some();
        self.kill_strays();
        if !exited && !is_our_child(main) {
            // The reaper took the exit status with it.
            self.on_exit(slot, libc::SIGKILL, Usage::default());
        }
    }

    /// Kills children that belong to no live reaper, and notes when there is none. Where attempts
    /// have cgroups a stray cannot be told from an orphan of theirs, so only main processes die.
    pub(in crate::keeper) fn kill_strays(&mut self) {
        let strays: Vec<u64> = self.slots_of_strays();
        if strays.is_empty() {
            return;
        }
        let left = if self.cgroups.is_none() {
            let reapers: Vec<i32> = self.reapers();
            let swept = kill_children(&|pid| reapers.contains(&pid));
            swept.killed + swept.refused
        } else {
            let mains = strays.iter().filter_map(|slot| self.attempts.get(slot));
            let mains = mains.filter(|a| a.exit.is_none() && is_our_child(a.pid));
            mains.map(|a| u32::from(kill(a.pid, Signal::SIGKILL).is_ok())).sum()
        };
        if left == 0 {
            for slot in strays {
                if let Some(attempt) = self.attempts.get_mut(&slot).filter(|a| a.exit.is_some()) {
                    attempt.body = Body::Gone;
                    self.settle(slot);
                }
            }
        }
    }

    /// Brings the daemon's knowledge up to what is known, once the main process has ended.
    pub(in crate::keeper) fn settle(&mut self, slot: u64) {
        let Some(attempt) = self.attempts.get(&slot).filter(|a| a.exit.is_some()) else { return };
        if attempt.output == Output::Silent && has_unread(&attempt.pipes) {
            self.hand_over(slot);
        }
        let Some(attempt) = self.attempts.get_mut(&slot) else { return };
        let gone = attempt.is_gone();
        match attempt.output {
            Output::Silent if gone => {
                attempt.pipes = Pipes::default();
                attempt.output = Output::Closed;
                self.publish(slot);
            }
            Output::Silent | Output::Closed => self.publish(slot),
            Output::Moving | Output::Flushing if gone => {
                attempt.output = Output::Finishing;
                self.writer.send(Order::Finish(slot));
            }
            Output::Moving if attempt.told == Told::Running => {
                attempt.output = Output::Flushing;
                self.writer.send(Order::Flush(slot));
            }
            Output::Moving | Output::Flushing | Output::Finishing => {}
        }
        self.set_alarm(slot);
    }

    /// Tells the verdict, or that the tree is gone.
    fn publish(&mut self, slot: u64) {
        let Some(attempt) = self.attempts.get_mut(&slot) else { return };
        let Some(ended) = attempt.verdict() else { return };
        failpoint::pass("keeper-after-exit");
        let told = if ended.tree_gone { Told::Gone } else { Told::Ended };
        if attempt.told >= told {
            return;
        }
        let first = attempt.told == Told::Running;
        attempt.told = told;
        self.tell(if first { Report::Ended(ended) } else { Report::Gone(ended) });
        self.forget_if_done(slot);
    }

    /// Gives the pipes to the writer.
    pub(in crate::keeper) fn hand_over(&mut self, slot: u64) {
        let Some(attempt) = self.attempts.get_mut(&slot) else { return };
        let pipes = std::mem::take(&mut attempt.pipes);
        attempt.output = Output::Moving;
        for pipe in pipes.iter().flatten() {
            // One that was never registered needs no removal.
            let _absent = self.epoll.delete(pipe);
        }
        match self.logs.as_ref().map(OwnedFd::try_clone) {
            Some(Ok(logs)) => {
                let (key, caps) = (attempt.key, attempt.caps);
                self.writer.send(Order::Take(Box::new(Take { slot, key, logs, caps, pipes })));
            }
            Some(Err(error)) => tracing::error!(%error, "the output of an attempt is lost"),
            None => tracing::error!("the output of an attempt is lost: there is no logs folder"),
        }
    }

    /// The writer has moved what was there.
    pub(in crate::keeper) fn on_drained(&mut self, drained: Drained) {
        let slot = drained.slot;
        let Some(attempt) = self.attempts.get_mut(&slot) else { return };
        attempt.tally = drained.tally;
        if drained.closed {
            attempt.output = Output::Closed;
        } else if attempt.output == Output::Flushing {
            attempt.output = Output::Moving;
        }
        self.publish(slot);
        self.set_alarm(slot);
    }

    /// Does what its time has come for.
    pub(in crate::keeper) fn on_alarm(&mut self, slot: u64) {
        let Some(attempt) = self.attempts.get_mut(&slot) else { return self.on_fork_alarm(slot) };
        attempt.alarm = None;
        let grace = attempt.grace;
        match (&attempt.exit, &attempt.stop) {
            (None, None) => self.stop(slot, StopWhy::Timeout, grace),
            (None, Some(_)) => self.kill_tree(slot),
            (Some(_), _) => {
                self.publish(slot);
                self.kill_tree(slot);
                self.check_group(slot);
                self.settle(slot);
            }
        }
        self.set_alarm(slot);
    }
}

fn started(attempt: &Attempt) -> wire::Started {
    let Attempt { key, pid, started_us, .. } = attempt;
    wire::Started { key: *key, pid: pid.as_raw(), started_us: *started_us }
}

/// The instant `ms` after `from`; none for 0 and for what no clock reaches.
pub(in crate::keeper) fn after(from: Instant, ms: u64) -> Option<Instant> {
    if ms == 0 { None } else { from.checked_add(Duration::from_millis(ms)) }
}

fn terminate(attempt: &Attempt) {
    if let Body::Reaper(reaper) = &attempt.body {
        reaper.order(ReaperOrder::Terminate);
        return;
    }
    for signal in [Signal::SIGTERM, Signal::SIGCONT] {
        // The main process was not waited for, so the group is still its own.
        let sent = match killpg(attempt.pid, signal) {
            // A forked child that has not come to lead its group yet.
            Err(Errno::ESRCH) => kill(attempt.pid, signal),
            sent => sent,
        };
        if let Err(error) = sent {
            tracing::warn!(%error, %signal, "cannot signal an attempt");
        }
    }
}

fn has_ended(pid: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::Pid(pid), flags), Ok(WaitStatus::StillAlive) | Err(_))
}

fn is_our_child(pid: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::Pid(pid), flags).is_ok()
}
