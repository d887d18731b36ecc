//! pueue: everything is added while its group is paused, and only what comes after is timed.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::server::Server;
use super::{ENVIRONMENT, PARALLEL, Peer, Turn, installed, version};
use crate::bench::Bench;

#[derive(Debug)]
struct Pueue {
    program: PathBuf,
    config: PathBuf,
    _server: Server,
    _folder: TempDir,
}

pub(super) fn start(bench: &Bench) -> anyhow::Result<Box<dyn Peer>> {
    let (program, daemon) = (installed("bin/pueue")?, installed("bin/pueued")?);
    let folder = bench.folder()?;
    let place = folder.path().display();
    let config = folder.path().join("pueue.yml");
    let settings = format!(
        "shared:\n  pueue_directory: {place}\n  runtime_directory: {place}\n  \
         use_unix_socket: true\n  unix_socket_path: {place}/s\nclient: {{}}\ndaemon: {{}}\n"
    );
    std::fs::write(&config, settings)?;
    let mut command = Command::new(daemon);
    command.arg("-c").arg(&config).env_clear().envs(ENVIRONMENT);
    let answers = || say(&program, &config, &["status"]).is_ok();
    let log = folder.path().join("log");
    let server = Server::start(command, &log, Signal::SIGTERM, answers)?;
    say(&program, &config, &["parallel", &PARALLEL.to_string()])?;
    Ok(Box::new(Pueue { program, config, _server: server, _folder: folder }))
}

fn say(program: &PathBuf, config: &PathBuf, words: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.arg("-c").arg(config).args(words).env_clear().envs(ENVIRONMENT).current_dir("/");
    let said = command.stdin(Stdio::null()).output()?;
    let error = String::from_utf8_lossy(&said.stderr);
    anyhow::ensure!(said.status.success(), "pueue {} failed: {error}", words.join(" "));
    Ok(String::from_utf8_lossy(&said.stdout).into_owned())
}

impl Pueue {
    fn say(&self, words: &[&str]) -> anyhow::Result<String> {
        say(&self.program, &self.config, words)
    }

    /// When the last of so many has ended, once all have.
    fn last_end(&self, count: usize) -> anyhow::Result<Option<Timestamp>> {
        let status: Value = serde_json::from_str(&self.say(&["status", "--json"])?)?;
        let tasks = status.get("tasks").and_then(Value::as_object).context("it shows no tasks")?;
        let mut ends = Vec::new();
        for task in tasks.values() {
            let Some(done) = task.pointer("/status/Done") else { continue };
            let well = done.get("result").and_then(Value::as_str) == Some("Success");
            anyhow::ensure!(well, "a task of pueue failed: {done}");
            let end = done.get("end").and_then(Value::as_str).context("it shows no end")?;
            ends.push(end.parse::<Timestamp>()?);
        }
        Ok(if ends.len() < count { None } else { ends.into_iter().max() })
    }
}

impl Peer for Pueue {
    fn about(&self) -> String {
        format!("{} parallel 4, from resume to the last end", version(&self.program, "--version"))
    }

    fn round(&mut self, bench: &Bench) -> anyhow::Result<Turn> {
        let count = bench.amount(100, 40);
        self.say(&["pause"])?;
        for _ in 0..count {
            self.say(&["add", "--", "/bin/true"])?;
        }
        let (began, resumed) = (Instant::now(), Timestamp::now());
        self.say(&["start"])?;
        let ended = loop {
            if let Some(ended) = self.last_end(count)? {
                break ended;
            }
            anyhow::ensure!(began.elapsed() < Duration::from_secs(120), "pueue does not finish");
            // Seldom, so that looking does not slow it down: it keeps the time itself.
            std::thread::park_timeout(Duration::from_millis(250));
        };
        self.say(&["clean"])?;
        let seconds = ended.duration_since(resumed).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a small count")]
        let rate = count as f64 / seconds;
        Ok(Turn { rate, driver: None })
    }
}
