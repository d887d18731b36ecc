//! Programs and people that mean no good, or know no better: told truly, and no harm to others.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use capsule_tests::{Home, processes, wait_for};
use nix::sys::signal::Signal;

/// The last attempt's receipt.
fn receipt(home: &Home, id: u64) -> serde_json::Value {
    home.ended(id)["attempts"][0]["receipt"].clone()
}

#[test]
fn a_result_that_cannot_be_kept_is_told() {
    let home = Home::new();
    let _daemon = home.start();
    let file = "it is not a regular file";
    let large = "it is over 1 MiB";
    for (line, why) in [
        ("mkdir -p $CAPSULE_RESULT_FILE/below", file),
        ("mkfifo $CAPSULE_RESULT_FILE", file),
        ("ln -s /dev/zero $CAPSULE_RESULT_FILE", file),
        ("ln -s /etc/passwd $CAPSULE_RESULT_FILE", file),
        ("head -c 100000000 /dev/zero >$CAPSULE_RESULT_FILE", large),
        // As a JSON string it has six times the bytes.
        ("head -c 900000 /dev/zero >$CAPSULE_RESULT_FILE", large),
    ] {
        let id = home.submit(["--shell", "--", line]);
        assert_eq!(receipt(&home, id)["result_refused"], why, "{line}");
        assert_eq!(home.show(id)["status"], "completed");
        let said = home.capsule(["show", &id.to_string()]).run().exits(0).text();
        assert!(said.contains(&format!("result not kept: {why}")), "{said}");
    }
    let left = fs::read_dir(home.state_dir().join("work")).unwrap().count();
    assert_eq!(left, 0, "what they left behind is taken away");
    let kept = home.submit(["--shell", "--", "echo '{\"a\": 1}' >$CAPSULE_RESULT_FILE"]);
    assert!(receipt(&home, kept)["result_refused"].is_null());
}

#[test]
fn a_removed_work_folder_harms_no_later_task() {
    let home = Home::new();
    let _daemon = home.start();
    let manifest =
        "[app]\nname = \"a\"\n[tasks.nothing]\ncommand = [\"true\"]\ntimeout = \"60s\"\n";
    fs::write(home.path("h/capsule.toml"), manifest).unwrap();
    home.capsule(["deploy"]).run().exits(0);
    let remove = "rm -rf $(dirname $CAPSULE_RESULT_FILE)";
    home.capsule(["run", "--shell", "--", remove]).run().exits(0);
    home.capsule(["run", "nothing"]).run().exits(0);
    home.capsule(["run", "--shell", "--", remove]).run().exits(0);
    let id = home.submit(["--shell", "--", "echo 7 >$CAPSULE_RESULT_FILE"]);
    assert_eq!(home.ended(id)["status"], "completed");
    assert_eq!(home.capsule(["result", &id.to_string()]).run().exits(0).text(), "7\n");
}

#[test]
fn only_text_is_run_by_the_shell() {
    let home = Home::new();
    let _daemon = home.start();
    let far = format!("#!/{}\necho ran\n", "x".repeat(400));
    for (name, bytes, code) in [
        ("plain", b"exit 5\n".as_slice(), 5),
        ("far", far.as_bytes(), 126),
        ("foreign", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\nexit 0\n".as_slice(), 126),
    ] {
        let path = home.path(format!("h/{name}"));
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
        let ran = home.capsule(["run", "--", &path.display().to_string()]).run().exits(code);
        assert_eq!(ran.text(), "", "{name}");
    }
}

#[test]
fn an_attempt_that_stops_its_watcher_is_still_stopped() {
    for attribution in ["auto", "reaper"] {
        let home = Home::new();
        let _daemon = home.start_with(&["--attribution", attribution]);
        // The parent is the reaper, or the keeper itself.
        let line = "kill -STOP $PPID; sleep 1000";
        let id = home.submit(["--timeout", "1s", "--grace", "1s", "--shell", "--", line]);
        assert_eq!(home.ended(id)["status"], "timeout", "{attribution}");
        let line = "kill -STOP $PPID; exit 3";
        home.capsule(["run", "--shell", "--", line]).run().exits(3);
    }
}

#[test]
fn a_removed_log_folder_hides_no_verdict() {
    let home = Home::new();
    let _daemon = home.start();
    fs::remove_dir_all(home.state_dir().join("logs")).unwrap();
    home.capsule(["run", "--shell", "--", "echo gone; exit 4"]).run().exits(4);
    let dropped = &receipt(&home, 1)["dropped_bytes"];
    assert_eq!(*dropped, 5, "what is not kept is counted");
}

#[test]
fn a_removed_runtime_folder_loses_no_running_task() {
    for attribution in ["auto", "reaper"] {
        let home = Home::new();
        let flags = ["--attribution", attribution];
        let daemon = home.start_with(&flags);
        let line = "while [ ! -e go ]; do sleep 0.1; done; exit 6";
        let id = home.submit(["--shell", "--", line]);
        let (pid, keeper) = (home.running(id), home.keeper());
        fs::remove_dir_all(home.runtime_dir().join("capsule")).unwrap();
        daemon.kill();
        let _daemon = home.start_with(&flags);
        assert_eq!(home.keeper(), keeper, "the keeper is found again");
        assert_eq!(home.running(id), pid);
        fs::write(home.path("h/go"), "").unwrap();
        assert_eq!(home.ended(id)["reason"], "exit 6", "{attribution}");
    }
}

#[test]
fn a_replaced_program_can_still_start_its_keeper() {
    let home = Home::new();
    let program = home.path("h/capsuled");
    fs::copy(home.program("capsuled"), &program).unwrap();
    let shell = format!("exec {} run --slots 2 >h/said 2>&1", program.display());
    let daemon = home.shell(&shell).cwd(home.path("")).start();
    let keeper = || home.capsule(["status", "--json"]).run().exits(0).json()["keeper"].clone();
    let connected = || {
        let up = home.capsule(["status", "--quiet"]).run().code() == 0;
        (up && keeper()["connected"] == true).then(|| home.keeper())
    };
    let (first, _) = wait_for("the daemon is up", connected);
    fs::remove_file(&program).unwrap();
    processes::send(first, Signal::SIGKILL);
    wait_for("another keeper is up", || connected().filter(|(pid, _)| *pid != first));
    home.capsule(["run", "--", "echo", "well"]).run().exits(0);
    daemon.signal(Signal::SIGTERM);
    daemon.end();
}

#[test]
fn what_is_no_text_is_refused_by_name() {
    let home = Home::new();
    let _daemon = home.start();
    let bytes = std::ffi::OsStr::from_bytes(b"a\xff");
    let submit = |words: &[&str]| home.capsule(["submit"]).args(words);
    let refused = submit(&["--env-all", "--", "true"]).env("ODD", bytes).run().exits(2);
    assert!(refused.errors().contains("the variable ODD is not UTF-8"), "{}", refused.errors());
    submit(&["--", "true"]).env("ODD", bytes).run().exits(0);
    submit(&["--", "printf"]).args([bytes]).run().exits(2);
}
