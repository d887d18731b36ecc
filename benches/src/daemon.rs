//! A private daemon: its own state, its own sockets, ended with everything below it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use capsule_proto::v1;
use capsule_proto::v1::daemon_client::DaemonClient;
use capsule_proto::v1::tasks_client::TasksClient;
use hyper_util::rt::TokioIo;
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::bench::{Bench, block_on};
use crate::ending::{self, send};
use crate::proc::{parent, wait_until};

/// The queue in which nothing starts.
pub(crate) const STILL: &str = "still";
/// How long a daemon may take to come up: also with a million tasks.
const READY: Duration = Duration::from_secs(120);
const LARGEST_MESSAGE: usize = 256 << 20;

/// A private daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    program: PathBuf,
    folder: TempDir,
    slots: usize,
    child: Option<Child>,
    keeper: u32,
}

/// A connection to it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) tasks: TasksClient<Channel>,
    pub(crate) daemon: DaemonClient<Channel>,
}

impl Daemon {
    /// Starts one that is ready to run tasks, with a queue [`STILL`] in which nothing starts.
    pub(crate) fn start(bench: &Bench, slots: usize) -> anyhow::Result<Self> {
        let (program, folder) = (bench.program("capsuled"), bench.folder()?);
        let mut daemon = Self { program, folder, slots, child: None, keeper: 0 };
        daemon.restart()?;
        block_on(async {
            let mut client = daemon.client().await?;
            let paused = v1::SetQueueRequest {
                name: STILL.to_owned(),
                paused: Some(true),
                ..v1::SetQueueRequest::default()
            };
            client.daemon.set_queue(paused).await?;
            Ok(())
        })?;
        Ok(daemon)
    }

    /// Starts it on the state that is there; gives the time until it runs tasks.
    pub(crate) fn restart(&mut self) -> anyhow::Result<Duration> {
        let root = self.folder.path();
        let log = std::fs::File::options().create(true).append(true).open(root.join("log"))?;
        let began = Instant::now();
        let mut command = Command::new(&self.program);
        command
            .args(["run", "--slots", &self.slots.to_string()])
            .env("CAPSULE_STATE_DIR", root.join("state"))
            .env("CAPSULE_SOCKET", self.socket())
            .env("XDG_RUNTIME_DIR", root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = ending::spawn(&mut command, Signal::SIGKILL).context("starting capsuled")?;
        self.child = Some(child);
        let socket = self.socket();
        let mut keeper = None;
        let up = wait_until(READY, || {
            keeper = block_on(keeper_of(&socket)).ok().flatten();
            keeper.is_some() || self.has_ended()
        });
        let took = began.elapsed();
        let Some(pid) = keeper.filter(|_| up) else {
            let said = std::fs::read_to_string(self.path().join("log")).unwrap_or_default();
            anyhow::bail!("capsuled did not become ready: {said}")
        };
        if self.keeper != pid {
            ending::forget(self.keeper);
            // It takes all attempts with it.
            ending::note(pid, Signal::SIGTERM);
        }
        self.keeper = pid;
        Ok(took)
    }

    fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| matches!(child.try_wait(), Ok(Some(_)) | Err(_)))
    }

    /// Its private folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Its state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path().join("s")
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// The process of its keeper.
    pub(crate) const fn keeper(&self) -> u32 {
        self.keeper
    }

    /// Connects to it.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        let channel = connect(&self.socket()).await?;
        let tasks = TasksClient::new(channel.clone())
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE);
        Ok(Client { tasks, daemon: DaemonClient::new(channel) })
    }

    /// Ends it with a signal; what it runs goes on.
    pub(crate) fn end(&mut self, signal: Signal) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            send(child.id(), signal);
            let ended = wait_until(Duration::from_secs(30), || {
                matches!(child.try_wait(), Ok(Some(_)) | Err(_))
            });
            anyhow::ensure!(ended, "capsuled does not end by {signal}");
            ending::forget(child.id());
        }
        Ok(())
    }
}

