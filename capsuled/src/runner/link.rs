//! The daemon's end of the keeper's socket: commands in, reports out, no knowledge of tasks.
//!
//! Invariant: a link that has failed stays failed. Nothing is sent twice and nothing is swallowed;
//! the caller connects anew and compares the inventory with what it knows.

use std::{
    io::{self, IoSlice},
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::net::UnixStream as StdStream,
    },
    path::Path,
    time::Duration,
};

use nix::{
    sys::socket::{ControlMessage, MsgFlags, getsockopt, sendmsg, sockopt::PeerCredentials},
    unistd::geteuid,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::timeout,
};
use uuid::Uuid;

use crate::keeper::wire::{
    self, Command, Hello, Inbox, Inventory, Report, ToDaemon, ToKeeper, Welcome, WireError,
};

/// How long the keeper may take to answer the hello.
const ANSWER: Duration = Duration::from_secs(5);
/// Bytes after which queued commands go out in a write of their own.
const BATCH: usize = 256 * 1024;
/// Reports that may wait for the daemon; then the keeper has to wait.
const REPORTS: usize = 1024;

/// Sends commands to the keeper. Cheap to clone; the session ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Link {
    commands: mpsc::UnboundedSender<Command>,
}

/// What `Link::connect` gives.
#[derive(Debug)]
pub struct Session {
    /// The way to send.
    pub link: Link,
    /// Who answered.
    pub welcome: Welcome,
    /// All attempts the keeper knew at that moment.
    pub inventory: Inventory,
    /// What happens from then on; ends after an error, or with `None` once the keeper has gone.
    pub reports: Reports,
}

/// Reports of the keeper, in order.
#[derive(Debug)]
pub struct Reports {
    queue: mpsc::Receiver<Result<Report, LinkError>>,
}

