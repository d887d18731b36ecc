//! Folders of attempts are used again: nothing of an attempt may reach the next one in its folder.

use std::{
    fs,
    time::{Duration, Instant},
};

use capsuled::{
    jail::Plan,
    keeper::{
        Choice,
        wire::{How, Report, Source},
    },
};

use crate::harness::{Daemon, Keeper, alive, modes, output, plan, shell};

/// Where the kernel has this process.
fn folder(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
}

/// A keeper with cgroups, where there are any.
fn keeper() -> Option<(Keeper, Daemon)> {
    let keeper = modes().contains(&Choice::Cgroup).then(|| Keeper::start(Choice::Cgroup))?;
    let daemon = keeper.daemon(1);
    Some((keeper, daemon))
}

/// A script that tells its folder first.
fn telling(script: &str) -> Plan {
    shell(&format!("sed -n 's/^0:://p' /proc/self/cgroup; {script}"))
}

/// What `telling` told.
fn told(keeper: &Keeper, task: u64) -> String {
    String::from_utf8(output(&keeper.logs(), task, 1)).unwrap().trim().to_owned()
}

#[test]
fn late_stop_does_not_reach_the_next_attempt() {
    let Some((keeper, mut daemon)) = keeper() else { return };
    daemon.spawn(1, telling("exit 0"));
    assert_eq!(daemon.gone(1).exit_code, Some(0));
    let second = daemon.run(2, plan(&["sleep", "1000"]));
    assert_eq!(folder(second), told(&keeper, 1), "the folder is used again");
    // Before the verdict is acknowledged the keeper still knows the first attempt, then no more.
    daemon.cancel(1, 0);
    daemon.ack(1);
    daemon.cancel(1, 0);
    daemon.find(|report| matches!(report, Report::NoSuch(_)).then_some(()));
    assert!(alive(second));
    daemon.cancel(2, 10_000);
    let gone = daemon.gone(2);
    assert_eq!((gone.signal, gone.how()), (Some(15), How::Graceful));
}

#[test]
fn attempt_after_a_killed_one_lives() {
    let Some((_keeper, mut daemon)) = keeper() else { return };
    let first = folder(daemon.run(1, plan(&["sleep", "1000"])));
    daemon.cancel(1, 0);
    assert_eq!(daemon.gone(1).signal, Some(9));
    let second = daemon.run(2, plan(&["sleep", "1000"]));
    assert_ne!(folder(second), first);
    // One that kills itself and its folder by the kernel's own file, as far as it may.
    let mine = "sed -n 's/^0:://p' /proc/self/cgroup";
    let mount = "sed -n 's/.* \\(.*\\) [^ ]* - cgroup2 .*/\\1/p' /proc/self/mountinfo";
    daemon.spawn(
        3,
        shell(&format!("echo 1 > $({mount} | head -1)$({mine})/cgroup.kill; kill -9 $$")),
    );
    assert_eq!(daemon.gone(3).signal, Some(9));
    daemon.spawn(4, plan(&["true"]));
    assert_eq!(daemon.gone(4).exit_code, Some(0));
    assert!(alive(second));
}

#[test]
fn figures_of_the_second_attempt_are_its_own() {
    let Some((keeper, mut daemon)) = keeper() else { return };
    daemon.spawn(1, telling("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"));
    let used = daemon.gone(1).receipt;
    assert_eq!(used.cpu_source(), Source::Cgroup);
    let burnt = used.cpu_user_us.unwrap() + used.cpu_sys_us.unwrap();
    daemon.spawn(2, telling("exit 0"));
    let used = daemon.gone(2).receipt;
    assert_eq!(told(&keeper, 2), told(&keeper, 1), "the folder is used again");
    let little = used.cpu_user_us.unwrap() + used.cpu_sys_us.unwrap();
    assert!(little > 0 && little < burnt / 2, "{little} µs after {burnt} µs");
}

#[test]
fn lingering_attempt_keeps_its_folder() {
    let Some((keeper, mut daemon)) = keeper() else { return };
    daemon.spawn(1, telling("setsid sleep 1000 & exit 0"));
    assert!(!daemon.ended(1).tree_gone);
    let second = daemon.run(2, plan(&["sleep", "1000"]));
    assert_ne!(folder(second), told(&keeper, 1));
    daemon.cancel(1, 0);
    daemon.find(|report| matches!(report, Report::Gone(_)).then_some(()));
    assert!(alive(second));
}

#[test]
fn start_of_a_long_attempt_is_told_soon() {
    for mode in modes() {
        let keeper = Keeper::start(mode);
        let mut daemon = keeper.daemon(1);
        // On a busy machine some wait for a processor; the keeper itself waits much less.
        let soonest = (1..=10).map(|task| {
            let began = Instant::now();
            daemon.run(task, plan(&["sleep", "1000"]));
            began.elapsed()
        });
        assert!(soonest.min().unwrap() < Duration::from_millis(50));
    }
}
