//! Power cuts at every moment of a recorded run of the real daemon, on a modelled disk.
//!
//! `CAPSULE_CUTS` says of how many states, `CAPSULE_SEED` repeats a run's choices.

mod oracle;
mod workload;

use std::path::PathBuf;
use std::time::Instant;

use capsule_tests::power::{Cut, Recorder, States, Witness as _, judge};
use capsule_tests::{Home, Random, number};

use oracle::Expected;

/// States judged when nobody says how many.
const CUTS: u64 = 1_200;

/// Of disks that are deaf to some syncs.
const DEAF_CUTS: u64 = 60;

/// What the daemon does not write itself: the keeper's logs.
const ASIDE: &[&str] = &["capsule/logs/"];

/// Something of the store, and the paths whose syncs a disk is deaf to.
type Deaf = (&'static str, fn(&str) -> bool);

/// A run of the daemon that was recorded, killed at its end, and its folder as it was left.
struct Recorded {
    home: Home,
    recorder: Recorder,
    left: PathBuf,
}

fn record(random: &mut Random) -> Option<Recorded> {
    let home = Home::new();
    let root = home.path("s");
    std::fs::create_dir(&root).unwrap();
    let recorder = Recorder::new(&root, &home.path("r"))?;
    let mut daemon = home.launch_told(&["--slots", "8"], &recorder.environment());
    home.ready(&mut daemon);
    workload::run(&home, &recorder, random);
    daemon.kill();
    let left = home.path("left");
    home.shell(&format!("cp -a {} {}", root.display(), left.display())).run().exits(0);
    Some(Recorded { home, recorder, left })
}

#[test]
fn no_power_cut_loses_what_was_acknowledged() {
    let mut random = Random::from_environment("CAPSULE_SEED");
    let wanted = number("CAPSULE_CUTS").unwrap_or(CUTS);
    let Some(recorded) = record(&mut random) else { return };
    let records = &recorded.recorder;

    // Were this not so, the states would be those of another disk.
    let (disk, expected) = States::<Expected>::new(records, None, 0).finish();
    let differences = disk.cut(Cut::Keep).differences(&recorded.left, ASIDE);
    assert!(differences.is_empty(), "what was recorded is not what is there: {differences:?}");
    expected.judge(&recorded.left).unwrap();

    let began = Instant::now();
    let tally = judge::<Expected>(records, None, wanted, random.bits());
    eprintln!("{} states of {} in {:?}", tally.states, tally.possible, began.elapsed());
    tally.is_clean();
    assert!(tally.states > wanted / 2, "hardly anything was tried");

    // A store that did not wait for one of these would lose something.
    let deaf: [Deaf; 3] = [
        ("the database", |path| path == "capsule/queue/db"),
        ("side files", |path| path.starts_with("capsule/side/") && path.contains(".tmp")),
        ("their folders", |path| {
            path.starts_with("capsule/side/payload") && !path.contains(".tmp")
        }),
    ];
    for (what, deaf) in deaf {
        let tally = judge::<Expected>(records, Some(deaf), DEAF_CUTS, random.bits());
        eprintln!("without syncs of {what}: {} of {} wrong", tally.wrong.len(), tally.states);
        assert!(!tally.wrong.is_empty(), "nobody misses the syncs of {what}");
    }
    the_daemon_itself_goes_on(&recorded, &mut random);
}

/// Starts the real daemon on what a cut of everything unsynced leaves, at a moment near the end.
fn the_daemon_itself_goes_on(recorded: &Recorded, random: &mut Random) {
    let mut states = States::<Expected>::new(&recorded.recorder, None, 0);
    let records = recorded.recorder.read().count();
    for _ in 0..records - random.index(records / 4) {
        states.next().unwrap();
    }
    let root = recorded.home.path("s");
    std::fs::remove_dir_all(&root).unwrap();
    std::fs::create_dir(&root).unwrap();
    states.disk.cut(Cut::Lose).put(&root);
    let _daemon = recorded.home.start();
    let listed = recorded.home.capsule(["list", "--all", "--limit", "5000", "--json"]).run();
    let listed = listed.exits(0).json();
    let there: Vec<u64> =
        listed.as_array().unwrap().iter().map(|task| task["id"].as_u64().unwrap()).collect();
    let lost: Vec<u64> = states.witness.ids().filter(|id| !there.contains(id)).collect();
    assert!(lost.is_empty() && there.len() > 50, "{lost:?} of {}", there.len());
}
