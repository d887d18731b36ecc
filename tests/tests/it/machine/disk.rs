//! A disk that runs full: nothing new is taken, nothing is lost, and it goes on when there is room.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use capsule_tests::{Home, wait_for};
use nix::sys::statvfs::statvfs;
use serde_json::json;

const MIB: u64 = 1 << 20;

/// A small file system where the daemon keeps its state; taken away when dropped.
struct Disk<'a> {
    home: &'a Home,
    place: PathBuf,
}

impl<'a> Disk<'a> {
    /// None when this user may not make one.
    fn of(home: &'a Home) -> Option<Self> {
        let place = home.path("s");
        fs::create_dir(&place).unwrap();
        let mount = format!("mount -t tmpfs -o size=128m none {}", place.display());
        let made = home.shell(&mount).run();
        if made.code() != 0 {
            eprintln!("SKIPPED: a full disk is not tested, no tmpfs here: {}", made.errors());
            return None;
        }
        Some(Self { home, place })
    }

    fn free(&self) -> u64 {
        let found = statvfs(&self.place).unwrap();
        found.blocks_available() * found.fragment_size()
    }

    /// Leaves only so many bytes.
    fn fill(&self, left: u64) {
        let filler = OpenOptions::new().create(true).append(true).open(self.place.join("filler"));
        let filler = filler.unwrap();
        let block = vec![1; 64 << 10];
        while self.free() > left {
            let size = filler.metadata().unwrap().len();
            let piece = block.len().min(usize::try_from(self.free() - left).unwrap().max(1));
            if filler.write_at(&block[..piece], size).is_err() {
                return;
            }
        }
    }

    fn empty(&self) {
        fs::remove_file(self.place.join("filler")).unwrap();
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // Whoever still has files there loses them with its last descriptor.
        self.home.shell(&format!("umount -l {}", self.place.display())).run().exits(0);
    }
}

#[test]
fn an_almost_full_disk_refuses_new_tasks_and_goes_on_by_itself() {
    let home = Home::new();
    let Some(disk) = Disk::of(&home) else { return };
    let _daemon = home.start();
    let running = home.submit(["--", "sleep", "1000"]);
    home.running(running);
    let held = home.submit(["--hold", "--", "true"]);
    let count = || home.capsule(["list", "--count"]).run().exits(0).text();
    disk.fill(4 * MIB);

    let refused = wait_for("a submit is refused", || {
        let tried = home.capsule(["submit", "--key", "k", "--", "true"]).run();
        (tried.code() != 0).then_some(tried)
    });
    let refused = refused.exits(5).errors();
    assert!(refused.contains("almost full") && refused.contains("MiB free"), "{refused}");
    assert!(refused.contains("capsule status"), "{refused}");
    let before = count();
    home.capsule(["submit", "--", "true"]).run().exits(5);
    assert_eq!(count(), before, "nothing is queued");
    let status = home.status();
    assert!(status["degraded"].to_string().contains("almost full"), "{status}");

    // What waits says why; a cancel works, and what it ends is told.
    home.capsule(["edit", &held.to_string(), "--no-hold"]).run().exits(0);
    let why = home.capsule(["why", &held.to_string(), "--json"]).run().exits(0).json();
    assert_eq!(why["gates"][0]["kind"], "degraded", "{why}");
    home.capsule(["cancel", &running.to_string()]).run().exits(0);
    assert_eq!(home.show(running)["status"], "cancelled");

    disk.empty();
    // Nobody restarts anything: what waited starts, and the next is taken.
    assert_eq!(home.ended(held)["status"], "completed");
    let next = home.submit(["--", "true"]);
    assert_eq!(home.ended(next)["status"], "completed");
    assert_eq!(home.status()["degraded"], json!([]));
}

#[test]
fn a_disk_without_a_byte_left_loses_nothing() {
    let home = Home::new();
    let Some(disk) = Disk::of(&home) else { return };
    let daemon = home.start();
    let mut ids: Vec<u64> = (0..20).map(|_| home.submit(["--hold", "--", "true"])).collect();
    disk.fill(0);
    daemon.kill();
    // The reserve lets it open its store.
    let daemon = home.start();
    for id in &ids {
        assert_eq!(home.show(*id)["status"], "pending");
    }
    home.capsule(["submit", "--", "true"]).run().exits(5);
    home.capsule(["cancel", &ids[0].to_string()]).run().exits(0);
    disk.empty();
    ids.push(wait_for("it takes tasks again", || {
        let tried = home.capsule(["submit", "--json", "--", "true"]).run();
        (tried.code() == 0).then(|| tried.json()["id"].as_u64().unwrap())
    }));
    daemon.kill();
    let _daemon = home.start();
    assert_eq!(home.show(ids[0])["status"], "cancelled");
    for id in &ids[1..20] {
        assert_eq!(home.show(*id)["status"], "pending");
    }
    assert_eq!(home.ended(ids[20])["status"], "completed");
}
