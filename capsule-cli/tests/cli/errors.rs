//! Errors: their text, their JSON, their exit codes, and hints that work.

use tonic::{Code, Status};

use crate::fake::{Fake, bare, ended, refusal};

#[test]
fn no_daemon() {
    let run = |words: &[&str]| ended(bare(words).spawn().unwrap());
    let status = run(&["status"]);
    assert_eq!(status.code, 3);
    let expected = "error: capsuled is not running (tried /nonexistent/run/capsule/capsuled.sock, \
                    /run/capsule/capsuled.sock)\n  hint: start it    capsuled run\n";
    assert_eq!(status.err, expected);
    let list = run(&["list", "--socket", "/nonexistent/s"]);
    let expected = "error: capsuled is not running (tried /nonexistent/s)\n  \
                    hint: start it    capsuled run --socket /nonexistent/s\n";
    assert_eq!((list.code, list.err.as_str()), (3, expected));
    let long = format!("/tmp/{}", "x".repeat(200));
    assert_eq!(run(&["list", "--socket", &long]).code, 2);
    let version = run(&["version"]);
    assert!(version.code == 0 && version.out.ends_with("capsuled is not running\n"), "{version:?}");
}

#[test]
fn errors_are_json_when_the_output_is() {
    let fake = Fake::start();
    let ended = fake.run(&["show", "7", "--json"]);
    let expected = concat!(
        r#"{"error":{"code":"not_found","message":"no task 7","#,
        r#""hint":"capsule list --all","exit":4}}"#,
        "\n"
    );
    assert_eq!((ended.code, ended.err.as_str(), ended.out.as_str()), (4, expected, ""));
    let ended = fake.run(&["list", "-o", "json", "--no-such-flag"]);
    assert_eq!(ended.code, 2);
    assert!(
        ended.err.starts_with(r#"{"error":{"code":"usage","message":"unexpected argument"#),
        "{}",
        ended.err
    );
}

#[test]
fn the_detail_decides() {
    let fake = Fake::start();
    let held = refusal(Code::Aborted, "lock_held", "the lock is held", "capsule lock list", 5);
    fake.lock().refusals.insert("submit", held);
    let ended = fake.run(&["submit", "--", "x"]);
    assert_eq!(ended.code, 5);
    assert_eq!(ended.err, "error: the lock is held\n  hint: capsule lock list\n");
}

#[test]
fn an_old_daemon_is_named_with_both_versions() {
    let fake = Fake::start();
    fake.lock().refusals.insert("list", Status::unimplemented(""));
    let ended = fake.run(&["list"]);
    assert_eq!(ended.code, 5);
    let own = env!("CARGO_PKG_VERSION");
    assert!(ended.err.contains("capsuled 0.0.9 (protocol 1.0)"), "{}", ended.err);
    assert!(ended.err.contains(&format!("capsule {own} (protocol 1.1)")), "{}", ended.err);
}

#[test]
fn usage() {
    let fake = Fake::start();
    let cases: [&[&str]; 8] = [
        &["submit"],
        &["submit", "--"],
        &["submit", "--in", "90", "--", "x"],
        &["submit", "--in", "1m", "--at", "now", "--", "x"],
        &["submit", "--shell", "--", "a", "b"],
        &["submit", "--env", "NO_SUCH_NAME", "--", "x"],
        &["submit", "x", "--payload", "[1]"],
        &["nothing"],
    ];
    for words in cases {
        let ended = fake.run(words);
        assert_eq!(ended.code, 2, "{words:?}: {ended:?}");
    }
    assert!(fake.run(&["submit", "--in", "90", "--", "x"]).err.contains("write 90s"));
    assert!(fake.lock().submits.is_empty());
}

#[test]
fn bare_capsule_off_a_terminal_is_help() {
    let ended = ended(bare(&[]).spawn().unwrap());
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("Usage: capsule"), "{}", ended.err);
}

/// The commands that a text names: what follows `capsule`, up to a placeholder.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for part in text.split("capsule ").skip(1) {
        let words = part
            .split_whitespace()
            .take_while(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
        let verb: Vec<String> = words.take(2).map(str::to_owned).collect();
        if verb.first().is_some_and(|word| word.len() > 1 && !word.starts_with('-')) {
            found.push(verb);
        }
    }
    found
}

#[test]
fn hints_name_commands_that_exist() {
    let fake = Fake::start();
    let cases: [&[&str]; 10] = [
        &["submit"],
        &["submit", "nothing"],
        &["submit", "--shell", "nothing"],
        &["cancel"],
        &["cancel", "--status", "failed"],
        &["retry", "-"],
        &["edit", "1"],
        &["prune"],
        &["show", "7"],
        &["help", "nothing"],
    ];
    let mut checked = 0;
    for words in cases {
        let told = fake.run(words);
        assert_ne!(told.code, 0, "{words:?}");
        let hints = told.err.split_once("hint: ").map_or("", |(_, hints)| hints);
        for verb in commands(hints) {
            let help = fake.run(&[verb.first().unwrap(), "--help"]);
            assert_eq!(help.code, 0, "{words:?} names {verb:?}");
            checked += 1;
        }
    }
    assert!(checked >= 10, "{checked}");
}
