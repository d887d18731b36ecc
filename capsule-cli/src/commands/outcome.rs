//! How a task ended, as an exit code.

use capsule_proto::v1::{Status, TaskView};

use crate::error::Exit;

/// 0 completed, 20 failed, 21 cancelled, 22 timeout, 23 lost, 24 not ended.
pub(crate) fn of_task(task: &TaskView) -> Exit {
    match task.status() {
        Status::Completed => Exit::Done,
        Status::Failed if task.reason.starts_with("lost") => Exit::TaskLost,
        Status::Failed => Exit::TaskFailed,
        Status::Timeout => Exit::TaskTimeout,
        Status::Cancelled => Exit::TaskCancelled,
        Status::Unspecified
        | Status::Scheduled
        | Status::Pending
        | Status::Claimed
        | Status::Running
        | Status::Retry => Exit::Unfinished,
    }
}

/// The program's own code; 128+N for the signal N; 125, 126 or 127 when it could not be started.
pub(crate) fn of_program(task: &TaskView, error: &str) -> Exit {
    if matches!(task.status(), Status::Completed | Status::Failed)
        && let Some(code) = task.exit_code
    {
        return Exit::of(code);
    }
    if let Some(signal) = task.signal {
        return Exit::of(signal.saturating_add(128));
    }
    if task.reason.starts_with("cannot_start") || task.reason.starts_with("cannot start") {
        return cannot_start(&format!("{} {error}", task.reason).to_ascii_lowercase());
    }
    of_task(task)
}

fn cannot_start(why: &str) -> Exit {
    let about_cwd = ["cwd", "working directory", "chdir"].iter().any(|word| why.contains(word));
    if about_cwd {
        return Exit::CannotStart;
    }
    if ["no such file", "not found", "enoent"].iter().any(|word| why.contains(word)) {
        return Exit::NoProgram;
    }
    let barred = [
        "permission denied",
        "is a directory",
        "not executable",
        "exec format",
        "eacces",
        "enoexec",
    ];
    if barred.iter().any(|word| why.contains(word)) {
        return Exit::NotExecutable;
    }
    Exit::CannotStart
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(status: Status, reason: &str) -> TaskView {
        TaskView { status: status.into(), reason: reason.to_owned(), ..TaskView::default() }
    }

    #[test]
    fn tasks() {
        let cases = [
            (Status::Completed, "", 0),
            (Status::Failed, "exit 3", 20),
            (Status::Failed, "lost: keeper died", 23),
            (Status::Cancelled, "", 21),
            (Status::Timeout, "timeout", 22),
            (Status::Running, "", 24),
            (Status::Retry, "", 24),
        ];
        for (status, reason, code) in cases {
            assert_eq!(of_task(&task(status, reason)).code(), code, "{status:?} {reason}");
        }
    }

    #[test]
    fn programs() {
        let of = |status, exit_code, signal| {
            of_program(&TaskView { exit_code, signal, ..task(status, "") }, "").code()
        };
        assert_eq!(of(Status::Completed, Some(0), None), 0);
        assert_eq!(of(Status::Failed, Some(3), None), 3);
        assert_eq!(of(Status::Failed, None, Some(9)), 137);
        assert_eq!(of(Status::Cancelled, None, Some(15)), 143);
        assert_eq!(of(Status::Timeout, None, None), 22);
    }

    #[test]
    fn programs_that_could_not_be_started() {
        let of =
            |reason: &str, error: &str| of_program(&task(Status::Failed, reason), error).code();
        assert_eq!(of("cannot start: exec", "no such file or directory"), 127);
        assert_eq!(of("cannot_start: exec", "Permission denied (os error 13)"), 126);
        assert_eq!(of("cannot start: program: /: is a directory", ""), 126);
        assert_eq!(of("cannot start: cwd", "no such file or directory"), 125);
        assert_eq!(of("cannot start: user", "unknown user nobody9"), 125);
    }
}
