//! A driver in the peer's own language: one process that submits for a while when it is told to.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::server::last_words;
use super::{PAYLOAD, Turn, installed, system};
use crate::ending;

/// How long an answer may be late.
const PATIENCE: Duration = Duration::from_secs(60);

/// A script and what it needs beside it.
pub(super) struct Script {
    name: &'static str,
    text: &'static str,
    language: Language,
}

#[derive(Clone, Copy)]
enum Language {
    Node,
    Python,
}

pub(super) const BULLMQ: Script = Script {
    name: "bullmq_submit.cjs",
    text: include_str!("../../peers/bullmq_submit.cjs"),
    language: Language::Node,
};
pub(super) const RQ: Script = Script {
    name: "rq_submit.py",
    text: include_str!("../../peers/rq_submit.py"),
    language: Language::Python,
};
pub(super) const HUEY: Script = Script {
    name: "huey_submit.py",
    text: include_str!("../../peers/huey_submit.py"),
    language: Language::Python,
};
pub(super) const PROCRASTINATE: Script = Script {
    name: "procrastinate_submit.py",
    text: include_str!("../../peers/procrastinate_submit.py"),
    language: Language::Python,
};
const ROUNDS: &str = include_str!("../../peers/rounds.py");

/// A running driver; ended when dropped.
#[derive(Debug)]
pub(super) struct Driver {
    child: Child,
    orders: ChildStdin,
    answers: Receiver<String>,
    log: PathBuf,
    /// What the peer says that it is.
    pub(super) version: String,
}

impl Driver {
    /// Starts a script on a server's socket, folder or file, until it is connected.
    pub(super) fn start(
        script: &Script,
        folder: &TempDir,
        server: &std::path::Path,
    ) -> anyhow::Result<Self> {
        let place = folder.path();
        std::fs::write(place.join("rounds.py"), ROUNDS)?;
        std::fs::write(place.join(script.name), script.text)?;
        let mut command = interpreter(script.language)?;
        let log = place.join(format!("{}.log", script.name));
        command.arg(place.join(script.name)).arg(server).arg(PAYLOAD);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(std::fs::File::create(&log)?);
        let mut child = ending::spawn(&mut command, Signal::SIGKILL)
            .with_context(|| format!("starting {}", script.name))?;
        let orders = child.stdin.take().context("the driver has no input")?;
        let output = child.stdout.take().context("the driver has no output")?;
        let (tell, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        let mut driver = Self { child, orders, answers, log, version: String::new() };
        let ready = driver.answer(PATIENCE)?;
        let version = ready.strip_prefix("ready ").context("the driver is not ready")?;
        version.clone_into(&mut driver.version);
        Ok(driver)
    }

    fn answer(&self, limit: Duration) -> anyhow::Result<String> {
        let answer = self.answers.recv_timeout(limit);
        answer.with_context(|| format!("the driver does not answer: {}", last_words(&self.log)))
    }

    /// Submits so long, 64 in flight.
    pub(super) fn submit(&mut self, time: Duration) -> anyhow::Result<Turn> {
        writeln!(self.orders, "{}", time.as_secs_f64())?;
        let line = self.answer(time + PATIENCE)?;
        let mut numbers = line.split(' ').map(str::parse::<f64>);
        let mut number = || numbers.next()?.ok();
        let (Some(done), Some(seconds), Some(cpu)) = (number(), number(), number()) else {
            anyhow::bail!("the driver says {line}")
        };
        anyhow::ensure!(done > 0.0, "the driver submitted nothing");
        Ok(Turn { rate: done / seconds, driver: Some(cpu / seconds) })
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        ending::forget(self.child.id());
    }
}

fn interpreter(language: Language) -> anyhow::Result<Command> {
    Ok(match language {
        Language::Python => Command::new(installed("venv/bin/python")?),
        Language::Node => {
            let mut node = Command::new(system("node")?);
            node.env("NODE_PATH", installed("node/node_modules")?);
            node
        }
    })
}
