//! How surely and how soon things are stopped.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use capsule_proto::v1;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::bench::{Bench, block_on};
use crate::daemon::{Client, Daemon, program};
use crate::limit::spawn::quiet;
use crate::proc::wait_until;
use crate::report::Line;
use crate::sample::{Sample, micros};

/// How long a hundred programs take to start, generously.
const START: Duration = Duration::from_millis(200);

/// A shell that holds the pipe together with a hundred children, and says when all are there.
fn tree(pipe: &Path) -> String {
    let pipe = pipe.display();
    format!(
        "exec 9>{pipe}; i=0; while [ $i -lt 100 ]; do sleep 1000 & i=$((i+1)); done; \
         printf x >&9; wait"
    )
}

/// From the cancel to the death of the last of a hundred processes.
pub(super) fn cancel(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let daemon = Daemon::start(bench, 4)?;
    let folder = bench.folder()?;
    let trees = bench.amount(60, 15);
    let ours = block_on(cancel_trees(&daemon, folder.path(), trees))?;
    let mut line = Line::new(
        format!("cancel → tree of 100 processes gone, p99 of {trees}"),
        "ms",
        Sample::one(ours.quantile(0.99)),
        "≤ 50 ms",
    );
    match own_cgroup() {
        Some(cgroup) => {
            let bare = kill_trees(&cgroup, folder.path(), trees)?;
            line = line
                .beside("cgroup.kill alone, p99", Sample::one(bare.quantile(0.99)))
                .note(format!("p50 {:.1} ms, alone {:.1} ms", ours.median(), bare.median()));
        }
        None => line = line.note("no cgroup2 folder can be made here"),
    }
    Ok(vec![line])
}

async fn cancel_trees(daemon: &Daemon, dir: &Path, trees: usize) -> anyhow::Result<Sample> {
    let mut client = daemon.client().await?;
    let pipe = pipe_in(dir, "tree")?;
    let mut times = Sample::default();
    for _ in 0..trees {
        let submit = program("default", ["/bin/sh", "-c", &tree(&pipe)]);
        let id = client.tasks.submit(submit).await?.into_inner().task.map_or(0, |task| task.id);
        let mut held = wait_for_tree(&pipe)?;
        let began = Instant::now();
        let request = v1::CancelRequest {
            targets: Some(one(id)),
            grace_ms: Some(0),
            ..v1::CancelRequest::default()
        };
        client.tasks.cancel(request).await?;
        held.read_to_end(&mut Vec::new())?;
        times.push(micros(began.elapsed()) / 1000.0);
        ended(&mut client, id).await?;
    }
    Ok(times)
}

/// Opens the pipe and waits for the word that the tree is complete. The end of the pipe is then
/// the end of the last process.
fn wait_for_tree(pipe: &Path) -> anyhow::Result<File> {
    let mut held = File::open(pipe)?;
    held.read_exact(&mut [0])?;
    // The last ones have been forked but do not sleep yet; their start is not to be measured.
    wait_until(START, || false);
    Ok(held)
}

fn pipe_in(dir: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let pipe = dir.join(name);
    mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR)?;
    Ok(pipe)
}

/// A folder of the cgroup2 hierarchy that is ours alone.
fn own_cgroup() -> Option<PathBuf> {
    let name = format!("capsule-bench-{}", std::process::id());
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].iter().find_map(|root| {
        let root = Path::new(root);
        root.join("cgroup.controllers").exists().then_some(())?;
        let path = root.join(&name);
        std::fs::create_dir(&path).ok()?;
        Some(path)
    })
}

fn kill_trees(cgroup: &Path, dir: &Path, trees: usize) -> anyhow::Result<Sample> {
    let pipe = pipe_in(dir, "bare")?;
    let script = format!("echo $$ > {}/cgroup.procs; {}", cgroup.display(), tree(&pipe));
    let mut times = Sample::default();
    for _ in 0..trees {
        let mut child = quiet("/bin/sh").arg("-c").arg(&script).spawn()?;
        let mut held = wait_for_tree(&pipe)?;
        let began = Instant::now();
        std::fs::write(cgroup.join("cgroup.kill"), "1")?;
        held.read_to_end(&mut Vec::new())?;
        times.push(micros(began.elapsed()) / 1000.0);
        child.wait()?;
    }
    let removed = wait_until(Duration::from_secs(5), || std::fs::remove_dir(cgroup).is_ok());
    anyhow::ensure!(removed, "{} stays behind", cgroup.display());
    Ok(times)
}

/// How much longer than its timeout a task ran.
pub(super) fn timeout(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let daemon = Daemon::start(bench, 4)?;
    let tasks = bench.amount(200, 40);
    let late = block_on(timeouts(&daemon, tasks))?;
    Ok(vec![
        Line::new(
            format!("timeout error, p99 of {tasks} tasks of 200 ms, 4 at once"),
            "ms",
            Sample::one(late.quantile(0.99)),
            "≤ 50 ms",
        )
        .note(format!("p50 {:.2} ms, most {:.2} ms", late.median(), late.quantile(1.0))),
    ])
}

async fn timeouts(daemon: &Daemon, tasks: usize) -> anyhow::Result<Sample> {
    const LIMIT_MS: u64 = 200;
    let mut client = daemon.client().await?;
    let mut submit = program("default", ["/bin/sleep", "1000"]);
    if let Some(options) = &mut submit.options {
        options.timeout_ms = Some(LIMIT_MS);
        options.grace_ms = Some(0);
    }
    let ids = client.submit_many(&submit, tasks).await?;
    let limit = Duration::from_secs(120);
    client.until(&[v1::Status::Timeout], tasks as u64, limit).await?;
    let mut late = Sample::default();
    for id in ids {
        let show = v1::ShowRequest { id: id.to_string() };
        let shown = client.tasks.show(show).await?.into_inner();
        let attempt = shown.attempts.first().and_then(|attempt| attempt.receipt.as_ref());
        let wall = attempt.and_then(|receipt| receipt.wall_us).unwrap_or(0);
        let over = Duration::from_micros(wall).saturating_sub(Duration::from_millis(LIMIT_MS));
        anyhow::ensure!(wall > 0, "task {id} has no receipt");
        late.push(micros(over) / 1000.0);
    }
    Ok(late)
}

fn one(id: u64) -> v1::Targets {
    v1::Targets { ids: vec![id.to_string()], ..v1::Targets::default() }
}

/// Waits for the end of a task.
async fn ended(client: &mut Client, id: u64) -> anyhow::Result<()> {
    let wait = v1::WaitRequest { targets: Some(one(id)), ..v1::WaitRequest::default() };
    let mut ended = client.tasks.wait(wait).await?.into_inner();
    while ended.message().await?.is_some() {}
    Ok(())
}
