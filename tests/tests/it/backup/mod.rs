//! Backups taken under load and put back; rebuilds that are killed.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use capsule_tests::{Daemon, Home, wait_for};
use nix::sys::signal::Signal;

/// The exit code of data that cannot be used (sysexits.h: `EX_DATAERR`).
const DATA: i32 = 65;

fn stop(daemon: Daemon) {
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.end().success());
}

#[test]
fn a_backup_under_load_brings_back_all_that_was_acknowledged_before() {
    let home = Home::new();
    let daemon = home.start();
    let mark = home.submit(["--retries", "1", "--", "sleep", "1000"]);
    home.running(mark);
    let large = "x".repeat(20_000);
    home.submit(["--hold", "--name", "large", "--", "echo", &large]);
    fs::create_dir_all(home.state_dir().join("secrets")).unwrap();
    let (acknowledged, ended) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let before = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                let id = home.submit(["--hold", "--", "true"]);
                acknowledged.lock().unwrap().push(id);
            }
        });
        wait_for("some tasks are acknowledged", || {
            (acknowledged.lock().unwrap().len() > 10).then_some(())
        });
        let before = acknowledged.lock().unwrap().clone();
        let made = home.capsule(["backup", "create", "first", "--json"]).run().exits(0).json();
        assert!(made["tasks"].as_u64().unwrap() > before.len() as u64, "{made}");
        assert_eq!(made["left_out"][0], "secrets");
        ended.store(true, Ordering::Relaxed);
        before
    });
    home.capsule(["backup", "create", "first"]).run().exits(5);
    let listed = home.capsule(["backup", "list", "--json"]).run().exits(0).json();
    assert_eq!(listed[0]["name"], "first");
    home.capsule(["backup", "verify", "first"]).run().exits(0);
    let refused = home.capsule(["backup", "restore", "first"]).run().exits(5).errors();
    assert!(refused.contains("kill -INT"), "{refused}");
    let later = home.submit(["--hold", "--", "true"]);
    stop(daemon);

    // The keeper still has the one that runs.
    let refused = home.capsule(["backup", "restore", "first"]).run().exits(1).errors();
    let hint = refused.split("hint: ").nth(1).unwrap();
    assert!(hint.contains("kill -9 "), "{refused}");
    let kill = hint.split(": ").nth(1).unwrap().trim().to_owned();
    home.shell(&kill).run().exits(0);
    wait_for("the keeper is gone", || home.processes().is_empty().then_some(()));

    let file = home.state_dir().join("backups/first.capsule");
    damage_is_refused(&home, &fs::read(&file).unwrap());
    let said = home.capsule(["backup", "restore", "first"]).run().exits(0).text();
    assert!(said.contains("what was there is in "), "{said}");
    let state = home.state_dir().display().to_string();
    home.capsuled(["db", "verify", "--state-dir", &state]).run().exits(0);
    let _daemon = home.start();
    for id in before {
        home.known(id);
    }
    home.capsule(["show", &later.to_string()]).run().exits(4);
    let next = home.submit(["--hold", "--", "true"]);
    assert!(next > 1_000_000_000, "{next}");
    // Its attempt is lost, and its retry runs.
    wait_for("the task that ran is tried again", || {
        (home.show(mark)["attempts"].as_array().unwrap().len() == 2).then_some(())
    });
}

fn damage_is_refused(home: &Home, whole: &[u8]) {
    let bad = home.path("bad.capsule");
    let path = bad.display().to_string();
    for step in 1..8 {
        let at = whole.len() * step / 8;
        let mut flipped = whole.to_vec();
        flipped[at] ^= 1;
        for bytes in [&flipped[..], &whole[..at]] {
            fs::write(&bad, bytes).unwrap();
            home.capsule(["backup", "verify", &path]).run().exits(DATA);
        }
    }
    home.capsule(["backup", "restore", &path]).run().exits(DATA);
}

#[test]
fn a_state_moves_to_another_folder_with_its_numbers() {
    let home = Home::new();
    let daemon = home.start();
    home.capsule(["run", "--", "true"]).run().exits(0);
    let held = home.submit(["--hold", "--name", "held", "--", "true"]);
    stop(daemon);
    let state = home.state_dir().display().to_string();
    let file = home.path("state.capsule").display().to_string();
    home.capsuled(["db", "export", &file, "--state-dir", &state]).run().exits(0);
    let refused = home.capsuled(["db", "import", &file, "--state-dir", &state]).run().exits(1);
    assert!(refused.errors().contains("capsuled db restore"), "{}", refused.errors());
    let other = home.path("other").display().to_string();
    home.capsuled(["db", "import", &file, "--state-dir", &other]).run().exits(0);
    let numbers =
        |dir: &str| home.capsuled(["db", "verify", "--state-dir", dir]).run().exits(0).text();
    assert_eq!(numbers(&state), numbers(&other));
    fs::remove_dir_all(&state).unwrap();
    fs::rename(&other, &state).unwrap();
    let _daemon = home.start();
    assert_eq!(home.show(held)["name"], "held");
    assert_eq!(home.submit(["--hold", "--", "true"]), held + 1);
}

#[test]
fn a_rebuild_that_is_killed_loses_nothing() {
    let home = Home::new();
    let daemon = home.start();
    let ids: Vec<u64> = (0..20).map(|_| home.submit(["--hold", "--", "true"])).collect();
    stop(daemon);
    let state = home.state_dir().display().to_string();
    let verified = || home.capsuled(["db", "verify", "--state-dir", &state]).run().exits(0).text();
    let before = verified();
    let clock = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for round in 0..5 {
        let rebuilding = home.capsuled(["db", "compact", "--state-dir", &state]).start();
        // The moment itself: from the first system calls to beyond the end.
        let moment = Duration::from_millis(5 + 12 * round);
        clock.block_on(async { tokio::time::sleep(moment).await });
        rebuilding.signal(Signal::SIGKILL);
        rebuilding.end();
        assert_eq!(verified(), before, "round {round}");
    }
    home.capsuled(["db", "compact", "--state-dir", &state, "--json"]).run().exits(0);
    assert_eq!(verified(), before);
    assert!(!home.state_dir().join("queue.compact").exists());
    let _daemon = home.start();
    for id in ids {
        home.known(id);
    }
}
