//! How fast a large output becomes a log, and what it costs in memory.

use std::process::Stdio;
use std::time::{Duration, Instant};

use capsule_proto::v1;

use crate::bench::{Bench, block_on};
use crate::daemon::{Daemon, program};
use crate::limit::spawn::quiet;
use crate::proc::memory;
use crate::report::Line;
use crate::sample::Sample;

/// One task that floods its output, in turn with a pipe into a file.
pub(super) fn output(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let mib = bench.amount(1024, 128);
    let daemon = Daemon::start(bench, 2)?;
    let folder = bench.folder()?;
    let before = (memory(daemon.pid()), memory(daemon.keeper()));
    let flood = format!("head -c {mib}M /dev/zero");
    let (mut ours, mut bare) = (Sample::default(), Sample::default());
    for _ in 0..bench.amount(3, 2) {
        ours.push(block_on(capture(&daemon, &flood, mib))?);
        let script = format!("{flood} | cat > {}", folder.path().join("out").display());
        let began = Instant::now();
        let status = quiet("/bin/sh").args(["-c", &script]).stdout(Stdio::null()).status()?;
        anyhow::ensure!(status.success(), "the bare pipe failed: {status}");
        bare.push(speed(mib, began.elapsed()));
    }
    let after = (memory(daemon.pid()), memory(daemon.keeper()));
    Ok(vec![
        Line::new(format!("log capture of {mib} MiB"), "MiB/s", ours, "≥ 0.5 ×")
            .limit("cat > file through a pipe", bare)
            .note(format!(
                "daemon {:.1} → {:.1} MiB, keeper {:.1} → {:.1} MiB (most)",
                before.0.now, after.0.most, before.1.now, after.1.most
            )),
    ])
}

async fn capture(daemon: &Daemon, flood: &str, mib: usize) -> anyhow::Result<f64> {
    let mut client = daemon.client().await?;
    let began = Instant::now();
    let submit = program("default", ["/bin/sh", "-c", flood]);
    let id = client.tasks.submit(submit).await?.into_inner().task.map_or(0, |task| task.id);
    let targets = v1::Targets { ids: vec![id.to_string()], ..v1::Targets::default() };
    let wait = v1::WaitRequest { targets: Some(targets), ..v1::WaitRequest::default() };
    let mut ended = client.tasks.wait(wait).await?.into_inner();
    while ended.message().await?.is_some() {}
    let took = began.elapsed();
    let show = v1::ShowRequest { id: id.to_string() };
    let shown = client.tasks.show(show).await?.into_inner();
    let receipt = shown.attempts.first().and_then(|attempt| attempt.receipt.clone());
    let bytes = receipt.map_or(0, |receipt| receipt.output_bytes);
    anyhow::ensure!(bytes == (mib as u64) << 20, "only {bytes} bytes came");
    Ok(speed(mib, took))
}

#[expect(clippy::cast_precision_loss, reason = "a size to be read")]
fn speed(mib: usize, time: Duration) -> f64 {
    mib as f64 / time.as_secs_f64()
}
