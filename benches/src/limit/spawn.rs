//! Bare `posix_spawn` and wait: no program can be run faster.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::sample::{Sample, micros, rate};

/// A program without input and output.
pub(crate) fn quiet(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Runs of `/bin/true` per second on so many threads.
pub(crate) fn rate_parallel(threads: usize, runs: usize) -> anyhow::Result<f64> {
    let began = Instant::now();
    let each = runs / threads;
    let spawners: Vec<_> = (0..threads)
        .map(|_| {
            std::thread::spawn(move || -> std::io::Result<()> {
                for _ in 0..each {
                    quiet("/bin/true").status()?;
                }
                Ok(())
            })
        })
        .collect();
    for spawner in spawners {
        match spawner.join() {
            Ok(spawned) => spawned?,
            Err(_) => anyhow::bail!("a spawning thread panicked"),
        }
    }
    Ok(rate(each * threads, began.elapsed()))
}

/// The time of one run from before its spawn until it was waited for, in microseconds.
pub(crate) fn whole(command: &mut Command) -> anyhow::Result<f64> {
    let began = Instant::now();
    let status = command.status()?;
    let took = micros(began.elapsed());
    anyhow::ensure!(status.success(), "{} failed: {status}", command.get_program().display());
    Ok(took)
}

/// Runs of two programs in turn, in microseconds each.
pub(crate) fn interleaved(
    rounds: usize,
    mut ours: impl FnMut() -> Command,
    mut bare: impl FnMut() -> Command,
) -> anyhow::Result<(Sample, Sample)> {
    let (mut a, mut b) = (Sample::default(), Sample::default());
    for _ in 0..rounds {
        a.push(whole(&mut ours())?);
        b.push(whole(&mut bare())?);
    }
    Ok((a, b))
}
