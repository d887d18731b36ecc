//! A disk that fails: an error is told at once, nothing acknowledged is lost, and what can go on
//! goes on.

use std::fs;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

use capsule_tests::power::Cut;
use capsule_tests::{BadDisk, Daemon, Home, wait_for};
use serde_json::json;

const PLENTY: u64 = 1 << 40;

/// A home whose state is on a bad disk, and five waiting tasks in it.
struct Bad {
    disk: BadDisk,
    home: Home,
    daemon: Daemon,
    ids: Vec<u64>,
}

impl Bad {
    fn make() -> Option<Self> {
        let home = Home::new();
        for folder in ["back", "s"] {
            fs::create_dir(home.path(folder)).unwrap();
        }
        let disk = BadDisk::mount(&home.path("back"), &home.path("s"))?;
        let daemon = home.start();
        let ids = (0..5).map(|_| home.submit(["--hold", "--", "true"])).collect();
        Some(Self { disk, home, daemon, ids })
    }

    /// Tries to submit; it must be told no. Gives what was said.
    fn refused(&self, code: i32) -> String {
        let began = Instant::now();
        let tried = self.home.capsule(["submit", "--hold", "--", "true"]).run();
        eprintln!("told after {:?}: {}", began.elapsed(), tried.errors().trim());
        tried.exits(code).errors()
    }

    fn all_there(&self) {
        for id in &self.ids {
            assert_eq!(self.home.show(*id)["status"], "pending");
        }
    }

    /// The daemon ends by itself, with an error that says this.
    fn gives_up(self, words: &str) -> (BadDisk, Home, Vec<u64>) {
        let Self { disk, home, daemon, ids } = self;
        let began = Instant::now();
        let status = daemon.end();
        eprintln!("the daemon ended {:?} after the answer", began.elapsed());
        assert!(!status.success() && status.code().is_some(), "{status}");
        let said = home.log();
        assert!(said.contains(words) && !said.contains("panicked"), "{said}");
        (disk, home, ids)
    }
}

#[test]
fn a_failed_sync_ends_the_daemon_before_it_acknowledges_anything() {
    let Some(bad) = Bad::make() else { return };
    bad.disk.faults.sync_fails.store(true, SeqCst);
    let tried = bad.home.capsule(["submit", "--hold", "--", "true"]).run();
    assert_ne!(tried.code(), 0, "it was acknowledged: {}", tried.text());
    let (disk, home, ids) = bad.gives_up("cannot sync");
    // Nobody serves while the disk is like that.
    let said = home.capsuled(["run"]).run();
    assert_ne!(said.code(), 0);
    assert!(said.errors().contains("Input/output error"), "{}", said.errors());
    disk.faults.sync_fails.store(false, SeqCst);
    let daemon = home.start();
    let bad = Bad { disk, home, daemon, ids };
    bad.all_there();
    bad.home.submit(["--", "true"]);
}

#[test]
fn a_power_cut_loses_what_was_not_synced_and_nothing_else() {
    let Some(bad) = Bad::make() else { return };
    let ended = bad.home.submit(["--", "true"]);
    bad.home.ended(ended);
    let large = bad.home.submit(["--hold", "--", "true", &"x".repeat(9_000)]);
    bad.home.capsule(["cancel", &bad.ids[4].to_string()]).run().exits(0);
    let images = [Cut::Lose, Cut::Any { seed: 1 }, Cut::Any { seed: 2 }, Cut::Any { seed: 3 }];
    // The daemon runs on while the power is cut, as it were.
    for image in images.map(|cut| bad.disk.cut(cut)) {
        let home = Home::new();
        fs::create_dir(home.path("s")).unwrap();
        image.put(&home.path("s"));
        let _daemon = home.start();
        for id in &bad.ids[..4] {
            assert_eq!(home.show(*id)["status"], "pending");
        }
        assert_eq!(home.show(bad.ids[4])["status"], "cancelled");
        assert_eq!(home.show(ended)["status"], "completed");
        home.capsule(["edit", &large.to_string(), "--no-hold"]).run().exits(0);
        assert_eq!(home.ended(large)["status"], "completed");
    }
}

