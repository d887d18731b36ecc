//! Single attempts: how they start, run, write, end and are stopped.

use std::{fs, os::unix::fs::PermissionsExt, time::Instant};

use capsuled::{
    jail::Step,
    keeper::wire::{Attribution, Command, How, Report, Source, StopWhy},
};
use nix::errno::Errno;

use crate::harness::{
    Keeper, alive, alone, eventually, key, marked, modes, output, plan, shell, shell_marked,
};

#[test]
fn output_exit_code_and_receipt() {
    for mode in modes() {
        let keeper = Keeper::start(mode);
        let mut daemon = keeper.daemon(1);
        daemon.spawn(1, shell("echo hello; echo oops >&2; echo '{\"p\":1}' >&3; exit 3"));
        let ended = daemon.gone(1);
        assert_eq!((ended.exit_code, ended.signal), (Some(3), None));
        assert_eq!((ended.stop(), ended.how()), (StopWhy::None, How::None));
        assert_eq!((ended.log.out, ended.log.err, ended.log.event), (6, 5, 8));
        assert_eq!(output(&keeper.logs(), 1, 1), b"hello\n");
        assert_eq!(output(&keeper.logs(), 1, 2), b"oops\n");
        assert_eq!(output(&keeper.logs(), 1, 3), b"{\"p\":1}\n");
        let receipt = ended.receipt;
        assert_eq!(
            receipt.attribution(),
            Attribution::try_from(daemon.welcome.attribution).unwrap()
        );
        assert!(receipt.peak_rss.unwrap() > 100_000 && receipt.rss_source() == Source::Rusage);
        assert!(receipt.ended_us >= receipt.started_us && receipt.wall_us > 0);
        assert!(receipt.cpu_user_us.unwrap() + receipt.cpu_sys_us.unwrap() > 0);
    }
}

#[test]
fn silent_program_leaves_no_log() {
    let keeper = Keeper::start(modes()[0]);
    let mut daemon = keeper.daemon(1);
    daemon.spawn(1, plan(&["true"]));
    let ended = daemon.ended(1);
    assert!(ended.tree_gone && ended.exit_code == Some(0));
    assert_eq!(fs::read_dir(keeper.logs()).unwrap().count(), 0);
}

#[test]
fn starts_that_cannot_work_name_the_step() {
    for mode in modes() {
        let keeper = Keeper::start(mode);
        let mut daemon = keeper.daemon(1);
        let plain = keeper.dir.path().join("plain");
        fs::write(&plain, "x").unwrap();
        let orphan = keeper.dir.path().join("orphan");
        fs::write(&orphan, "#!/no/such/interpreter\n").unwrap();
        fs::set_permissions(&orphan, PermissionsExt::from_mode(0o755)).unwrap();
        let mut lost = shell("true");
        lost.cwd = b"/no/such/place".to_vec();
        let cases = [
            (plan(&["/no/such/program"]), Step::Program, Errno::ENOENT),
            (plan(&["no-such-program"]), Step::Program, Errno::ENOENT),
            (plan(&["/usr"]), Step::Program, Errno::EISDIR),
            (plan(&[plain.to_str().unwrap()]), Step::Program, Errno::EACCES),
            (plan(&[orphan.to_str().unwrap()]), Step::Exec, Errno::ENOENT),
            (lost, Step::Cwd, Errno::ENOENT),
            (plan(&[]), Step::Program, Errno::ENOENT),
        ];
        for (task, (plan, step, errno)) in (1..).zip(cases) {
            daemon.spawn(task, plan);
            let failure = daemon.failure(task);
            assert_eq!((failure.step(), failure.errno), (step, errno as i32), "{failure:?}");
            assert!(!failure.transient);
        }
    }
}

