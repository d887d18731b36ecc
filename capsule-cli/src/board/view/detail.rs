//! The open task: its head, its tabs, and what the chosen one holds.

use capsule_proto::v1::TaskView;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr as _;

use super::look::Look;
use super::{cards, pages, row};
use crate::board::model::Board;
use crate::board::model::detail::{Detail, Tab};
use crate::ui::{task, time};

/// Rows of the pane before what the tab holds.
const HEAD: u16 = 3;

/// Draws the open task, if one is.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, board: &mut Board, look: &Look) {
    if area.height == 0 {
        return;
    }
    let Some(detail) = &mut board.detail else { return };
    title(frame, row(area, 0), detail, look);
    let facts = detail.task().map(|task| facts(task, look)).unwrap_or_default();
    frame.render_widget(Line::raw(format!(" {facts}")), row(area, 1));
    frame.render_widget(tabs(detail, look), row(area, 2));
    let body = Rect {
        y: area.y + HEAD.min(area.height),
        height: area.height.saturating_sub(HEAD),
        ..area
    };
    pages::draw(frame, body, detail, look);
}

fn title(frame: &mut Frame<'_>, area: Rect, detail: &Detail, look: &Look) {
    let rule = look.pick("─", "-");
    let text = match detail.task() {
        Some(task) => format!(
            "{rule} {} {} {} {} ",
            look.sign(task),
            task.id,
            look.safe(if task.display_name.is_empty() { &task.name } else { &task.display_name }),
            task::status_word(task),
        ),
        None => format!("{rule} {} ... ", detail.id),
    };
    let rest = usize::from(area.width).saturating_sub(text.width());
    let style = if detail.focused { look.bold() } else { look.dim() };
    let color = detail.task().map_or(Style::new(), |task| look.status(task.status()));
    let spans =
        vec![Span::styled(text, color.patch(style)), Span::styled(rule.repeat(rest), look.dim())];
    frame.render_widget(Line::from(spans), area);
}

/// Everything short about a task, in a line.
fn facts(task: &TaskView, look: &Look) -> String {
    let mut parts = Vec::new();
    let running = task.started_us.filter(|_| task.ended_us.is_none() && task.pid.is_some());
    if let Some(progress) = task.progress.as_ref().filter(|_| running.is_some()) {
        if let Some(total) = progress.total.filter(|total| *total > 0.0) {
            parts.push(cards::bar(progress.done / total, look));
        }
        parts.push(progress.text.clone());
    }
    match (task.started_us, task.ended_us) {
        (Some(from), Some(to)) => parts.push(format!("took {}", time::between(from, to))),
        (Some(from), None) if running.is_some() => {
            parts.push(format!("running {}", time::between(from, look.now_us())));
        }
        (Some(_) | None, None | Some(_)) => {}
    }
    if task.attempt > 0 {
        parts.push(format!("attempt {}/{}", task.attempt, task.retries.saturating_add(1)));
    }
    let mut named = |label: &str, text: &str| {
        if !text.is_empty() {
            parts.push(format!("{label} {text}"));
        }
    };
    named("app", &task.app);
    named("owner", &task.owner);
    named("queue", &task.queue);
    named("lock", &task.lock);
    named("pid", &task.pid.map_or(String::new(), |pid| pid.to_string()));
    parts.extend([task.reason.clone(), task.waiting.clone()]);
    if task.hold {
        parts.push("held back".to_owned());
    }
    parts.retain(|part| !part.is_empty());
    look.safe(&parts.join("  "))
}

fn tabs<'a>(detail: &Detail, look: &Look) -> Line<'a> {
    let mut spans = vec![Span::raw(" ")];
    for (number, tab) in Tab::ALL.into_iter().enumerate() {
        let style = if tab == detail.tab { look.selected() } else { look.dim() };
        spans.push(Span::styled(format!("{} {}", number + 1, tab.title()), style));
        spans.push(Span::raw("  "));
    }
    if detail.tab == Tab::Log {
        let follows = if detail.follow { "following" } else { "f follows" };
        spans.push(Span::styled(follows, look.dim()));
    }
    Line::from(spans)
}
