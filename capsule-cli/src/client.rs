//! Finds the daemon, checks who it is, and turns its answers into values or errors.
//!
//! Owns the one connection of the process. It knows nothing of what the calls mean.

use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use capsule_proto::v1::apps_client::AppsClient;
use capsule_proto::v1::chat_client::ChatClient;
use capsule_proto::v1::daemon_client::DaemonClient;
use capsule_proto::v1::schedules_client::SchedulesClient;
use capsule_proto::v1::tasks_client::TasksClient;
use capsule_proto::v1::{HelloReply, HelloRequest};
use capsule_proto::{API_MAJOR, API_MINOR};
use hyper_util::rt::TokioIo;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use crate::error::{CliError, Exit};

/// A path of a Unix socket is kept in 108 bytes, with a zero at the end.
const LONGEST_SOCKET_PATH: usize = 107;
/// A page of tasks or a result may be larger than the 4 MiB that tonic allows on its own.
const LARGEST_MESSAGE: usize = 256 << 20;
/// How long one answer may take unless the user says otherwise.
const DEADLINE: Duration = Duration::from_secs(10);

/// A connection to the daemon.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    channel: Channel,
    deadline: Option<Duration>,
    asked: bool,
    /// The socket that answered.
    pub(crate) socket: PathBuf,
}

impl Client {
    /// Connects to the given socket, or to the first of the usual ones that a daemon listens on.
    pub(crate) async fn connect(
        socket: Option<&str>,
        deadline: Option<Duration>,
    ) -> Result<Self, CliError> {
        let (socket, stream) = find(socket)?;
        stream.set_nonblocking(true)?;
        let stream = Mutex::new(Some(tokio::net::UnixStream::from_std(stream)?));
        // One connection for the life of the process: a daemon that went away is told, not redialled.
        let connector = tower::service_fn(move |_: tonic::codegen::http::Uri| {
            let taken = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            let ready = taken.map(TokioIo::new).ok_or(io::ErrorKind::NotConnected);
            std::future::ready(ready.map_err(io::Error::from))
        });
        let endpoint = Endpoint::from_static("http://capsuled");
        let channel = endpoint.connect_with_connector(connector).await.map_err(|error| {
            CliError::new(
                Exit::Unreachable,
                "unavailable",
                format!("cannot speak to the daemon at {}: {error}", socket.display()),
            )
        })?;
        Ok(Self {
            channel,
            deadline: Some(deadline.unwrap_or(DEADLINE)),
            asked: deadline.is_some(),
            socket,
        })
    }

    /// The same connection for a call that may take long: only a deadline asked for holds.
    pub(crate) fn patient(&self) -> Self {
        let mut client = self.clone();
        if !client.asked {
            client.deadline = None;
        }
        client
    }

    pub(crate) fn tasks(&self) -> TasksClient<Channel> {
        TasksClient::new(self.channel.clone())
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE)
    }

    pub(crate) fn daemon(&self) -> DaemonClient<Channel> {
        DaemonClient::new(self.channel.clone())
    }

    pub(crate) fn apps(&self) -> AppsClient<Channel> {
        AppsClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_MESSAGE)
    }

    pub(crate) fn chat(&self) -> ChatClient<Channel> {
        ChatClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_MESSAGE)
    }

    pub(crate) fn schedules(&self) -> SchedulesClient<Channel> {
        SchedulesClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_MESSAGE)
    }

    /// Awaits one answer, within the deadline. The call is boxed: those of tonic are large.
    pub(crate) fn answer<'a, T: 'a>(
        &'a self,
        call: impl Future<Output = Result<Response<T>, Status>> + 'a,
    ) -> Pin<Box<dyn Future<Output = Result<T, CliError>> + 'a>> {
        Box::pin(async move {
            let answered = match self.deadline {
                Some(deadline) => match tokio::time::timeout(deadline, call).await {
                    Ok(answered) => answered,
                    Err(_) => return Err(ran_out(deadline)),
                },
                None => call.await,
            };
            match answered {
                Ok(reply) => Ok(reply.into_inner()),
                Err(status) => Err(self.explain(status).await),
            }
        })
    }

    /// The error of a status; one that comes of two versions names both.
    pub(crate) async fn explain(&self, status: Status) -> CliError {
        let undecodable = status.code() == Code::Internal && status.message().contains("decode");
        if status.code() != Code::Unimplemented && !undecodable {
            return self.fallen(status);
        }
        match self.hello().await {
            Ok(hello) => CliError::new(
                Exit::Refused,
                "unimplemented",
                format!(
                    "the daemon is capsuled {} (protocol {}.{}) and does not understand \
                     capsule {} (protocol {API_MAJOR}.{API_MINOR})",
                    hello.version,
                    hello.api_major,
                    hello.api_minor,
                    env!("CARGO_PKG_VERSION"),
                ),
            )
            .hint("compare the two    capsule version"),
            Err(_) => CliError::from(status),
        }
    }

    fn fallen(&self, status: Status) -> CliError {
        let broken = status.code() == Code::Unavailable && status.details().is_empty();
        let cut = matches!(status.code(), Code::Unknown | Code::Cancelled | Code::Internal)
            && std::error::Error::source(&status).is_some();
        if broken || cut {
            let message = format!("the daemon at {} went away", self.socket.display());
            return CliError::new(Exit::Unreachable, "unavailable", message)
                .hint("see whether it runs    capsule status");
        }
        CliError::from(status)
    }

    /// The daemon's version.
    pub(crate) async fn hello(&self) -> Result<HelloReply, Status> {
        let request = HelloRequest {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api_major: API_MAJOR,
            api_minor: API_MINOR,
        };
        let wait = self.deadline.unwrap_or(DEADLINE);
        match tokio::time::timeout(wait, self.daemon().hello(request)).await {
            Ok(reply) => reply.map(Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("the daemon did not answer")),
        }
    }
}

