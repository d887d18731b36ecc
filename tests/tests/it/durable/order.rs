//! Acknowledged means on disk: the order of the daemon's system calls.

use capsule_tests::Home;
use capsule_tests::trace::{Strace, check_order};

#[test]
fn an_acknowledged_submit_is_on_disk_before_anybody_hears_of_it() {
    let home = Home::new();
    let daemon = home.start();
    let strace = match Strace::attach(&home, daemon.pid()) {
        Ok(strace) => strace,
        Err(reason) => {
            eprintln!("SKIPPED: the order of write, sync and answer was not seen: {reason}");
            return;
        }
    };
    home.capsule(["submit", "--name", "mark-alone", "--", "true"]).run().exits(0);
    let names: Vec<String> = (10..30).map(|number| format!("mark-{number}-together")).collect();
    let together: Vec<_> = names
        .iter()
        .map(|name| home.capsule(["submit", "--name", name, "--", "true"]).start())
        .collect();
    for submit in together {
        submit.end().exits(0);
    }
    let trace = strace.end();
    let database = home.state_dir().canonicalize().unwrap().join("queue/db");
    let database = database.display().to_string();
    for mark in names.iter().map(String::as_str).chain(["mark-alone"]) {
        if let Err(wrong) = check_order(&trace, mark, &database) {
            panic!("{wrong}");
        }
    }

    // The same calls without the syncs must not pass, or this test could not fail.
    let without: Vec<&str> = trace.lines().filter(|line| !line.contains("sync")).collect();
    assert!(check_order(&without.join("\n"), "mark-alone", &database).is_err());
}
