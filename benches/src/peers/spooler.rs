//! task-spooler: `tsp` adds, its server hands out slots, each client runs its own program.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use tempfile::TempDir;

use super::{ENVIRONMENT, PARALLEL, Peer, Turn, system, version};
use crate::bench::Bench;
use crate::ending;
use crate::proc::{has_ended, wait_until};
use crate::sample::rate;

#[derive(Debug)]
struct Spooler {
    program: PathBuf,
    folder: TempDir,
    server: u32,
}

pub(super) fn start(bench: &Bench) -> anyhow::Result<Box<dyn Peer>> {
    let mut spooler = Spooler { program: system("tsp")?, folder: bench.folder()?, server: 0 };
    // The first call starts the server, which goes into the background: who listens tells its id.
    let slots = PARALLEL.to_string();
    spooler.say(&["-S", &slots])?;
    let connection = UnixStream::connect(spooler.folder.path().join("s"))?;
    let server = getsockopt(&connection, PeerCredentials)?.pid();
    spooler.server = u32::try_from(server)?;
    ending::note(spooler.server, Signal::SIGTERM);
    Ok(Box::new(spooler))
}

impl Spooler {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(ENVIRONMENT);
        command.env("TS_SOCKET", self.folder.path().join("s")).env("TMPDIR", self.folder.path());
        command.env("TS_MAXFINISHED", "100000").current_dir("/").stdin(Stdio::null());
        command
    }

    fn say(&self, words: &[&str]) -> anyhow::Result<String> {
        let said = self.command().args(words).stderr(Stdio::null()).output()?;
        anyhow::ensure!(said.status.success(), "tsp {} failed: {}", words.join(" "), said.status);
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    }

    fn add(&self, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            let added = self.command().arg("/bin/true").stdout(Stdio::null()).status()?;
            anyhow::ensure!(added.success(), "tsp could not add: {added}");
        }
        Ok(())
    }

    fn finished(&self) -> anyhow::Result<usize> {
        Ok(self.say(&["-l"])?.lines().filter(|line| line.contains(" finished ")).count())
    }
}

impl Peer for Spooler {
    fn about(&self) -> String {
        format!("{} -S 4, added by four callers at once", version(&self.program, "-V"))
    }

    /// From the first add to the last end; adding is part of how it runs a program.
    fn round(&mut self, bench: &Bench) -> anyhow::Result<Turn> {
        let count = bench.amount(800, 200);
        self.say(&["-C"])?;
        let began = Instant::now();
        std::thread::scope(|scope| {
            let adders: Vec<_> =
                (0..PARALLEL).map(|_| scope.spawn(|| self.add(count / PARALLEL))).collect();
            adders.into_iter().try_for_each(|adder| match adder.join() {
                Ok(added) => added,
                Err(_) => anyhow::bail!("an adding thread panicked"),
            })
        })?;
        // Returns when the one that was added last has ended; the others are looked for.
        self.say(&["-w"])?;
        while self.finished()? < count {
            anyhow::ensure!(began.elapsed() < Duration::from_secs(120), "tsp does not finish");
        }
        Ok(Turn { rate: rate(count, began.elapsed()), driver: None })
    }
}

impl Drop for Spooler {
    fn drop(&mut self) {
        if self.server > 1 {
            ending::send(self.server, Signal::SIGTERM);
            wait_until(Duration::from_secs(10), || has_ended(self.server));
            ending::forget(self.server);
        }
    }
}
