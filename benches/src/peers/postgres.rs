//! PostgreSQL with its defaults for durability, with procrastinate on it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use nix::sys::signal::Signal;
use nix::unistd::{User, chown, geteuid};
use tempfile::TempDir;

use super::driver::{Driver, PROCRASTINATE};
use super::server::{Server, last_words};
use super::{Peer, Turn, version};
use crate::bench::Bench;

#[derive(Debug)]
struct Procrastinate {
    driver: Driver,
    postgres: String,
    _server: Server,
    _folder: TempDir,
}

pub(super) fn procrastinate(bench: &Bench) -> anyhow::Result<Box<dyn Peer>> {
    let programs = programs()?;
    let folder = bench.folder()?;
    let place = folder.path().join("pg");
    std::fs::create_dir(&place)?;
    let user = servant(&folder, &place)?;
    let log = folder.path().join("log");
    let mut init = command(&programs.join("initdb"), user.as_ref(), &folder);
    init.args(["-A", "trust", "-U", "bench", "-E", "UTF8", "--locale", "C", "-D"]);
    let words = std::fs::File::create(&log)?;
    init.arg(place.join("data")).stdin(Stdio::null()).stdout(words.try_clone()?).stderr(words);
    anyhow::ensure!(init.status()?.success(), "initdb failed: {}", last_words(&log));
    let mut serve = command(&programs.join("postgres"), user.as_ref(), &folder);
    serve.arg("-D").arg(place.join("data")).args(["-c", "listen_addresses="]);
    serve.arg("-c").arg(format!("unix_socket_directories={}", place.display()));
    serve.args(["-c", "fsync=on", "-c", "synchronous_commit=on"]);
    let ready = || {
        let mut ask = Command::new(programs.join("pg_isready"));
        ask.arg("-q").arg("-h").arg(&place).args(["-U", "bench", "-d", "postgres"]);
        ask.status().is_ok_and(|status| status.success())
    };
    // SIGINT ends the sessions, writes what is there and stops; SIGTERM would wait for clients.
    let server = Server::start(serve, &log, Signal::SIGINT, ready)?;
    let driver = Driver::start(&PROCRASTINATE, &folder, &place)?;
    let postgres = version(&programs.join("postgres"), "--version");
    Ok(Box::new(Procrastinate { driver, postgres, _server: server, _folder: folder }))
}

impl Peer for Procrastinate {
    fn about(&self) -> String {
        let (driver, postgres) = (&self.driver.version, &self.postgres);
        format!("{driver}, PostgreSQL {postgres} fsync, synchronous_commit")
    }

    fn round(&mut self, bench: &Bench) -> anyhow::Result<Turn> {
        self.driver.submit(bench.round())
    }
}

/// Where the newest version that is installed has its programs; Debian puts none on the path.
fn programs() -> anyhow::Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |dir: &Path| dir.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.map(|version| version.path()).max_by_key(|dir| number(dir));
    newest
        .map(|version| version.join("bin"))
        .filter(|programs| programs.join("initdb").is_file())
        .context("postgresql is missing; scripts/needs.sh peers")
}

/// PostgreSQL refuses to run as root: then its own user owns the place.
fn servant(folder: &TempDir, place: &Path) -> anyhow::Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let user = User::from_name("postgres")?.context("root has no user postgres to run it as")?;
    std::fs::set_permissions(folder, Permissions::from_mode(0o711))?;
    chown(place, Some(user.uid), Some(user.gid))?;
    Ok(Some(user))
}

fn command(program: &Path, user: Option<&User>, folder: &TempDir) -> Command {
    let mut command = match user {
        None => Command::new(program),
        Some(user) => {
            // It becomes the program, so that the process that was started is the server.
            let mut command = Command::new("setpriv");
            command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid));
            command.arg("--init-groups").arg(program);
            command
        }
    };
    command.current_dir(folder.path());
    command
}
