//! Stop means stopped: whole trees, also those that try to get away.

use std::collections::BTreeMap;
use std::fs;

use capsule_tests::{Home, processes, wait_for, wait_for_within};
use nix::sys::signal::Signal;
use std::time::Duration;

/// A tree of processes that leave their session, their parent and their environment, and do not
/// listen to SIGTERM. Each notes its id.
const FOREST: &str = r#"
import os, signal, sys
count, notes = int(sys.argv[1]), os.open(sys.argv[2], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def stay(bare):
    os.write(notes, b"%d\n" % os.getpid())
    if bare:
        os.execve("/bin/sleep", ["sleep", "1000"], {})
    while True:
        signal.pause()
def double_fork(bare):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, notes)
            stay(bare)
        os._exit(0)
    os.wait()
def chain(depth):
    if os.fork() == 0:
        if depth > 1:
            os.setpgid(0, 0)
            chain(depth - 1)
        stay(False)
planted = 1
while planted < count:
    kind = planted % 4
    if kind == 0:
        double_fork(planted % 8 == 0)
    elif kind == 1 and planted + 5 <= count:
        chain(5)
        planted += 4
    elif os.fork() == 0:
        if kind == 2:
            os.setsid()
        stay(kind == 3)
    planted += 1
stay(False)
"#;

/// The attributions that are possible here.
fn attributions() -> Vec<&'static str> {
    let home = Home::new();
    let daemon = home.launch(&["--attribution", "cgroup"]);
    let possible = wait_for("the keeper comes up or says why not", || {
        let status = home.capsule(["status", "--json"]).run();
        if status.code() == 0 && status.json()["keeper"]["connected"] == true {
            return Some(true);
        }
        home.log().contains("cannot be reached").then_some(false)
    });
    drop(daemon);
    if possible {
        return vec!["cgroup", "reaper"];
    }
    eprintln!("SKIPPED for cgroups: none can be made here: {}", home.log());
    vec!["reaper"]
}

/// Plants a forest as a task; gives its id and its processes with their start times.
fn plant(home: &Home, count: usize, flags: &[&str]) -> (u64, BTreeMap<i32, u64>) {
    let notes = home.path(format!("notes-{}", flags.len())).display().to_string();
    let count_word = count.to_string();
    let words = [flags, &["--", "/usr/bin/env", "python3", "-c", FOREST, &count_word, &notes]];
    let id = home.submit(words.concat());
    let pids = wait_for("the forest stands", || {
        let text = fs::read_to_string(&notes).unwrap_or_default();
        let pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        (pids.len() == count).then_some(pids)
    });
    let trees: BTreeMap<i32, u64> =
        pids.into_iter().map(|pid| (pid, processes::start_time(pid).unwrap())).collect();
    assert_eq!(trees.len(), count);
    fs::remove_file(&notes).unwrap();
    (id, trees)
}

fn standing(trees: &BTreeMap<i32, u64>) -> Vec<i32> {
    let same = |(pid, start): (&i32, &u64)| {
        (processes::alive(*pid) && processes::start_time(*pid) == Some(*start)).then_some(*pid)
    };
    trees.iter().filter_map(same).collect()
}

/// The promise is 50 ms for a cancel and a second for a dead keeper; tests share two cores, and a
/// machine may stand still.
fn all_fall(what: &str, trees: &BTreeMap<i32, u64>) {
    let what = format!("nothing survives {what}");
    wait_for_within(&what, Duration::from_secs(20), || standing(trees).is_empty().then_some(()));
}

#[test]
fn cancel_now_ends_a_hundred_processes() {
    for attribution in attributions() {
        let home = Home::new();
        let _daemon = home.start_with(&["--attribution", attribution]);
        assert_eq!(home.status()["keeper"]["attribution"], attribution);
        let (id, trees) = plant(&home, 100, &[]);
        home.capsule(["cancel", &id.to_string(), "--now"]).run().exits(0);
        all_fall("a cancel", &trees);
        let task = home.show(id);
        assert_eq!(task["status"], "cancelled");
        assert_eq!(task["attempts"][0]["stopped"], "killed");
        let isolation = task["attempts"][0]["isolation"].as_str().unwrap();
        assert!(isolation.contains(attribution), "{isolation}");
        assert_eq!(home.status()["slots_used"], 0);
    }
}

