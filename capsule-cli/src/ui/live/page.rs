//! A page of an app: its boards of tasks, every other widget as one grey line.

use capsule_proto::v1::{Column as Asked, PageView, Status, TaskBoard, TaskView};
use serde_json::{Value, json};

use crate::ui::live::board::{Column, render_columns};
use crate::ui::{Ui, color, escape, shape};

/// Lines of a page besides its boards: name, title of a board, empty lines.
const AROUND: usize = 3;

/// The page as text; `tasks` are those of the app, newest first.
pub(crate) fn render(ui: &Ui, page: &PageView, tasks: &[&TaskView], rows: Option<usize>) -> String {
    let boards = page.widgets.iter().filter(|widget| widget.board.is_some()).count();
    let room =
        rows.map(|rows| (rows.saturating_sub(page.widgets.len()) / boards.max(1)).max(AROUND));
    let mut text = format!("{}\n", ui.paint(color::BOLD, &escape::line(&page.name)));
    for widget in &page.widgets {
        let Some(board) = &widget.board else {
            let line = format!("{} {}", widget.r#type, widget.title);
            text.push_str(&ui.paint(color::DIM, &escape::line(line.trim_end())));
            text.push('\n');
            continue;
        };
        text.push('\n');
        if !widget.title.is_empty() {
            text.push_str(&ui.paint(color::BOLD, &escape::line(&widget.title)));
            text.push('\n');
        }
        if !board.ignored.is_empty() {
            let line = format!("not filtered by {}", board.ignored.join(", "));
            text.push_str(&ui.paint(color::DIM, &escape::line(&line)));
            text.push('\n');
        }
        let columns: Vec<Column<'_>> =
            board.columns.iter().map(|column| drawn(board, column, tasks)).collect();
        let room = room.map(|room| room.saturating_sub(AROUND));
        text.push_str(&render_columns(ui, &columns, room));
    }
    text
}

/// The page as JSON.
pub(crate) fn json(page: &PageView, tasks: &[&TaskView]) -> Value {
    let widgets = page.widgets.iter().map(|widget| {
        let columns = widget.board.as_ref().map(|board| {
            let column = |column: &Asked| {
                let tasks = within(board, column, tasks).map(shape::task);
                json!({
                    "label": column.label,
                    "statuses": statuses(column).map(shape::status).collect::<Vec<_>>(),
                    "tasks": tasks.collect::<Vec<_>>(),
                })
            };
            board.columns.iter().map(column).collect::<Vec<_>>()
        });
        json!({
            "type": widget.r#type,
            "title": widget.title,
            "refresh_ms": widget.board.as_ref().map(|board| board.refresh_ms),
            "columns": columns,
        })
    });
    json!({
        "page": page.name,
        "icon": page.icon,
        "order": page.order,
        "widgets": widgets.collect::<Vec<_>>(),
    })
}

fn statuses(column: &Asked) -> impl Iterator<Item = Status> + '_ {
    column.statuses.iter().filter_map(|status| Status::try_from(*status).ok())
}

/// The tasks of a column of a board.
fn within<'a>(
    board: &'a TaskBoard,
    column: &'a Asked,
    tasks: &'a [&'a TaskView],
) -> impl Iterator<Item = &'a TaskView> {
    let asked = |task: &&TaskView| {
        (board.task_name.is_empty() || board.task_name == task.name)
            && (board.statuses.is_empty() || board.statuses.contains(&task.status))
    };
    tasks.iter().copied().filter(asked).filter(|task| column.statuses.contains(&task.status))
}

fn drawn<'a>(board: &'a TaskBoard, column: &'a Asked, tasks: &'a [&'a TaskView]) -> Column<'a> {
    let style = match statuses(column).next() {
        Some(status) if column.statuses.len() == 1 => color::of(status),
        Some(_) | None => color::BOLD,
    };
    Column {
        label: escape::line(&column.label).into_owned(),
        style,
        tasks: within(board, column, tasks).collect(),
        mixed: column.statuses.len() > 1,
    }
}
