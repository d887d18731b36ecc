//! What the daemon forgets by itself, and what it says of it afterwards.

use capsule_tests::{Home, wait_for};

const MIB: u64 = 1 << 20;

/// Submits a short task of this name and waits for its end.
fn ended(home: &Home, name: &str, script: &str) -> u64 {
    let id = home.submit(["--name", name, "--shell", "--", script]);
    home.ended(id);
    id
}

#[test]
fn a_forgotten_task_is_told_from_one_that_never_was() {
    let home = Home::new();
    let daemon = home.start_with(&["--slots", "2", "--keep-completed", "0s"]);
    let ids: Vec<u64> = (0..12).map(|_| ended(&home, "mail", "echo hello")).collect();
    let gone = |id: u64| {
        let shown = home.capsule(["show", &id.to_string()]).run();
        (shown.code() == 4).then(|| shown.errors())
    };
    let said = wait_for("the first is forgotten", || gone(ids[0]));
    assert!(said.contains("completed, pruned on"), "{said}");
    assert_eq!(home.show(ids[2])["status"], "completed", "the last ten stay");
    let log = home.state_dir().join(format!("logs/0/{}.1.head", ids[0]));
    wait_for("its log is gone too", || (!log.exists()).then_some(()));
    assert!(home.state_dir().join(format!("logs/0/{}.1.head", ids[2])).exists());
    let never = gone(ids[11] + 1).unwrap();
    assert!(never.contains("there is no task"), "{never}");

    // Every bound is told, with the flag that sets it.
    let limits = home.capsule(["limits", "--json"]).run().exits(0).json();
    let of = |name: &str| {
        limits.as_array().unwrap().iter().find(|limit| limit["name"] == name).unwrap().clone()
    };
    assert_eq!(of("keep_completed")["value"], 0);
    assert_eq!(of("keep_completed")["flag"], "--keep-completed");
    assert_eq!((of("slots")["value"].as_u64(), of("slots")["used"].as_u64()), (Some(2), Some(0)));
    assert_eq!(of("payload")["value"], MIB);
    assert_eq!(of("keep_ended")["used"], 10);

    // A restart knows as much.
    daemon.kill();
    let _daemon = home.start();
    assert!(gone(ids[0]).unwrap().contains("completed, pruned on"));
    assert_eq!(home.submit(["--", "true"]), ids[11] + 1);
}

#[test]
fn logs_together_keep_below_their_bound() {
    let home = Home::new();
    let daemon = home.start_with(&["--slots", "1", "--keep-logs", "100M"]);
    let script = "head -c 30M /dev/zero";
    let first = ended(&home, "noisy", script);
    let more: Vec<u64> = (0..5).map(|_| ended(&home, "noisy", script)).collect();
    let file = |id: u64| home.state_dir().join(format!("logs/0/{id}.1.head"));
    wait_for("the oldest log is gone", || (!file(first).exists()).then_some(()));
    assert!(file(more[4]).exists());
    let tail = || home.capsule(["tail", &first.to_string(), "--no-follow"]).run().exits(0);
    let said = tail();
    assert!(said.errors().contains("the log of attempt 1 was pruned"), "{}", said.errors());
    assert!(said.out.is_empty());
    assert_eq!(home.show(first)["status"], "completed", "the task itself is still there");
    let used = || home.status()["log_bytes"].as_u64().unwrap();
    wait_for("they are counted", || (used() <= 170 * MIB).then_some(()));

    // A start counts anew, keeps to a smaller bound and takes away what belongs to nothing.
    daemon.kill();
    let orphan = home.state_dir().join("logs/0/999.1.head");
    std::fs::write(&orphan, "whose?").unwrap();
    let side = home.state_dir().join("side/payload/0");
    std::fs::create_dir_all(&side).unwrap();
    std::fs::write(side.join("998"), "whose?").unwrap();
    std::fs::write(home.state_dir().join("work/997.1.payload"), "whose?").unwrap();
    let _daemon = home.start_with(&["--slots", "1", "--keep-logs", "40M"]);
    wait_for("only the newest log stays", || {
        (file(more[4]).exists() && !file(more[3]).exists()).then_some(())
    });
    assert!(!orphan.exists(), "a log of no task stays");
    assert!(!side.join("998").exists(), "a payload of no task stays");
    assert!(!home.state_dir().join("work/997.1.payload").exists(), "a work file of no task stays");
    let shown = home.capsule(["limits", "--json"]).run().exits(0).json();
    let row = shown.as_array().unwrap().iter().find(|row| row["name"] == "keep_logs").unwrap();
    assert!(row["used"].as_u64().unwrap() <= 40 * MIB && row["value"] == 40 * MIB, "{row}");
}

#[test]
fn nonsense_is_refused_with_what_is_expected() {
    let home = Home::new();
    for (flag, value) in [
        ("--keep-completed", "7"),
        ("--keep-failed", "soon"),
        ("--keep-ended", "many"),
        ("--keep-logs", "5 GB"),
    ] {
        let refused = home.capsuled(["run", flag, value]).run().exits(2).errors();
        assert!(refused.contains(flag), "{refused}");
    }
}