impl Drop for Daemon {
    /// Ends the daemon, its keeper and everything that runs below it.
    fn drop(&mut self) {
        let guard = parent(self.keeper);
        drop(self.end(Signal::SIGKILL));
        // A keeper that is told to end takes all attempts with it.
        send(self.keeper, Signal::SIGTERM);
        let gone = |pid: u32| !Path::new(&format!("/proc/{pid}")).exists();
        wait_until(Duration::from_secs(20), || {
            gone(self.keeper) && guard.is_none_or(|guard| guard <= 1 || gone(guard))
        });
        ending::forget(self.keeper);
    }
}

/// The keeper's process, when the daemon is connected to it.
async fn keeper_of(socket: &Path) -> anyhow::Result<Option<u32>> {
    let mut daemon = DaemonClient::new(connect(socket).await?);
    let status = daemon.status(v1::StatusRequest {}).await?.into_inner();
    Ok(status.keeper.filter(|keeper| keeper.connected).map(|keeper| keeper.pid))
}

/// One connection to a Unix socket.
pub(crate) async fn connect(socket: &Path) -> anyhow::Result<Channel> {
    let socket = socket.to_path_buf();
    let connector = tower::service_fn(move |_: tonic::codegen::http::Uri| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Ok(Endpoint::from_static("http://bench").connect_with_connector(connector).await?)
}

/// A submit of a program, as the command line would send it.
pub(crate) fn program<S: Into<String>>(
    queue: &str,
    argv: impl IntoIterator<Item = S>,
) -> v1::SubmitRequest {
    let env = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("USER", "root"),
        ("LANG", "C.UTF-8"),
        ("SHELL", "/bin/bash"),
    ];
    let program = v1::Program {
        argv: argv.into_iter().map(Into::into).collect(),
        cwd: "/".to_owned(),
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ..v1::Program::default()
    };
    v1::SubmitRequest {
        work: Some(v1::submit_request::Work::Program(program)),
        options: Some(v1::Options { queue: queue.to_owned(), ..v1::Options::default() }),
        ..v1::SubmitRequest::default()
    }
}

impl Client {
    /// How many tasks are in these statuses.
    pub(crate) async fn count(&mut self, statuses: &[v1::Status]) -> anyhow::Result<u64> {
        let filter = v1::Filter {
            statuses: statuses.iter().map(|status| i32::from(*status)).collect(),
            ..v1::Filter::default()
        };
        let request = v1::ListRequest {
            filter: Some(filter),
            count_only: true,
            ..v1::ListRequest::default()
        };
        Ok(self.tasks.list(request).await?.into_inner().total)
    }

    /// Waits until so many tasks are in these statuses.
    pub(crate) async fn until(
        &mut self,
        statuses: &[v1::Status],
        wanted: u64,
        limit: Duration,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.count(statuses).await? < wanted {
            if began.elapsed() > limit {
                let status = self.daemon.status(v1::StatusRequest {}).await?.into_inner();
                let by_status: HashMap<String, u64> = status.by_status;
                let failed = self.first_failure().await?;
                anyhow::bail!(
                    "{wanted} tasks were to be {statuses:?}, there are {by_status:?}; {failed}"
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// How the newest failed task failed, in words.
    async fn first_failure(&mut self) -> anyhow::Result<String> {
        let filter =
            v1::Filter { statuses: vec![v1::Status::Failed.into()], ..v1::Filter::default() };
        let request =
            v1::ListRequest { filter: Some(filter), limit: 1, ..v1::ListRequest::default() };
        let tasks = self.tasks.list(request).await?.into_inner().tasks;
        Ok(tasks.first().map(|task| format!("{}: {}", task.id, task.reason)).unwrap_or_default())
    }

    /// Submits so many copies in batches of 1,000; gives their ids.
    pub(crate) async fn submit_many(
        &mut self,
        submit: &v1::SubmitRequest,
        count: usize,
    ) -> anyhow::Result<Vec<u64>> {
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count {
            let submits = vec![submit.clone(); (count - ids.len()).min(1000)];
            let request = v1::SubmitBatchRequest { submits };
            let reply = self.tasks.submit_batch(request).await?.into_inner();
            for result in reply.results {
                anyhow::ensure!(result.error.is_empty(), "a submit failed: {}", result.error);
                ids.push(result.id);
            }
        }
        Ok(ids)
    }
}
