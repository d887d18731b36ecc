//! Capsule apps: our host beside what limits it, and beside the SDK's own runner.

mod chat;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use capsule_proto::v1;
use capsule_proto::v1::apps_client::AppsClient;

pub(super) use self::chat::chat;
use crate::bench::{Bench, block_on};
use crate::daemon::{Client, Daemon, STILL, connect};
use crate::limit::noop::flood;
use crate::report::Line;
use crate::sample::{Sample, rate};

const APP: &str = include_str!("app.py");
const BARE: &str = include_str!("bare.py");
const IN_FLIGHT: usize = 64;
/// How long any of it may take: a stock runner is slow.
const LIMIT: Duration = Duration::from_secs(120);

/// A daemon with the bench's app deployed.
struct Deployed {
    daemon: Daemon,
    client: Client,
    done: u64,
}

/// The interpreter of an environment with the SDK, made by `scripts/needs.sh sdk`.
fn sdk() -> anyhow::Result<PathBuf> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let python = std::path::absolute(target.join("sdk/bin/python"))?;
    anyhow::ensure!(python.exists(), "the SDK is missing; scripts/needs.sh sdk");
    Ok(python)
}

impl Deployed {
    /// Deploys the app to a daemon that was started outside of any runtime.
    async fn new(daemon: Daemon, stock: bool) -> anyhow::Result<Self> {
        let project = daemon.path().join("app");
        std::fs::create_dir(&project)?;
        std::fs::write(project.join("app.py"), APP)?;
        if stock {
            std::fs::write(project.join("capsule.toml"), "[python]\nrunner = \"stock\"\n")?;
        }
        let mut apps = AppsClient::new(connect(&daemon.socket()).await?);
        let deploy = v1::DeployRequest {
            entry: "app.py:app".to_owned(),
            dir: project.display().to_string(),
            python: sdk()?.display().to_string(),
            ..v1::DeployRequest::default()
        };
        apps.deploy(deploy).await.context("deploying the bench's app")?;
        let client = daemon.client().await?;
        let mut deployed = Self { daemon, client, done: 0 };
        // The first one waits until the app has booted.
        deployed.run("noop", "{}", 1).await?;
        Ok(deployed)
    }

    /// Runs so many to their end; how long that took from the first submit.
    async fn run(&mut self, task: &str, arguments: &str, count: usize) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.client.submit_many(&call(task, arguments, "default"), count).await?;
        self.done += count as u64;
        self.client.until(&[v1::Status::Completed], self.done, LIMIT).await?;
        Ok(began.elapsed())
    }

    /// Cancels them; how long until they have ended.
    async fn cancel(&mut self, ids: &[u64]) -> anyhow::Result<Duration> {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let targets = Some(v1::Targets { ids, ..v1::Targets::default() });
        let cancel = v1::CancelRequest { targets: targets.clone(), ..Default::default() };
        let began = Instant::now();
        self.client.tasks.cancel(cancel).await?;
        let wait = v1::WaitRequest { targets, ..v1::WaitRequest::default() };
        let mut ended = self.client.tasks.wait(wait).await?.into_inner();
        while ended.message().await?.is_some() {}
        Ok(began.elapsed())
    }

    /// From the claim to the first line of the task, in microseconds, one after the other.
    async fn first_lines(&mut self, count: usize) -> anyhow::Result<Sample> {
        let file = self.daemon.path().join("first");
        let arguments = serde_json_text(&file);
        let mut sample = Sample::default();
        for _ in 0..count {
            let ids = self.client.submit_many(&call("first", &arguments, "default"), 1).await?;
            self.done += 1;
            self.client.until(&[v1::Status::Completed], self.done, LIMIT).await?;
            let id = ids.first().map(ToString::to_string).unwrap_or_default();
            let shown = self.client.tasks.show(v1::ShowRequest { id }).await?.into_inner();
            let claimed = shown.attempts.first().and_then(|attempt| attempt.claimed_us);
            let line: f64 = std::fs::read_to_string(&file)?.trim().parse()?;
            #[expect(clippy::cast_precision_loss, reason = "microseconds of this century")]
            let claimed = claimed.context("it was never claimed")? as f64;
            sample.push(line * 1e6 - claimed);
        }
        Ok(sample)
    }
}

fn serde_json_text(file: &Path) -> String {
    format!("{{\"file\":\"{}\"}}", file.display())
}

