//! A daemon in this process: it keeps what it is told and answers as a test wants.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};

use capsule_proto::v1::apps_server::AppsServer;
use capsule_proto::v1::chat_event::Event;
use capsule_proto::v1::chat_server::ChatServer;
use capsule_proto::v1::daemon_server::DaemonServer;
use capsule_proto::v1::schedules_server::SchedulesServer;
use capsule_proto::v1::tasks_server::TasksServer;
use capsule_proto::v1::{
    ChatEvent, Definition, ErrorDetail, LogChunk, Parameter, Status as TaskStatus, SubmitRequest,
    TaskView,
};
use prost::Message as _;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, oneshot};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Code, Status};

/// What the daemon holds, and what it was told.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) tasks: Vec<TaskView>,
    pub(crate) definitions: Vec<Definition>,
    pub(crate) log: Vec<LogChunk>,
    pub(crate) result_json: String,
    pub(crate) error: String,
    /// How a task is when its end is asked for.
    pub(crate) ending: TaskView,
    /// Tasks do not end until they are cancelled.
    pub(crate) endless: bool,
    /// A cancel changes nothing.
    pub(crate) deaf: bool,
    /// Answers of these methods.
    pub(crate) refusals: HashMap<&'static str, Status>,
    /// Said of the next submits.
    pub(crate) merged: bool,
    pub(crate) submits: Vec<SubmitRequest>,
    /// What an app says to each message, and to whom.
    pub(crate) chat: Vec<Event>,
    pub(crate) talk: Option<UnboundedSender<Result<ChatEvent, Status>>>,
    /// Other requests, in short.
    pub(crate) heard: Vec<String>,
}

/// A daemon on a socket of its own; it ends when it is dropped.
pub(crate) struct Fake {
    pub(crate) shared: Arc<Shared>,
    dir: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    pub(crate) cancelled: Notify,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The refusal of a method, if there is one.
    pub(crate) fn check(&self, method: &'static str) -> Result<(), Status> {
        match self.lock().refusals.get(method) {
            Some(status) => Err(status.clone()),
            None => Ok(()),
        }
    }
}

/// What a run of the command left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Fake {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared::default());
        shared.lock().ending.status = TaskStatus::Completed.into();
        let mut fake = Self { shared, dir, stop: None, thread: None };
        fake.serve();
        fake
    }

    /// Begins to listen.
    pub(crate) fn serve(&mut self) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let service = Served(Arc::clone(&self.shared));
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::UnixListener::from_std(listener).unwrap();
                let server = tonic::transport::Server::builder()
                    .add_service(TasksServer::new(service.clone()))
                    .add_service(DaemonServer::new(service.clone()))
                    .add_service(SchedulesServer::new(service.clone()))
                    .add_service(ChatServer::new(service.clone()))
                    .add_service(AppsServer::new(service))
                    .serve_with_incoming(UnixListenerStream::new(listener));
                tokio::select! {
                    done = server => done.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        (self.stop, self.thread) = (Some(stop), Some(thread));
    }

    /// Dies with all connections; what it held stays.
    pub(crate) fn die(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        drop(std::fs::remove_file(self.socket()));
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// The command with these words, speaking to this daemon.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = bare(words);
        command.env("CAPSULE_SOCKET", self.socket());
        command
    }

    /// Runs the command to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Ended {
        ended(self.command(words).spawn().unwrap())
    }

    /// Runs the command with this on its stdin.
    pub(crate) fn run_with(&self, words: &[&str], input: &str) -> Ended {
        let mut child = self.command(words).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        ended(child)
    }

    /// The last submit that was heard.
    pub(crate) fn last_submit(&self) -> SubmitRequest {
        self.lock().submits.last().cloned().unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.die();
    }
}

/// The command with nothing of this test's environment but what it needs.
#[expect(clippy::disallowed_methods, reason = "the command under test")]
pub(crate) fn bare(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_capsule"));
    command
        .args(words)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("LANG", "C.UTF-8")
        .env("TZ", "UTC")
        .env("XDG_RUNTIME_DIR", "/nonexistent/run")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub(crate) fn ended(child: Child) -> Ended {
    use std::os::unix::process::ExitStatusExt as _;
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-output.status.signal().unwrap_or(0)),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[derive(Clone)]
pub(crate) struct Served(pub(crate) Arc<Shared>);

/// An error as the daemon sends it.
pub(crate) fn refusal(grpc: Code, code: &str, message: &str, hint: &str, exit: i32) -> Status {
    let detail = ErrorDetail { code: code.to_owned(), hint: hint.to_owned(), exit };
    Status::with_details(grpc, message, detail.encode_to_vec().into())
}

pub(crate) fn task(id: u64, name: &str, status: TaskStatus) -> TaskView {
    TaskView {
        id,
        uuid: format!("0199c0de-0000-7000-8000-{id:012}"),
        name: name.to_owned(),
        status: status.into(),
        uid: nix::unistd::geteuid().as_raw(),
        queue: "default".to_owned(),
        created_us: 1_790_000_000_000_000,
        ..TaskView::default()
    }
}

pub(crate) fn parameter(name: &str, kind: &str, required: bool) -> Parameter {
    Parameter { name: name.to_owned(), r#type: kind.to_owned(), required, ..Parameter::default() }
}

/// A task of an app.
pub(crate) fn sync_leads() -> Definition {
    Definition {
        app: "leads".to_owned(),
        revision: 7,
        name: "sync_leads".to_owned(),
        help: "Sync the leads of an owner".to_owned(),
        params: vec![
            parameter("owner_id", "str", true),
            parameter("limit", "int", false),
            parameter("wait", "int", false),
        ],
        retries: 2,
        grace_ms: 10_000,
        ..Definition::default()
    }
}

pub(crate) fn chunk(stream: &str, data: &[u8]) -> LogChunk {
    LogChunk {
        attempt: 1,
        time_us: 1_790_000_000_000_000,
        stream: stream.to_owned(),
        data: data.to_vec(),
        cursor: "1:2".to_owned(),
        ..LogChunk::default()
    }
}
