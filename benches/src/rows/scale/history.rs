//! Whether a task costs the same however many have ended before it.

use std::time::{Duration, Instant};

use capsule_proto::v1;

use crate::bench::{Bench, block_on};
use crate::daemon::{Client, Daemon, STILL, program};
use crate::proc::cpu;
use crate::report::Line;
use crate::sample::{Sample, rate};

/// Ended tasks of one call.
const BATCH: usize = 1000;

/// Costs with a short and with a long history, on the same daemon.
pub(in crate::rows) fn history(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let (short, long) = (bench.amount(10_000, 5_000), bench.amount(1_000_000, 50_000));
    let daemon = Daemon::start(bench, 4)?;
    let mut known = block_on(end_many(&daemon, short))?;
    let few = measure(bench, &daemon)?;
    known += block_on(end_many(&daemon, long.saturating_sub(known)))?;
    let many = measure(bench, &daemon)?;
    Ok(vec![
        Line::new(
            format!("CPU of daemon and keeper a process task, {known} tasks ended before"),
            "µs",
            many.cpu,
            "flat (± 20 %)",
        )
        .limit(format!("{short} ended before"), few.cpu),
        Line::new("process tasks with that history", "/s", many.tasks, "flat (± 20 %)")
            .limit(format!("{short} ended before"), few.tasks),
        Line::new("submits in batches with that history", "/s", many.submits, "flat (± 20 %)")
            .limit(format!("{short} ended before"), few.submits),
    ])
}

struct Costs {
    cpu: Sample,
    tasks: Sample,
    submits: Sample,
}

fn measure(bench: &Bench, daemon: &Daemon) -> anyhow::Result<Costs> {
    let mut costs =
        Costs { cpu: Sample::default(), tasks: Sample::default(), submits: Sample::default() };
    let count = bench.amount(1000, 300);
    for _ in 0..bench.rounds() {
        let before = cpu(daemon.pid()) + cpu(daemon.keeper());
        costs.tasks.push(block_on(run(daemon, count))?);
        let used = (cpu(daemon.pid()) + cpu(daemon.keeper())).saturating_sub(before);
        costs.cpu.push(used.as_secs_f64() * 1e6 / f64::from(u32::try_from(count)?));
        costs.submits.push(block_on(submit_rate(daemon, bench.amount(10, 3)))?);
    }
    Ok(costs)
}

async fn run(daemon: &Daemon, count: usize) -> anyhow::Result<f64> {
    let mut client = daemon.client().await?;
    let done = client.count(&[v1::Status::Completed]).await?;
    let began = Instant::now();
    client.submit_many(&program("default", ["/bin/true"]), count).await?;
    let limit = Duration::from_secs(60);
    client.until(&[v1::Status::Completed], done + count as u64, limit).await?;
    Ok(rate(count, began.elapsed()))
}

async fn submit_rate(daemon: &Daemon, batches: usize) -> anyhow::Result<f64> {
    let mut client = daemon.client().await?;
    let began = Instant::now();
    let ids = client.submit_many(&program(STILL, ["true"]), batches * BATCH).await?;
    let rate = rate(ids.len(), began.elapsed());
    cancel(&mut client, &ids).await?;
    Ok(rate)
}

/// Makes so many tasks that have ended: submitted and cancelled while they waited.
async fn end_many(daemon: &Daemon, tasks: usize) -> anyhow::Result<usize> {
    let mut client = daemon.client().await?;
    let mut ended = 0;
    while ended < tasks {
        let ids = client.submit_many(&program(STILL, ["true"]), BATCH).await?;
        cancel(&mut client, &ids).await?;
        ended += ids.len();
    }
    Ok(ended)
}

async fn cancel(client: &mut Client, ids: &[u64]) -> anyhow::Result<()> {
    for ids in ids.chunks(BATCH) {
        let ids = ids.iter().map(ToString::to_string).collect();
        let targets = Some(v1::Targets { ids, ..v1::Targets::default() });
        let request = v1::CancelRequest { targets, ..v1::CancelRequest::default() };
        client.tasks.cancel(request).await?;
    }
    Ok(())
}