fn call(task: &str, arguments: &str, queue: &str) -> v1::SubmitRequest {
    let call = v1::Call {
        app: "bench".to_owned(),
        task: task.to_owned(),
        payload_json: arguments.to_owned(),
        ..v1::Call::default()
    };
    v1::SubmitRequest {
        work: Some(v1::submit_request::Work::Call(call)),
        options: Some(v1::Options { queue: queue.to_owned(), ..v1::Options::default() }),
        ..v1::SubmitRequest::default()
    }
}

/// What the script without any daemon prints: a number.
fn bare(what: &str, count: usize) -> anyhow::Result<f64> {
    let ran = Command::new(sdk()?).args(["-c", BARE, what, &count.to_string()]).output()?;
    let said = String::from_utf8_lossy(&ran.stdout).trim().to_owned();
    said.parse().with_context(|| String::from_utf8_lossy(&ran.stderr).into_owned())
}

/// Coroutines in the warm loop, end to end.
pub(super) fn coroutines(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let (ours, theirs) = (Daemon::start(bench, 4)?, Daemon::start(bench, 4)?);
    block_on(async {
        let count = bench.amount(4000, 1000);
        let mut ours = Deployed::new(ours, false).await?;
        let (mut figure, mut limit) = (Sample::default(), Sample::default());
        let mut stock = Sample::default();
        let mut theirs = Deployed::new(theirs, true).await?;
        for _ in 0..bench.rounds().min(5) {
            figure.push(rate(count, ours.run("noop", "{}", count).await?));
            let single = call("noop", "{}", STILL);
            let submits = flood(IN_FLIGHT, bench.round(), || {
                let (mut tasks, single) = (ours.client.tasks.clone(), single.clone());
                async move { tasks.submit(single).await.map(drop) }
            });
            limit.push(bare("loop", count * 5)?.min(submits.await?));
            stock.push(rate(count / 8, theirs.run("noop", "{}", count / 8).await?));
        }
        let times = figure.over(&stock);
        Ok(vec![
            Line::new("async Python tasks end to end, 64 in flight", "/s", figure, "≥ 0.5 ×")
                .limit("bare socketpair loop or durable submits, 64 in flight, the slower", limit)
                .note(format!("stock runner {stock} /s: {times} × (≥ 10 ×)")),
        ])
    })
}

/// Python processes of their own.
pub(super) fn processes(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let (ours, theirs) = (Daemon::start(bench, 4)?, Daemon::start(bench, 4)?);
    block_on(async {
        let count = bench.amount(40, 10);
        let mut ours = Deployed::new(ours, false).await?;
        let mut theirs = Deployed::new(theirs, true).await?;
        let (mut first, mut forks, mut stock) =
            (Sample::default(), Sample::default(), Sample::default());
        let (mut rates, mut stock_rates) = (Sample::default(), Sample::default());
        for _ in 0..3 {
            first.push(ours.first_lines(count).await?.median());
            forks.push(bare("fork", count)?);
            stock.push(theirs.first_lines(4).await?.median());
            rates.push(rate(count * 5, ours.run("isolated", "{}", count * 5).await?));
            stock_rates.push(rate(8, theirs.run("isolated", "{}", 8).await?));
        }
        let (sooner, more) = (stock.over(&first), rates.over(&stock_rates));
        Ok(vec![
            Line::new("process=True: claim → first user line, p50", "µs", first, "≤ 3 ×")
                .limit("fork of the warm process, p50", forks)
                .note(format!("stock runner {stock} µs: {sooner} × later (≥ 50 ×)")),
            Line::new("process=True no-ops end to end, 4 at once", "/s", rates, "≥ 50 × stock")
                .beside("stock runner", stock_rates)
                .note(format!("{more} ×")),
        ])
    })
}

/// From the cancel of a running coroutine to its verdict.
pub(super) fn cancels(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let ours = Daemon::start(bench, 4)?;
    block_on(async {
        let mut ours = Deployed::new(ours, false).await?;
        let mut figure = Sample::default();
        for _ in 0..bench.amount(40, 10) {
            let ids = ours.client.submit_many(&call("nap", "{}", "default"), 1).await?;
            ours.client.until(&[v1::Status::Running], 1, LIMIT).await?;
            figure.push_micros(ours.cancel(&ids).await?);
        }
        let p99 = figure.quantile(0.99) / 1000.0;
        Ok(vec![
            Line::new("cancel → a coroutine has ended", "µs", figure, "≤ 100 ms")
                .note(format!("p99 {p99:.1} ms")),
        ])
    })
}
