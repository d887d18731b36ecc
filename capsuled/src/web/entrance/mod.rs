//! The way in: where the board is served, and whom it lets in.
//!
//! It knows nothing of pages. Invariant: nobody comes in but by a link that the daemon gave out over
//! its own socket, whose other side the kernel vouches for.

mod address;
mod sessions;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use capsule_core::time::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

pub(in crate::web) use self::address::Plan;
pub use self::address::{WebArgs, WebAt};
pub(crate) use self::sessions::KEPT;
use self::sessions::Sessions;
pub(in crate::web) use self::sessions::{STAY, form_mark, hex, same};

/// Requests for a link that wait until the board is served.
const WAITING: usize = 16;

/// Why there is no link.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WebError {
    /// It is not to be served.
    #[error("the web board is off")]
    Off,
    /// Nothing can listen there.
    #[error("serving the web board at {place}: {why}")]
    Listen {
        /// The address or the path.
        place: String,
        /// What the system says.
        why: String,
    },
    /// No randomness to make a secret of.
    #[error("the system gives no random bytes")]
    Random,
    /// The daemon ends.
    #[error("the daemon ends")]
    Ending,
}

/// A link that opens the board once.
#[derive(Clone, Debug)]
pub struct Link {
    /// The link.
    pub url: String,
    /// Until when it is good.
    pub until: Timestamp,
    /// The Unix socket that the board is served on, when that is one.
    pub socket: Option<PathBuf>,
}

/// Where the board is served by now.
#[derive(Clone, Debug)]
pub(in crate::web) struct Served {
    pub(in crate::web) base: String,
    pub(in crate::web) socket: Option<PathBuf>,
}

pub(in crate::web) type Answer = oneshot::Sender<Result<Served, WebError>>;
/// Those who wait until the board is served.
#[derive(Debug)]
pub struct Asked(pub(in crate::web) mpsc::Receiver<Answer>);

/// The way in; clones are the same.
#[derive(Clone, Debug)]
pub struct Entrance {
    pub(in crate::web) plan: Arc<Plan>,
    /// What the cookie is called: no other daemon behind the same address has it.
    pub(in crate::web) cookie: Arc<str>,
    sessions: Arc<Mutex<Sessions>>,
    ask: mpsc::Sender<Answer>,
}

impl Entrance {
    /// The way in as the flags have it, and who will ask for it to be opened.
    ///
    /// # Errors
    /// The flags make no sense.
    pub fn new(
        args: &WebArgs,
        runtime_dir: &Path,
        store: uuid::Uuid,
        now: Timestamp,
    ) -> anyhow::Result<(Self, Asked)> {
        let name = store.simple().to_string();
        let tail = name.get(24..).unwrap_or_default();
        let sessions = Sessions::load(runtime_dir.join(format!("web-{tail}")), now);
        let (ask, asked) = mpsc::channel(WAITING);
        let entrance = Self {
            plan: Arc::new(Plan::of(args)?),
            cookie: format!("capsule-{tail}").into(),
            sessions: Arc::new(Mutex::new(sessions)),
            ask,
        };
        Ok((entrance, Asked(asked)))
    }

    /// A link; the board is served when this is answered.
    ///
    /// # Errors
    /// The board is off, or cannot be served.
    pub async fn link(&self, now: Timestamp) -> Result<Link, WebError> {
        if self.plan.at == WebAt::Off {
            return Err(WebError::Off);
        }
        let (answer, served) = oneshot::channel();
        self.ask.send(answer).await.map_err(|_| WebError::Ending)?;
        let Served { base, socket } = served.await.map_err(|_| WebError::Ending)??;
        let (secret, until) = self.sessions.lock().link(now).map_err(|_| WebError::Random)?;
        Ok(Link { url: format!("{base}/enter/{secret}"), until, socket })
    }

    /// Lets the holder of a link in, once; gives the secret for the cookie.
    pub(in crate::web) fn enter(&self, link: &str, now: Timestamp) -> Option<String> {
        self.sessions.lock().enter(link, now)
    }

    /// Whether a browser with this cookie is in.
    pub(in crate::web) fn admits(&self, secret: &str, now: Timestamp) -> bool {
        self.sessions.lock().admits(secret, now)
    }

    /// Lets a browser out.
    pub(in crate::web) fn leave(&self, secret: &str, now: Timestamp) {
        self.sessions.lock().leave(secret, now);
    }

    /// Whether it is served from the start: it was asked to be, or pages may still be open.
    pub(in crate::web) fn opens_at_once(&self) -> bool {
        self.plan.at != WebAt::Off && (self.plan.at_once || self.sessions.lock().any())
    }

    /// Where it was served before the daemon was restarted.
    pub(in crate::web) fn former_address(&self) -> Option<String> {
        self.sessions.lock().address.clone()
    }

    /// Notes where it is served, for after a restart.
    pub(in crate::web) fn served_at(&self, address: String) {
        let mut sessions = self.sessions.lock();
        sessions.address = Some(address);
        if let Err(error) = sessions.save() {
            tracing::warn!(%error, "the web board may be served elsewhere after a restart");
        }
    }
}
