//! The command line as a whole process.

use std::process::Command;

use crate::bench::Bench;
use crate::daemon::{Daemon, STILL};
use crate::limit::spawn::{interleaved, quiet};
use crate::report::Line;
use crate::sample::Sample;

/// `capsule submit`, in turn with `/bin/true`.
pub(super) fn submit(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let daemon = Daemon::start(bench, 2)?;
    let capsule = bench.program("capsule").to_string_lossy().into_owned();
    let ours = |words: &[&str]| {
        let mut command = quiet(&capsule);
        command.args(words).env("CAPSULE_SOCKET", daemon.socket());
        command
    };
    let queued: &[&str] = &["submit", "--queue", STILL, "--", "true"];
    let (submitted, bare) = rounds(bench, || ours(queued))?;
    let (version, bare_version) = rounds(bench, || ours(&["--version"]))?;
    let (started, bare_started) = rounds(bench, || ours(&["submit", "--", "true"]))?;
    let lines = vec![
        Line::new("capsule submit, whole process, p50", "µs", submitted, "≤ 3 ×")
            .limit("/bin/true, whole process, p50", bare)
            .note(format!("capsule --version {version} µs, {} ×", version.over(&bare_version))),
        Line::new("the same, and the task starts at once", "µs", started, "–")
            .limit("/bin/true, whole process, p50", bare_started),
    ];
    Ok(lines)
}

/// The p50 of each round.
fn rounds(bench: &Bench, ours: impl Fn() -> Command) -> anyhow::Result<(Sample, Sample)> {
    let (mut a, mut b) = (Sample::default(), Sample::default());
    for _ in 0..bench.rounds() {
        let (one, other) = interleaved(bench.amount(60, 25), &ours, || quiet("/bin/true"))?;
        a.push(one.median());
        b.push(other.median());
    }
    Ok((a, b))
}
