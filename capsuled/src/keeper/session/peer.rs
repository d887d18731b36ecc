//! One connection of a daemon: bytes in, commands out; reports in, bytes out.

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
    sys::{
        epoll::EpollFlags,
        socket::{
            ControlMessageOwned, MsgFlags, getsockopt, recvmsg, send, sockopt::PeerCredentials,
        },
    },
    unistd::geteuid,
};

use crate::keeper::wire::{self, Inbox, Report, ToDaemon, ToKeeper, WireError};

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
pub(in crate::keeper) struct Peer {
    socket: UnixStream,
    inbox: Inbox,
    out: VecDeque<u8>,
    /// Since when all that is unsent can wait.
    held: Option<Instant>,
    buffer: Vec<u8>,
    fds: Vec<OwnedFd>,
    /// When it connected: it must say hello soon.
    pub(in crate::keeper) since: Instant,
    /// What the loop waits for.
    pub(super) interest: EpollFlags,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(in crate::keeper) enum Hangup {
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
    pub(in crate::keeper) fn new(socket: UnixStream, now: Instant) -> Result<Self, Hangup> {
        let peer = getsockopt(&socket, PeerCredentials).map_err(io::Error::from)?;
        if peer.uid() != geteuid().as_raw() {
            return Err(Hangup::Stranger(peer.uid()));
        }
        socket.set_nonblocking(true)?;
        let (inbox, out, fds) = (Inbox::default(), VecDeque::new(), Vec::new());
        let (buffer, interest) = (vec![0; TURN], EpollFlags::EPOLLIN);
        Ok(Self { socket, inbox, out, held: None, buffer, fds, since: now, interest })
    }

    pub(in crate::keeper) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes what has arrived, at most one turn's worth.
    pub(in crate::keeper) fn receive(&mut self) -> Result<(), Hangup> {
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
    pub(in crate::keeper) fn next(&mut self) -> Result<Option<ToKeeper>, Hangup> {
        Ok(wire::decode(&mut self.inbox)?)
    }

    /// The descriptor that came with the hello.
    pub(in crate::keeper) fn take_fd(&mut self) -> Option<OwnedFd> {
        let fd = self.fds.pop();
        self.fds.clear();
        fd
    }

    /// Queues a report; nothing is sent before `flush`.
    pub(in crate::keeper) fn tell(&mut self, report: Report) {
        let waits = matches!(report, Report::Started(_));
        let held = self.held.take().or_else(|| self.out.is_empty().then(Instant::now));
        self.held = held.filter(|_| waits);
        let mut bytes = Vec::new();
        wire::encode(&ToDaemon { report: Some(report) }, &mut bytes);
        self.out.extend(bytes);
    }

    /// Sends what the socket takes.
    pub(in crate::keeper) fn flush(&mut self) -> Result<(), Hangup> {
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
    pub(in crate::keeper) fn has_unsent(&self) -> bool {
        !self.out.is_empty()
    }

    /// When what is unsent must go, if it can wait until then.
    pub(in crate::keeper) fn held_until(&self) -> Option<Instant> {
        self.held.map(|since| since + HOLD)
    }

    /// So much waits to be sent that commands must wait too.
    pub(in crate::keeper) fn is_full(&self) -> bool {
        self.out.len() > OUT_PAUSE
    }
}

#[expect(unsafe_code, reason = "received descriptors come as plain numbers")]
fn adopt(fd: i32) -> OwnedFd {
    // SAFETY: the kernel made this descriptor for us while receiving; nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
