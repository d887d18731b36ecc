//! `make demo`: it shows what it promises, leaves nothing behind, and its last words are true.

use std::path::{Path, PathBuf};
use std::time::Duration;

use capsule_tests::Home;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The folder above that of the programs, as cargo names it.
fn target(home: &Home) -> PathBuf {
    Path::new(&home.program("capsule")).ancestors().nth(2).unwrap().to_owned()
}

#[test]
fn the_demo_runs_and_its_last_three_commands_work_as_printed() {
    let home = Home::new();
    let script = root().join("scripts/demo").display().to_string();
    let demo = home.shell(&format!("exec {script} --no-build")).within(Duration::from_secs(120));
    let said = demo.env("CARGO_TARGET_DIR", target(&home)).run().exits(0).text();
    for part in [
        "capsule deploy",
        "deployed leads@r1",
        "capsule submit sync_leads --owner-id acme",
        "\"merged\":true",
        "3  completed  sync_leads",
        "timeout  runaway",
        "cancelled (killed)",
        "import_flaky     root   3/3",
        "{\"owner_id\":\"acme\"",
        "acme.sqlite",
        "initech.sqlite",
        "nothing of it runs any more",
    ] {
        assert!(said.contains(part), "{part:?} is missing:\n{said}");
    }
    assert!(home.processes().is_empty(), "{:?}", home.processes());

    // As whoever follows it would type them, in a copy of what they work on.
    let copy = format!("mkdir examples && cp -r {}/examples/leads examples/", root().display());
    home.shell(&copy).run().exits(0);
    let lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len() - 3..];
    for (number, line) in last.iter().enumerate() {
        // The first starts a daemon, which would hold our pipe.
        home.shell(&format!("{{ {line}\n}} >said.{number}")).run().exits(0);
    }
    let out = std::fs::read_to_string(home.path("h/said.2")).unwrap();
    assert!(out.contains("\"owner_id\":\"acme\""), "{out}");
    assert!(home.path("h/examples/leads/out/acme.sqlite").is_file());
}
