//! Every command in every state: the specification of single steps.

use crate::attempt::{Failure, NotStarted, Verdict};
use crate::command::{Command, Edit};
use crate::fixture::{NOW, after, ask, cancel, claim, report, running, spec, submit};
use crate::id::{AttemptNumber, TaskId};
use crate::spec::{Dependency, DependencyOn, TaskSpec};
use crate::task::{Status, Task};
use crate::time::{Span, Timestamp};
use crate::{Rejected, decide};

/// Where a task can stand, with the live attempt 2 where there is one.
pub(super) fn states() -> Vec<(&'static str, Option<Task>)> {
    let waits = || TaskSpec {
        start_within: Some(Span::from_secs(60)),
        after: vec![Dependency { task: TaskId(5), on: DependencyOn::Ok }],
        ..spec()
    };
    let later = TaskSpec { not_before: Some(NOW.plus(Span::from_secs(60))), ..waits() };
    let released = Command::Report(Box::new(report(1, Verdict::NotStarted(NotStarted::Released))));
    let claimed = [claim(), released, claim()];
    let end = |spec: TaskSpec, verdict| {
        let mut task = Some(running(spec, 2));
        let asked = ask(&mut task, &Command::Report(Box::new(report(2, verdict))), NOW);
        assert!(asked.is_ok(), "{asked:?}");
        task
    };
    let once = || TaskSpec { retries: 0, ..waits() };
    let stop = |task: Task| {
        let mut task = Some(task);
        ask(&mut task, &cancel("enough"), NOW).expect("it has an attempt");
        task
    };
    vec![
        ("nothing", None),
        ("scheduled", Some(after(later, &[]))),
        ("pending", Some(after(waits(), &[]))),
        ("claimed", Some(after(waits(), &claimed))),
        ("claimed*", stop(after(waits(), &claimed))),
        ("running", Some(running(waits(), 2))),
        ("running*", stop(running(waits(), 2))),
        ("retry", end(waits(), Verdict::Failed(Failure::Exit(1)))),
        ("completed", end(waits(), Verdict::Completed)),
        ("failed", end(once(), Verdict::Failed(Failure::Exit(1)))),
        ("timeout", end(once(), Verdict::Timeout(crate::attempt::How::Killed))),
        ("cancelled", Some(after(waits(), &[cancel("enough")]))),
    ]
}

/// What can be asked, and when.
pub(super) fn commands() -> Vec<(&'static str, Command, Timestamp)> {
    let later = NOW.plus(Span::from_secs(60));
    let edit = |edit| Command::Edit(Box::new(edit));
    let verdict = |attempt, verdict| Command::Report(Box::new(report(attempt, verdict)));
    let start = |attempt| Command::Start { attempt: AttemptNumber(attempt), pid: 77 };
    let dependency = |task, status| Command::DependencyEnded { task: TaskId(task), status };
    vec![
        ("submit", submit(spec()), NOW),
        ("due, too early", Command::Due, NOW.plus(Span(2499))),
        ("due", Command::Due, later),
        ("promote", Command::Promote, NOW),
        ("claim", claim(), NOW),
        ("start", start(2), NOW),
        ("start of an older attempt", start(1), NOW),
        ("report", verdict(2, Verdict::Completed), NOW),
        ("report of an older attempt", verdict(1, Verdict::Completed), NOW),
        ("report of a newer attempt", verdict(3, Verdict::Completed), NOW),
        ("cancel", cancel("enough"), NOW),
        ("cancel at once", Command::Cancel { reason: String::new(), grace: Some(Span::ZERO) }, NOW),
        ("expire, too early", Command::Expire, Timestamp(later.0 - 1)),
        ("expire", Command::Expire, later),
        ("dependency completed", dependency(5, Status::Completed), NOW),
        ("dependency failed", dependency(5, Status::Failed), NOW),
        ("dependency runs", dependency(5, Status::Running), NOW),
        ("another task completed", dependency(6, Status::Completed), NOW),
        ("retry", Command::Retry { retries: None, timeout: None }, NOW),
        ("retry, out of bounds", Command::Retry { retries: Some(101), timeout: None }, NOW),
        (
            "retry, timeout out of bounds",
            Command::Retry { retries: None, timeout: Some(Span(u64::MAX)) },
            NOW,
        ),
        ("edit", edit(Edit { priority: Some(7), ..Edit::default() }), NOW),
        ("edit of the instant", edit(Edit { at: Some(later), ..Edit::default() }), NOW),
        ("edit of the instant to the past", edit(Edit { at: Some(NOW), ..Edit::default() }), NOW),
        ("edit of nothing", edit(Edit::default()), NOW),
        ("edit, out of bounds", edit(Edit { priority: Some(101), ..Edit::default() }), NOW),
    ]
}

/// Where the command leads, or why it does not.
pub(super) fn step(task: Option<&Task>, command: &Command, now: Timestamp) -> String {
    let mut after = task.cloned();
    match ask(&mut after, command, now) {
        Ok(_) => after.map_or_else(String::new, |task| task.status().word().to_owned()),
        Err(rejected) => {
            assert_eq!(after.as_ref(), task);
            format!("({})", refusal(rejected))
        }
    }
}

pub(super) fn refusal(rejected: Rejected) -> &'static str {
    match rejected {
        Rejected::Missing => "missing",
        Rejected::Exists => "exists",
        Rejected::AlreadyEnded(_) => "ended",
        Rejected::StaleAttempt(_) => "stale",
        Rejected::NotNow(_) => "not now",
        Rejected::NotDue => "not due",
        Rejected::Unchanged => "unchanged",
        Rejected::Completed => "completed",
        Rejected::OutOfBounds => "out of bounds",
    }
}

/// Lines of `what follows: where`, from what follows in each of several places.
pub(super) fn grouped(title: &str, cells: &[(&str, String)]) -> String {
    let mut lines: Vec<(&str, Vec<&str>)> = Vec::new();
    for (place, cell) in cells {
        match lines.iter_mut().find(|(known, _)| known == cell) {
            Some((_, places)) => places.push(place),
            None => lines.push((cell, vec![place])),
        }
    }
    let line = |(cell, places): &(&str, Vec<&str>)| format!("  {cell}: {}\n", places.join(", "));
    format!("{title}\n{}", lines.iter().map(line).collect::<String>())
}

/// `table.txt` is the specification: under each command the status that follows, or in
/// parentheses why nothing happens, and in which states that is so; `*` = a cancel was asked for.
#[test]
fn every_command_in_every_state() {
    let mut table = String::new();
    for (name, command, now) in commands() {
        let cells: Vec<_> = states()
            .iter()
            .map(|(state, task)| (*state, step(task.as_ref(), &command, now)))
            .collect();
        table.push_str(&grouped(name, &cells));
    }
    assert_eq!(table, include_str!("table.txt"), "\n{table}");
}

#[test]
fn a_refusal_names_the_status_or_the_attempt() {
    for (name, task) in states() {
        let Some(task) = task else { continue };
        let stale = decide(Some(&task), &commands()[6].1, NOW);
        assert_eq!(stale, Err(Rejected::StaleAttempt(AttemptNumber(1))), "{name}");
        let status = task.status();
        if status == Status::Pending {
            continue;
        }
        let expected = if status.is_ended() {
            Rejected::AlreadyEnded(status)
        } else {
            Rejected::NotNow(status)
        };
        assert_eq!(decide(Some(&task), &claim(), NOW), Err(expected), "{name}");
    }
}
