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
        frame.render_widget(tabs(board, area.width, look), row(area, 0));
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

/// `WAITING 4 │ PENDING 12`: the focused one stands out, and is in sight.
fn tabs<'a>(board: &Board, width: u16, look: &Look) -> Line<'a> {
    let mut spans: Vec<Span<'_>> = Vec::new();
    for (index, column) in board.columns.iter().enumerate() {
        let text = format!("{} {}", look.safe(&column.label), thousands(column.total));
        let style = if index == board.focus { look.selected() } else { look.dim() };
        spans.push(Span::styled(text, style));
        spans.push(Span::styled(look.pick(" │ ", " | "), look.dim()));
    }
    spans.pop();
    let mut first = 0;
    let upto = board.focus * 2 + 1;
    let wide = |from: usize| -> usize { spans.iter().take(upto).skip(from).map(Span::width).sum() };
    while first < board.focus * 2 && wide(first) > usize::from(width) {
        first += 2;
    }
    Line::from(spans.split_off(first.min(spans.len())))
}

fn draw_column(
    frame: &mut Frame<'_>,
    area: Rect,
    (board, column): (&Board, &Column),
    (look, focused): (&Look, bool),
) {
    let mixed = column.statuses.len() > 1;
    let mut style = head_style(column, look);
    if column.total == 0 {
        style = style.patch(look.dim());
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
        let at = 1 + number * lines;
        let (top, below) = (row(area, at), row(area, at + lines - 1));
        let Some(task) = column.at(place).and_then(|id| board.card(id)) else {
            frame.render_widget(Line::styled("  ...", look.dim()), top);
            continue;
        };
        let width = usize::from(area.width).saturating_sub(2);
        let (mut first, second) = card(task, mixed, look);
        if lines == 1 {
            first = format!("{first}  {second}");
        } else {
            let second = format!("  {}", look.cut(&second, width));
            frame.render_widget(Line::styled(second, look.dim()), below);
        }
        let sign = Span::styled(format!("{} ", look.sign(task)), look.status(task.status()));
        frame.render_widget(Line::from(vec![sign, Span::raw(look.cut(&first, width))]), top);
        if focused && place == column.cursor {
            frame.buffer_mut().set_style(top, look.selected());
        }
    }
}

fn head_style(column: &Column, look: &Look) -> Style {
    let style = match column.statuses.as_slice() {
        [status] => look.status(*status),
        statuses if statuses.contains(&Status::Running) => look.status(Status::Running),
        statuses if statuses.contains(&Status::Failed) => look.status(Status::Failed),
        _ => Style::new(),
    };
    style.add_modifier(Modifier::BOLD)
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
    let told = format!("{}{}", view.reason, view.waiting);
    if mixed && status != Status::Running && !told.starts_with(&task::word(status)) {
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
    let progress = view.progress.as_ref().filter(|_| running).map(|it| it.text.clone());
    let notes = [progress.unwrap_or_default(), view.reason.clone(), view.waiting.clone()];
    parts.extend(notes.into_iter().find(|note| !note.is_empty() && !parts.contains(note)));
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
    parts.extend((!view.owner.is_empty()).then(|| view.owner.clone()));
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
