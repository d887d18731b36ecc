//! How tasks read: rows of `list`, the line of a submit, the block of `show`.

use capsule_proto::v1::{AttemptView, ShowReply, Status, SubmitReply, TaskView};

use super::table::{Cell, Table};
use super::{Listing, Ui, color, escape, shape, time};

/// The name of a task's status.
pub(crate) fn status_word(task: &TaskView) -> String {
    word(task.status())
}

/// The name of a status.
pub(crate) fn word(status: Status) -> String {
    status.as_str_name().to_ascii_lowercase()
}

/// A task that will not change any more by itself.
pub(crate) const fn ended(status: Status) -> bool {
    match status {
        Status::Completed | Status::Failed | Status::Timeout | Status::Cancelled => true,
        Status::Unspecified
        | Status::Scheduled
        | Status::Pending
        | Status::Claimed
        | Status::Running
        | Status::Retry => false,
    }
}

/// Tasks as a list.
pub(crate) fn listing(ui: &Ui, tasks: &[TaskView]) -> Listing {
    let ours = nix::unistd::geteuid().as_raw();
    let users = tasks.iter().any(|task| task.uid != ours);
    let mut head = vec!["ID", "STATUS", "TASK", "OWNER", "TRY", "AGE", "TOOK", "NOTE"];
    if users {
        head.insert(3, "USER");
    }
    let mut table = Table::new(head).sparing(&["USER", "OWNER", "TRY", "TOOK", "AGE"]);
    for task in tasks {
        let status = Cell::new(status_word(task)).style(color::of(task.status()));
        let mut row = vec![
            Cell::new(task.id.to_string()),
            status,
            Cell::new(title(task)),
            Cell::new(&task.owner),
            Cell::new(tries(task)),
            Cell::new(ui.times.age(task.created_us)),
            Cell::new(took(ui, task)),
            Cell::new(note(task)),
        ];
        if users {
            row.insert(3, Cell::new(user(task.uid)));
        }
        table.push(row);
    }
    let json = tasks.iter().map(shape::task).collect();
    let ids = tasks.iter().map(|task| task.id.to_string()).collect();
    Listing { table, json, ids }
}