/// There is no session with the keeper, or no more.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody listens: there is no keeper.
    #[error("no keeper listens on {path}")]
    Absent {
        /// The socket.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// The other side runs as somebody else.
    #[error("the keeper's socket is held by user {0}")]
    Stranger(u32),
    /// The keeper does not want this daemon.
    #[error("the keeper refused the session: {0}")]
    Refused(String),
    /// The keeper closed the session: it ended, or another daemon took over.
    #[error("the keeper closed the session")]
    Closed,
    /// The keeper did not answer the hello.
    #[error("the keeper did not answer")]
    Silent,
    /// Not the expected report.
    #[error("the keeper broke the protocol: {0}")]
    Protocol(&'static str),
    /// Not a message.
    #[error("reading a report of the keeper")]
    Wire(#[from] WireError),
    /// The connection failed.
    #[error("speaking to the keeper")]
    Io(#[from] io::Error),
}

impl Link {
    /// Opens the session of `epoch` with the keeper of the store `uuid`. The keeper writes the logs
    /// of later attempts into `logs`. Must be called within a tokio runtime.
    pub async fn connect(
        socket: &Path,
        uuid: Uuid,
        epoch: u64,
        logs: BorrowedFd<'_>,
    ) -> Result<Session, LinkError> {
        let stream = StdStream::connect(socket).map_err(|source| {
            let path = socket.display().to_string();
            LinkError::Absent { path, source }
        })?;
        let peer = getsockopt(&stream, PeerCredentials).map_err(io::Error::from)?;
        if peer.uid() != geteuid().as_raw() {
            return Err(LinkError::Stranger(peer.uid()));
        }
        send_hello(&stream, uuid, epoch, logs)?;
        stream.set_nonblocking(true)?;
        let (read, write) = UnixStream::from_std(stream)?.into_split();
        let mut reader = Reader { read, inbox: Inbox::default(), buffer: vec![0; 64 * 1024] };
        let (welcome, inventory) =
            timeout(ANSWER, reader.answer()).await.map_err(|_| LinkError::Silent)??;
        let (commands, queue) = mpsc::unbounded_channel();
        let (sender, reports) = mpsc::channel(REPORTS);
        tokio::spawn(write_commands(write, queue));
        tokio::spawn(read_reports(reader, sender));
        Ok(Session {
            link: Self { commands },
            welcome,
            inventory,
            reports: Reports { queue: reports },
        })
    }

    /// Queues a command and returns at once. A command that cannot be sent any more is dropped: the
    /// end of the reports says so, and the next inventory shows what the keeper knows.
    pub fn send(&self, command: Command) {
        // The writing task has ended with the session, which the reports tell.
        let _ended = self.commands.send(command);
    }
}

impl Reports {
    /// The next report; `None` after the session's end was told.
    pub async fn next(&mut self) -> Option<Result<Report, LinkError>> {
        self.queue.recv().await
    }

    /// Appends up to `limit` reports to `batch`, waiting for the first; 0 at the session's end.
    pub async fn next_many(
        &mut self,
        batch: &mut Vec<Result<Report, LinkError>>,
        limit: usize,
    ) -> usize {
        self.queue.recv_many(batch, limit).await
    }
}

/// The hello is small and first on a fresh socket, so this neither waits nor is cut.
fn send_hello(
    stream: &StdStream,
    uuid: Uuid,
    epoch: u64,
    logs: BorrowedFd<'_>,
) -> Result<(), LinkError> {
    let hello = Hello { major: wire::MAJOR, minor: wire::MINOR, uuid: uuid.to_string(), epoch };
    let mut bytes = Vec::new();
    wire::encode(&ToKeeper { command: Some(Command::Hello(hello)) }, &mut bytes);
    let fds = [logs.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let parts = [IoSlice::new(&bytes)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    let sent = sendmsg::<()>(stream.as_raw_fd(), &parts, &rights, flags, None);
    if sent.map_err(io::Error::from)? == bytes.len() {
        Ok(())
    } else {
        Err(LinkError::Protocol("the hello was not taken whole"))
    }
}

/// Writes what is queued, as much as there is in one write. Ends with the last `Link`, which closes
/// the session's sending side.
async fn write_commands(mut write: OwnedWriteHalf, mut queue: mpsc::UnboundedReceiver<Command>) {
    let mut bytes = Vec::new();
    while let Some(first) = queue.recv().await {
        bytes.clear();
        let mut next = Some(first);
        while let Some(command) = next {
            wire::encode(&ToKeeper { command: Some(command) }, &mut bytes);
            next = if bytes.len() < BATCH { queue.try_recv().ok() } else { None };
        }
        if let Err(error) = write.write_all(&bytes).await {
            tracing::debug!(%error, "the keeper takes no more commands");
            return;
        }
    }
}

async fn read_reports(mut reader: Reader, sender: mpsc::Sender<Result<Report, LinkError>>) {
    loop {
        let report = reader.next().await;
        let over = report.is_err();
        if sender.send(report).await.is_err() || over {
            return;
        }
    }
}

#[derive(Debug)]
struct Reader {
    read: OwnedReadHalf,
    inbox: Inbox,
    buffer: Vec<u8>,
}

impl Reader {
    async fn answer(&mut self) -> Result<(Welcome, Inventory), LinkError> {
        let welcome = match self.next().await? {
            Report::Welcome(welcome) => welcome,
            Report::Refused(refused) => return Err(LinkError::Refused(refused.message)),
            Report::Inventory(_)
            | Report::Started(_)
            | Report::CannotStart(_)
            | Report::Ended(_)
            | Report::Gone(_)
            | Report::NoSuch(_) => return Err(LinkError::Protocol("no welcome came")),
        };
        let mut whole = Inventory::default();
        loop {
            let Report::Inventory(part) = self.next().await? else {
                return Err(LinkError::Protocol("no inventory came"));
            };
            whole.items.extend(part.items);
            if !part.more {
                return Ok((welcome, whole));
            }
        }
    }

    /// The next report; one that this version does not know is passed over.
    async fn next(&mut self) -> Result<Report, LinkError> {
        loop {
            while let Some(message) = wire::decode::<ToDaemon>(&mut self.inbox)? {
                if let Some(report) = message.report {
                    return Ok(report);
                }
            }
            match self.read.read(&mut self.buffer).await? {
                0 => return Err(LinkError::Closed),
                count => self.inbox.push(self.buffer.get(..count).unwrap_or_default()),
            }
        }
    }
}
