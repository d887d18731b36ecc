//! Connections of daemons: who may be there, which one has the session, its commands and reports.

pub(super) use self::peer::{Hangup, Peer};

mod peer;

use std::{
    io,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use nix::{libc, sys::epoll::EpollFlags, unistd::Pid};

use super::{
    control::{Control, Token},
    life::{after, attempt::Attempt},
    wire::{self, Attribution, Command, Report, StopWhy},
};

/// Connections held at a time, the session included.
const PEERS: usize = 8;
/// Attempts in one message of the inventory; each takes less than 300 bytes.
const INVENTORY_PART: usize = 2000;

impl Control {
    pub(super) fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok((socket, _)) => self.greet(socket),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                    tracing::error!("out of descriptors: a connection is refused");
                    self.spare = None;
                    drop(self.listener.accept());
                    self.spare = self.null.try_clone().ok();
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    return;
                }
            }
        }
    }

    fn greet(&mut self, socket: UnixStream) {
        if self.peers.len() >= PEERS {
            tracing::warn!("too many connections: one is refused");
            return;
        }
        match Peer::new(socket, Instant::now()) {
            Ok(peer) => {
                let slot = self.new_slot();
                self.watch(peer.fd(), EpollFlags::EPOLLIN, Token::Peer(slot));
                self.peers.insert(slot, peer);
            }
            Err(error) => tracing::warn!(%error, "a connection is refused"),
        }
    }

    pub(super) fn on_peer(&mut self, slot: u64, flags: EpollFlags) {
        let Some(peer) = self.peers.get_mut(&slot) else { return };
        if flags.contains(EpollFlags::EPOLLOUT) && !flags.contains(EpollFlags::EPOLLIN) {
            return;
        }
        if let Err(hangup) = peer.receive() {
            return self.hang_up(slot, &hangup);
        }
        self.obey_all(slot);
    }

    /// Obeys what a peer has sent, as far as its reports do not pile up.
    fn obey_all(&mut self, slot: u64) {
        let mut starts = Vec::new();
        while let Some(peer) = self.peers.get_mut(&slot).filter(|peer| !peer.is_full()) {
            match peer.next() {
                Ok(Some(message)) => match message.command {
                    // Starts that come together are made together.
                    Some(Command::Spawn(spawn)) if self.session == Some(slot) => starts.push(spawn),
                    Some(command) => {
                        self.spawn_all(std::mem::take(&mut starts));
                        self.obey(slot, command);
                    }
                    None => {}
                },
                Ok(None) => break,
                Err(hangup) => {
                    self.spawn_all(starts);
                    return self.hang_up(slot, &hangup);
                }
            }
        }
        self.spawn_all(starts);
    }

    fn obey(&mut self, from: u64, command: Command) {
        if self.session != Some(from) {
            return match command {
                Command::Hello(hello) => self.open_session(from, &hello),
                Command::Spawn(_)
                | Command::Cancel(_)
                | Command::Refresh(_)
                | Command::Ack(_)
                | Command::Quit(_) => self.refuse(from, "say hello first"),
            };
        }
        match command {
            Command::Hello(_) => self.refuse(from, "the session is open already"),
            Command::Spawn(spawn) => self.spawn_all(vec![spawn]),
            Command::Cancel(cancel) => self.cancel(cancel),
            Command::Refresh(refresh) => match self.slot_of(refresh.key) {
                Some(slot) => {
                    if let Some(attempt) = self.attempts.get_mut(&slot) {
                        attempt.deadline = after(Instant::now(), refresh.deadline_ms);
                    }
                    self.set_alarm(slot);
                }
                None => self.tell(Report::NoSuch(refresh.key)),
            },
            Command::Ack(key) => {
                if let Some(slot) = self.slot_of(key) {
                    if let Some(attempt) = self.attempts.get_mut(&slot) {
                        attempt.acked = attempt.exit.is_some();
                    }
                    self.forget_if_done(slot);
                }
            }
            Command::Quit(quit) => self.quit(quit.kill),
        }
    }

    fn cancel(&mut self, cancel: wire::Cancel) {
        let why = match cancel.why() {
            StopWhy::Drain => StopWhy::Drain,
            StopWhy::None | StopWhy::Timeout | StopWhy::Cancel => StopWhy::Cancel,
        };
        let grace = Duration::from_millis(cancel.grace_ms);
        match self.slot_of(cancel.key) {
            Some(slot) => self.stop(slot, why, grace),
            None if self.stop_pending(cancel.key, why, grace) => {}
            None => self.tell(Report::NoSuch(cancel.key)),
        }
    }

    fn open_session(&mut self, slot: u64, hello: &wire::Hello) {
        if hello.major != wire::MAJOR {
            let message = format!(
                "the keeper speaks protocol {}.{}, the daemon {}.{}",
                wire::MAJOR,
                wire::MINOR,
                hello.major,
                hello.minor
            );
            return self.refuse(slot, &message);
        }
        if hello.uuid.parse() != Ok(self.home.uuid()) {
            return self.refuse(slot, "the keeper serves another store");
        }
        if self.session.is_some() && hello.epoch < self.epoch {
            return self.refuse(slot, "a newer daemon has the keeper");
        }
        let Some(logs) = self.peers.get_mut(&slot).and_then(Peer::take_fd) else {
            return self.refuse(slot, "the hello came without the logs folder");
        };
        if let Some(old) = self.session.take() {
            // Its unread commands go with it.
            self.peers.remove(&old);
        }
        self.logs = Some(logs);
        self.session = Some(slot);
        self.epoch = hello.epoch;
        self.tell(Report::Welcome(wire::Welcome {
            major: wire::MAJOR,
            minor: wire::MINOR,
            instance: self.instance.to_string(),
            attribution: match self.cgroups {
                Some(_) => Attribution::Cgroup,
                None => Attribution::Reaper,
            }
            .into(),
            pid: Pid::this().as_raw(),
            guard: Pid::parent().as_raw(),
        }));
        self.tell_inventory();
    }

    /// Tells of every attempt, in parts that each fit into a message.
    fn tell_inventory(&mut self) {
        let items: Vec<wire::Item> = self.attempts.values().map(Attempt::item).collect();
        let mut parts = items.chunks(INVENTORY_PART).peekable();
        loop {
            let items = parts.next().unwrap_or_default().to_vec();
            let more = parts.peek().is_some();
            self.tell(Report::Inventory(wire::Inventory { items, more }));
            if !more {
                return;
            }
        }
    }

    pub(super) fn refuse(&mut self, slot: u64, message: &str) {
        tracing::warn!(message, "a daemon is refused");
        if let Some(mut peer) = self.peers.remove(&slot) {
            peer.tell(Report::Refused(wire::Refused { message: message.to_owned() }));
            // A peer that does not take the reason goes without it.
            let _untold = peer.flush();
        }
        self.close_session(slot);
    }

    fn hang_up(&mut self, slot: u64, hangup: &Hangup) {
        match hangup {
            Hangup::Closed => {}
            Hangup::Stranger(_) | Hangup::Deaf | Hangup::Wire(_) | Hangup::Io(_) => {
                tracing::error!(error = hangup as &dyn std::error::Error, "a session is dropped");
            }
        }
        self.close_session(slot);
    }

    /// Queues a report for the session; without one, verdicts wait for the next inventory.
    pub(super) fn tell(&mut self, report: Report) {
        if let Some(peer) = self.session.and_then(|slot| self.peers.get_mut(&slot)) {
            peer.tell(report);
        }
    }

    /// Sends what was queued in this turn, and goes on with commands that had to wait for that.
    pub(super) fn flush(&mut self) {
        let now = Instant::now();
        let due = |p: &Peer| p.has_unsent() && p.held_until().is_none_or(|until| until <= now);
        let slots: Vec<u64> = self
            .peers
            .iter()
            .filter(|(_, p)| due(p) || p.interest.contains(EpollFlags::EPOLLOUT))
            .map(|(s, _)| *s)
            .collect();
        for slot in slots {
            while self.flush_peer(slot) {
                self.obey_all(slot);
            }
        }
    }

    /// Sends what one peer takes; true if commands that had to wait can go on.
    fn flush_peer(&mut self, slot: u64) -> bool {
        let Some(peer) = self.peers.get_mut(&slot) else { return false };
        let was_full = peer.is_full();
        if let Err(hangup) = peer.flush() {
            self.hang_up(slot, &hangup);
            return false;
        }
        let mut interest = EpollFlags::empty();
        interest.set(EpollFlags::EPOLLOUT, peer.has_unsent());
        interest.set(EpollFlags::EPOLLIN, !peer.is_full());
        if interest != peer.interest {
            peer.interest = interest;
            let mut event = Token::Peer(slot).event(interest);
            if let Err(error) = self.epoll.modify(peer.fd(), &mut event) {
                tracing::error!(%error, "cannot watch a connection");
            }
        }
        was_full && !peer.is_full()
    }
}
