//! Redis that writes and syncs its log before it answers, with BullMQ or RQ on it.

use std::os::unix::net::UnixStream;
use std::process::Command;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::driver::{BULLMQ, Driver, RQ, Script};
use super::server::Server;
use super::{Peer, Turn, system, version};
use crate::bench::Bench;

#[derive(Debug)]
struct OnRedis {
    driver: Driver,
    redis: String,
    _server: Server,
    _folder: TempDir,
}

/// BullMQ, driven from Node.
pub(super) fn bullmq(bench: &Bench) -> anyhow::Result<Box<dyn Peer>> {
    start(bench, &BULLMQ)
}

/// RQ, driven from Python.
pub(super) fn rq(bench: &Bench) -> anyhow::Result<Box<dyn Peer>> {
    start(bench, &RQ)
}

fn start(bench: &Bench, script: &Script) -> anyhow::Result<Box<dyn Peer>> {
    let program = system("redis-server")?;
    let folder = bench.folder()?;
    let socket = folder.path().join("s");
    let mut command = Command::new(&program);
    // Without snapshots and rewrites of the log, which would only take from its rate.
    command.args(["--port", "0", "--daemonize", "no", "--save", "", "--appendonly", "yes"]);
    command.args(["--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"]);
    command.arg("--unixsocket").arg(&socket).arg("--dir").arg(folder.path());
    let log = folder.path().join("log");
    let answers = || UnixStream::connect(&socket).is_ok();
    let server = Server::start(command, &log, Signal::SIGTERM, answers)?;
    let driver = Driver::start(script, &folder, &socket)?;
    let redis = version(&program, "--version");
    Ok(Box::new(OnRedis { driver, redis, _server: server, _folder: folder }))
}

impl Peer for OnRedis {
    fn about(&self) -> String {
        format!("{}, Redis {} appendfsync always", self.driver.version, self.redis)
    }

    fn round(&mut self, bench: &Bench) -> anyhow::Result<Turn> {
        self.driver.submit(bench.round())
    }
}
