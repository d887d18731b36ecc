//! The board: a column for each status, a card for each task.

use anstyle::Style;
use capsule_proto::v1::{Status, TaskView};
use unicode_width::UnicodeWidthStr as _;

use crate::ui::task::word;
use crate::ui::{Ui, color, escape, table, time};

/// Columns in the order that a task passes them.
const ORDER: [Status; 9] = [
    Status::Scheduled,
    Status::Pending,
    Status::Claimed,
    Status::Running,
    Status::Retry,
    Status::Completed,
    Status::Failed,
    Status::Timeout,
    Status::Cancelled,
];

/// Columns narrower than this stand below each other instead.
const NARROWEST: usize = 18;
/// The width of a board without a terminal.
const WIDTH: usize = 100;
/// Cards of a column without a terminal.
const CARDS: usize = 20;

/// A column of a board.
#[derive(Debug)]
pub(crate) struct Column<'a> {
    /// Its label, drawn as it is.
    pub(crate) label: String,
    pub(crate) style: Style,
    /// Newest first.
    pub(crate) tasks: Vec<&'a TaskView>,
    /// Cards say their status.
    pub(crate) mixed: bool,
}

/// The board as text, newest tasks first; `rows` is the height of the terminal.
pub(crate) fn render(ui: &Ui, tasks: &[&TaskView], rows: Option<usize>) -> String {
    let columns: Vec<Column<'_>> = ORDER
        .into_iter()
        .map(|status| (status, tasks.iter().copied().filter(move |task| task.status() == status)))
        .map(|(status, cards)| (status, cards.collect::<Vec<_>>()))
        .filter(|(status, cards)| always(*status) || !cards.is_empty())
        .map(|(status, tasks)| Column {
            label: word(status).to_uppercase(),
            style: color::of(status),
            tasks,
            mixed: false,
        })
        .collect();
    render_columns(ui, &columns, rows)
}

/// Columns beside each other; below each other where the terminal is narrow.
pub(crate) fn render_columns(ui: &Ui, columns: &[Column<'_>], rows: Option<usize>) -> String {
    let width = ui.width.unwrap_or(WIDTH);
    let each = (width + 2) / columns.len().max(1);
    if each < NARROWEST + 2 {
        return stacked(ui, columns, width, rows);
    }
    let room = rows.map_or(CARDS, |rows| rows.saturating_sub(1));
    let drawn: Vec<Vec<(String, usize)>> =
        columns.iter().map(|column| cards(ui, column, each - 2, room)).collect();
    let height = drawn.iter().map(Vec::len).max().unwrap_or_default();
    let mut text = String::new();
    for row in 0..height {
        let mut line = String::new();
        for column in &drawn {
            let (cell, wide) = column.get(row).map_or(("", 0), |(cell, wide)| (cell, *wide));
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', each.saturating_sub(wide)));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Drawn also when empty.
const fn always(status: Status) -> bool {
    matches!(status, Status::Pending | Status::Running | Status::Completed | Status::Failed)
}

/// Lines of a column with their widths: the head, then two lines for each card.
fn cards(ui: &Ui, column: &Column<'_>, width: usize, room: usize) -> Vec<(String, usize)> {
    let Column { label, style, tasks, mixed } = column;
    let head = table::cut(&format!("{label} {}", tasks.len()), width);
    let mut lines = vec![(ui.paint(style.bold(), &head), head.width())];
    let fits = room.saturating_sub(1) / 2;
    for task in tasks.iter().take(fits) {
        let (first, second) = card(ui, task, *mixed);
        let (first, second) = (table::cut(&first, width), table::cut(&second, width));
        let widths = (first.width(), second.width());
        lines.push((first, widths.0));
        lines.push((ui.paint(color::DIM, &second), widths.1));
    }
    if tasks.len() > fits {
        let more = table::cut(&format!("and {} more", tasks.len() - fits), width);
        let wide = more.width();
        lines.push((ui.paint(color::DIM, &more), wide));
    }
    lines
}

/// The two lines of a card.
fn card(ui: &Ui, task: &TaskView, mixed: bool) -> (String, String) {
    let name = if task.display_name.is_empty() { &task.name } else { &task.display_name };
    let first = format!("{} {}", task.id, escape::line(name));
    let running = matches!(task.status(), Status::Running | Status::Claimed);
    let until = task.ended_us.or(running.then_some(ui.times.now.as_microsecond()));
    let mut parts = Vec::new();
    if mixed {
        parts.push(word(task.status()));
    }
    match (task.started_us, until) {
        (Some(from), Some(to)) => parts.push(time::between(from, to)),
        _ => parts.push(ui.times.told(task.created_us)),
    }
    match &task.progress {
        Some(progress) if running => parts.push(match progress.total {
            Some(total) => format!("{}/{total} {}", progress.done, progress.text),
            None => format!("{} {}", progress.done, progress.text),
        }),
        Some(_) | None if !task.reason.is_empty() => parts.push(task.reason.clone()),
        Some(_) | None if !task.waiting.is_empty() => parts.push(task.waiting.clone()),
        Some(_) | None if !task.owner.is_empty() => parts.push(task.owner.clone()),
        Some(_) | None => {}
    }
    (first, format!("  {}", escape::line(parts.join(" · ").trim_end())))
}

/// A narrow terminal gets the columns below each other, one line for each task.
fn stacked(ui: &Ui, columns: &[Column<'_>], width: usize, rows: Option<usize>) -> String {
    let room = rows.unwrap_or(usize::MAX) / columns.len().max(1);
    let mut text = String::new();
    for Column { label, style, tasks, mixed } in columns {
        let head = table::cut(&format!("{label} {}", tasks.len()), width);
        text.push_str(&ui.paint(style.bold(), &head));
        text.push('\n');
        for task in tasks.iter().take(room.saturating_sub(1).min(CARDS)) {
            let (first, second) = card(ui, task, *mixed);
            text.push_str(&table::cut(&format!("  {first}{second}"), width));
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Globals;

    fn sample() -> Vec<TaskView> {
        let task = |id, status: Status, name: &str| TaskView {
            id,
            name: name.to_owned(),
            status: status.into(),
            ..TaskView::default()
        };
        vec![
            task(9, Status::Running, "sync_leads"),
            task(8, Status::Failed, "report with a very long name that does not fit"),
            task(7, Status::Timeout, "x"),
        ]
    }

    fn drawn(width: usize) -> String {
        let mut ui = Ui::new(&Globals::default());
        ui.width = Some(width);
        ui.colored = false;
        let tasks = sample();
        render(&ui, &tasks.iter().collect::<Vec<_>>(), Some(24))
    }

    #[test]
    fn a_column_for_each_status_that_matters() {
        let text = drawn(120);
        let head = text.lines().next().unwrap_or_default();
        let words: Vec<&str> = head.split_whitespace().collect();
        assert_eq!(
            words,
            ["PENDING", "0", "RUNNING", "1", "COMPLETED", "0", "FAILED", "1", "TIMEOUT", "1"]
        );
        assert!(text.contains("9 sync_leads"), "{text}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [20, 40, 80, 120, 200] {
            for line in drawn(width).lines() {
                assert!(line.width() <= width, "{width}: {line}");
            }
        }
    }
}
