//! How fast submits become durable.

use std::time::Instant;

use capsule_proto::v1;

use crate::bench::{Bench, block_on};
use crate::daemon::{Daemon, STILL, program};
use crate::limit::log;
use crate::limit::noop::{Noop, flood};
use crate::limit::store::{Records, record};
use crate::proc::cpu;
use crate::report::Line;
use crate::sample::{Sample, rate};

const IN_FLIGHT: usize = 64;
/// Submits of one batch call.
const BATCH: usize = 1000;

/// One submit a call, many calls in flight on one connection; nothing starts.
pub(super) fn unary(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let daemon = Daemon::start(bench, 1)?;
    let noop = Noop::start(bench)?;
    let (mut ours, mut calls, mut raw) = (Sample::default(), Sample::default(), Sample::default());
    let before = cpu(daemon.pid());
    let mut submitted = 0.0;
    for _ in 0..bench.rounds() {
        let per_second = block_on(flood_daemon(bench, &daemon))?;
        submitted += per_second * bench.round().as_secs_f64();
        ours.push(per_second);
        calls.push(block_on(noop.rate(IN_FLIGHT, bench.round()))?);
        raw.push(block_on(log::group_commit(daemon.path(), IN_FLIGHT, bench.round()))?);
    }
    let used = cpu(daemon.pid()).saturating_sub(before).as_secs_f64() * 1e6 / submitted;
    Ok(vec![
        Line::new("durable submits, unary, 64 in flight", "/s", ours, "≥ 0.5 ×")
            .limit("no-op RPC, 64 in flight", calls)
            .note(format!("raw group-commit log at 64: {raw} /s"))
            .note(format!("daemon CPU {used:.0} µs a submit")),
    ])
}

/// Submits for a while, 64 in flight on one connection; gives how many a second were durable.
pub(crate) async fn flood_daemon(bench: &Bench, daemon: &Daemon) -> anyhow::Result<f64> {
    let client = daemon.client().await?;
    let submit = program(STILL, ["true"]);
    flood(IN_FLIGHT, bench.round(), || {
        let mut tasks = client.tasks.clone();
        let submit = submit.clone();
        async move { tasks.submit(submit).await.map(drop) }
    })
    .await
}

/// Submits on one stream, 64 of them unanswered at any time; nothing starts.
pub(super) fn stream(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let daemon = Daemon::start(bench, 1)?;
    let noop = Noop::start(bench)?;
    let (mut ours, mut calls, mut raw) = (Sample::default(), Sample::default(), Sample::default());
    let before = cpu(daemon.pid());
    let mut submitted = 0.0;
    for _ in 0..bench.rounds() {
        let per_second = block_on(stream_to(bench, &daemon))?;
        submitted += per_second * bench.round().as_secs_f64();
        ours.push(per_second);
        calls.push(block_on(noop.rate(IN_FLIGHT, bench.round()))?);
        raw.push(block_on(log::group_commit(daemon.path(), IN_FLIGHT, bench.round()))?);
    }
    let used = cpu(daemon.pid()).saturating_sub(before).as_secs_f64() * 1e6 / submitted;
    Ok(vec![
        Line::new("durable submits, on a stream, 64 in flight", "/s", ours, "–")
            .limit("no-op RPC, 64 in flight", calls)
            .note(format!("raw group-commit log at 64: {raw} /s"))
            .note(format!("daemon CPU {used:.0} µs a submit")),
    ])
}

/// Submits for a while on one stream, 64 unanswered; gives how many a second were durable.
pub(crate) async fn stream_to(bench: &Bench, daemon: &Daemon) -> anyhow::Result<f64> {
    let mut client = daemon.client().await?;
    let submit = program(STILL, ["true"]);
    let (more, requests) = tokio::sync::mpsc::channel(IN_FLIGHT);
    for _ in 0..IN_FLIGHT {
        more.send(submit.clone()).await?;
    }
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let began = Instant::now();
    let mut results = client.tasks.submit_stream(requests).await?.into_inner();
    let mut more = Some(more);
    let mut done = 0;
    while let Some(result) = results.message().await? {
        anyhow::ensure!(result.id > 0, "a submit failed: {}", result.error);
        done += 1;
        if began.elapsed() >= bench.round() {
            more = None;
        }
        if let Some(more) = &more {
            more.send(submit.clone()).await?;
        }
    }
    Ok(rate(done, began.elapsed()))
}

/// A thousand submits a call, one call after the other.
pub(super) fn batch(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let daemon = Daemon::start(bench, 1)?;
    let mut records = Records::open(bench)?;
    let (mut ours, mut bare, mut raw) = (Sample::default(), Sample::default(), Sample::default());
    let calls = bench.amount(20, 8);
    for _ in 0..bench.rounds() {
        ours.push(block_on(batches(&daemon, calls))?);
        let began = Instant::now();
        for _ in 0..calls {
            records.commit(BATCH as u64)?;
        }
        bare.push(rate(calls * BATCH, began.elapsed()));
        raw.push(block_on(log::group_commit(daemon.path(), BATCH, bench.round()))?);
    }
    Ok(vec![
        Line::new("durable submits, 1,000 in a call", "/s", ours, "≥ 0.6 ×")
            .limit("store batch of 1,000 + flush + fsync", bare)
            .note(format!("raw group-commit log at 1,000: {raw} /s"))
            .note(format!("record of {} bytes", record(1).len())),
    ])
}

async fn batches(daemon: &Daemon, calls: usize) -> anyhow::Result<f64> {
    let mut client = daemon.client().await?;
    let requests: Vec<_> = (0..calls)
        .map(|_| v1::SubmitBatchRequest { submits: vec![program(STILL, ["true"]); BATCH] })
        .collect();
    let began = Instant::now();
    for request in requests {
        let reply = client.tasks.submit_batch(request).await?.into_inner();
        anyhow::ensure!(reply.results.iter().all(|result| result.error.is_empty()));
    }
    Ok(rate(calls * BATCH, began.elapsed()))
}

/// One submit after the other, against the parts that it cannot do without.
pub(super) fn serial(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let daemon = Daemon::start(bench, 1)?;
    let noop = Noop::start(bench)?;
    let mut records = Records::open(bench)?;
    let (mut ours, mut parts) = (Sample::default(), Sample::default());
    let (mut commits, mut calls, mut syncs) =
        (Sample::default(), Sample::default(), Sample::default());
    let each = bench.amount(300, 100);
    for _ in 0..bench.rounds() {
        let submits = block_on(serial_submits(&daemon, each))?.median();
        let commit = records.serial(each)?.median();
        let call = block_on(noop.serial(each))?.median();
        syncs.push(log::serial(daemon.path(), each)?.median());
        ours.push(submits);
        parts.push(commit + call);
        commits.push(commit);
        calls.push(call);
    }
    Ok(vec![
        Line::new("one durable submit, serial, p50", "µs", ours, "≤ 1.3 ×")
            .limit("one-record store commit p50 + no-op RPC p50", parts)
            .note(format!("store commit {commits} µs, no-op {calls} µs"))
            .note(format!("append + fdatasync {syncs} µs")),
    ])
}

async fn serial_submits(daemon: &Daemon, submits: usize) -> anyhow::Result<Sample> {
    let mut client = daemon.client().await?;
    let submit = program(STILL, ["true"]);
    let mut times = Sample::default();
    for _ in 0..submits {
        let request = submit.clone();
        let began = Instant::now();
        client.tasks.submit(request).await?;
        times.push_micros(began.elapsed());
    }
    Ok(times)
}