/// The login name of a user, or the number.
pub(crate) fn user(uid: u32) -> String {
    let found = nix::unistd::User::from_uid(uid.into());
    found.ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

fn title(task: &TaskView) -> &str {
    if task.name.is_empty() { &task.summary } else { &task.name }
}

/// `2/3`; `4 (retry 1/3)` when `capsule retry` gave it a fresh budget.
fn tries(task: &TaskView) -> String {
    let budget = task.retries.saturating_add(1);
    match task.attempt {
        0 => "-".to_owned(),
        attempt if attempt <= budget && attempt <= task.failures.saturating_add(1) => {
            format!("{attempt}/{budget}")
        }
        attempt => format!("{attempt} (retry {}/{})", task.failures, task.retries),
    }
}

fn took(ui: &Ui, task: &TaskView) -> String {
    let running = matches!(task.status(), Status::Running | Status::Claimed);
    let until = task.ended_us.or(running.then_some(ui.times.now.as_microsecond()));
    let span = task.started_us.zip(until);
    span.map_or("-".to_owned(), |(from, to)| time::between(from, to))
}

/// What a person wants to know beside the status: why it waits, how it ended, how far it is.
fn note(task: &TaskView) -> String {
    if task.cancelling {
        return "cancelling".to_owned();
    }
    if let Some(into) = task.merged_into {
        return format!("merged into {into}");
    }
    if !task.reason.is_empty() {
        return task.reason.clone();
    }
    if !task.waiting.is_empty() {
        return task.waiting.clone();
    }
    match &task.progress {
        Some(progress) => match progress.total {
            Some(total) => format!("{}/{total} {}", progress.done, progress.text),
            None => format!("{} {}", progress.done, progress.text),
        },
        None => task.summary.clone(),
    }
}

/// The line that a submit prints: what became of it.
pub(crate) fn submitted(ui: &Ui, reply: &SubmitReply) -> String {
    let task = reply.task.clone().unwrap_or_default();
    let verb = match (reply.merged, reply.existing) {
        (true, _) => "merged into",
        (false, true) => "known as",
        (false, false) => "submitted",
    };
    let mut parts = vec![format!("{verb} {}", ui.paint(color::BOLD, &task.id.to_string()))];
    let name = if task.display_name.is_empty() { &task.name } else { &task.display_name };
    parts.push(escape::line(name).into_owned());
    let detail = if reply.note.is_empty() && reply.merged && !task.lock.is_empty() {
        format!("lock {} held ({})", task.lock, standing(ui, &task))
    } else if !reply.note.is_empty() {
        reply.note.clone()
    } else if task.waiting.is_empty() {
        task.summary.clone()
    } else {
        task.waiting.clone()
    };
    parts.push(escape::line(&detail).into_owned());
    if reply.arguments_differ {
        parts.push("its arguments differ from yours".to_owned());
    }
    parts.retain(|part| !part.is_empty());
    parts.join("  ")
}

/// `running 12s` or `pending`.
fn standing(ui: &Ui, task: &TaskView) -> String {
    match took(ui, task).as_str() {
        "-" => status_word(task),
        span => format!("{} {span}", status_word(task)),
    }
}

/// Everything about a task; `log` holds its last lines.
pub(crate) fn block(ui: &Ui, reply: &ShowReply, log: &[String]) -> String {
    let task = reply.task.clone().unwrap_or_default();
    let mut lines = vec![headline(ui, &task)];
    let mut push = |label: &str, text: &str| {
        if !text.is_empty() {
            let text = escape::block(text).replace('\n', "\n            ");
            lines.push(format!("  {label:<9} {text}"));
        }
    };
    push("task", &identity(&task));
    push("arguments", &arguments(reply));
    push("times", &times(ui, &task));
    push("waits", &task.waiting);
    for (number, gate) in reply.gates.iter().enumerate() {
        push(if number == 0 { "gates" } else { "" }, &gate.text);
    }
    for (number, attempt) in reply.attempts.iter().enumerate() {
        push(if number == 0 { "attempts" } else { "" }, &attempt_line(attempt));
    }
    push("longest", &reply.longest_ms.map_or(String::new(), time::millis));
    push("result", &reply.result_json);
    if reply.error != task.reason {
        push("error", reply.error.trim_end());
    }
    if !log.is_empty() {
        push("log", &format!("(its end)  capsule tail {}", task.id));
        for line in log {
            lines.push(format!("    {}", escape::line(line)));
        }
    }
    if let Some(hint) = hint(&task) {
        lines.push(format!("  {:<9} {hint}", "hint"));
    }
    lines.join("\n")
}

fn headline(ui: &Ui, task: &TaskView) -> String {
    let status = ui.paint(color::of(task.status()), &status_word(task));
    let id = ui.paint(color::BOLD, &task.id.to_string());
    let reason = if task.reason.is_empty() { String::new() } else { format!(": {}", task.reason) };
    let cancelling = if task.cancelling { " (cancelling)" } else { "" };
    format!("{id} {}  {status}{}{cancelling}", escape::line(title(task)), escape::line(&reason))
}

fn identity(task: &TaskView) -> String {
    let mut parts = Vec::new();
    if !task.app.is_empty() {
        parts.push(format!("app {}@r{}", task.app, task.revision));
    }
    let named = [
        ("queue", &task.queue),
        ("owner", &task.owner),
        ("lock", &task.lock),
        ("key", &task.key),
        ("schedule", &task.schedule),
    ];
    for (name, value) in named {
        if !value.is_empty() {
            parts.push(format!("{name} {value}"));
        }
    }
    if task.priority != 0 {
        parts.push(format!("priority {}", task.priority));
    }
    parts.push(format!("user {}", user(task.uid)));
    parts.push(format!("uuid {}", task.uuid));
    let mut labels: Vec<_> = task.labels.iter().collect();
    labels.sort();
    parts.extend(labels.into_iter().map(|(name, value)| format!("{name}={value}")));
    parts.join(" · ")
}

fn arguments(reply: &ShowReply) -> String {
    if let Some(program) = &reply.program {
        let command = shell_line(&program.argv);
        return format!("{command}  (in {})", program.cwd);
    }
    reply.payload_json.clone()
}

/// The command line of this process, to be typed again.
pub(crate) fn this_command() -> String {
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    format!("capsule {}", shell_line(&words.collect::<Vec<_>>()))
}

/// A command line that a shell would read the same way.
pub(crate) fn shell_line(argv: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    let quoted = argv.iter().map(|word| {
        if !word.is_empty() && word.chars().all(plain) {
            return word.clone();
        }
        format!("'{}'", word.replace('\'', "'\\''"))
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn times(ui: &Ui, task: &TaskView) -> String {
    let created =
        format!("created {} ({})", ui.times.clock(task.created_us), ui.times.told(task.created_us));
    let mut parts = vec![created];
    if task.started_us.is_none() {
        parts.extend(task.due_us.map(|us| format!("due {}", ui.times.told(us))));
    }
    parts.extend(task.started_us.map(|us| format!("started {}", ui.times.clock(us))));
    parts.extend(task.ended_us.map(|us| format!("{} {}", status_word(task), ui.times.clock(us))));
    parts.join(" → ")
}

/// One attempt with its receipt.
pub(crate) fn attempt_line(attempt: &AttemptView) -> String {
    let mut parts = vec![format!("{}", attempt.number)];
    let verdict = if attempt.verdict.is_empty() { "running" } else { &attempt.verdict };
    parts.push(verdict.to_owned());
    if !attempt.reason.is_empty() && attempt.reason != attempt.verdict {
        parts.push(attempt.reason.clone());
    }
    if let Some(receipt) = &attempt.receipt {
        parts.extend(
            receipt.wall_us.map(|us| {
                format!("{} wall", time::between(0, i64::try_from(us).unwrap_or(i64::MAX)))
            }),
        );
        let cpu = receipt
            .cpu_user_us
            .zip(receipt.cpu_system_us)
            .map(|(user, system)| user.saturating_add(system));
        parts.extend(
            cpu.map(|us| {
                format!("{} CPU", time::between(0, i64::try_from(us).unwrap_or(i64::MAX)))
            }),
        );
        parts.extend(receipt.peak_memory_bytes.map(|count| format!("{} peak", time::bytes(count))));
        if let Some(code) =
            receipt.exit_code.filter(|code| !attempt.reason.contains(&format!("exit {code}")))
        {
            parts.push(format!("exit {code}"));
        }
        if receipt.signal.is_some() && attempt.reason.is_empty() {
            parts.extend(receipt.signal.map(|signal| format!("signal {signal}")));
        }
        if receipt.out_of_memory {
            parts.push("out of memory".to_owned());
        }
        if receipt.dropped_bytes > 0 {
            parts.push(format!("{} of output dropped", time::bytes(receipt.dropped_bytes)));
        }
        if !receipt.result_refused.is_empty() {
            parts.push(format!("result not kept: {}", receipt.result_refused));
        }
    }
    if !attempt.stopped.is_empty() && attempt.stopped != attempt.reason {
        parts.push(attempt.stopped.clone());
    }
    parts.join(" · ")
}

/// What one may want to do next.
fn hint(task: &TaskView) -> Option<String> {
    let id = task.id;
    match task.status() {
        Status::Failed | Status::Cancelled => Some(format!("capsule retry {id}")),
        Status::Timeout => Some(format!("capsule retry {id} --timeout 20m")),
        Status::Pending | Status::Scheduled | Status::Retry => Some(format!("capsule why {id}")),
        Status::Running | Status::Claimed => Some(format!("capsule tail {id}")),
        Status::Completed | Status::Unspecified => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Globals;

    fn running(id: u64) -> TaskView {
        TaskView {
            id,
            name: "rebuild_index".to_owned(),
            status: Status::Running.into(),
            lock: "owner:acme".to_owned(),
            ..TaskView::default()
        }
    }

    #[test]
    fn a_merged_submit_names_the_lock_and_who_holds_it() {
        let ui = Ui::new(&Globals::default());
        let started = ui.times.now.as_microsecond() - 12_000_000;
        let task = TaskView { started_us: Some(started), attempt: 1, ..running(1842) };
        let reply = SubmitReply { task: Some(task), merged: true, ..SubmitReply::default() };
        assert_eq!(
            submitted(&ui, &reply),
            "merged into 1842  rebuild_index  lock owner:acme held (running 12s)"
        );
    }

    #[test]
    fn tries_count_the_present_budget() {
        let of = |attempt, failures, retries| {
            tries(&TaskView { attempt, failures, retries, ..TaskView::default() })
        };
        assert_eq!(of(0, 0, 2), "-");
        assert_eq!(of(2, 1, 2), "2/3");
        assert_eq!(of(3, 3, 2), "3/3");
        assert_eq!(of(4, 1, 3), "4 (retry 1/3)");
    }

    #[test]
    fn command_lines_are_quoted_where_needed() {
        let argv = ["echo", "a b", "it's", ""].map(str::to_owned);
        assert_eq!(shell_line(&argv), "echo 'a b' 'it'\\''s' ''");
    }
}
