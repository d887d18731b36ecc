//! How late planned fires are durable, and what many schedules cost while none fires.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use capsule_proto::v1;
use capsule_proto::v1::schedules_client::SchedulesClient;
use capsule_proto::v1::watch_event::Event;
use nix::sys::signal::Signal;
use tokio::task::JoinSet;

use super::idle;
use crate::bench::{Bench, block_on};
use crate::daemon::{Daemon, STILL, connect, program};
use crate::report::Line;
use crate::sample::Sample;

/// All schedules, those that fire too.
const SCHEDULES: usize = 10_000;
/// So many are due at one instant.
const AT_ONCE: usize = 1000;
/// From one fire to the next of those that are spread.
const STEP: Duration = Duration::from_millis(5);
/// From the last call to the first fire.
const LEAD: Duration = Duration::from_secs(3);
const IN_FLIGHT: usize = 64;
/// The year 2200: not in this run.
const FAR_US: i64 = 7_258_118_400_000_000;
/// Which fire a task is of.
const LABEL: &str = "fire";

/// Lateness from the planned instant to when the change was seen outside, which is after its
/// commit; fires that are spread over time, then many at one instant, then none for a while.
pub(super) fn cron(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let mut daemon = Daemon::start(bench, 4)?;
    let spread = bench.amount(1000, 200);
    // More are not allowed: those that fire are given another time, and then a far one again.
    block_on(add(&daemon, 0, &vec![FAR_US; SCHEDULES]))?;
    let apart: Vec<i64> = (0..spread).map(|number| micros(STEP) * as_i64(number)).collect();
    let spread = block_on(fires(&daemon, 0, &apart))?;
    // Others: the tasks of the first ones stand still, so they would be skipped.
    let at_once = block_on(fires(&daemon, apart.len(), &vec![0; AT_ONCE]))?;
    let line = |what: &str, late: &Sample| {
        Line::new(
            format!("cron: p99 lateness, {SCHEDULES} schedules, {what}"),
            "ms",
            Sample::one(late.quantile(0.99)),
            "≤ 50 ms",
        )
        .note(format!("p50 {:.2} ms, {} fires", late.median(), late.len()))
    };
    let mut lines = vec![
        line(&format!("one each {} ms", STEP.as_millis()), &spread),
        line(&format!("{AT_ONCE} due at once"), &at_once),
    ];
    block_on(add(&daemon, 0, &vec![FAR_US; apart.len() + AT_ONCE]))?;
    lines.extend(idle::calm(bench, &daemon, "cron, 10,000 schedules that wait"));
    daemon.end(Signal::SIGTERM)?;
    daemon.restart()?;
    let [_, memory] = idle::calm(bench, &daemon, "cron, the same after a start");
    lines.push(memory);
    Ok(lines)
}

/// Adds one-shots at these instants, numbered from `first`.
async fn add(daemon: &Daemon, first: usize, at: &[i64]) -> anyhow::Result<()> {
    let client = SchedulesClient::new(connect(&daemon.socket()).await?);
    let mut calls = JoinSet::new();
    for (number, at) in at.iter().enumerate() {
        let mut submit = program(STILL, ["true"]);
        if let Some(options) = &mut submit.options {
            options.labels = [(LABEL.to_owned(), number.to_string())].into();
        }
        let request = v1::AddScheduleRequest {
            name: format!("s{}", first + number),
            when: Some(v1::When { rule: Some(v1::when::Rule::AtUs(*at)), zone: String::new() }),
            policy: None,
            submit: Some(submit),
        };
        let mut client = client.clone();
        calls.spawn(async move { client.add_schedule(request).await.map(drop) });
        if calls.len() >= IN_FLIGHT {
            calls.join_next().await.context("a call is under way")???;
        }
    }
    while let Some(done) = calls.join_next().await {
        done??;
    }
    Ok(())
}

/// Lets schedules fire at these times after a first instant; gives how late each was seen, in ms.
async fn fires(daemon: &Daemon, first: usize, after: &[i64]) -> anyhow::Result<Sample> {
    // The calls take about a millisecond each on a slow machine.
    let calls = Duration::from_millis(2 * after.len() as u64);
    let start = now_us() + micros(LEAD + calls);
    let at: Vec<i64> = after.iter().map(|after| start + after).collect();
    let filter = v1::Filter { queue: STILL.to_owned(), ..v1::Filter::default() };
    let request =
        v1::WatchRequest { filter: Some(filter), limit: 1, ..v1::WatchRequest::default() };
    let mut tasks = daemon.client().await?.tasks;
    let mut news = tasks.watch(request).await?.into_inner();
    while let Some(event) = news.message().await? {
        if let Some(Event::Ready(_)) = event.event {
            break;
        }
    }
    add(daemon, first, &at).await?;
    anyhow::ensure!(now_us() < start, "adding the schedules took too long");
    let mut late = Sample::default();
    let limit = Duration::from_secs(120);
    let began = Instant::now();
    while late.len() < at.len() {
        anyhow::ensure!(began.elapsed() < limit, "{} of {} fires came", late.len(), at.len());
        let event = tokio::time::timeout(limit, news.message()).await??;
        let seen = now_us();
        if let Some(Event::Task(task)) = event.context("the stream ends")?.event {
            let number: usize = task.labels.get(LABEL).context("a label")?.parse()?;
            let planned = at.get(number).context("a number")?;
            #[expect(clippy::cast_precision_loss, reason = "a short time")]
            late.push((seen - planned) as f64 / 1000.0);
        }
    }
    Ok(late)
}

fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

fn as_i64(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
