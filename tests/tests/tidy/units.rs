//! The service files, as systemd reads them.

use std::fs;
use std::io::ErrorKind;
use std::process::Command;

use crate::tree::{read, root};

const UNITS: [&str; 2] = ["capsuled.service", "capsule-keeper.service"];

#[test]
#[expect(clippy::disallowed_methods, reason = "systemd's own opinion is asked")]
fn systemd_accepts_the_units() {
    let dir = tempfile::tempdir().unwrap();
    // The programs named need not be installed where the tests run, but some must be there.
    for unit in UNITS {
        let text = read(&format!("systemd/{unit}")).replace("/usr/local/bin/capsuled", "/bin/true");
        fs::write(dir.path().join(unit), text).unwrap();
    }
    let verified = Command::new("systemd-analyze")
        .args(["--user", "--man=no", "verify"])
        .args(UNITS.map(|unit| dir.path().join(unit)))
        .env("XDG_RUNTIME_DIR", dir.path())
        .output();
    let output = match verified {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("SKIPPED systemd_accepts_the_units: systemd-analyze is not installed");
            return;
        }
        other => other.unwrap(),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> =
        said.lines().filter(|line| UNITS.iter().any(|unit| line.contains(unit))).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}

#[test]
fn a_stop_of_the_daemon_touches_no_task() {
    let daemon = read("systemd/capsuled.service");
    let keeper = read("systemd/capsule-keeper.service");
    assert!(daemon.lines().any(|line| line == "KillMode=process"));
    for binding in ["BindsTo=", "PartOf=", "Requires="] {
        assert!(!keeper.contains(binding), "{binding} would stop the keeper with the daemon");
    }
    assert!(keeper.lines().any(|line| line == "Delegate=yes"));
    assert!(root().join("systemd").is_dir());
}
