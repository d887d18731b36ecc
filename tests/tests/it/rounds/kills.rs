//! How a round ends: at a moment that chance picks, or at a named place.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use capsule_tests::{Daemon, Home, processes, wait_for};
use nix::sys::signal::Signal;

use super::plan::Random;

pub(super) const SLOTS: &[&str] = &["--slots", "8"];

/// The places where the programs can be told to die (`capsuled/src/failpoint.rs`), and the most
/// passes before they do.
const PLACES: [(&str, u64); 10] = [
    ("before-flush", 30),
    ("after-flush", 30),
    ("after-fsync", 30),
    ("before-effects", 30),
    ("before-reply", 30),
    ("after-spawn", 8),
    ("after-exit", 8),
    ("before-ack", 8),
    ("keeper-after-spawn", 8),
    ("keeper-after-exit", 8),
];

/// How long a place may take to be reached before the round ends as others do.
const REACH: Duration = Duration::from_secs(4);

/// When a keeper died, in µs since 1970: not before, and not after.
pub(super) type Death = (i64, i64);

/// Ends rounds.
#[derive(Debug)]
pub(super) struct Killer<'a> {
    home: &'a Home,
    random: Random,
    round: u64,
    /// Built with the places.
    has_places: bool,
    /// For each place how often it was to be reached, and was.
    pub(super) hits: BTreeMap<&'static str, (u64, u64)>,
    pub(super) deaths: Vec<Death>,
}

impl<'a> Killer<'a> {
    pub(super) fn new(home: &'a Home, random: Random) -> Self {
        let program = fs::read(home.program("capsuled")).unwrap();
        let name = b"CAPSULE_FAIL_AT";
        let has_places = program.windows(name.len()).any(|bytes| bytes == name);
        if !has_places {
            eprintln!("SKIPPED: the named places, this is a release build");
        }
        Self { home, random, round: 0, has_places, hits: BTreeMap::new(), deaths: Vec::new() }
    }

    /// Starts a daemon, has `busy` make it work, and kills it.
    pub(super) fn round(&mut self, mut busy: impl FnMut()) {
        self.round += 1;
        if self.round.is_multiple_of(2) {
            let place = PLACES[usize::try_from(self.round / 2).unwrap() % PLACES.len()];
            self.at_place(place, &mut busy);
        } else {
            self.at_random(&mut busy);
        }
    }

    fn at_random(&mut self, busy: &mut impl FnMut()) {
        let daemon = self.home.launch(SLOTS);
        busy();
        // Now and then while it opens the store and settles with the keeper.
        let end = if self.random.one_in(4) { 80 } else { 500 };
        pass(self.random.millis(end));
        match self.random.below(12) {
            0 => {
                self.kill_keeper();
                pass(self.random.millis(100));
                daemon.kill();
            }
            1 => {
                daemon.kill();
                self.kill_keeper();
            }
            _ => daemon.kill(),
        }
    }

    fn at_place(&mut self, (place, most): (&'static str, u64), busy: &mut impl FnMut()) {
        let of_keeper = place.starts_with("keeper");
        if of_keeper {
            // Only a keeper that this daemon starts is told of the place.
            self.kill_keeper();
        }
        let mark = self.home.path(format!("h/mark-{}", self.round));
        fs::write(&mark, "").unwrap();
        let at = format!("{place}:{}", 1 + self.random.below(most));
        let once = mark.display().to_string();
        let variables = [("CAPSULE_FAIL_AT", at), ("CAPSULE_FAIL_ONCE", once)];
        let before = now_us();
        let mut daemon = self.home.launch_told(SLOTS, &variables);
        busy();
        let reached = self.reached(&mark, &mut daemon);
        let hits = self.hits.entry(place).or_default();
        hits.0 += 1;
        hits.1 += u64::from(reached.is_some());
        match reached {
            Some(pid) if pid == daemon.pid() => {
                assert!(!of_keeper, "{place} is a place of the keeper");
                let ended = wait_for("the daemon dies there", || daemon.ended());
                assert_eq!(ended.signal(), Some(9), "{place}: {}", self.home.log());
            }
            Some(pid) => {
                assert!(of_keeper, "{place} is no place of the keeper");
                wait_for("the keeper dies there", || (!processes::alive(pid)).then_some(()));
                self.deaths.push((before, now_us()));
                pass(self.random.millis(200));
                daemon.kill();
            }
            None => {
                // Either may still come to the place until the mark is gone.
                daemon.signal(Signal::SIGKILL);
                assert_eq!(daemon.end().signal(), Some(9), "{}", self.home.log());
                if fs::remove_file(&mark).is_err() && of_keeper {
                    self.deaths.push((before, now_us()));
                }
            }
        }
    }

    /// Waits until a process has died at its place, and gives its id; none = it was not reached.
    fn reached(&self, mark: &Path, daemon: &mut Daemon) -> Option<i32> {
        let deadline = Instant::now() + if self.has_places { REACH } else { REACH / 20 };
        loop {
            if !mark.exists() {
                return Some(taker(mark));
            }
            assert_eq!(daemon.ended(), None, "{}", self.home.log());
            if Instant::now() > deadline {
                return None;
            }
            pass(Duration::from_millis(2));
        }
    }

    /// Kills the keeper, if there is one.
    fn kill_keeper(&mut self) {
        let mut all = self.home.processes();
        all.retain(|process| process.name == "capsule-keeper");
        let before = now_us();
        for keeper in &all {
            processes::send(keeper.pid, Signal::SIGKILL);
        }
        wait_for("the keeper is gone", || {
            all.iter().all(|keeper| !processes::alive(keeper.pid)).then_some(())
        });
        self.deaths.push((before, now_us()));
    }

    /// Says where what died, and fails if a place was never reached.
    pub(super) fn tell(&self) {
        eprintln!("keepers killed: {}", self.deaths.len());
        for (place, (asked, hit)) in &self.hits {
            eprintln!("{place:20} {hit} of {asked}");
        }
        for (place, (_, hit)) in &self.hits {
            assert_eq!(*hit > 0, self.has_places, "{place} was reached {hit} times");
        }
    }
}

/// Lets time pass.
#[expect(clippy::disallowed_methods, reason = "no condition tells that a random moment has come")]
fn pass(time: Duration) {
    std::thread::sleep(time);
}

/// The process that took the mark with it.
fn taker(mark: &Path) -> i32 {
    let name = mark.file_name().unwrap().to_str().unwrap();
    let files = fs::read_dir(mark.parent().unwrap()).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let taken: Vec<PathBuf> =
        paths.filter(|path| path.file_stem().is_some_and(|stem| stem == name)).collect();
    let [taken] = &taken[..] else { panic!("one process takes {name}: {taken:?}") };
    fs::remove_file(taken).unwrap();
    taken.extension().unwrap().to_str().unwrap().parse().unwrap()
}

pub(super) fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}
