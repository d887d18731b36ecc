//! `docs/task-states.md` is drawn by asking every command of every state.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use super::ends::{situations, verdicts};
use super::table::{commands, states};
use crate::attempt::Verdict;
use crate::command::{Command, Report};
use crate::fixture::{NOW, ask, report};
use crate::task::{State, Status, Task};
use crate::time::Timestamp;

/// From where, to where, by what.
type Edges = BTreeMap<(Status, Status), BTreeSet<String>>;

fn edges() -> Edges {
    let mut edges = Edges::new();
    let mut go = |before: &Task, label: &str, command: &Command, now: Timestamp| {
        let mut after = Some(before.clone());
        if ask(&mut after, command, now).is_ok() {
            let to = after.expect("it was there").status();
            edges.entry((before.status(), to)).or_default().insert(label.to_owned());
        }
    };
    for task in states().into_iter().filter_map(|(_, task)| task) {
        for (name, command, now) in commands() {
            if !matches!(command, Command::Report(_)) {
                let word = name.split([',', ' ']).next().unwrap_or(name);
                go(&task, word, &command, now);
            }
        }
    }
    for (_, running, before_signal) in situations() {
        let mut claimed = running.clone();
        if let State::Running { lease, cancel, .. } = &running.state {
            claimed.state = State::Claimed { lease: *lease, cancel: cancel.clone() };
        }
        for (_, verdict) in verdicts() {
            let report = Report { before_signal, ..report(running.attempts.0, verdict.clone()) };
            let label = match (&verdict, running.state.cancel()) {
                (_, Some(_)) => "its end after a cancel".to_owned(),
                (Verdict::Stopped(_), None) => "stopped in a shutdown".to_owned(),
                (verdict, None) => verdict.word().to_owned(),
            };
            // A late cancel leaves verdicts as they are; those are drawn without it.
            if running.state.cancel().is_some() && before_signal {
                continue;
            }
            for task in [&claimed, &running] {
                go(task, &label, &Command::Report(Box::new(report.clone())), NOW);
            }
        }
    }
    edges
}

fn join(words: &BTreeSet<String>) -> String {
    words.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn document() -> Result<String, std::fmt::Error> {
    let edges = edges();
    let mut text = String::from(
        "# The states of a task\n\n\
         Drawn by a test that asks every command of `decide` in every state; do not edit.\n\
         `UPDATE_DOCS=1 cargo test -p capsule-core picture` draws it again.\n\n\
         ```mermaid\nstateDiagram-v2\n    [*] --> scheduled: submit, with an instant\n    \
         [*] --> pending: submit\n",
    );
    for ((from, to), labels) in edges.iter().filter(|((from, to), _)| from != to) {
        writeln!(text, "    {from} --> {to}: {}", join(labels))?;
    }
    text.push_str(
        "```\n\n## What is accepted\n\n\
         Whatever is not listed is refused and changes nothing. Ends are those of the live \
         attempt;\na report of another attempt is refused.\n\n\
         | status | what happens | status after it |\n|---|---|---|\n",
    );
    for status in Status::ALL {
        let rows: Vec<_> = edges.iter().filter(|((from, _), _)| *from == status).collect();
        if rows.is_empty() {
            writeln!(text, "| {status} | nothing: it is only copied | |")?;
        }
        for ((_, to), labels) in rows {
            writeln!(text, "| {status} | {} | {to} |", join(labels))?;
        }
    }
    Ok(text)
}

#[test]
fn the_picture_shows_what_is_decided() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/task-states.md");
    let drawn = document().expect("a string takes everything");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().expect("it has a folder")).expect("docs/ is made");
        std::fs::write(&path, &drawn).expect("docs/task-states.md is written");
    }
    let kept = std::fs::read_to_string(&path).expect("docs/task-states.md is read");
    assert!(kept == drawn, "docs/task-states.md is out of date: run with UPDATE_DOCS=1\n{drawn}");
}
