//! Attempts that begin as a fork of a warm process instead of as a program of their own.
//!
//! Invariant: a forked child runs nothing of its attempt before it is in that attempt's cgroup; an
//! attempt that cannot be forked in time starts afresh by the same plan, and then only so.

mod mover;
mod server;

use std::{
    collections::HashMap,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::epoll::EpollFlags,
    unistd::{Pid, pipe2},
};

pub(in crate::keeper) use self::mover::Mover;
use self::server::{Server, Word, request};
use super::attempt::Body;
use super::start::{Prepared, Unstarted};
use super::{has_ended, is_our_child, started};
use crate::keeper::{
    cgroup::{Base, Leaf},
    control::{Control, Token, now_us},
    wire::{Attribution, Key, Report, StopWhy},
};

/// How long a fork may take.
const ANSWER: Duration = Duration::from_secs(2);

/// Fork servers, and the attempts that wait for them.
#[derive(Debug)]
pub(in crate::keeper) struct Forks {
    pub(in crate::keeper) mover: Mover,
    /// By the slot of their own process.
    servers: HashMap<u64, Server>,
    /// By a slot that is the number of the request.
    pending: HashMap<u64, Pending>,
    /// Folders of forked children at their gates.
    folders: HashMap<Pid, Folder>,
}

/// An attempt that a server was asked for.
#[derive(Debug)]
struct Pending {
    server: u64,
    one: Prepared,
    gate: OwnedFd,
    pid: Option<Pid>,
    stop: Option<(StopWhy, Duration)>,
    until: Instant,
}

#[derive(Debug)]
struct Folder {
    leaf: Leaf,
    place: Place,
}

/// Where a forked child is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Moving,
    There,
    Refused,
}

impl Forks {
    pub(in crate::keeper) fn new(mover: Mover) -> Self {
        let (servers, pending, folders) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { mover, servers, pending, folders }
    }

    /// This attempt waits for its server.
    pub(super) fn has(&self, key: Key) -> bool {
        self.pending.values().any(|pending| pending.one.key == key)
    }

    /// Nothing is to be started any more.
    pub(in crate::keeper) fn give_up(&mut self) {
        self.pending.clear();
    }
}

impl Control {
    /// The process in `slot` is a fork server.
    pub(super) fn add_server(&mut self, slot: u64, socket: OwnedFd, no_new_privs: bool) {
        self.watch(socket.as_fd(), EpollFlags::EPOLLIN, Token::Fork(slot));
        self.forks
            .servers
            .insert(slot, Server { socket, ready: false, no_new_privs, spares: Vec::new() });
    }

    /// Asks the server of an attempt's plan for it; gives back one that is to start afresh.
    pub(super) fn fork(&mut self, one: Prepared) -> Option<Prepared> {
        let Some(fork) = one.plan.fork else { return Some(one) };
        let slot = self.slot_of(Key { task: fork.server, attempt: 1 });
        let server = slot.and_then(|slot| Some((slot, self.forks.servers.get(&slot)?)));
        let fits = |server: &Server| server.ready && server.no_new_privs == one.plan.no_new_privs;
        let Some((slot, server)) = server.filter(|(_, server)| fits(server)) else {
            tracing::debug!(task = one.key.task, "no fork server: the attempt starts afresh");
            return Some(one);
        };
        let id = self.last_slot + 1;
        let gate = request(id, &one.plan).and_then(|request| {
            let (gate, ours) = pipe2(OFlag::O_CLOEXEC).ok()?;
            let [output, errors, events] = one.fds(&self.null);
            let input = one.input.as_ref().unwrap_or(&self.null).as_raw_fd();
            let fds = [input, output, errors, events, gate.as_raw_fd()];
            server.ask(&request, &fds).ok().map(|()| ours)
        });
        let Some(gate) = gate else {
            tracing::warn!(task = one.key.task, "the fork server cannot be asked");
            return Some(one);
        };
        let (id, until) = (self.new_slot(), Instant::now() + ANSWER);
        let pending = Pending { server: slot, one, gate, pid: None, stop: None, until };
        self.forks.pending.insert(id, pending);
        self.alarms.insert((until, id));
        None
    }

