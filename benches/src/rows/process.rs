//! How fast programs run, and how soon one starts.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use capsule_proto::v1;
use nix::time::{ClockId, clock_gettime};

use crate::bench::{Bench, block_on};
use crate::daemon::{Daemon, program};
use crate::limit::noop::Noop;
use crate::limit::{log, spawn};
use crate::proc::cpu;
use crate::report::Line;
use crate::sample::{Sample, rate};

const PARALLEL: usize = 4;

/// Process tasks from the first submit to the last durable verdict.
pub(super) fn tasks(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let daemon = Daemon::start(bench, PARALLEL)?;
    let count = bench.amount(2000, 600);
    let (mut ours, mut bare) = (Sample::default(), Sample::default());
    let before = (cpu(daemon.pid()), cpu(daemon.keeper()));
    let mut done = 0;
    for _ in 0..bench.rounds() {
        done += count;
        ours.push(block_on(run(&daemon, count, done))?);
        bare.push(spawn::rate_parallel(PARALLEL, count)?);
    }
    let each =
        |used: Duration| used.as_secs_f64() * 1e6 / f64::from(u32::try_from(done).unwrap_or(1));
    let daemon_cpu = each(cpu(daemon.pid()).saturating_sub(before.0));
    let keeper_cpu = each(cpu(daemon.keeper()).saturating_sub(before.1));
    Ok(vec![
        Line::new("process tasks end to end, 4 at once", "/s", ours, "≥ 0.8 ×")
            .limit("bare posix_spawn + wait, 4 at once", bare)
            .note(format!("CPU a task: daemon {daemon_cpu:.0} µs, keeper {keeper_cpu:.0} µs")),
    ])
}

/// Runs so many to their end, of `until` in all; gives how many a second.
pub(crate) async fn run(daemon: &Daemon, count: usize, until: usize) -> anyhow::Result<f64> {
    let mut client = daemon.client().await?;
    let began = Instant::now();
    client.submit_many(&program("default", ["/bin/true"]), count).await?;
    let limit = Duration::from_secs(60);
    client.until(&[v1::Status::Completed], until as u64, limit).await?;
    Ok(rate(count, began.elapsed()))
}

/// An idle daemon: how long from the submit to the first instruction of the program.
pub(super) fn start(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let daemon = Daemon::start(bench, PARALLEL)?;
    let noop = Noop::start(bench)?;
    let folder = bench.folder()?;
    let socket = folder.path().join("stamps");
    let stamps = UnixDatagram::bind(&socket)?;
    stamps.set_read_timeout(Some(Duration::from_secs(10)))?;
    let stamp = bench.program("capsule-stamp");
    let (mut ours, mut parts) = (Sample::default(), Sample::default());
    let (mut spawns, mut fsyncs) = (Sample::default(), Sample::default());
    let each = bench.amount(60, 20);
    for _ in 0..bench.rounds() {
        let submitted = block_on(submits_to_stamps(&daemon, (&stamp, &socket), &stamps, each))?;
        let mut spawned = Sample::default();
        for _ in 0..each {
            let began = monotonic()?;
            let mut command = spawn::quiet(&stamp.to_string_lossy());
            let mut child = command.arg(&socket).spawn()?;
            spawned.push(receive(&stamps)? - began);
            child.wait()?;
        }
        let fsync = log::serial(daemon.path(), each)?.median();
        let call = block_on(noop.serial(each))?.median();
        ours.push(submitted.median());
        parts.push(spawned.median() + fsync + call);
        spawns.push(spawned.median());
        fsyncs.push(fsync);
    }
    Ok(vec![
        Line::new("submit → first instruction, idle, p50", "µs", ours, "≤ 1.5 ×")
            .limit("fdatasync + no-op RPC + spawn, p50", parts)
            .note(format!("spawn alone {spawns} µs, fdatasync {fsyncs} µs")),
    ])
}

async fn submits_to_stamps(
    daemon: &Daemon,
    (stamp, socket): (&Path, &Path),
    stamps: &UnixDatagram,
    count: usize,
) -> anyhow::Result<Sample> {
    let mut client = daemon.client().await?;
    let argv = [stamp.to_string_lossy(), socket.to_string_lossy()];
    let submit = program("default", argv);
    let mut times = Sample::default();
    for _ in 0..count {
        let request = submit.clone();
        let began = monotonic()?;
        let id = client.tasks.submit(request).await?.into_inner().task.map_or(0, |task| task.id);
        times.push(receive(stamps)? - began);
        let targets = v1::Targets { ids: vec![id.to_string()], ..v1::Targets::default() };
        let wait = v1::WaitRequest { targets: Some(targets), ..v1::WaitRequest::default() };
        let mut ended = client.tasks.wait(wait).await?.into_inner();
        while ended.message().await?.is_some() {}
        // The daemon is to be idle when the next one comes.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(times)
}

/// The time that a program sent, in microseconds.
fn receive(stamps: &UnixDatagram) -> anyhow::Result<f64> {
    let mut nanos = [0; 8];
    stamps.recv(&mut nanos)?;
    Ok(Duration::from_nanos(u64::from_le_bytes(nanos)).as_secs_f64() * 1e6)
}

fn monotonic() -> anyhow::Result<f64> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_secs_f64() * 1e6)
}
