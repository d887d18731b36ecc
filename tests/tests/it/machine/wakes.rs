//! What a schedule that waits costs: nothing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::time::{Duration, Instant};

use capsule_tests::{Home, wait_for_within};
use serde_json::Value;

/// How long nothing may happen before the daemon counts as calm.
const CALM: Duration = Duration::from_secs(3);
/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(8);

/// How often each thread of a process was put on a core.
fn switches(pid: i32) -> BTreeMap<OsString, u64> {
    let count = |status: String| -> u64 {
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        lines.map(|line| line.rsplit('\t').next().unwrap().trim().parse::<u64>().unwrap()).sum()
    };
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    // A thread that has ended meanwhile cannot be read.
    let told = threads.filter_map(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).ok()?;
        Some((thread.file_name(), count(status)))
    });
    told.collect()
}

/// Between two fires of a schedule that is on, daemon and keeper sleep; then it fires on time.
#[test]
fn nothing_of_ours_wakes_between_two_fires() {
    let home = Home::new();
    let daemon = home.start();
    let far = ["schedule", "add", "far", "--cron", "@yearly", "--", "true"];
    home.capsule(far).run().exits(0);
    let soon = ["schedule", "add", "soon", "--every", "40s", "--", "true"];
    home.capsule(soon).run().exits(0);
    let began = Instant::now();
    let keeper = home.keeper().0;
    let all = || [daemon.pid(), keeper].map(switches);
    let (mut seen, mut since) = (all(), Instant::now());
    wait_for_within("the daemon is calm", Duration::from_secs(25), || {
        if all() != seen {
            (seen, since) = (all(), Instant::now());
        }
        (since.elapsed() >= CALM).then_some(())
    });
    let (before, start) = (all(), Instant::now());
    wait_for_within("the time is over", WATCHED * 2, || (start.elapsed() >= WATCHED).then_some(()));
    let after = all();
    if began.elapsed() > Duration::from_secs(39) {
        eprintln!("SKIPPED: the machine is too slow to look between two fires");
    } else {
        let of = |(before, after): (&BTreeMap<_, u64>, BTreeMap<OsString, u64>)| -> u64 {
            let threads = after.into_iter();
            threads.map(|(id, count)| count - before.get(&id).copied().unwrap_or(0)).sum()
        };
        let woken: Vec<u64> = before.iter().zip(after).map(of).collect();
        // The store's own thread may have written once.
        assert!(woken.iter().sum::<u64>() <= 2, "daemon and keeper woke {woken:?} times");
    }
    let fired = wait_for_within("it fires", Duration::from_secs(60), || {
        let history = home.capsule(["--format=json", "schedule", "history", "soon"]).run();
        history.json().as_array().unwrap().iter().find(|row| row["what"] == "fired").cloned()
    });
    let at = |key: &str| -> jiff::Timestamp {
        fired[key].as_str().map_or_else(|| panic!("{key} of {fired}"), |at| at.parse().unwrap())
    };
    let late = at("at").duration_since(at("planned_at"));
    assert!(!late.is_negative() && late.as_secs() < 5, "{late} late");
    assert_ne!(fired["task"], Value::Null);
    daemon.kill();
}
