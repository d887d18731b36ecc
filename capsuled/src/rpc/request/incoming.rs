//! The connections that are let in: so many that descriptors are left for the store and the logs.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_stream::Stream;
use tonic::transport::server::{Connected, UdsConnectInfo};

/// The most connections at once, however many descriptors there are.
const CONNECTIONS_MAX: u64 = 4096;
/// Descriptors that connections leave to everything else.
const RESERVE: u64 = 32;
/// The pause after a connection that the system had no room for.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections. One too many is closed at once: its client is told so by the closing, while
/// one left waiting would never know why.
#[derive(Debug)]
pub(crate) struct Incoming {
    listener: UnixListener,
    free: Arc<Semaphore>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    /// Accepts from `listener`, as many connections as the limit of open files bears.
    pub(crate) fn new(listener: UnixListener) -> Self {
        Self::with_room(listener, most())
    }

    fn with_room(listener: UnixListener, room: usize) -> Self {
        Self { listener, free: Arc::new(Semaphore::new(room)), pause: None }
    }
}

/// How many connections the limit of open files bears.
pub(in crate::rpc) fn most() -> usize {
    room(getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft))
}

/// How many connections fit into so many descriptors: each may follow a log, which takes three more.
fn room(files: u64) -> usize {
    let most = (files.saturating_sub(RESERVE) / 4).clamp(4, CONNECTIONS_MAX);
    usize::try_from(most).unwrap_or(usize::MAX)
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match std::task::ready!(self.listener.poll_accept(cx)) {
                Ok((stream, _)) => {
                    if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
                        return Poll::Ready(Some(Ok(Connection { stream, _place: place })));
                    }
                    tracing::warn!("too many connections: one is closed");
                }
                Err(error) if lacks_room(&error) => {
                    tracing::error!(%error, "cannot accept a connection");
                    self.pause = Some(Box::pin(sleep(PAUSE)));
                }
                // The client has gone again.
                Err(error) => tracing::debug!(%error, "a connection was not made"),
            }
        }
    }
}

fn lacks_room(error: &io::Error) -> bool {
    let known = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS];
    known.iter().any(|errno| error.raw_os_error() == Some(*errno as i32))
}

/// A connection; its end makes place for another.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio_stream::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn one_too_many_is_closed_and_a_gone_one_makes_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let mut incoming = Incoming::with_room(UnixListener::bind(&path).unwrap(), 2);
        let _first = UnixStream::connect(&path).await.unwrap();
        let _second = UnixStream::connect(&path).await.unwrap();
        let held = (incoming.next().await.unwrap(), incoming.next().await.unwrap());
        let mut third = UnixStream::connect(&path).await.unwrap();
        let mut byte = [0];
        let turned_away = async {
            tokio::select! {
                _ = incoming.next() => panic!("a third was let in"),
                read = third.read(&mut byte) => read.unwrap(),
            }
        };
        assert_eq!(turned_away.await, 0);
        drop(held);
        let _fourth = UnixStream::connect(&path).await.unwrap();
        assert!(incoming.next().await.unwrap().is_ok());
    }

    #[test]
    fn descriptors_are_left_for_the_rest() {
        assert_eq!([room(64), room(1024), room(u64::MAX)], [8, 248, 4096]);
        assert_eq!(room(8), 4, "somebody can always ask for the status");
    }
}
