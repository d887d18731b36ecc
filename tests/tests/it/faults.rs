//! What is not as it should be when a daemon or a client comes: told clearly, nothing harmed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use capsule_tests::{Home, Output};
use nix::unistd::{Uid, chown, geteuid};

/// Nobody we are.
const STRANGER: Uid = Uid::from_raw(65534);

/// Asserts that a daemon did not start, and that what it says holds these words.
#[track_caller]
fn refuses(output: &Output, words: &[&str]) {
    let said = output.errors();
    assert_ne!(output.code(), 0, "{said}");
    assert!(said.contains("error: "), "{said}");
    for word in words {
        assert!(said.contains(word), "no '{word}' in: {said}");
    }
}

#[test]
fn without_a_daemon_everybody_says_so() {
    let home = Home::new();
    let calls: [&[&str]; 6] = [
        &["status"],
        &["list"],
        &["show", "1"],
        &["wait", "1"],
        &["cancel", "1"],
        &["submit", "--", "true"],
    ];
    for call in calls {
        let said = home.capsule(call.iter().copied()).run().exits(3).errors();
        assert!(said.contains("capsuled is not running"), "{said}");
        assert!(said.contains("capsuled run"), "{said}");
        assert!(said.contains(&home.socket().display().to_string()), "{said}");
    }
    home.capsule(["run", "--", "true"]).run().exits(125);
    home.capsule(["status", "--quiet"]).run().exits(3);
    let error = home.capsule(["list", "--json"]).run().exits(3);
    assert!(error.out.is_empty());
    let error: serde_json::Value = serde_json::from_slice(&error.err).unwrap();
    assert_eq!(
        (&error["error"]["exit"], &error["error"]["code"]),
        (&3.into(), &"not_running".into())
    );
}

#[test]
fn a_socket_path_that_cannot_be_is_refused_by_name() {
    let home = Home::new();
    let file = home.path("file");
    fs::write(&file, "dear").unwrap();
    let path = file.display().to_string();
    let refused = home.capsuled(["run", "--socket", &path]).run();
    refuses(&refused, &[&path, "is not a socket", "--socket"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "dear");
    home.capsule(["status", "--socket", &path]).run().exits(3);

    let home = Home::new();
    let long = home.path("x".repeat(107)).display().to_string();
    let refused = home.capsuled(["run", "--socket", &long]).run();
    refuses(&refused, &["107", &long.len().to_string(), "--socket"]);
    assert!(!home.state_dir().exists(), "it is refused before anything starts");
    home.capsule(["status", "--socket", &long]).run().exits(2);
}

#[test]
fn a_socket_of_somebody_else_is_left_alone() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root can give a socket away");
        return;
    }
    let home = Home::new();
    let path = home.path("theirs.sock");
    drop(UnixListener::bind(&path).unwrap());
    chown(&path, Some(STRANGER), None).unwrap();
    let refused = home.capsuled(["run", "--socket", &path.display().to_string()]).run();
    refuses(&refused, &["65534", "--socket"]);
    assert!(path.exists());
}

#[test]
fn a_stale_socket_is_replaced() {
    let home = Home::new();
    fs::create_dir(home.path("r/capsule")).unwrap();
    fs::set_permissions(home.path("r/capsule"), PermissionsExt::from_mode(0o700)).unwrap();
    drop(UnixListener::bind(home.socket()).unwrap());
    let _daemon = home.start();
    let mode = fs::metadata(home.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_second_daemon_harms_nobody() {
    let home = Home::new();
    let daemon = home.start();
    let id = home.submit(["--", "sleep", "1000"]);
    let pid = home.running(id);

    let first = daemon.pid().to_string();
    let other = home.path("other.sock").display().to_string();
    let same_state = home.capsuled(["run", "--socket", &other]).run();
    refuses(&same_state, &[&home.state_dir().display().to_string(), &first]);
    refuses(&home.capsuled(["run"]).run(), &[&first]);
    let other = home.path("other").display().to_string();
    let same_socket = home.capsuled(["run", "--state-dir", &other]).run();
    refuses(&same_socket, &["another daemon serves", &home.socket().display().to_string()]);

    assert_eq!(home.status()["pid"].to_string(), first);
    assert_eq!(home.running(id), pid);
    home.capsule(["run", "--", "true"]).run().exits(0);
}

#[test]
fn two_daemons_live_side_by_side() {
    let home = Home::new();
    let _one = home.start();
    let (state, socket) = (home.path("other"), home.path("other.sock"));
    let (state, socket) = (state.display().to_string(), socket.display().to_string());
    let mut two = home.launch(&["--state-dir", &state, "--socket", &socket]);
    let there = ["--socket", &socket];
    capsule_tests::wait_for("the second one is ready", || {
        assert_eq!(two.ended(), None, "{}", home.log());
        (home.capsule(["status", "-q"]).args(there).run().code() == 0).then_some(())
    });
    home.capsule(["run"]).args(there).args(["--", "sh", "-c", "exit 4"]).run().exits(4);
    home.capsule(["run", "--", "sh", "-c", "exit 5"]).run().exits(5);
    let (ours, theirs) = (home.capsule(["list", "--count"]), home.capsule(["list", "--count"]));
    assert_eq!(ours.run().text().trim(), "1");
    assert_eq!(theirs.args(there).run().text().trim(), "1");
}

#[test]
fn a_state_directory_that_is_not_ours_is_refused() {
    let home = Home::new();
    let dir = home.path("dir");
    let path = dir.display().to_string();
    fs::write(&dir, "").unwrap();
    refuses(&home.capsuled(["run", "--state-dir", &path]).run(), &[&path, "not a directory"]);
    fs::remove_file(&dir).unwrap();

    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(dir.join("letter"), "dear").unwrap();
    refuses(&home.capsuled(["run", "--state-dir", &path]).run(), &[&path, "755"]);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing was put there");

    if geteuid().is_root() {
        fs::remove_file(dir.join("letter")).unwrap();
        chown(&dir, Some(STRANGER), None).unwrap();
        refuses(&home.capsuled(["run", "--state-dir", &path]).run(), &[&path, "uid 65534"]);
    } else {
        fs::remove_file(dir.join("letter")).unwrap();
        fs::set_permissions(&dir, PermissionsExt::from_mode(0o500)).unwrap();
        refuses(&home.capsuled(["run", "--state-dir", &path]).run(), &[&path]);
    }
}

#[test]
fn a_read_only_state_directory_is_refused() {
    let home = Home::new();
    drop(home.start());
    let dir = home.state_dir().display().to_string();
    let mount = format!("mount --bind {dir} {dir} && mount -o remount,ro,bind {dir}");
    let possible = home.shell(&format!("unshare -m sh -c '{mount}'")).run();
    if possible.code() != 0 {
        eprintln!("SKIPPED: no read-only mount can be made here: {}", possible.errors());
        return;
    }
    let daemon = home.program("capsuled");
    let refused =
        home.shell(&format!("exec unshare -m sh -c '{mount} && exec {daemon} run'")).run();
    refuses(&refused, &[&dir, "read-only", "findmnt"]);
    let _daemon = home.start();
}

#[test]
fn a_runtime_folder_open_to_others_is_refused() {
    let home = Home::new();
    let folder = home.path("r/capsule");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).unwrap();
    refuses(&home.capsuled(["run"]).run(), &[&folder.display().to_string(), "0700"]);
}
