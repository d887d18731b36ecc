//! What outlives what: sessions, keepers, guards, and nothing left behind.

use std::{fs, io::Write};

use capsuled::keeper::{
    Choice, EXIT_ALREADY_RUNNING,
    wire::{Command, Report},
};

use crate::harness::{
    Daemon, Keeper, alive, alone, eventually, key, marked, modes, output, plan, process, shell,
    shell_marked, tempdir,
};

const ESCAPING: &str = "(setsid sh -c 'sleep 1000 & sleep 1000' &); sleep 1000";

#[test]
fn nothing_outlives_a_killed_keeper() {
    for mode in modes() {
        let keeper = Keeper::start(mode);
        let mut daemon = keeper.daemon(1);
        let mark = format!("MARK=k-{mode:?}-{}", keeper.uuid);
        daemon.run(1, shell_marked(ESCAPING, &mark));
        eventually("the tree is up", || (marked(&mark).len() >= 4).then_some(()));
        daemon.kill_keeper();
        eventually("all are gone", || marked(&mark).is_empty().then_some(()));
        eventually("the guard has gone", || (!alive(daemon.welcome.guard)).then_some(()));
    }
}

#[test]
fn nothing_outlives_a_killed_guard() {
    for mode in modes() {
        let keeper = Keeper::start(mode);
        let mut daemon = keeper.daemon(1);
        let mark = format!("MARK=g-{mode:?}-{}", keeper.uuid);
        daemon.run(1, shell_marked(ESCAPING, &mark));
        eventually("the tree is up", || (marked(&mark).len() >= 4).then_some(()));
        daemon.kill_guard();
        eventually("all are gone", || marked(&mark).is_empty().then_some(()));
        eventually("the keeper has gone", || (!alive(daemon.welcome.pid)).then_some(()));
    }
}

#[test]
fn a_new_keeper_kills_what_two_killed_ones_left() {
    for mode in modes() {
        let keeper = Keeper::start(mode);
        let mut daemon = keeper.daemon(1);
        let mark = format!("MARK=b-{mode:?}-{}", keeper.uuid);
        daemon.run(1, shell_marked(ESCAPING, &mark));
        eventually("the tree is up", || (marked(&mark).len() >= 4).then_some(()));
        daemon.kill_guard();
        daemon.kill_keeper();
        eventually("both have gone", || {
            (!alive(daemon.welcome.pid) && !alive(daemon.welcome.guard)).then_some(())
        });
        keeper.restart();
        eventually("all are gone", || marked(&mark).is_empty().then_some(()));
        let again = keeper.daemon(1);
        assert_ne!(again.welcome.instance, daemon.welcome.instance);
        assert!(again.inventory.items.is_empty());
    }
}

#[test]
fn attempts_go_on_without_a_session_and_are_adopted() {
    for mode in modes() {
        let keeper = Keeper::start(mode);
        let mut first = keeper.daemon(1);
        first.run(1, shell("echo one; sleep 0.3; echo two; exit 4"));
        let pid = first.run(2, shell("sleep 1000"));
        let instance = first.welcome.instance.clone();
        drop(first);
        let (mut second, ended) = eventually("the verdict is in the inventory", || {
            let daemon = keeper.daemon(2);
            let item = daemon.inventory.items.iter().find(|item| item.key == key(1)).cloned();
            item.and_then(|item| item.ended).map(|ended| (daemon, ended))
        });
        assert_eq!(second.welcome.instance, instance);
        assert_eq!((ended.exit_code, ended.tree_gone), (Some(4), true));
        assert_eq!(output(&keeper.logs(), 1, 1), b"one\ntwo\n");
        let live = second.inventory.items.iter().find(|item| item.key == key(2)).unwrap();
        assert_eq!((live.pid, live.ended.is_some()), (pid, false));
        second.ack(1);
        second.cancel(2, 0);
        assert_eq!(second.gone(2).signal, Some(9));
        second.ack(2);
        drop(second);
        assert!(keeper.daemon(3).inventory.items.is_empty());
    }
}

