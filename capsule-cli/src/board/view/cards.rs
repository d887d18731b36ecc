//! The columns and their cards.

use capsule_proto::v1::{Status, TaskView};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout as Split, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::look::Look;
use super::row;
use crate::board::model::Board;
use crate::board::model::column::Column;
use crate::ui::{task, time};

/// Draws the columns that fit, and a line that names all of them when not all do.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, board: &Board, look: &Look) {
    if area.height == 0 {
        return;
    }
    let mut area = area;
    if board.layout.tabs {
        frame.render_widget(tabs(board, look), row(area, 0));
        area = Rect { y: area.y + 1, height: area.height - 1, ..area };
    }
    let (first, count) = board.layout.columns;
    let places = Split::horizontal(vec![Constraint::Fill(1); count]).spacing(1).split(area);
    for (index, place) in places.iter().enumerate() {
        if let Some(column) = board.columns.get(first + index) {
            let focused = first + index == board.focus
                && board.detail.as_ref().is_none_or(|detail| !detail.focused);
            draw_column(frame, *place, (board, column), (look, focused));
        }
        if index > 0 {
            let sign = look.pick("│", "|");
            let line = Rect { x: place.x.saturating_sub(1), width: 1, ..*place };
            for number in 0..area.height {
                frame.render_widget(Line::styled(sign, look.dim()), row(line, number));
            }
        }
    }
}

/// `1 WAITING 4 │ 2 PENDING 12`: the focused one stands out.
fn tabs<'a>(board: &Board, look: &Look) -> Line<'a> {
    let mut spans = Vec::new();
    for (index, column) in board.columns.iter().enumerate() {
        if index > 0 {
            spans.push(Span::styled(look.pick(" │ ", " | "), look.dim()));
        }
        let text = format!("{} {}", look.safe(&column.label), thousands(column.total));
        let style = if index == board.focus { look.selected() } else { look.dim() };
        spans.push(Span::styled(text, style));
    }
    // The focused one must be in sight.
    let focus = board.focus;
    let skip = if focus > 1 { (focus - 1) * 2 } else { 0 };
    Line::from(spans.split_off(skip.min(spans.len())))
}

fn draw_column(
    frame: &mut Frame<'_>,
    area: Rect,
    (board, column): (&Board, &Column),
    (look, focused): (&Look, bool),
) {
    let mixed = column.statuses.len() > 1;
    let style = match column.statuses.as_slice() {
        [status] => look.status(*status),
        statuses if statuses.contains(&Status::Running) => look.status(Status::Running),
        _ => Style::new(),
    };
    let mut style = style.add_modifier(Modifier::BOLD);
    if column.total == 0 && look.colored {
        style = style.add_modifier(Modifier::DIM);
    }
    let mark = if focused { look.pick("▸ ", "> ") } else { "  " };
    let mut head = vec![Span::styled(
        format!("{mark}{} {}", look.safe(&column.label), thousands(column.total)),
        style,
    )];
    if column.top > 0 {
        let place = format!("  {}-{}", thousands(column.top + 1), thousands(column.seen().end));
        head.push(Span::styled(place, look.dim()));
    }
    frame.render_widget(Line::from(head), row(area, 0));
    let lines = board.layout.lines;
    for (number, place) in (0u16..).zip(column.seen()) {
        let selected = focused && place == column.cursor;
        let at = 1 + number * lines;
        match column.at(place).and_then(|id| board.card(id)) {
            Some(task) => {
                let (first, second) = card(task, mixed, look);
                let style = if selected { look.selected() } else { Style::new() };
                let sign =
                    Span::styled(format!("{} ", look.sign(task)), look.status(task.status()));
                let first = if lines == 1 { format!("{first}  {second}") } else { first };
                let line = Line::from(vec![sign, Span::raw(first)]).patch_style(style);
                let place = row(area, at);
                frame.render_widget(line, place);
                if selected {
                    frame.buffer_mut().set_style(place, style);
                }
                if lines > 1 {
                    let second = Line::styled(format!("  {second}"), look.dim());
                    frame.render_widget(second, row(area, at + 1));
                }
            }
            None => frame.render_widget(Line::styled("  ...", look.dim()), row(area, at)),
        }
    }
}

/// The two lines of a card.
fn card(task: &TaskView, mixed: bool, look: &Look) -> (String, String) {
    let name = if task.display_name.is_empty() { &task.name } else { &task.display_name };
    let first = format!("{} {}", task.id, look.safe(name));
    let parts = parts(task, mixed, look);
    (first, look.safe(&parts.join(look.pick(" · ", " - "))))
}

/// What a person wants to know beside the name, the most important first.
fn parts(view: &TaskView, mixed: bool, look: &Look) -> Vec<String> {
    let now = look.now_us();
    let status = view.status();
    let running = matches!(status, Status::Running | Status::Claimed);
    let mut parts = Vec::new();
    if mixed && status != Status::Running {
        parts.push(task::word(status));
    }
    if view.cancelling {
        parts.push("cancelling".to_owned());
    }
    if let Some(progress) = view.progress.as_ref().filter(|_| running) {
        parts.push(match progress.total {
            Some(total) if total > 0.0 => bar(progress.done / total, look),
            Some(_) | None => format!("{}", progress.done),
        });
    }
    match (view.started_us, view.ended_us) {
        (Some(from), _) if running => parts.push(time::between(from, now)),
        (Some(from), Some(to)) => parts.push(time::between(from, to)),
        (None | Some(_), None | Some(_)) => {}
    }
    match (view.ended_us, view.due_us) {
        (Some(at), _) => parts.push(look.ui.times.told(at)),
        (None, Some(due)) if due > now && !running => parts.push(look.ui.times.told(due)),
        (None, _) if !running => parts.push(look.ui.times.told(view.created_us)),
        (None, _) => {}
    }
    if view.attempt > 1 {
        parts.push(format!("{}/{}", view.attempt, view.retries.saturating_add(1)));
    }
    let progress = view.progress.as_ref().filter(|_| running).map(|it| it.text.clone());
    let notes = [
        progress.unwrap_or_default(),
        view.reason.clone(),
        view.waiting.clone(),
        view.owner.clone(),
    ];
    parts.extend(notes.into_iter().find(|note| !note.is_empty()));
    parts
}

/// `██████░░ 64%`.
pub(super) fn bar(part: f64, look: &Look) -> String {
    let part = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
    let percent = (part * 100.0).floor() as usize;
    let full = percent * 8 / 100;
    let (on, off) = (look.pick("█", "#"), look.pick("░", "."));
    format!("{}{} {percent}%", on.repeat(full), off.repeat(8 - full))
}

/// `1 203`: readable without being taken for two numbers.
pub(super) fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