#[test]
fn a_disk_that_tells_of_its_end_is_never_written_to_it() {
    let Some(bad) = Bad::make() else { return };
    bad.disk.faults.tells_room.store(true, SeqCst);
    bad.disk.faults.room.store(8 << 20, SeqCst);
    wait_for("a submit is refused", || {
        (bad.home.capsule(["submit", "--hold", "--", "true"]).run().code() == 5).then_some(())
    });
    assert!(bad.refused(5).contains("almost full"));
    bad.home.show(bad.ids[0]);
    bad.home.capsule(["cancel", &bad.ids[4].to_string()]).run().exits(0);
    bad.disk.faults.room.store(PLENTY, SeqCst);
    let id = wait_for("it takes tasks again", || {
        let tried = bad.home.capsule(["submit", "--json", "--", "true"]).run();
        (tried.code() == 0).then(|| tried.json()["id"].as_u64().unwrap())
    });
    assert_eq!(bad.home.ended(id)["status"], "completed");
    assert_eq!(bad.home.show(bad.ids[4])["status"], "cancelled");
}

#[test]
fn a_disk_that_ends_without_a_word_loses_nothing() {
    let Some(bad) = Bad::make() else { return };
    bad.disk.faults.room.store(0, SeqCst);
    let tried = bad.home.capsule(["submit", "--hold", "--", "true"]).run();
    assert_ne!(tried.code(), 0, "it was acknowledged: {}", tried.text());
    let (disk, home, ids) = bad.gives_up("the disk is full");
    let said = home.capsuled(["run"]).run();
    assert_ne!(said.code(), 0);
    let said = said.errors();
    assert!(said.contains("the disk is full") && said.contains("df -h"), "{said}");
    disk.faults.room.store(PLENTY, SeqCst);
    let daemon = home.start();
    let bad = Bad { disk, home, daemon, ids };
    bad.all_there();
    let next = bad.home.submit(["--", "true"]);
    assert_eq!(bad.home.ended(next)["status"], "completed");
}

#[test]
fn a_disk_that_becomes_read_only_can_be_read() {
    let Some(bad) = Bad::make() else { return };
    let running = bad.home.submit(["--shell", "--", "until [ -e go ]; do sleep 0.05; done"]);
    bad.home.running(running);
    bad.disk.faults.read_only.store(true, SeqCst);
    assert!(bad.refused(5).contains("read-only"));
    let first = bad.ids[0].to_string();
    let said = bad.home.capsule(["cancel", &first]).run().exits(5);
    assert!((said.text() + &said.errors()).contains("read-only"), "{said:?}");
    bad.all_there();
    assert!(bad.home.status()["degraded"].to_string().contains("read-only"));
    // What ends meanwhile is known afterwards.
    fs::write(bad.home.path("h/go"), "").unwrap();
    assert!(bad.refused(5).contains("read-only"));
    bad.disk.faults.read_only.store(false, SeqCst);
    assert_eq!(bad.home.ended(running)["status"], "completed");
    bad.all_there();
    bad.home.capsule(["cancel", &first]).run().exits(0);
    assert_eq!(bad.home.status()["degraded"], json!([]));
}

#[test]
fn a_read_only_disk_is_named_at_the_start() {
    let home = Home::new();
    let place = home.path("s");
    fs::create_dir(&place).unwrap();
    let place = place.display().to_string();
    let made = home.shell(&format!("mount -t tmpfs -o size=256m none {place}")).run();
    if made.code() != 0 {
        eprintln!("SKIPPED: a read-only disk is not tested, no tmpfs here: {}", made.errors());
        return;
    }
    let daemon = home.start();
    let id = home.submit(["--hold", "--", "true"]);
    daemon.kill();
    home.shell(&format!("mount -o remount,ro {place}")).run().exits(0);
    let said = home.capsuled(["run"]).run();
    assert_ne!(said.code(), 0);
    let said = said.errors();
    assert!(said.contains("read-only") && said.contains("findmnt"), "{said}");
    home.shell(&format!("mount -o remount,rw {place}")).run().exits(0);
    let daemon = home.start();
    assert_eq!(home.show(id)["status"], "pending");
    drop(daemon);
    home.shell(&format!("umount -l {place}")).run().exits(0);
}
