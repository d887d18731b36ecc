//! One connection: its hello, what it says, its calls.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::unistd::geteuid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::frame::{CallFrame, FromHost, ToHost};
use super::line::{Lines, TooLong};
use super::{CALLS_MAX, Call, CallRefused, Door, Event, HELLO, Hello, PROTOCOL, Peer, Sender};

/// Bytes read at once.
const READ: usize = 256 << 10;
/// Bytes after which queued frames go out in a write of their own.
const BATCH: usize = 256 << 10;
/// gRPC: a bound is reached.
const EXHAUSTED: i32 = 8;
/// gRPC: the request makes no sense.
const INVALID: i32 = 3;

/// One connection, before it is admitted.
#[derive(Debug)]
pub(super) struct Connection {
    id: u64,
    door: Arc<dyn Door>,
    events: mpsc::Sender<Event>,
    in_flight: Arc<AtomicUsize>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Hangup {
    #[error("the peer closed the connection")]
    Closed,
    #[error("the peer runs as user {0}")]
    Stranger(u32),
    #[error("no hello came")]
    NoHello,
    #[error("the peer is refused: {0}")]
    Refused(String),
    #[error(transparent)]
    TooLong(#[from] TooLong),
    #[error("the connection failed")]
    Io(#[from] io::Error),
}

/// The reading side.
struct Reader {
    read: OwnedReadHalf,
    lines: Lines,
    buffer: Vec<u8>,
}

impl Reader {
    /// The frames of the next piece; at least one.
    async fn next(&mut self) -> Result<Vec<FromHost>, Hangup> {
        let mut frames = Vec::new();
        while frames.is_empty() {
            let count = self.read.read(&mut self.buffer).await?;
            if count == 0 {
                return Err(Hangup::Closed);
            }
            let piece = self.buffer.get(..count).unwrap_or_default();
            self.lines.push(piece, |line| match serde_json::from_slice(line) {
                Ok(frame) => frames.push(frame),
                Err(error) => tracing::warn!(%error, "a host's line is no frame"),
            })?;
        }
        Ok(frames)
    }
}

impl Connection {
    pub(super) fn new(id: u64, door: Arc<dyn Door>, events: mpsc::Sender<Event>) -> Self {
        Self { id, door, events, in_flight: Arc::default() }
    }

    /// From the hello to the end.
    pub(super) async fn run(self, stream: UnixStream) {
        let ended = self.converse(stream).await;
        match ended {
            Ok(()) | Err(Hangup::Closed) => {}
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a host's connection ends"
                );
            }
        }
    }

    async fn converse(&self, stream: UnixStream) -> Result<(), Hangup> {
        let uid = stream.peer_cred()?.uid();
        if uid != geteuid().as_raw() {
            return Err(Hangup::Stranger(uid));
        }
        let (read, mut write) = stream.into_split();
        let mut reader = Reader { read, lines: Lines::default(), buffer: vec![0; READ] };
        let first = timeout(HELLO, reader.next()).await.map_err(|_| Hangup::NoHello)??;
        let mut frames = first.into_iter();
        let Some(FromHost::Hello(hello)) = frames.next() else { return Err(Hangup::NoHello) };
        let peer = match self.admit(&hello) {
            Ok(peer) => peer,
            Err(message) => {
                let refused = ToHost::Refused { message: message.clone() };
                write.write_all(&encoded(&refused)).await?;
                return Err(Hangup::Refused(message));
            }
        };
        let (frames_out, queue) = mpsc::unbounded_channel();
        let sender = Sender { connection: self.id, frames: frames_out };
        sender.send(ToHost::Welcome { protocol: PROTOCOL });
        tokio::spawn(write_frames(write, queue));
        if let Peer::Host(key) = peer {
            self.tell(Event::Opened { key, sender: sender.clone(), hello }).await;
        }
        let mut next = Ok(frames.collect());
        let ended = loop {
            match next {
                Ok(frames) => self.hear(peer, &sender, frames).await,
                Err(error) => break Err(error),
            }
            next = reader.next().await;
        };
        if let Peer::Host(key) = peer {
            self.tell(Event::Closed { key, connection: self.id }).await;
        }
        ended
    }

    fn admit(&self, hello: &Hello) -> Result<Peer, String> {
        if hello.protocol == PROTOCOL {
            return self.door.admit(hello);
        }
        Err(format!("the daemon speaks protocol {PROTOCOL}, the host {}", hello.protocol))
    }

    async fn tell(&self, event: Event) {
        // Nobody listens any more when the daemon ends.
        let _ending = self.events.send(event).await;
    }

    async fn hear(&self, peer: Peer, sender: &Sender, frames: Vec<FromHost>) {
        let mut said = Vec::with_capacity(frames.len());
        for frame in frames {
            if let FromHost::Call(call) = frame {
                self.call(peer, sender.clone(), call);
            } else {
                said.push(frame);
            }
        }
        if let (Peer::Host(key), false) = (peer, said.is_empty()) {
            self.tell(Event::Said { key, connection: self.id, frames: said }).await;
        }
    }

    /// Has a call answered, without waiting for that: what follows it may be what it waits for.
    fn call(&self, peer: Peer, sender: Sender, frame: CallFrame) {
        let id = frame.id;
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= CALLS_MAX {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            let message = format!("{CALLS_MAX} calls of this host are in flight");
            return sender.send(reply(id, Err(CallRefused { code: EXHAUSTED, message })));
        }
        let from = match peer {
            Peer::Host(_) => Some((frame.task, frame.attempt)).filter(|(task, _)| *task != 0),
            Peer::Attempt { task, attempt } => Some((task, attempt)),
        };
        let Ok(body) = STANDARD.decode(&frame.body) else {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            let message = "the body is no base64".to_owned();
            return sender.send(reply(id, Err(CallRefused { code: INVALID, message })));
        };
        let call = Call { method: frame.method, body, from, key: frame.key };
        let (door, in_flight) = (Arc::clone(&self.door), Arc::clone(&self.in_flight));
        tokio::spawn(async move {
            let answer = door.call(peer, call).await;
            in_flight.fetch_sub(1, Ordering::Relaxed);
            sender.send(reply(id, answer));
        });
    }
}

fn reply(id: u64, answer: Result<Vec<u8>, CallRefused>) -> ToHost {
    match answer {
        Ok(body) => {
            let body = Some(STANDARD.encode(body));
            ToHost::Reply { id, body, code: None, message: None }
        }
        Err(CallRefused { code, message }) => {
            ToHost::Reply { id, body: None, code: Some(code), message: Some(message) }
        }
    }
}

fn encoded(frame: &ToHost) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(frame).expect("these frames are all JSON");
    bytes.push(b'\n');
    bytes
}

/// Writes what is queued, as much as there is in one write, until the last sender is gone.
async fn write_frames(mut write: OwnedWriteHalf, mut queue: mpsc::UnboundedReceiver<ToHost>) {
    while let Some(first) = queue.recv().await {
        let mut bytes = encoded(&first);
        while bytes.len() < BATCH
            && let Ok(frame) = queue.try_recv()
        {
            bytes.extend(encoded(&frame));
        }
        if let Err(error) = write.write_all(&bytes).await {
            tracing::debug!(%error, "a host takes no more");
            return;
        }
    }
}
