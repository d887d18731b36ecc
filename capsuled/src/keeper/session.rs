//! One connection of a daemon: bytes in, bytes out, and who may be on the other side.

use std::{
    collections::VecDeque,
    io::{self, IoSliceMut},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Instant,
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{
        ControlMessageOwned, MsgFlags, getsockopt, recvmsg, send, sockopt::PeerCredentials,
    },
    unistd::geteuid,
};

use super::wire::{self, Inbox, Report, ToDaemon, ToKeeper, WireError};

/// Unsent bytes from which on no more commands are taken.
const OUT_PAUSE: usize = 1 << 20;
/// Unsent bytes at which a daemon that does not read is cut off; it can come back for the inventory.
const OUT_MAX: usize = 8 << 20;
const TURN: usize = 64 * 1024;

/// A connection whose other end runs as our own user.
#[derive(Debug)]
pub(super) struct Peer {
    socket: UnixStream,
    inbox: Inbox,
    out: VecDeque<u8>,
    fds: Vec<OwnedFd>,
    /// When it connected: it must say hello soon.
    pub(super) since: Instant,
    /// Whether the loop waits for room to write.
    pub(super) waits_to_write: bool,
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
        let (inbox, out) = (Inbox::default(), VecDeque::new());
        Ok(Self { socket, inbox, out, fds: Vec::new(), since: now, waits_to_write: false })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes what has arrived, at most one turn's worth.
    pub(super) fn receive(&mut self) -> Result<(), Hangup> {
        let mut buffer = vec![0; TURN];
        let mut room = cmsg_space!([i32; 4]);
        let mut parts = [IoSliceMut::new(&mut buffer)];
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
        self.inbox.push(buffer.get(..count).unwrap_or_default());
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
        let mut bytes = Vec::new();
        wire::encode(&ToDaemon { report: Some(report) }, &mut bytes);
        self.out.extend(bytes);
    }

    /// Sends what the socket takes.
    pub(super) fn flush(&mut self) -> Result<(), Hangup> {
        while !self.out.is_empty() {
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            match send(self.socket.as_raw_fd(), self.out.as_slices().0, flags) {
                Ok(count) => drop(self.out.drain(..count)),
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

    /// So much waits to be sent that commands must wait too.
    pub(super) fn is_full(&self) -> bool {
        self.out.len() > OUT_PAUSE
    }
}

#[expect(unsafe_code, reason = "received descriptors come as plain numbers")]
fn adopt(fd: i32) -> OwnedFd {
    // SAFETY: the kernel made this descriptor for us while receiving; nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
