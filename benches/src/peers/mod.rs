//! Queues of others, measured beside ours in the same rounds: which there are and what is asked of
//! them. What they need is installed by `scripts/needs.sh peers`; each is an instance of our own on
//! the measured disk. One that cannot be had is reported, and the others are measured.

mod beanstalkd;
mod driver;
mod huey;
mod postgres;
mod pueue;
mod redis;
mod rows;
mod server;
mod spooler;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

pub(crate) use self::rows::ROWS;
use crate::bench::Bench;
use crate::sample::rate;

/// Submits that wait for their answer at any time.
const IN_FLIGHT: usize = 64;
/// Programs that run at once.
const PARALLEL: usize = 4;
/// What each submit to a peer carries: about what ours says of a program.
const PAYLOAD: &str = r#"{"argv":["true"],"cwd":"/","env":{"HOME":"/root","LANG":"C.UTF-8","PATH":"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","SHELL":"/bin/bash","USER":"root"}}"#;
/// What the programs of a peer get, as ours do.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("HOME", "/"),
    ("LANG", "C.UTF-8"),
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("USER", "root"),
];

/// A peer that is ready to be measured; ends with all that belongs to it.
trait Peer {
    /// Its version and how it is set.
    fn about(&self) -> String;

    /// Measures it once.
    fn round(&mut self, bench: &Bench) -> anyhow::Result<Turn>;
}

/// A peer that may be there.
struct Known {
    name: &'static str,
    reach: &'static str,
    start: fn(&Bench) -> anyhow::Result<Box<dyn Peer>>,
}

/// Those that keep what is submitted.
const SUBMITS: [Known; 5] = [
    Known { name: "BullMQ", reach: "≥ 1.5 ×", start: redis::bullmq },
    Known { name: "beanstalkd", reach: "≥ 3 ×", start: beanstalkd::start },
    Known { name: "procrastinate", reach: "≥ 10 ×", start: postgres::procrastinate },
    Known { name: "RQ", reach: "–", start: redis::rq },
    Known { name: "huey", reach: "–", start: huey::start },
];

/// Those that run programs.
const TASKS: [Known; 2] = [
    Known { name: "task-spooler", reach: "≥ 2 ×", start: spooler::start },
    Known { name: "pueue", reach: "≥ 50 ×", start: pueue::start },
];

/// What one round gave.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Things a second.
    rate: f64,
    /// The part of a core that whoever asked for them took.
    driver: Option<f64>,
}

/// A round that this process itself drives; `run` gives how many were done.
fn own_turn(run: impl FnOnce() -> anyhow::Result<usize>) -> anyhow::Result<Turn> {
    let used = || clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from);
    let (began, before) = (Instant::now(), used()?);
    let done = run()?;
    let took = began.elapsed();
    let driver = used()?.saturating_sub(before).as_secs_f64() / took.as_secs_f64();
    Ok(Turn { rate: rate(done, took), driver: Some(driver) })
}

/// Something that `scripts/needs.sh peers` puts below the build.
fn installed(what: &str) -> anyhow::Result<PathBuf> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let path = std::path::absolute(target.join("peers").join(what))?;
    anyhow::ensure!(path.exists(), "{what} is not installed; scripts/needs.sh peers");
    Ok(path)
}

/// A program of the system, also where servers lie.
fn system(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = places.map(|place| place.join(name)).find(|program| program.is_file());
    found.ok_or_else(|| anyhow::anyhow!("{name} is not installed; scripts/needs.sh peers"))
}

/// The version in what a program says of itself: the first word with a digit and a dot.
fn version(program: &Path, option: &str) -> String {
    let said = Command::new(program).arg(option).output();
    let said = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned());
    let said = said.unwrap_or_default();
    let number = |word: &&str| word.contains('.') && word.contains(|c: char| c.is_ascii_digit());
    let word = said.split_whitespace().find(number).unwrap_or("?");
    word.trim_start_matches(|c: char| !c.is_ascii_digit()).to_owned()
}
