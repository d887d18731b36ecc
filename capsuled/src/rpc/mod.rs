//! `capsule.v1` over the Unix socket. Handlers convert, ask the engine, convert back.
//!
//! Owns the wire: no other module but this one names `capsule_proto::v1`. It must not name the store's
//! writing side or the keeper. Invariant: a reply means that what it says is on disk.

mod actions;
mod apps;
mod chat;
mod convert;
mod daemon;
mod request;
mod schedules;
mod show;
mod status;
mod stream;
mod tasks;

use std::path::PathBuf;
use std::sync::Arc;

use capsule_proto::v1::apps_server::AppsServer;
use capsule_proto::v1::chat_server::ChatServer;
use capsule_proto::v1::daemon_server::DaemonServer;
use capsule_proto::v1::schedules_server::SchedulesServer;
use capsule_proto::v1::tasks_server::TasksServer;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;

pub(crate) use self::request::incoming::Incoming;
pub(crate) use self::request::peer::own;
use self::request::peer::{self, Peers};
use crate::backup::Backups;
use crate::deploying::Deployer;
use crate::engine::Engine;
use crate::gateway::Gateway;
use crate::logs::LogDir;
use crate::web::Entrance;

/// The largest message taken: a batch of 1,000 submits with payloads of 1 KiB and more.
const MESSAGE_MAX: usize = 16 << 20;
/// The most calls at once on one connection.
const STREAMS_MAX: u32 = 1024;

/// What the handlers work with; clones are the same.
#[derive(Clone, Debug)]
pub struct Api {
    /// The one door to tasks.
    pub engine: Engine,
    /// What apps say and are told.
    pub gateway: Gateway,
    /// Logs of attempts.
    pub logs: Arc<LogDir>,
    /// What `status` tells of the daemon itself.
    pub about: Arc<About>,
    /// Makes revisions of apps of the SDK.
    pub deployer: Arc<Deployer>,
    /// Makes backups.
    pub backups: Backups,
    /// Lets browsers in.
    pub entrance: Entrance,
    /// Set when the daemon ends: streams end with it.
    pub ending: CancellationToken,
    peers: Arc<Peers>,
}

/// What handlers reach beside the engine.
#[derive(Debug)]
pub struct Doors {
    /// What apps say and are told.
    pub gateway: Gateway,
    /// Makes backups.
    pub backups: Backups,
    /// Lets browsers in.
    pub entrance: Entrance,
    /// Set when the daemon ends.
    pub ending: CancellationToken,
}

/// What `status` tells of the daemon itself.
#[derive(Debug)]
pub struct About {
    /// Where its state is.
    pub state_dir: PathBuf,
    /// Its socket.
    pub socket: PathBuf,
    /// The name of its store.
    pub store_uuid: String,
    /// When it started.
    pub started: capsule_core::time::Timestamp,
}

impl Api {
    /// Handlers over this engine and gateway, until the token says that the daemon ends.
    pub fn new(
        engine: Engine,
        logs: Arc<LogDir>,
        about: About,
        deployer: Arc<Deployer>,
        Doors { gateway, backups, entrance, ending }: Doors,
    ) -> Self {
        let (about, peers) = (Arc::new(about), Arc::default());
        Self { engine, gateway, logs, about, deployer, backups, entrance, ending, peers }
    }
}

/// Serves until the daemon ends; running calls get a moment to finish.
///
/// # Errors
/// The listener broke.
pub async fn serve(listener: UnixListener, api: Api) -> Result<(), tonic::transport::Error> {
    let ending = api.ending.clone();
    let tasks = TasksServer::new(api.clone())
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(MESSAGE_MAX);
    Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_pending_accept_reset_streams(Some(64))
        .add_service(InterceptedService::new(tasks, peer::admit))
        .add_service(InterceptedService::new(AppsServer::new(api.clone()), peer::admit))
        .add_service(InterceptedService::new(ChatServer::new(api.clone()), peer::admit))
        .add_service(InterceptedService::new(SchedulesServer::new(api.clone()), peer::admit))
        .add_service(InterceptedService::new(DaemonServer::new(api), peer::admit))
        .serve_with_incoming_shutdown(Incoming::new(listener), ending.cancelled_owned())
        .await
}
