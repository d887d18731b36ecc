//! Attempts that begin as forks of a warm process.

use std::fs;

use capsuled::{
    jail::{Fork, Plan},
    keeper::{
        Choice,
        wire::{Attribution, How, StopWhy},
    },
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::harness::{Daemon, Keeper, alive, eventually, key, marked, modes, output, plan, shell};

/// The key of the server's process.
const SERVER: u64 = 1000;

/// A keeper with a fork server that is ready, where there are cgroups.
fn serving() -> Option<(Keeper, Daemon, i32)> {
    let keeper = modes().contains(&Choice::Cgroup).then(|| Keeper::start(Choice::Cgroup))?;
    let mut daemon = keeper.daemon(1);
    let server = serve(&mut daemon, &keeper);
    Some((keeper, daemon, server))
}

fn serve(daemon: &mut Daemon, keeper: &Keeper) -> i32 {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keeper/fork_server.py");
    let plan = Plan { fork_server: true, ..plan(&["python3", script]) };
    let server = daemon.run(SERVER, plan);
    // Attempts are forked from the moment on that the keeper has heard the server.
    let mut task = 2000;
    eventually("the server is ready", || {
        task += 1;
        let forked = told(daemon, keeper, task, "echo $FORKED", "") == "1";
        assert!(alive(server), "the fork server runs");
        forked.then_some(())
    });
    server
}

/// A plan that a fork carries out as well as a shell of its own.
fn forked(script: &str, mode: &str) -> Plan {
    let mut plan = shell(script);
    plan.cwd = b"/".to_vec();
    plan.env.push(format!("SCRIPT={script}").into_bytes());
    plan.env.push(format!("MODE={mode}").into_bytes());
    plan.fork = Some(Fork { server: SERVER });
    plan
}

/// What a script wrote.
fn told(daemon: &mut Daemon, keeper: &Keeper, task: u64, script: &str, mode: &str) -> String {
    daemon.spawn(task, forked(script, mode));
    assert_eq!(daemon.gone(task).exit_code, Some(0));
    daemon.ack(task);
    String::from_utf8(output(&keeper.logs(), task, 1)).unwrap().trim().to_owned()
}

#[test]
fn a_fork_is_an_attempt_like_any_other() {
    let Some((keeper, mut daemon, server)) = serving() else { return };
    let text =
        told(&mut daemon, &keeper, 1, "echo $FORKED; sed -n 's/^0:://p' /proc/self/cgroup", "");
    let (forked_one, folder) = text.split_once('\n').unwrap();
    assert_eq!(forked_one, "1");
    let of_server = fs::read_to_string(format!("/proc/{server}/cgroup")).unwrap();
    assert!(!of_server.contains(&format!("0::{folder}\n")) && folder.contains("capsule-"));
    daemon.spawn(2, forked("exit 7", ""));
    let ended = daemon.gone(2);
    assert_eq!((ended.exit_code, ended.signal, ended.how()), (Some(7), None, How::None));
    assert_eq!(ended.receipt.attribution(), Attribution::Cgroup);
    daemon.spawn(3, forked("kill -11 $$", ""));
    assert_eq!(daemon.gone(3).signal, Some(11));
    // Many at once.
    for task in 10..30 {
        daemon.spawn(task, forked("test \"$FORKED\" = 1 && exit 3", ""));
    }
    for task in 10..30 {
        assert_eq!(daemon.gone(task).exit_code, Some(3));
    }
}

#[test]
fn the_whole_tree_is_stopped() {
    let Some((_keeper, mut daemon, server)) = serving() else { return };
    let mark = format!("MARK=forks-{}", std::process::id());
    let script =
        format!("export {mark}; setsid sleep 1000 & trap '' TERM; {mark} sh -c 'sleep 1000'");
    let pid = daemon.run(1, forked(&script, ""));
    eventually("the tree runs", || (marked(&mark).len() >= 2).then_some(()));
    daemon.cancel(1, 50);
    let gone = daemon.gone(1);
    assert_eq!((gone.signal, gone.how(), gone.stop()), (Some(9), How::Killed, StopWhy::Cancel));
    assert!(!alive(pid) && marked(&mark).is_empty() && alive(server));
    let late = Plan { deadline_ms: 50, grace_ms: 5000, ..forked("exec sleep 1000", "") };
    daemon.run(2, late);
    let gone = daemon.gone(2);
    assert_eq!((gone.signal, gone.how(), gone.stop()), (Some(15), How::Graceful, StopWhy::Timeout));
}

#[test]
fn a_server_that_does_not_fork_is_done_without() {
    let Some((keeper, mut daemon, _)) = serving() else { return };
    for (task, mode) in [(1, "refuse"), (2, "lie")] {
        assert_eq!(
            told(&mut daemon, &keeper, task, "echo afresh$FORKED", mode),
            "afresh",
            "{mode}"
        );
    }
    let other = Plan { umask: Some(0o77), ..forked("exit 4$FORKED", "") };
    daemon.spawn(3, other);
    assert_eq!(daemon.gone(3).exit_code, Some(4));
    assert_eq!(told(&mut daemon, &keeper, 4, "echo afresh$FORKED", "die"), "afresh");
    assert_eq!(daemon.gone(SERVER).signal, Some(9));
    assert_eq!(told(&mut daemon, &keeper, 5, "echo afresh$FORKED", ""), "afresh");
}

#[test]
fn a_silent_server_is_waited_for_once() {
    let Some((keeper, mut daemon, server)) = serving() else { return };
    daemon.spawn(1, forked("sleep 1000", "silent"));
    // It is stopped while it waits.
    daemon.cancel(1, 0);
    assert_eq!(daemon.gone(1).how(), How::Killed);
    assert_eq!(told(&mut daemon, &keeper, 2, "echo afresh$FORKED", ""), "afresh");
    assert!(alive(server));
}

#[test]
fn forks_live_as_long_as_their_keeper() {
    let Some((_keeper, mut daemon, server)) = serving() else { return };
    let first = daemon.run(1, forked("exec sleep 1000", ""));
    kill(Pid::from_raw(server), Signal::SIGKILL).unwrap();
    assert_eq!(daemon.gone(SERVER).signal, Some(9));
    assert!(alive(first));
    daemon.kill_keeper();
    eventually("nothing outlives the keeper", || (!alive(first)).then_some(()));
}

#[test]
fn a_new_daemon_finds_forks() {
    let Some((keeper, mut daemon, _)) = serving() else { return };
    let pid = daemon.run(1, forked("exec sleep 1000", ""));
    drop(daemon);
    let mut daemon = keeper.daemon(2);
    let mut items = daemon.inventory.items.iter();
    assert_eq!(items.find(|item| item.key == key(1)).map(|item| item.pid), Some(pid));
    daemon.cancel(1, 0);
    assert_eq!(daemon.gone(1).signal, Some(9));
}