    /// Takes what a server has to tell.
    pub(in crate::keeper) fn hear_server(&mut self, slot: u64) {
        loop {
            let Some(server) = self.forks.servers.get_mut(&slot) else { return };
            match server.hear() {
                Ok(Some(word)) => {
                    server.ready |= word.ready == Some(true) || word.pid.is_some();
                    if word.ready == Some(false) {
                        tracing::warn!(why = word.why, "a fork server cannot serve");
                    }
                    self.on_word(slot, &word);
                }
                Ok(None) => return self.server_gone(slot),
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot hear a fork server");
                    return self.server_gone(slot);
                }
            }
        }
    }

    fn on_word(&mut self, slot: u64, word: &Word) {
        if let Some(spare) = word.spare.map(Pid::from_raw).filter(|pid| self.is_forked(*pid))
            && self.forks.servers.get(&slot).is_some_and(Server::has_room)
            && self.give_folder(spare)
            && let Some(server) = self.forks.servers.get_mut(&slot)
        {
            server.spares.push(spare);
        }
        let of_server = |pending: &&mut Pending| pending.server == slot && pending.pid.is_none();
        let Some(id) = word.id else { return };
        let pid = word.pid.map(Pid::from_raw).filter(|pid| {
            self.is_forked(*pid) && !self.forks.pending.values().any(|p| p.pid == Some(*pid))
        });
        let Some(pending) = self.forks.pending.get_mut(&id).filter(of_server) else { return };
        pending.pid = pid;
        if let Some(server) = self.forks.servers.get_mut(&slot) {
            server.spares.retain(|spare| Some(*spare) != pid);
        }
        match pid {
            Some(pid) if self.give_folder(pid) => self.open_gate(id),
            Some(_) => self.start_afresh(id, "it has no cgroup"),
            None => self.start_afresh(id, word.error()),
        }
    }

    /// A child of ours that runs, and is neither an attempt nor what holds one together.
    fn is_forked(&self, pid: Pid) -> bool {
        pid.as_raw() > 1
            && !self.pids.contains_key(&pid)
            && !self.reapers().contains(&pid.as_raw())
            && is_our_child(pid)
            && !has_ended(pid)
    }

    /// Sees to it that a forked child has a folder of its own, or will.
    fn give_folder(&mut self, pid: Pid) -> bool {
        if self.forks.folders.contains_key(&pid) {
            return true;
        }
        let Some(Ok(leaf)) = self.cgroups.as_mut().map(Base::make) else { return false };
        self.forks.mover.ask(pid, leaf.dir());
        self.forks.folders.insert(pid, Folder { leaf, place: Place::Moving });
        true
    }

    /// Takes what the mover has done.
    pub(in crate::keeper) fn on_moved(&mut self) {
        // Reading resets the counter.
        let _count = self.forks.mover.bell.read();
        while let Ok((pid, moved)) = self.forks.mover.moved.try_recv() {
            let Some(folder) = self.forks.folders.get_mut(&pid) else { continue };
            folder.place = if moved.is_ok() { Place::There } else { Place::Refused };
            let mut waiting = self.forks.pending.iter();
            if let Some(id) = waiting.find(|(_, p)| p.pid == Some(pid)).map(|(id, _)| *id) {
                self.open_gate(id);
            }
        }
    }

    /// Lets a forked child begin if it is where it is to be.
    fn open_gate(&mut self, id: u64) {
        let Some(pending) = self.forks.pending.get(&id) else { return };
        let Some(pid) = pending.pid else { return };
        match self.forks.folders.get(&pid).map(|folder| folder.place) {
            Some(Place::Moving) => return,
            Some(Place::There) => {}
            Some(Place::Refused) | None => {
                return self.start_afresh(id, "it cannot be moved into its cgroup");
            }
        }
        let began = (Instant::now(), now_us());
        if nix::unistd::write(&pending.gate, b"1") != Ok(1) {
            return self.start_afresh(id, "the forked process has died");
        }
        let Some(Pending { one, stop, until, .. }) = self.forks.pending.remove(&id) else { return };
        let Some(Folder { leaf, .. }) = self.forks.folders.remove(&pid) else { return };
        self.alarms.remove(&(until, id));
        let (one, _image) = Unstarted::new(one);
        let body = Body::Cgroup { leaf, watched: false };
        let attempt = one.started(pid, body, Attribution::Cgroup, began);
        self.tell(Report::Started(started(&attempt)));
        let slot = self.admit(attempt);
        if let Some((why, grace)) = stop {
            self.stop(slot, why, grace);
        }
    }

    /// Starts an attempt as a program of its own, for its server did not.
    fn start_afresh(&mut self, id: u64, why: &str) {
        let Some(pending) = self.forks.pending.remove(&id) else { return };
        let Pending { one, gate, pid, stop, until, .. } = pending;
        tracing::warn!(task = one.key.task, why, "an attempt cannot be forked and starts afresh");
        // A closed gate ends the child, if there is one.
        drop(gate);
        self.end_child(pid);
        self.alarms.remove(&(until, id));
        let key = one.key;
        self.start_fresh(vec![one]);
        if let (Some(slot), Some((why, grace))) = (self.slot_of(key), stop) {
            self.stop(slot, why, grace);
        }
    }

    /// Kills a forked child that is not needed; its folder goes when it was waited for.
    fn end_child(&mut self, pid: Option<Pid>) {
        let folder = pid.and_then(|pid| self.forks.folders.get_mut(&pid));
        if let (Some(folder), Some(base)) = (folder, &self.cgroups) {
            base.kill(&mut folder.leaf);
        }
    }

    /// A child that is no attempt was waited for.
    pub(in crate::keeper) fn on_child_gone(&mut self, pid: Pid) {
        let Some(folder) = self.forks.folders.remove(&pid) else { return };
        for server in self.forks.servers.values_mut() {
            server.spares.retain(|spare| *spare != pid);
        }
        if let Some(base) = &self.cgroups {
            base.discard(&folder.leaf);
        }
        let mut waiting = self.forks.pending.iter();
        if let Some(id) = waiting.find(|(_, p)| p.pid == Some(pid)).map(|(id, _)| *id) {
            self.start_afresh(id, "the forked process has died");
        }
    }

    /// A server has ended, or is to end: it is asked for nothing more.
    pub(in crate::keeper) fn server_gone(&mut self, slot: u64) {
        let Some(server) = self.forks.servers.remove(&slot) else { return };
        let Server { socket, spares, .. } = server;
        drop(socket);
        for spare in spares {
            self.end_child(Some(spare));
        }
        let pending = self.forks.pending.iter().filter(|(_, p)| p.server == slot);
        let pending: Vec<u64> = pending.map(|(id, _)| *id).collect();
        for id in pending {
            self.start_afresh(id, "the fork server has ended");
        }
    }

    /// The time of an attempt that waits for its server is over.
    pub(super) fn on_fork_alarm(&mut self, id: u64) {
        let pending = self.forks.pending.get(&id);
        let silent = pending.filter(|pending| pending.pid.is_none()).map(|pending| pending.server);
        if let Some(server) = silent.and_then(|slot| self.forks.servers.get_mut(&slot)) {
            // Until it speaks again the next ones need not wait for it.
            server.ready = false;
        }
        self.start_afresh(id, "the fork server does not answer");
    }

    /// Notes that an attempt is to be stopped which waits for its server. False: there is none.
    pub(in crate::keeper) fn stop_pending(
        &mut self,
        key: Key,
        why: StopWhy,
        grace: Duration,
    ) -> bool {
        let mut waiting = self.forks.pending.values_mut();
        let Some(pending) = waiting.find(|pending| pending.one.key == key) else { return false };
        let grace = pending.stop.map_or(grace, |(_, before)| before.min(grace));
        pending.stop = Some((why, grace));
        true
    }
}
