//! Connections of daemons: who may be there, which one has the session, its commands and reports.

use std::{
    collections::VecDeque,
    io::{self, IoSliceMut},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use nix::{
    cmsg_space,
    errno::Errno,
    libc,
    sys::{
        epoll::EpollFlags,
        socket::{
            ControlMessageOwned, MsgFlags, getsockopt, recvmsg, send, sockopt::PeerCredentials,
        },
    },
    unistd::{Pid, geteuid},
};

use super::{
    control::{Control, Token},
    life::{after, attempt::Attempt},
    wire::{self, Attribution, Command, Inbox, Report, StopWhy, ToDaemon, ToKeeper, WireError},
};

/// Connections held at a time, the session included.
const PEERS: usize = 8;
/// Attempts in one message of the inventory; each takes less than 300 bytes.
const INVENTORY_PART: usize = 2000;
/// Unsent bytes from which on no more commands are taken.
const OUT_PAUSE: usize = 1 << 20;
/// Unsent bytes at which a daemon that does not read is cut off; it can come back for the inventory.
const OUT_MAX: usize = 8 << 20;
const TURN: usize = 64 * 1024;
/// How long the word that an attempt runs may wait for company: a short attempt's start goes out
/// together with its end, which saves the daemon a turn. Nobody can see it later than that.
const HOLD: Duration = Duration::from_millis(3);

/// A connection whose other end runs as our own user.
#[derive(Debug)]
pub(super) struct Peer {
    socket: UnixStream,
    inbox: Inbox,
    out: VecDeque<u8>,
    /// Since when all that is unsent can wait.
    held: Option<Instant>,
    buffer: Vec<u8>,
    fds: Vec<OwnedFd>,
    /// When it connected: it must say hello soon.
    pub(super) since: Instant,
    /// What the loop waits for.
    interest: EpollFlags,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Hangup {
    #[error("the peer closed the connection")]
    Closed,
    #[error("the peer runs as user {0}")]
    Stranger(u32),
    #[error("the peer does not read")]
    Deaf,
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the connection failed")]
    Io(#[from] io::Error),
}

impl Peer {
    /// Accepts only our own user.
    pub(super) fn new(socket: UnixStream, now: Instant) -> Result<Self, Hangup> {
        let peer = getsockopt(&socket, PeerCredentials).map_err(io::Error::from)?;
        if peer.uid() != geteuid().as_raw() {
            return Err(Hangup::Stranger(peer.uid()));
        }
        socket.set_nonblocking(true)?;
        let (inbox, out, fds) = (Inbox::default(), VecDeque::new(), Vec::new());
        let (buffer, interest) = (vec![0; TURN], EpollFlags::EPOLLIN);
        Ok(Self { socket, inbox, out, held: None, buffer, fds, since: now, interest })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes what has arrived, at most one turn's worth.
    pub(super) fn receive(&mut self) -> Result<(), Hangup> {
        let mut room = cmsg_space!([i32; 4]);
        let mut parts = [IoSliceMut::new(&mut self.buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let got = recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut room), flags);
        let count = match got {
            Ok(message) => {
                for control in message.cmsgs().into_iter().flatten() {
                    if let ControlMessageOwned::ScmRights(fds) = control {
                        self.fds.extend(fds.into_iter().map(adopt));
                    }
                }
                message.bytes
            }
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
            Err(errno) => return Err(io::Error::from(errno).into()),
        };
        if count == 0 {
            return Err(Hangup::Closed);
        }
        self.inbox.push(self.buffer.get(..count).unwrap_or_default());
        if self.fds.len() > 4 {
            self.fds.clear();
        }
        Ok(())
    }

    /// The next whole command.
    pub(super) fn next(&mut self) -> Result<Option<ToKeeper>, Hangup> {
        Ok(wire::decode(&mut self.inbox)?)
    }

    /// The descriptor that came with the hello.
    pub(super) fn take_fd(&mut self) -> Option<OwnedFd> {
        let fd = self.fds.pop();
        self.fds.clear();
        fd
    }

    /// Queues a report; nothing is sent before `flush`.
    pub(super) fn tell(&mut self, report: Report) {
        let waits = matches!(report, Report::Started(_));
        let held = self.held.take().or_else(|| self.out.is_empty().then(Instant::now));
        self.held = held.filter(|_| waits);
        let mut bytes = Vec::new();
        wire::encode(&ToDaemon { report: Some(report) }, &mut bytes);
        self.out.extend(bytes);
    }

    /// Sends what the socket takes.
    pub(super) fn flush(&mut self) -> Result<(), Hangup> {
        while !self.out.is_empty() {
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            match send(self.socket.as_raw_fd(), self.out.as_slices().0, flags) {
                Ok(count) => {
                    self.out.drain(..count);
                    self.held = None;
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if self.out.len() > OUT_MAX => return Err(Hangup::Deaf),
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(io::Error::from(errno).into()),
            }
        }
        Ok(())
    }

    /// Something waits to be sent.
    pub(super) fn has_unsent(&self) -> bool {
        !self.out.is_empty()
    }

    /// When what is unsent must go, if it can wait until then.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.held.map(|since| since + HOLD)
    }

    /// So much waits to be sent that commands must wait too.
    pub(super) fn is_full(&self) -> bool {
        self.out.len() > OUT_PAUSE
    }
}

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
            Command::Cancel(cancel) => match self.slot_of(cancel.key) {
                Some(slot) => {
                    let why = match cancel.why() {
                        StopWhy::Drain => StopWhy::Drain,
                        StopWhy::None | StopWhy::Timeout | StopWhy::Cancel => StopWhy::Cancel,
                    };
                    self.stop(slot, why, Duration::from_millis(cancel.grace_ms));
                }
                None => self.tell(Report::NoSuch(cancel.key)),
            },
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

#[expect(unsafe_code, reason = "received descriptors come as plain numbers")]
fn adopt(fd: i32) -> OwnedFd {
    // SAFETY: the kernel made this descriptor for us while receiving; nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