#[test]
fn script_without_interpreter_line_runs_in_the_shell() {
    let keeper = Keeper::start(modes()[0]);
    let mut daemon = keeper.daemon(1);
    let script = keeper.dir.path().join("script");
    fs::write(&script, "echo \"$1-$2\"\n").unwrap();
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    daemon.spawn(1, plan(&[script.to_str().unwrap(), "a", "b"]));
    assert_eq!(daemon.gone(1).exit_code, Some(0));
    assert_eq!(output(&keeper.logs(), 1, 1), b"a-b\n");
}

#[test]
fn child_starts_clean() {
    for mode in modes() {
        let keeper = Keeper::start(mode);
        let mut daemon = keeper.daemon(1);
        daemon.spawn(1, plan(&["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]));
        assert_eq!(daemon.gone(1).exit_code, Some(0));
        let signals = String::from_utf8(output(&keeper.logs(), 1, 1)).unwrap();
        assert_eq!(signals, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
        let mut clean = shell(
            "ls /proc/$$/fd; cut -d' ' -f5-7 /proc/$$/stat; echo $$; umask; ulimit -n; pwd; cat; env | sort",
        );
        clean.stdin = Some(b"from stdin\n".to_vec());
        clean.umask = Some(0o027);
        clean.cwd = b"/usr".to_vec();
        daemon.spawn(2, clean);
        assert_eq!(daemon.gone(2).exit_code, Some(0));
        let text = String::from_utf8(output(&keeper.logs(), 2, 1)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..4], ["0", "1", "2", "3"], "{text}");
        let pid = lines[5];
        assert_eq!(lines[4], format!("{pid} {pid} 0"), "its own group and session, no terminal");
        let (soft, _) =
            nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(
            lines[6..],
            [
                "0027",
                &soft.to_string(),
                "/usr",
                "from stdin",
                "CAPSULE_EVENT_FD=3",
                "PATH=/usr/local/bin:/usr/bin:/bin",
                "PWD=/usr"
            ],
            "nothing is inherited"
        );
    }
}

#[test]
fn no_event_descriptor_unless_asked() {
    let keeper = Keeper::start(modes()[0]);
    let mut daemon = keeper.daemon(1);
    let mut quiet = shell("ls /proc/$$/fd; env");
    quiet.event_fd = false;
    daemon.spawn(1, quiet);
    daemon.gone(1);
    let text = String::from_utf8(output(&keeper.logs(), 1, 1)).unwrap();
    assert!(text.starts_with("0\n1\n2\n") && !text.contains("CAPSULE_EVENT_FD"), "{text}");
    assert!(!text.starts_with("0\n1\n2\n3\n"), "{text}");
}

#[test]
fn signal_and_core_are_told() {
    for mode in modes() {
        let keeper = Keeper::start(mode);
        let mut daemon = keeper.daemon(1);
        daemon.spawn(1, shell("kill -SEGV $$"));
        let ended = daemon.gone(1);
        assert_eq!((ended.exit_code, ended.signal), (None, Some(11)));
        assert_eq!((ended.stop(), ended.how()), (StopWhy::None, How::None));
    }
}

#[test]
fn timeout_is_graceful_and_refresh_resets_it() {
    for mode in modes() {
        let keeper = Keeper::start(mode);
        let mut daemon = keeper.daemon(1);
        let mut slow = shell("trap 'echo bye; exit 7' TERM; while :; do sleep 0.01; done");
        slow.deadline_ms = 100;
        slow.grace_ms = 5000;
        daemon.spawn(1, slow.clone());
        let ended = daemon.gone(1);
        assert_eq!((ended.stop(), ended.how()), (StopWhy::Timeout, How::Graceful));
        assert_eq!(ended.exit_code, Some(7));
        assert!(ended.receipt.wall_us >= 100_000);
        assert_eq!(output(&keeper.logs(), 1, 1), b"bye\n");

        slow.deadline_ms = 60_000;
        daemon.run(2, slow);
        let refresh = capsuled::keeper::wire::Refresh { key: key(2), deadline_ms: 1 };
        daemon.send(Command::Refresh(refresh));
        assert_eq!(daemon.gone(2).stop(), StopWhy::Timeout);
    }
}

#[test]
fn tree_that_ignores_term_is_killed_after_the_grace() {
    for mode in modes() {
        let keeper = Keeper::start(mode);
        let mut daemon = keeper.daemon(1);
        let mark = format!("MARK=ignores-{mode:?}-{}", keeper.uuid);
        let script = "trap '' TERM; (setsid sleep 1000 &); sleep 1000 & echo up; sleep 1000";
        daemon.run(1, shell_marked(script, &mark));
        eventually("the tree is up", || (marked(&mark).len() >= 4).then_some(()));
        let asked = Instant::now();
        daemon.cancel(1, 200);
        let gone = daemon.gone(1);
        assert!(asked.elapsed().as_millis() >= 200);
        assert_eq!((gone.stop(), gone.how(), gone.signal), (StopWhy::Cancel, How::Killed, Some(9)));
        assert_eq!(marked(&mark), [0; 0]);
    }
}

#[test]
fn hundred_escaping_processes_die_at_once() {
    let _alone = alone();
    for mode in modes() {
        let keeper = Keeper::start(mode);
        let mut daemon = keeper.daemon(1);
        let mark = format!("MARK=hundred-{mode:?}-{}", keeper.uuid);
        let script =
            "for i in $(seq 50); do (setsid sh -c 'sleep 1000 & sleep 1000' &); done; sleep 1000";
        daemon.run(1, shell_marked(script, &mark));
        eventually("the tree is up", || (marked(&mark).len() >= 100).then_some(()));
        let asked = Instant::now();
        daemon.cancel(1, 0);
        let gone = daemon.gone(1);
        let took = asked.elapsed();
        assert_eq!(marked(&mark), [0; 0]);
        assert_eq!((gone.how(), gone.signal), (How::Killed, Some(9)));
        println!("{mode:?}: tree of 100 gone after {took:?}");
    }
}

#[test]
fn grandchild_with_stdout_does_not_delay_the_verdict() {
    for mode in modes() {
        let keeper = Keeper::start(mode);
        let mut daemon = keeper.daemon(1);
        let mark = format!("MARK=holds-{mode:?}-{}", keeper.uuid);
        let script = "(setsid sh -c 'sleep 0.1; echo late; sleep 1000' &); echo early; exit 5";
        daemon.spawn(1, shell_marked(script, &mark));
        let ended = daemon.ended(1);
        assert_eq!((ended.exit_code, ended.tree_gone), (Some(5), false));
        eventually("the rest is seen", || (!marked(&mark).is_empty()).then_some(()));
        let gone = daemon.find(|report| match report {
            Report::Gone(gone) => Some(gone.clone()),
            _ => None,
        });
        assert_eq!((gone.exit_code, gone.how()), (Some(5), How::None));
        assert_eq!(output(&keeper.logs(), 1, 1), b"early\nlate\n");
        assert_eq!(gone.log.out, 11);
        assert_eq!(marked(&mark), [0; 0]);
    }
}

#[test]
fn exit_before_any_signal_is_told_apart() {
    for mode in modes() {
        let keeper = Keeper::start(mode);
        let mut daemon = keeper.daemon(1);
        let pid = daemon.run(1, shell("(sleep 1000 &); exit 0"));
        eventually("the main process has ended", || (!alive(pid)).then_some(()));
        daemon.cancel(1, 10_000);
        let gone = daemon.gone(1);
        assert_eq!((gone.exit_code, gone.how()), (Some(0), How::None));
    }
}

#[test]
fn large_output_arrives_whole() {
    let keeper = Keeper::start(modes()[0]);
    let mut daemon = keeper.daemon(1);
    daemon.spawn(1, shell("head -c 5000000 /dev/zero"));
    let ended = daemon.gone(1);
    assert_eq!(ended.log.out, 5_000_000);
    assert_eq!(output(&keeper.logs(), 1, 1).len(), 5_000_000);
}
