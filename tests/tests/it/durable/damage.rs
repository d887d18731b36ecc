//! A store that was damaged is refused with the command that helps, and that command helps.

use std::fs;
use std::path::Path;

use capsule_tests::{Home, Output};
use nix::sys::signal::Signal;

/// The exit code of a store that cannot be used (sysexits.h: `EX_DATAERR`).
const DATA: i32 = 65;

/// A home with ended and waiting tasks and no daemon; `names` are the names of the waiting ones.
fn with_tasks(names: &[String]) -> Home {
    let home = Home::new();
    let daemon = home.start();
    home.capsule(["run", "--name", "ended", "--", "sh", "-c", "echo hi; exit 3"]).run().exits(3);
    for name in names {
        home.submit(["--hold", "--name", name, "--", "true"]);
    }
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.end().success());
    home
}

fn names() -> Vec<String> {
    (10..40).map(|number| format!("task-{number}")).collect()
}

/// The last place where `mark` stands.
fn place(bytes: &[u8], mark: &str) -> usize {
    let place = bytes.windows(mark.len()).rposition(|window| window == mark.as_bytes());
    place.unwrap_or_else(|| panic!("{mark} is nowhere"))
}

/// The daemon refuses to start; gives the command that its hint names.
#[track_caller]
fn refused(home: &Home) -> String {
    let said = home.capsuled(["run"]).run().exits(DATA).errors();
    let state = home.state_dir().canonicalize().unwrap().display().to_string();
    assert!(said.contains(&state), "{said}");
    let hint = said.split("hint: ").nth(1).unwrap_or_else(|| panic!("no hint in: {said}"));
    let command = format!("capsuled db repair --state-dir {state}");
    assert!(hint.contains(&command), "{hint}");
    command
}

/// Runs the command as the user would.
fn follow(home: &Home, command: &str) -> Output {
    let program = home.program("capsuled");
    home.shell(&command.replacen("capsuled", &program, 1)).run().exits(0)
}

#[test]
fn a_flipped_bit_is_refused_and_repaired() {
    let names = names();
    let home = with_tasks(&names);
    let file = home.state_dir().join("queue/db");
    let mut bytes = fs::read(&file).unwrap();
    let harmed = place(&bytes, &names[7]);
    bytes[harmed] ^= 0xff;
    fs::write(&file, &bytes).unwrap();
    let state = home.state_dir().display().to_string();
    home.capsuled(["db", "verify", "--state-dir", &state]).run().exits(1);
    let command = refused(&home);
    assert_eq!(refused(&home), command, "it stays refused, however often it is tried");

    let said = follow(&home, &command).text();
    assert!(said.contains("lost what changed after change "), "{said}");
    assert!(said.contains("the damaged queue is in "), "{said}");
    home.capsuled(["db", "verify", "--state-dir", &state]).run().exits(0);
    let _daemon = home.start();
    let listed = home.capsule(["list", "--all", "--json"]).run().exits(0).json();
    let kept: Vec<&str> =
        listed.as_array().unwrap().iter().map(|task| task["name"].as_str().unwrap()).collect();
    bytes[harmed] ^= 0xff;
    // What was written behind the damage cannot be told from what was half written.
    for name in names.iter().filter(|name| place(&bytes, name) < harmed) {
        assert!(kept.contains(&name.as_str()), "{name} was readable and is gone: {kept:?}");
    }
    assert!(kept.len() > 5, "{kept:?}");
    let ended = home.show(1);
    assert_eq!((&ended["name"], &ended["reason"]), (&"ended".into(), &"exit 3".into()));
    assert_eq!(home.output(1), b"hi\n");
    assert!(home.submit(["--", "true"]) > 31, "an id is used again");
}

/// A part of the state directory, and what is done to it.
type Harm = (&'static str, fn(&Path));

#[test]
fn an_emptied_store_is_never_an_empty_queue() {
    let harms: [Harm; 4] = [
        ("queue/db", |file| fs::write(file, "").unwrap()),
        ("queue/db", |file| fs::remove_file(file).unwrap()),
        ("queue", |folder| fs::remove_dir_all(folder).unwrap()),
        ("MANIFEST", |file| fs::remove_file(file).unwrap()),
    ];
    for (part, harm) in harms {
        let home = with_tasks(&names());
        harm(&home.state_dir().join(part));
        let command = refused(&home);
        assert_eq!(refused(&home), command, "{part}");
        follow(&home, &command);
        let _daemon = home.start();
        let count = home.capsule(["list", "--count"]).run().exits(0).text();
        let kept = if part == "MANIFEST" { "31" } else { "0" };
        assert_eq!(count.trim(), kept, "{part}");
        assert!(home.submit(["--", "true"]) > 31, "{part}: an id is used again");
    }
}

#[test]
fn an_older_copy_of_the_queue_is_refused() {
    let home = with_tasks(&names());
    let (queue, old) = (home.state_dir().join("queue"), home.path("old"));
    home.shell(&format!("cp -a {} {}", queue.display(), old.display())).run().exits(0);
    let daemon = home.start();
    home.capsule(["run", "--", "true"]).run().exits(0);
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.end().success());
    fs::remove_dir_all(&queue).unwrap();
    fs::rename(&old, &queue).unwrap();
    let command = refused(&home);
    follow(&home, &command);
    let _daemon = home.start();
    assert_eq!(home.capsule(["list", "--count"]).run().exits(0).text().trim(), "31");
}
