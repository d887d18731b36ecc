//! The help of every command, as it was looked at.

use std::fmt::Write as _;
use std::path::Path;

use crate::fake::{bare, ended};

const VERBS: [&[&str]; 60] = [
    &[],
    &["submit"],
    &["run"],
    &["list"],
    &["show"],
    &["tail"],
    &["result"],
    &["wait"],
    &["why"],
    &["board"],
    &["web"],
    &["chat"],
    &["events"],
    &["cancel"],
    &["retry"],
    &["promote"],
    &["edit"],
    &["rm"],
    &["prune"],
    &["deploy"],
    &["app"],
    &["app", "list"],
    &["app", "show"],
    &["app", "revisions"],
    &["app", "rollback"],
    &["app", "remove"],
    &["serve"],
    &["secret"],
    &["secret", "set"],
    &["secret", "list"],
    &["secret", "rm"],
    &["tasks"],
    &["schedule"],
    &["schedule", "list"],
    &["schedule", "history"],
    &["schedule", "next"],
    &["schedule", "trigger"],
    &["schedule", "backfill"],
    &["schedule", "end"],
    &["queue"],
    &["queue", "list"],
    &["queue", "pause"],
    &["queue", "resume"],
    &["queue", "limit"],
    &["lock"],
    &["lock", "list"],
    &["lock", "show"],
    &["backup"],
    &["backup", "create"],
    &["backup", "list"],
    &["backup", "verify"],
    &["backup", "restore"],
    &["drain"],
    &["status"],
    &["limits"],
    &["version"],
    &["help"],
    &["help", "states"],
    &["help", "ids"],
    &["help", "exit-codes"],
];

/// Global options are the same everywhere: they are kept once.
fn without_globals(text: &str) -> String {
    let mut kept = String::new();
    let mut global = false;
    for line in text.lines() {
        global = match line {
            "Global options:" => true,
            _ if line.ends_with(':') && !line.starts_with(' ') => false,
            _ => global,
        };
        if !global {
            kept.push_str(line.trim_end());
            kept.push('\n');
        }
    }
    kept
}

/// Set `REWRITE_HELP` to accept what the command says.
#[test]
fn help_is_as_it_was_looked_at() {
    let mut text = String::new();
    for verb in VERBS {
        let topic = verb.first() == Some(&"help") && verb.len() == 2;
        let words = if topic { verb.to_vec() } else { [verb, &["--help"]].concat() };
        let told = ended(bare(&words).spawn().unwrap());
        assert_eq!((told.code, told.err.as_str()), (0, ""), "{verb:?}");
        let help = if verb.is_empty() { told.out } else { without_globals(&told.out) };
        writeln!(text, "$ capsule {}\n{}\n", words.join(" "), help.trim_end()).unwrap();
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help.txt");
    if std::env::var_os("REWRITE_HELP").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    for (line, (kept, told)) in kept.lines().zip(text.lines()).enumerate() {
        assert_eq!(kept, told, "tests/help.txt:{}; accept with REWRITE_HELP=1", line + 1);
    }
    assert_eq!(kept.len(), text.len(), "accept with REWRITE_HELP=1");
}

#[test]
fn every_verb_is_looked_at() {
    let help = ended(bare(&["--help"]).spawn().unwrap()).out;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    for line in listed.take_while(|line| line.starts_with("  ")) {
        let verb = line.split_whitespace().next().unwrap();
        assert!(VERBS.iter().any(|it| it.first() == Some(&verb)), "{verb}");
    }
}
