//! beanstalkd that syncs each write, and a driver of ours with a connection for each put in flight.

use std::os::unix::net::UnixStream as Probe;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::server::Server;
use super::{IN_FLIGHT, PAYLOAD, Peer, Turn, own_turn, system, version};
use crate::bench::{Bench, block_on};

#[derive(Debug)]
struct Beanstalkd {
    version: String,
    socket: PathBuf,
    _server: Server,
    _folder: TempDir,
}

pub(super) fn start(bench: &Bench) -> anyhow::Result<Box<dyn Peer>> {
    let program = system("beanstalkd")?;
    let folder = bench.folder()?;
    let socket = folder.path().join("s");
    let records = folder.path().join("records");
    std::fs::create_dir(&records)?;
    let mut command = Command::new(&program);
    command.arg("-b").arg(&records).arg("-f0");
    command.arg("-l").arg(format!("unix:{}", socket.display()));
    let answers = || Probe::connect(&socket).is_ok();
    let server = Server::start(command, &folder.path().join("log"), Signal::SIGTERM, answers)?;
    let version = version(&program, "-v");
    Ok(Box::new(Beanstalkd { version, socket, _server: server, _folder: folder }))
}

impl Peer for Beanstalkd {
    fn about(&self) -> String {
        format!("{} -f0, 64 connections", self.version)
    }

    fn round(&mut self, bench: &Bench) -> anyhow::Result<Turn> {
        own_turn(|| block_on(flood(&self.socket, bench.round())))
    }
}

/// Puts for a while from so many connections; gives how many were answered.
async fn flood(socket: &Path, time: Duration) -> anyhow::Result<usize> {
    let mut connections = Vec::new();
    for _ in 0..IN_FLIGHT {
        connections.push(UnixStream::connect(socket).await?);
    }
    let end = Instant::now() + time;
    let mut putting: JoinSet<_> =
        connections.into_iter().map(|connection| puts(connection, end)).collect();
    let mut done = 0;
    while let Some(put) = putting.join_next().await {
        done += put??;
    }
    Ok(done)
}

async fn puts(mut connection: UnixStream, end: Instant) -> anyhow::Result<usize> {
    let put = format!("put 0 0 60 {}\r\n{PAYLOAD}\r\n", PAYLOAD.len());
    let (mut answer, mut done) = ([0; 64], 0);
    while Instant::now() < end {
        connection.write_all(put.as_bytes()).await?;
        let mut length = 0;
        while !answer.get(..length).is_some_and(|said| said.ends_with(b"\r\n")) {
            let room = answer.get_mut(length..).filter(|room| !room.is_empty());
            let Some(room) = room else { anyhow::bail!("beanstalkd answers at length") };
            match connection.read(room).await? {
                0 => anyhow::bail!("beanstalkd has closed a connection"),
                more => length += more,
            }
        }
        anyhow::ensure!(
            answer.starts_with(b"INSERTED "),
            "beanstalkd says {}",
            String::from_utf8_lossy(&answer).trim_end_matches('\0').trim()
        );
        done += 1;
    }
    Ok(done)
}
