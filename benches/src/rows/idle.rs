//! Processes that have nothing to do.

use std::time::{Duration, Instant};

use capsule_proto::v1;

use crate::bench::{Bench, block_on};
use crate::daemon::{Daemon, program};
use crate::proc::{memory, parent, switches, wait_until};
use crate::report::Line;
use crate::sample::Sample;

/// How long after the last work the processes count as idle: caches are written, timers gone.
const CALM: Duration = Duration::from_secs(3);

/// Wake-ups of daemon, keeper and guard together, after some work and with nobody connected.
pub(super) fn idle(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let daemon = Daemon::start(bench, 4)?;
    block_on(async {
        let mut client = daemon.client().await?;
        client.submit_many(&program("default", ["/bin/true"]), 20).await?;
        client.until(&[v1::Status::Completed], 20, Duration::from_secs(30)).await
    })?;
    Ok(calm(bench, &daemon, "idle").into())
}

/// Wake-ups and memory of a daemon from which nobody wants anything.
pub(super) fn calm(bench: &Bench, daemon: &Daemon, what: &str) -> [Line; 2] {
    let guard = parent(daemon.keeper()).unwrap_or(0);
    let all = [daemon.pid(), daemon.keeper(), guard];
    pause(CALM);
    let before = all.map(switches);
    let time = Duration::from_secs(if bench.quick { 10 } else { 60 });
    pause(time);
    let after = all.map(switches);
    let woken: Vec<u64> = before.iter().zip(after).map(|(b, a)| a.saturating_sub(*b)).collect();
    let total: u64 = woken.iter().sum();
    let resident: Vec<f64> = all.iter().map(|pid| memory(*pid).now).collect();
    let names = ["daemon", "keeper", "guard"];
    let by_name = |values: Vec<String>| {
        let pairs: Vec<String> =
            names.iter().zip(values).map(|(name, value)| format!("{name} {value}")).collect();
        pairs.join(", ")
    };
    let reach = if bench.quick { "0 in 10 s" } else { "≤ 2 a minute" };
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let total = Sample::one(total as f64);
    [
        Line::new(format!("{what}: wake-ups in {} s", time.as_secs()), "", total, reach)
            .note(by_name(woken.iter().map(ToString::to_string).collect())),
        Line::new(format!("{what}: memory"), "MiB", Sample::one(resident.iter().sum()), "≤ 30 MiB")
            .note(by_name(resident.iter().map(|mib| format!("{mib:.1}")).collect())),
    ]
}

/// Lets time pass; there is nothing to wait for.
fn pause(time: Duration) {
    let began = Instant::now();
    wait_until(time, || {
        std::thread::park_timeout(Duration::from_millis(100));
        began.elapsed() >= time
    });
}