fn ran_out(deadline: Duration) -> CliError {
    let message = format!("the daemon did not answer within {}", crate::ui::time::span(deadline));
    CliError::new(Exit::Failure, "deadline_exceeded", message)
        .hint("what was asked may still have been done: capsule list")
}

/// Connects to the first socket that answers.
fn find(socket: Option<&str>) -> Result<(PathBuf, UnixStream), CliError> {
    let candidates = match socket {
        Some(given) => vec![PathBuf::from(given.strip_prefix("unix:").unwrap_or(given))],
        None => usual(),
    };
    let mut refused = None;
    for path in &candidates {
        let length = path.as_os_str().len();
        if length > LONGEST_SOCKET_PATH {
            return Err(CliError::usage(format!(
                "the socket path {} has {length} bytes; a Unix socket allows {LONGEST_SOCKET_PATH}",
                path.display()
            )));
        }
        match UnixStream::connect(path) {
            Ok(stream) => {
                trust(path, &stream)?;
                return Ok((path.clone(), stream));
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                refused.get_or_insert(path.clone());
            }
            Err(_) => {}
        }
    }
    if let Some(path) = refused {
        let message = format!("permission denied on the socket {}", path.display());
        return Err(CliError::new(Exit::Denied, "permission_denied", message)
            .hint("where a daemon is looked for    capsule help environment"));
    }
    Err(absent(socket, &candidates))
}

fn absent(socket: Option<&str>, tried: &[PathBuf]) -> CliError {
    let names: Vec<String> = tried.iter().map(|path| path.display().to_string()).collect();
    let message = format!("capsuled is not running (tried {})", names.join(", "));
    let start = match (socket, tried) {
        (Some(_), [path]) => format!("start it    capsuled run --socket {}", path.display()),
        _ => "start it    capsuled run".to_owned(),
    };
    CliError::new(Exit::Unreachable, "not_running", message).hint(start)
}

/// Where a daemon listens unless it is told otherwise: the user's own, then the machine's.
fn usual() -> Vec<PathBuf> {
    let runtime = match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => Path::new(&dir).join("capsule"),
        None => PathBuf::from(format!("/tmp/capsule-{}", nix::unistd::geteuid())),
    };
    vec![runtime.join("capsuled.sock"), PathBuf::from("/run/capsule/capsuled.sock")]
}

/// Refuses a daemon of another user: it would see our arguments and environment.
fn trust(path: &Path, stream: &UnixStream) -> Result<(), CliError> {
    let peer = getsockopt(stream, PeerCredentials).map_err(io::Error::from)?;
    let ours = nix::unistd::geteuid().as_raw();
    if peer.uid() == 0 || peer.uid() == ours {
        return Ok(());
    }
    let message = format!(
        "the daemon at {} runs as uid {}, which is neither root nor you (uid {ours})",
        path.display(),
        peer.uid()
    );
    Err(CliError::new(Exit::Denied, "foreign_daemon", message)
        .hint("where a daemon is looked for    capsule help environment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_socket_path_is_refused_by_name() {
        let long = format!("/tmp/{}", "x".repeat(200));
        let error = find(Some(&long)).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        assert!(error.to_string().contains("205 bytes"), "{error}");
    }

    #[test]
    fn a_missing_daemon_names_what_was_tried() {
        let error = find(Some("unix:/nowhere/s.sock")).unwrap_err();
        assert_eq!(error.exit(), Exit::Unreachable);
        assert_eq!(error.to_string(), "capsuled is not running (tried /nowhere/s.sock)");
    }
}