#[test]
fn spawn_is_idempotent() {
    let keeper = Keeper::start(modes()[0]);
    let mut daemon = keeper.daemon(1);
    let pid = daemon.run(1, shell("sleep 1000"));
    assert_eq!(daemon.run(1, shell("sleep 1000")), pid);
    daemon.cancel(1, 0);
    assert_eq!(daemon.gone(1).signal, Some(9));
    daemon.spawn(1, shell("exit 1"));
    assert_eq!(daemon.ended(1).signal, Some(9), "the kept verdict, not a second run");
    daemon.ack(1);
    daemon.cancel(1, 0);
    daemon.find(|report| matches!(report, Report::NoSuch(k) if *k == key(1)).then_some(()));
}

#[test]
fn a_new_session_closes_the_old_one() {
    let keeper = Keeper::start(modes()[0]);
    let mut old = keeper.daemon(5);
    let refused = Daemon::try_connect(keeper.dir.path(), keeper.uuid, 4).unwrap_err();
    assert!(matches!(&refused, Report::Refused(r) if r.message.contains("newer")), "{refused:?}");
    let mut new = keeper.daemon(6);
    assert_eq!(old.try_next(), None);
    new.spawn(1, plan(&["true"]));
    assert_eq!(new.ended(1).exit_code, Some(0));
}

#[test]
fn garbage_drops_the_session_only() {
    let keeper = Keeper::start(modes()[0]);
    let mut daemon = keeper.daemon(1);
    let pid = daemon.run(1, shell("sleep 1000"));
    daemon.stream.write_all(&[0xff; 4096]).unwrap();
    assert_eq!(daemon.try_next(), None);
    let mut daemon = keeper.daemon(1);
    daemon.stream.write_all(&[3, 0, 0, 0, 0xff, 0xff, 0xff]).unwrap();
    assert_eq!(daemon.try_next(), None);
    assert!(alive(pid));
    assert_eq!(keeper.daemon(1).inventory.items.len(), 1);
}

#[test]
fn wrong_store_and_second_keeper_are_refused() {
    let keeper = Keeper::start(modes()[0]);
    let code = Keeper::run_starter(keeper.dir.path(), keeper.uuid, Choice::Auto, 60);
    assert_eq!(code, Some(i32::from(EXIT_ALREADY_RUNNING)));
    let mut daemon = keeper.daemon(1);
    daemon.send(Command::Hello(capsuled::keeper::wire::Hello {
        major: 1,
        minor: 0,
        uuid: uuid::Uuid::nil().to_string(),
        epoch: 9,
    }));
    assert!(matches!(daemon.next(), Report::Refused(_)));
}

#[test]
fn idle_keeper_ends_by_itself() {
    let keeper = Keeper::start(modes()[0]);
    let daemon = keeper.daemon(1);
    let pids = [daemon.welcome.pid, daemon.welcome.guard];
    daemon.quit();
    assert!(pids.iter().all(|pid| !alive(*pid)));
    Keeper::try_start(keeper.dir.path(), keeper.uuid, keeper.choice, 1).unwrap();
    let daemon = keeper.daemon(1);
    let pids = [daemon.welcome.pid, daemon.welcome.guard];
    drop(daemon);
    eventually("it has gone", || pids.iter().all(|pid| !alive(*pid)).then_some(()));
    assert!(!capsuled::keeper::socket_path(keeper.dir.path(), keeper.uuid).exists());
}