#[test]
fn a_timeout_ends_the_tree() {
    for attribution in attributions() {
        let home = Home::new();
        let _daemon = home.start_with(&["--attribution", attribution]);
        let (id, trees) = plant(&home, 20, &["--timeout", "3s", "--grace", "0s"]);
        assert_eq!(home.ended(id)["status"], "timeout");
        all_fall("a timeout", &trees);
    }
}

#[test]
fn the_end_of_the_main_process_ends_the_tree() {
    for attribution in attributions() {
        let home = Home::new();
        let _daemon = home.start_with(&["--attribution", attribution]);
        let (id, trees) = plant(&home, 20, &[]);
        let main = home.running(id);
        processes::send(main, Signal::SIGKILL);
        assert_eq!(home.ended(id)["reason"], "killed by SIGKILL");
        all_fall("its main process", &trees);
    }
}

#[test]
fn a_program_that_listens_ends_gracefully() {
    let home = Home::new();
    let _daemon = home.start();
    let script = "trap 'echo bye; exit 0' TERM; touch armed; while :; do sleep 0.1; done";
    let id = home.submit(["--shell", "--", script]);
    wait_for("the trap is set", || home.path("h/armed").exists().then_some(()));
    home.capsule(["cancel", &id.to_string()]).run().exits(0);
    let task = home.show(id);
    assert_eq!(task["status"], "cancelled");
    assert_eq!(task["attempts"][0]["stopped"], "graceful");
    assert_eq!(home.output(id), b"bye\n");
    home.capsule(["cancel", &id.to_string()]).run().exits(0);
    assert_eq!(home.show(id)["status"], "cancelled", "again is no error and changes nothing");
}

/// Who is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Keeper,
    Guard,
    Both,
}

fn nothing_outlives(victim: Victim) {
    for attribution in attributions() {
        let home = Home::new();
        let _daemon = home.start_with(&["--attribution", attribution]);
        let (once, mut trees) = plant(&home, 12, &["--delivery", "at-most-once"]);
        let (again, more) = plant(&home, 12, &["--delivery", "at-least-once", "--name", "again"]);
        trees.extend(more);
        let (keeper, guard) = home.keeper();
        match victim {
            Victim::Keeper => processes::send(keeper, Signal::SIGKILL),
            Victim::Guard => processes::send(guard, Signal::SIGKILL),
            Victim::Both => {
                processes::send(guard, Signal::SIGKILL);
                processes::send(keeper, Signal::SIGKILL);
            }
        }
        all_fall(&format!("{victim:?} ({attribution})"), &trees);

        let lost = home.ended(once);
        assert_eq!((&lost["status"], &lost["attempt"]), (&"failed".into(), &1.into()), "{lost}");
        assert!(lost["reason"].as_str().unwrap().starts_with("lost"), "{lost}");
        let retried = wait_for("the other is tried again", || {
            let task = home.show(again);
            (task["attempt"] == 2 && task["status"] == "running").then_some(task)
        });
        assert_eq!(retried["failures"], 0, "a loss is no failure of its own");
        assert_ne!(home.keeper(), (keeper, guard));
        home.capsule(["run", "--", "true"]).run().exits(0);
    }
}

#[test]
fn nothing_outlives_a_killed_keeper() {
    nothing_outlives(Victim::Keeper);
}

#[test]
fn nothing_outlives_a_killed_guard() {
    nothing_outlives(Victim::Guard);
}

#[test]
fn nothing_outlives_keeper_and_guard() {
    nothing_outlives(Victim::Both);
}
