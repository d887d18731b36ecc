//! A full queue: what it takes, and whether it stays quick.

use std::time::{Duration, Instant};

use capsule_proto::v1;
use nix::sys::signal::Signal;

use crate::bench::{Bench, block_on};
use crate::daemon::{Client, Daemon, STILL, program};
use crate::proc::memory;
use crate::report::Line;
use crate::sample::{Sample, rate};

/// Fills the queue, restarts on it, claims and lists.
pub(in crate::rows) fn million(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let tasks = bench.amount(1_000_000, 100_000);
    let room = 2000;
    let mut daemon = Daemon::start(bench, 4)?;
    let began = Instant::now();
    block_on(fill(&daemon, tasks - room))?;
    let filled = rate(tasks - room, began.elapsed());
    let after_fill = memory(daemon.pid());
    daemon.end(Signal::SIGTERM)?;
    let ready = daemon.restart()?.as_secs_f64();
    let at_start = memory(daemon.pid());
    let claims = block_on(claims(&daemon, bench.amount(500, 100)))?;
    let pages = block_on(pages(&daemon, bench.amount(15, 5)))?;
    let bytes = block_on(async {
        let mut client = daemon.client().await?;
        Ok(client.daemon.status(v1::StatusRequest {}).await?.into_inner().store_bytes)
    })?;
    let in_use = memory(daemon.pid());
    #[expect(clippy::cast_precision_loss, reason = "a size to be read")]
    let store_mib = bytes as f64 / f64::from(1 << 20);
    let mut lines = vec![
        Line::new(format!("{tasks} queued: memory"), "MiB", Sample::one(in_use.now), "≤ 300")
            .beside("the store on disk, MiB", Sample::one(store_mib))
            .note(format!("after the fill {:.0}, most {:.0}", after_fill.now, after_fill.most))
            .note(format!("after the start {:.0}, most {:.0}", at_start.now, at_start.most))
            .note(format!("filled at {:.1}k/s", filled / 1000.0)),
        Line::new(format!("{tasks} queued: start to ready"), "s", Sample::one(ready), "≤ 5 s"),
        Line::new(
            format!("{tasks} queued: submit + claim in one commit, p99"),
            "ms",
            Sample::one(claims.quantile(0.99)),
            "≤ 5 ms",
        )
        .note(format!("p50 {:.2} ms", claims.median())),
    ];
    for (what, page) in pages {
        let what = format!("{tasks} queued: first page of list, by {what}");
        lines.push(Line::new(what, "ms", page, "≤ 20 ms"));
    }
    Ok(lines)
}

async fn fill(daemon: &Daemon, tasks: usize) -> anyhow::Result<()> {
    let mut client = daemon.client().await?;
    client.submit_many(&program(STILL, ["true"]), tasks).await?;
    Ok(())
}

/// A submit that is claimed in the same commit, while the full queue stands still.
async fn claims(daemon: &Daemon, claims: usize) -> anyhow::Result<Sample> {
    let mut client = daemon.client().await?;
    let submit = program("default", ["/bin/true"]);
    let mut times = Sample::default();
    for done in 1..=claims {
        let request = submit.clone();
        let began = Instant::now();
        let reply = client.tasks.submit(request).await?.into_inner();
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        anyhow::ensure!(reply.task.is_some(), "a submit has no task");
        let limit = Duration::from_secs(10);
        client.until(&[v1::Status::Completed], done as u64, limit).await?;
    }
    Ok(times)
}

/// The first page by every kind of filter; each fits nothing or only the oldest tasks, so that
/// no page is found early.
async fn pages(daemon: &Daemon, rounds: usize) -> anyhow::Result<Vec<(&'static str, Sample)>> {
    let mut client = daemon.client().await?;
    let empty = v1::Filter::default;
    let text = "no-such";
    let filters = [
        ("nothing", empty()),
        ("status", v1::Filter { statuses: vec![v1::Status::Failed.into()], ..empty() }),
        ("app", v1::Filter { app: text.to_owned(), ..empty() }),
        ("name", v1::Filter { names: vec!["no-such*".to_owned()], ..empty() }),
        ("owner", v1::Filter { owner: text.to_owned(), ..empty() }),
        ("queue", v1::Filter { queue: "default".to_owned(), ..empty() }),
        ("a full queue", v1::Filter { queue: STILL.to_owned(), ..empty() }),
        ("lock", v1::Filter { lock: text.to_owned(), ..empty() }),
        ("label", v1::Filter { labels: [(text.to_owned(), String::new())].into(), ..empty() }),
        ("time", v1::Filter { until_us: Some(1), ..empty() }),
    ];
    let mut pages = Vec::new();
    for (what, filter) in filters {
        let mut times = Sample::default();
        for _ in 0..rounds {
            times.push(page(&mut client, filter.clone()).await?);
        }
        pages.push((what, times));
    }
    Ok(pages)
}

async fn page(client: &mut Client, filter: v1::Filter) -> anyhow::Result<f64> {
    let request = v1::ListRequest { filter: Some(filter), ..v1::ListRequest::default() };
    let began = Instant::now();
    client.tasks.list(request).await?;
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}