#[test]
fn two_hundred_attempts_leave_nothing() {
    let _alone = alone();
    for mode in modes() {
        let keeper = Keeper::start(mode);
        let mut daemon = keeper.daemon(1);
        let pid = daemon.welcome.pid;
        // Folders kept for later attempts are few, and so are their descriptors.
        let fds = || {
            let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
            let file = fds.filter_map(|fd| fs::read_link(fd.path()).ok());
            file.filter(|path| !path.starts_with("/sys/fs/cgroup")).count()
        };
        daemon.spawn(1, plan(&["echo", "warm"]));
        daemon.gone(1);
        daemon.ack(1);
        let before = fds();
        for task in 2..202 {
            daemon.spawn(task, shell("(exit 1) & echo $$"));
        }
        for task in 2..202 {
            assert_eq!(daemon.gone(task).exit_code, Some(0));
            daemon.ack(task);
        }
        daemon.cancel(9999, 0);
        daemon.find(|report| matches!(report, Report::NoSuch(_)).then_some(()));
        assert_eq!(fds(), before);
        let children = format!("/proc/{pid}/task/{pid}/children");
        eventually("no zombie is left", || {
            fs::read_to_string(&children).unwrap().is_empty().then_some(())
        });
        let registry = fs::read_dir(keeper.dir.path()).unwrap().flatten();
        let registry =
            registry.map(|e| e.path()).find(|p| p.extension().is_some_and(|e| e == "registry"));
        let text = fs::read_to_string(registry.unwrap()).unwrap();
        if let Some(group) =
            text.lines().find_map(|l| l.strip_prefix("cgroup ")).filter(|g| !g.is_empty())
        {
            let below = fs::read_dir(group).unwrap().flatten();
            assert!(below.filter(|e| e.path().is_dir()).count() <= 16);
        }
        assert!(text.lines().skip(2).all(|line| line.trim().is_empty()), "{text}");
    }
}

#[test]
fn lack_of_descriptors_is_transient() {
    for mode in modes() {
        let dir = std::sync::Arc::new(tempdir());
        let keeper = Keeper { dir, uuid: uuid::Uuid::now_v7(), choice: mode };
        let args = capsuled::keeper::KeeperArgs {
            runtime_dir: keeper.dir.path().to_owned(),
            uuid: keeper.uuid,
            attribution: mode,
            linger_secs: 60,
        };
        let mut starter = process("sh");
        starter.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_capsuled")]);
        assert!(starter.args(args.argv()).status().unwrap().success());
        let mut daemon = keeper.daemon(1);
        let mut running = Vec::new();
        for task in 1..=40 {
            daemon.spawn(task, plan(&["sleep", "1000"]));
            let outcome = daemon.find(|report| match report {
                Report::Started(_) => Some(None),
                Report::CannotStart(failure) => Some(Some(failure.clone())),
                _ => None,
            });
            match outcome {
                None => running.push(task),
                Some(failure) => {
                    assert!(failure.transient, "{failure:?}");
                    assert_eq!(failure.errno, nix::errno::Errno::EMFILE as i32);
                }
            }
        }
        assert!((5..40).contains(&running.len()), "{running:?}");
        // Without a free descriptor no second session opens, but the first goes on.
        for task in running {
            daemon.cancel(task, 0);
            assert_eq!(daemon.gone(task).signal, Some(9));
            daemon.ack(task);
        }
        assert!(daemon.run(100, plan(&["sleep", "1000"])) > 0);
    }
}

#[test]
fn a_daemon_that_does_not_read_holds_nothing_up() {
    let keeper = Keeper::start(modes()[0]);
    let mut deaf = keeper.daemon(1);
    deaf.run(1, plan(&["sleep", "1000"]));
    deaf.stream.set_write_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
    // Each answer is longer than the question, so its buffers fill and the keeper stops listening.
    let mut questions = Vec::new();
    for _ in 0..1000 {
        let command = Some(Command::Ack(key(7)));
        let cancel = capsuled::keeper::wire::Cancel { key: key(999), grace_ms: 0, why: 2 };
        let cancel = Some(Command::Cancel(cancel));
        for command in [command, cancel] {
            capsuled::keeper::wire::encode(
                &capsuled::keeper::wire::ToKeeper { command },
                &mut questions,
            );
        }
    }
    while deaf.stream.write_all(&questions).is_ok() {}
    let rss = fs::read_to_string(format!("/proc/{}/statm", deaf.welcome.pid)).unwrap();
    let pages: u64 = rss.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(pages * 4096 < 64 << 20, "{rss}");
    let new = keeper.daemon(2);
    assert_eq!(new.inventory.items.len(), 1);
}
