//! A gRPC service over a Unix socket that does nothing, in a process of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use capsule_proto::v1;
use capsule_proto::v1::daemon_client::DaemonClient;
use capsule_proto::v1::daemon_server::{Daemon, DaemonServer};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};

use crate::bench::{Bench, block_on};
use crate::daemon::connect;
use crate::ending;
use crate::proc::wait_until;
use crate::sample::{Sample, rate};

/// The running service; ended when dropped.
#[derive(Debug)]
pub(crate) struct Noop {
    folder: TempDir,
    child: Child,
}

impl Noop {
    /// Starts it as a process of its own, like the daemon.
    pub(crate) fn start(bench: &Bench) -> anyhow::Result<Self> {
        let folder = bench.folder()?;
        let mut command = bench.command("capsule-bench");
        command.arg("--serve-noop").arg(folder.path().join("s")).stdin(Stdio::null());
        let child = ending::spawn(&mut command, Signal::SIGKILL)?;
        let noop = Self { folder, child };
        let up = wait_until(Duration::from_secs(10), || block_on(noop.client()).is_ok());
        anyhow::ensure!(up, "the service that does nothing did not start");
        Ok(noop)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    /// One connection to it.
    pub(crate) async fn client(&self) -> anyhow::Result<DaemonClient<Channel>> {
        Ok(DaemonClient::new(connect(&self.socket()).await?))
    }

    /// Calls answered per second with so many in flight on one connection.
    pub(crate) async fn rate(&self, in_flight: usize, time: Duration) -> anyhow::Result<f64> {
        let client = self.client().await?;
        flood(in_flight, time, || {
            let mut client = client.clone();
            async move { client.hello(v1::HelloRequest::default()).await.map(drop) }
        })
        .await
    }

    /// The times of so many calls, one after the other, in microseconds.
    pub(crate) async fn serial(&self, calls: usize) -> anyhow::Result<Sample> {
        let mut client = self.client().await?;
        let mut times = Sample::default();
        for _ in 0..calls {
            let began = Instant::now();
            client.hello(v1::HelloRequest::default()).await?;
            times.push_micros(began.elapsed());
        }
        Ok(times)
    }
}

impl Drop for Noop {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        ending::forget(self.child.id());
    }
}

/// Keeps so many calls in flight for a while; gives how many were answered per second.
pub(crate) async fn flood<C, F>(in_flight: usize, time: Duration, call: C) -> anyhow::Result<f64>
where
    C: Fn() -> F,
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let began = Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..in_flight {
        calls.spawn(call());
    }
    let mut answered = 0;
    while let Some(done) = calls.join_next().await {
        done??;
        answered += 1;
        if began.elapsed() < time {
            calls.spawn(call());
        }
    }
    Ok(rate(answered, began.elapsed()))
}

/// Serves until killed.
pub(crate) fn serve(socket: &Path) -> anyhow::Result<()> {
    block_on(async {
        let listener = UnixListener::bind(socket)?;
        Server::builder()
            .add_service(DaemonServer::new(Nothing))
            .serve_with_incoming(UnixListenerStream::new(listener))
            .await?;
        Ok(())
    })
}

#[derive(Debug)]
struct Nothing;

type Answer<T> = Result<Response<T>, Status>;

fn not_here<T>() -> Answer<T> {
    Err(Status::unimplemented("only hello is served"))
}

#[tonic::async_trait]
impl Daemon for Nothing {
    async fn hello(&self, _: Request<v1::HelloRequest>) -> Answer<v1::HelloReply> {
        Ok(Response::new(v1::HelloReply::default()))
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Answer<v1::StatusReply> {
        not_here()
    }

    async fn drain(&self, _: Request<v1::DrainRequest>) -> Answer<v1::DrainReply> {
        not_here()
    }

    async fn list_queues(&self, _: Request<v1::ListQueuesRequest>) -> Answer<v1::ListQueuesReply> {
        not_here()
    }

    async fn set_queue(&self, _: Request<v1::SetQueueRequest>) -> Answer<v1::QueueView> {
        not_here()
    }

    async fn limits(&self, _: Request<v1::LimitsRequest>) -> Answer<v1::LimitsReply> {
        not_here()
    }

    async fn list_locks(&self, _: Request<v1::ListLocksRequest>) -> Answer<v1::ListLocksReply> {
        not_here()
    }

    async fn create_backup(&self, _: Request<v1::CreateBackupRequest>) -> Answer<v1::BackupView> {
        not_here()
    }

    async fn web_link(&self, _: Request<v1::WebLinkRequest>) -> Answer<v1::WebLinkReply> {
        not_here()
    }
}
