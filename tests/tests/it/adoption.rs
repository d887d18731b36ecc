//! Running work survives the daemon: the same processes, their true verdicts, their whole logs.

use std::fs;
use std::path::PathBuf;

use capsule_tests::{Home, processes, wait_for};
use nix::sys::signal::Signal;

const TASKS: u64 = 20;

/// Writes numbered lines to its stdout and the same to a file of its own, until it may end.
fn writer(number: u64) -> String {
    format!(
        "i=0; until [ -e release-{group} ]; do i=$((i+1)); \
         echo \"task {number} line $i\"; echo \"task {number} line $i\" >> truth-{number}; \
         sleep 0.1; done; echo end; echo end >> truth-{number}; exit {number}",
        group = number % 2
    )
}

fn truth(home: &Home, number: u64) -> PathBuf {
    home.path(format!("h/truth-{number}"))
}

fn lines(home: &Home, number: u64) -> usize {
    fs::read_to_string(truth(home, number)).unwrap_or_default().lines().count()
}

/// Submits the writers and waits until each has written; gives ids and processes.
fn writers(home: &Home) -> Vec<(u64, i32, u64)> {
    let ids: Vec<u64> =
        (1..=TASKS).map(|number| home.submit(["--shell", "--", &writer(number)])).collect();
    wait_for("all write", || (1..=TASKS).all(|n| lines(home, n) >= 2).then_some(()));
    let process = |id: u64| {
        let pid = home.running(id);
        (id, pid, processes::start_time(pid).unwrap())
    };
    ids.into_iter().map(process).collect()
}

fn write_on(home: &Home, numbers: &[u64]) {
    let before: Vec<usize> = numbers.iter().map(|number| lines(home, *number)).collect();
    wait_for("all write on", || {
        let on = |(number, before): (&u64, &usize)| lines(home, *number) > before + 2;
        numbers.iter().zip(&before).all(on).then_some(())
    });
}

fn has_true_verdict(home: &Home, number: u64, id: u64) {
    let task = home.ended(id);
    assert_eq!(task["reason"], format!("exit {number}"), "{task}");
    assert_eq!(task["attempt"], 1, "{task}");
    let (log, truth) = (home.output(id), fs::read(truth(home, number)).unwrap());
    assert!(log == truth, "log of {id}:\n{}", String::from_utf8_lossy(&log));
}

#[test]
fn twenty_running_tasks_survive_a_killed_daemon() {
    let home = Home::new();
    let daemon = home.start_with(&["--slots", "20"]);
    let tasks = writers(&home);
    let keeper = home.keeper();
    daemon.kill();

    write_on(&home, &(1..=TASKS).collect::<Vec<_>>());
    for (id, pid, start) in &tasks {
        assert_eq!(processes::start_time(*pid), Some(*start), "the process of {id} goes on");
    }
    fs::write(home.path("h/release-1"), "").unwrap();
    let odd = |number: &u64| number % 2 == 1;
    wait_for("half of them end while nobody looks", || {
        tasks
            .iter()
            .filter(|(id, ..)| odd(id))
            .all(|(_, pid, _)| !processes::alive(*pid))
            .then_some(())
    });

    let _daemon = home.start_with(&["--slots", "20"]);
    assert_eq!(home.keeper(), keeper);
    for (number, (id, pid, start)) in (1..).zip(&tasks) {
        if odd(&number) {
            has_true_verdict(&home, number, *id);
        } else {
            assert_eq!(home.running(*id), *pid);
            assert_eq!(processes::start_time(*pid), Some(*start));
        }
    }
    write_on(&home, &(2..=TASKS).step_by(2).collect::<Vec<_>>());
    fs::write(home.path("h/release-0"), "").unwrap();
    for (number, (id, ..)) in (1..).zip(&tasks) {
        has_true_verdict(&home, number, *id);
    }
}

#[test]
fn a_terminated_daemon_leaves_its_tasks_running() {
    let home = Home::new();
    let daemon = home.start_with(&["--slots", "20"]);
    let tasks = writers(&home);
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.end().success());
    assert!(!home.socket().exists(), "the socket is taken away");
    write_on(&home, &(1..=TASKS).collect::<Vec<_>>());
    let _daemon = home.start_with(&["--slots", "20"]);
    for (id, pid, _) in &tasks {
        assert_eq!(home.running(*id), *pid);
    }
    fs::write(home.path("h/release-0"), "").unwrap();
    fs::write(home.path("h/release-1"), "").unwrap();
    for (number, (id, ..)) in (1..).zip(&tasks) {
        has_true_verdict(&home, number, *id);
    }
}

#[test]
fn a_cancel_holds_over_a_crash() {
    let home = Home::new();
    let daemon = home.start();
    let stubborn = "trap '' TERM; touch armed; while :; do sleep 0.1; done";
    let id = home.submit(["--grace", "2s", "--shell", "--", stubborn]);
    wait_for("the trap is set", || home.path("h/armed").exists().then_some(()));
    home.capsule(["cancel", &id.to_string(), "--no-wait"]).run().exits(0);
    daemon.kill();
    let _daemon = home.start();
    let task = home.ended(id);
    assert_eq!(task["status"], "cancelled");
    assert_eq!(task["attempts"][0]["stopped"], "killed");
}

#[test]
fn ctrl_c_of_the_daemon_stops_tasks_and_puts_them_back() {
    let home = Home::new();
    let daemon = home.start();
    let id = home.submit(["--", "sleep", "1000"]);
    let pid = home.running(id);
    let (keeper, guard) = home.keeper();
    daemon.signal(Signal::SIGINT);
    wait_for("it waits for the task", || home.log().contains("waiting for running").then_some(()));
    daemon.signal(Signal::SIGINT);
    assert!(daemon.end().success());
    for pid in [pid, keeper, guard] {
        wait_for("no process is left", || (!processes::alive(pid)).then_some(()));
    }
    assert!(home.log().contains("stopped and put back"), "{}", home.log());

    let _daemon = home.start();
    home.running(id);
    let task = home.show(id);
    assert_eq!((task["attempt"].as_u64(), task["failures"].as_u64()), (Some(2), Some(0)));
}
