//! A daemon that is killed, and comes back to a thousand live attempts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use capsule_proto::v1;
use capsuled::store::{SledStore, StateDir};
use nix::sys::signal::Signal;

use crate::bench::{Bench, block_on};
use crate::daemon::{Daemon, STILL, program};
use crate::report::Line;
use crate::sample::Sample;

/// The processes of live tasks, by task.
type Live = BTreeMap<u64, (u32, u32)>;

/// From the start of the next daemon until every live attempt is known again.
pub(super) fn restart(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let (live, queued) = (bench.amount(1000, 100), bench.amount(100_000, 10_000));
    let mut daemon = Daemon::start(bench, live)?;
    block_on(async {
        let mut client = daemon.client().await?;
        client.submit_many(&program("default", ["/bin/sleep", "3000"]), live).await?;
        client.submit_many(&program(STILL, ["true"]), queued).await?;
        let limit = Duration::from_secs(60);
        client.until(&[v1::Status::Running], live as u64, limit).await
    })?;
    let before = block_on(living(&daemon, live))?;
    let (mut back, mut scan) = (Sample::default(), Sample::default());
    for _ in 0..bench.amount(5, 2) {
        daemon.end(Signal::SIGKILL)?;
        let began = Instant::now();
        let state = StateDir::open(&daemon.state())?;
        drop(SledStore::open(&state, jiff::Timestamp::now())?);
        scan.push(began.elapsed().as_secs_f64() * 1000.0);
        drop(state);
        back.push(daemon.restart()?.as_secs_f64() * 1000.0);
    }
    let after = block_on(living(&daemon, live))?;
    let lost = before.keys().filter(|id| !after.contains_key(id)).count();
    let doubled = after.iter().filter(|(id, seen)| before.get(id) != Some(seen)).count();
    let waiting = block_on(async { daemon.client().await?.count(&[v1::Status::Pending]).await })?;
    let beyond = back.median() - scan.median();
    Ok(vec![
        Line::new(
            format!("kill -9 → {live} live attempts reconciled, {queued} queued"),
            "ms",
            back,
            "≤ 1 s beyond it",
        )
        .beside("open + scan of the store", scan)
        .note(format!("{beyond:.0} ms beyond it, {lost} lost, {doubled} doubled"))
        .note(format!("{waiting} of {queued} still queued")),
    ])
}

async fn living(daemon: &Daemon, limit: usize) -> anyhow::Result<Live> {
    let filter = v1::Filter { statuses: vec![v1::Status::Running.into()], ..v1::Filter::default() };
    let request = v1::ListRequest {
        filter: Some(filter),
        limit: u32::try_from(limit)?,
        ..v1::ListRequest::default()
    };
    let tasks = daemon.client().await?.tasks.list(request).await?.into_inner().tasks;
    Ok(tasks.iter().map(|task| (task.id, (task.pid.unwrap_or(0), task.attempt))).collect())
}
