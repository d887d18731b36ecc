//! The listener and the addresses of the pages.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::entrance::Served;
use super::pages::list::bulk;
use super::{Asked, Entrance, Site, WebAt, WebError, act, assets, guard, live, pages};
use crate::rpc::Api;
use crate::socket;

/// Connections at once: a browser takes six for each board. One more waits until another ends.
pub(crate) const CONNECTIONS_MAX: usize = 128;
/// The pause after a connection that the system had no room for.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the board once it is asked for, until the daemon ends.
pub(crate) async fn serve(api: Api, mut asked: Asked) {
    let ending = api.ending.clone();
    let site = Site { entrance: api.entrance.clone(), api };
    let open = ending.run_until_cancelled(open(&site.entrance, &mut asked)).await;
    let Some(Some((porch, served))) = open else { return };
    tracing::info!(at = served.base, "the web board is served");
    let serving = axum::serve(porch, routes(site)).with_graceful_shutdown(ending.cancelled_owned());
    tokio::select! {
        served = serving => if let Err(error) = served {
            tracing::error!(%error, "the web board is not served any more");
        },
        () = say(&mut asked, &served) => {}
    }
}

fn routes(site: Site) -> Router {
    let guard = from_fn_with_state(site.clone(), guard::check);
    Router::new()
        .route("/", get(pages::board::show))
        .route("/enter/{link}", get(guard::enter))
        .route("/leave", post(guard::leave))
        .route("/theme", post(act::theme))
        .route("/assets/{name}", get(assets::send))
        .route("/tasks", get(pages::list::show))
        .route("/submit", get(pages::submit::show).post(pages::submit::submit))
        .route("/schedules", get(pages::schedules::show))
        .route("/schedules/{id}", get(pages::schedules::one).post(pages::schedules::change))
        .route("/queues", get(pages::queues::show).post(pages::queues::change))
        .route("/locks", get(pages::queues::locks))
        .route("/apps", get(pages::apps::show))
        .route("/apps/{name}", get(pages::apps::one))
        .route("/tasks/{id}", get(pages::task::show))
        .route("/tasks/{id}/log", get(pages::task::download::send))
        .route("/tasks/each/{verb}", get(bulk::ask).post(bulk::act))
        .route("/tasks/{id}/{verb}", get(pages::task::confirm).post(act::on_task))
        .route("/live/board", get(live::board))
        .route("/live/place", get(live::place))
        .route("/live/tasks/{id}", get(live::task))
        .fallback(pages::missing)
        .layer(guard)
        .with_state(site)
}

/// Waits until somebody asks, or does not wait where it is to be open at once; then listens.
async fn open(entrance: &Entrance, asked: &mut Asked) -> Option<(Porch, Served)> {
    let mut at_once = entrance.opens_at_once();
    loop {
        let answer = if at_once { None } else { Some(asked.0.recv().await?) };
        at_once = false;
        match (listen(entrance).await, answer) {
            (Ok((porch, served)), answer) => {
                if let Some(answer) = answer {
                    // Who does not wait any more needs no answer.
                    drop(answer.send(Ok(served.clone())));
                }
                return Some((porch, served));
            }
            (Err(error), Some(answer)) => drop(answer.send(Err(error))),
            (Err(error), None) => tracing::error!(%error, "see it again with capsule web"),
        }
    }
}

/// Tells whoever asks where it is served; never ends while somebody may ask.
async fn say(asked: &mut Asked, served: &Served) {
    while let Some(answer) = asked.0.recv().await {
        drop(answer.send(Ok(served.clone())));
    }
    std::future::pending::<()>().await;
}

async fn listen(entrance: &Entrance) -> Result<(Porch, Served), WebError> {
    let plan = &entrance.plan;
    let failed = |place: &dyn ToString, why: &dyn ToString| WebError::Listen {
        place: place.to_string(),
        why: why.to_string(),
    };
    match &plan.at {
        WebAt::Off => Err(WebError::Off),
        WebAt::Socket(path) => {
            let shown = path.display();
            let listener = socket::listen(path).map_err(|error| failed(&shown, &error))?;
            let served = Served { base: plan.base(None), socket: Some(path.clone()) };
            Ok((Porch::new(Bound::Unix(listener)), served))
        }
        WebAt::Address(wanted) => {
            let former = entrance.former_address().and_then(|text| text.parse().ok());
            let former =
                former.filter(|former: &SocketAddr| plan.any_port() && former.ip() == wanted.ip());
            let any = plan.any_port().then(|| SocketAddr::new(wanted.ip(), 0));
            let bound = bind([former, Some(*wanted), any].into_iter().flatten()).await;
            let listener = bound.map_err(|error| failed(wanted, &error))?;
            let address = listener.local_addr().map_err(|error| failed(wanted, &error))?;
            entrance.served_at(address.to_string());
            let served = Served { base: plan.base(Some(address)), socket: None };
            Ok((Porch::new(Bound::Tcp(listener)), served))
        }
    }
}

/// Binds the first of these that can be.
async fn bind(places: impl Iterator<Item = SocketAddr>) -> io::Result<TcpListener> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for place in places {
        match TcpListener::bind(place).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Accepts connections, never more than there is room for.
#[derive(Debug)]
struct Porch {
    bound: Bound,
    room: Arc<Semaphore>,
}

impl Porch {
    fn new(bound: Bound) -> Self {
        Self { bound, room: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

impl axum::serve::Listener for Porch {
    type Io = Visit;
    type Addr = ();

    async fn accept(&mut self) -> (Visit, ()) {
        loop {
            let place = Arc::clone(&self.room).acquire_owned().await.ok();
            let stream: io::Result<Box<dyn Stream>> = match &self.bound {
                Bound::Tcp(listener) => listener.accept().await.and_then(|(stream, _)| {
                    // A change is told at once, not when the next one fills the packet.
                    stream.set_nodelay(true)?;
                    Ok(Box::new(stream) as Box<dyn Stream>)
                }),
                Bound::Unix(listener) => {
                    listener.accept().await.map(|(stream, _)| Box::new(stream) as Box<dyn Stream>)
                }
            };
            match stream {
                Ok(stream) => return (Visit { stream, _place: place }, ()),
                Err(error) => {
                    tracing::debug!(%error, "a browser's connection was not made");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl Stream for TcpStream {}
impl Stream for UnixStream {}

/// A connection; its end makes room for another.
struct Visit {
    stream: Box<dyn Stream>,
    _place: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Visit {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Visit {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
