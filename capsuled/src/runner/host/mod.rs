//! The socket that app hosts, and Python attempts, open to the daemon.
//!
//! It must not know tasks: to it an attempt is two numbers, and a call is bytes. Invariant: what a
//! connection says is told in order, between its opening and its closing; a call is answered once.

mod connection;
mod frame;
mod line;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::mpsc;

use self::connection::Connection;
pub use self::frame::{Ended, FromHost, Hello, HostError, Known, Log, Start, ToHost};

/// The version of the protocol.
pub const PROTOCOL: u32 = 1;
/// The longest line, in bytes.
pub const LINE_MAX: usize = 32 << 20;
/// Batches of frames that may wait to be heard; then hosts have to wait.
pub const EVENTS: usize = 256;
/// Calls of one connection that may be in flight.
const CALLS_MAX: usize = 1024;
/// How long a connection may take to say hello.
const HELLO: Duration = Duration::from_secs(10);
/// Between two tries to accept when the system has no descriptor left.
const AGAIN: Duration = Duration::from_millis(100);

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The host with this key.
    Host(u64),
    /// One attempt in a process of its own.
    Attempt {
        /// Number of the task.
        task: u64,
        /// Number of the attempt.
        attempt: u32,
    },
}

/// A unary call of the SDK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `Service/Method`.
    pub method: String,
    /// The request, encoded.
    pub body: Vec<u8>,
    /// The attempt that asks, if one does.
    pub from: Option<(u64, u32)>,
    /// Names a call that must not be carried out twice; the same when it comes again.
    pub key: Option<String>,
}

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRefused {
    /// The code of gRPC.
    pub code: i32,
    /// For people.
    pub message: String,
}

/// The answer to a call, on its way.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, CallRefused>> + Send + 'a>>;

/// Who may come in, and who answers calls.
pub trait Door: std::fmt::Debug + Send + Sync {
    /// Who says this hello.
    ///
    /// # Errors
    /// Nobody that is expected; the text says so to it.
    fn admit(&self, hello: &Hello) -> Result<Peer, String>;

    /// Answers a call.
    fn call(&self, peer: Peer, call: Call) -> Answer<'_>;
}

/// What a host does.
#[derive(Debug)]
pub enum Event {
    /// It has connected, for the first time or again.
    Opened {
        /// The host's key.
        key: u64,
        /// The way to answer.
        sender: Sender,
        /// What it said.
        hello: Hello,
    },
    /// It has said something.
    Said {
        /// The host's key.
        key: u64,
        /// The connection.
        connection: u64,
        /// What, in order.
        frames: Vec<FromHost>,
    },
    /// Its connection is gone.
    Closed {
        /// The host's key.
        key: u64,
        /// The connection.
        connection: u64,
    },
}

/// Sends frames over one connection. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sender {
    /// Which connection.
    pub connection: u64,
    frames: mpsc::UnboundedSender<ToHost>,
}

impl Sender {
    /// Queues a frame and returns at once. On a lost connection it is dropped: the next hello says
    /// what the host knows.
    pub fn send(&self, frame: ToHost) {
        // The end of the connection is told as an event.
        let _closed = self.frames.send(frame);
    }
}

/// Serves the socket until the runtime ends.
pub async fn serve(listener: UnixListener, door: Arc<dyn Door>, events: mpsc::Sender<Event>) {
    let mut last = 0;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                last += 1;
                let connection = Connection::new(last, Arc::clone(&door), events.clone());
                tokio::spawn(connection.run(stream));
            }
            Err(error) => {
                tracing::warn!(%error, "a host cannot be accepted");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}
