//! Against Python's `croniter`, where both define what is meant: in UTC, five fields, one of the two
//! days given at the most. (With both, `croniter` takes either whatever a star begins.)

#![expect(clippy::disallowed_methods, reason = "the other implementation is a Python program")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::super::*;
use super::zones::{Random, cases, seed};

const FIRES: usize = 5;

/// The Python that `scripts/needs.sh` puts `croniter` into.
fn python() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let python = target.join("sdk/bin/python");
    let there =
        Command::new(&python).args(["-c", "import croniter"]).stderr(Stdio::null()).status();
    there.is_ok_and(|status| status.success()).then_some(python)
}

#[test]
fn it_agrees_with_croniter() {
    let Some(python) = python() else {
        eprintln!("SKIPPED: croniter is not there; install it by: scripts/needs.sh test");
        return;
    };
    let mut random = Random(seed("it_agrees_with_croniter"));
    let asked: Vec<(String, i64)> = (0..cases(4000))
        .map(|_| (random.expression(), i64::try_from(random.below(2_400_000_000)).unwrap()))
        .filter(|(text, _)| text.split(' ').count() == 5)
        .collect();
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/schedule/cron/tests/fires.py");
    let mut child = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = asked.iter().fold(String::new(), |mut lines, (text, start)| {
        writeln!(lines, "{text}\t{start}\t{FIRES}").unwrap();
        lines
    });
    let mut stdin = child.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.lines().count(), asked.len());
    let mut compared = 0;
    for ((text, start), said) in asked.iter().zip(said.lines()) {
        let Ok(cron) = Cron::parse(text, "", "") else {
            assert!(said.parse::<i64>().is_err(), "{text}: refused here, there {said}");
            continue;
        };
        let mut now = Timestamp(start * 1_000_000);
        let ours: Vec<String> = (0..FIRES)
            .map(|_| {
                now = cron.next_after(now).unwrap();
                (now.0 / 1_000_000).to_string()
            })
            .collect();
        assert_eq!(ours.join(" "), said, "{text} after {start}");
        compared += FIRES;
    }
    eprintln!("{compared} instants compared");
    assert!(compared > asked.len() * 4, "{compared} of {}", asked.len());
}
