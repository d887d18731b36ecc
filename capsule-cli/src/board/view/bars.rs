//! The first and the last line.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr as _;

use super::look::Look;
use crate::board::model::deed::Deed;
use crate::board::model::{Board, Link, Overlay, keys};

/// What is shown, how the daemon is, the filter, the time.
pub(super) fn head(frame: &mut Frame<'_>, area: Rect, board: &Board, look: &Look) {
    let mut spans = vec![Span::styled(" Capsule ", look.bold())];
    spans.push(Span::raw(format!(" {} ", title(board, look))));
    spans.push(match board.link {
        Link::Live => Span::styled(look.own("● live"), look.good()),
        Link::Opening => Span::styled(look.own("○ connecting"), look.dim()),
        Link::Lost => {
            Span::styled(look.own("✗ reconnecting").replace('✗', look.pick("✗", "x")), look.error())
        }
    });
    if !board.query.text.is_empty() {
        spans.push(Span::raw("  filter: "));
        spans.push(Span::styled(look.safe(&board.query.text), look.bold()));
    }
    let ignored = board.shown_sheet().map(|sheet| sheet.ignored.join(", ")).unwrap_or_default();
    if !ignored.is_empty() {
        spans.push(Span::styled(format!("  not filtered by {}", look.safe(&ignored)), look.dim()));
    }
    frame.render_widget(Line::from(spans), area);
    let clock = look.ui.times.clock(look.now_us());
    let width = u16::try_from(clock.width()).unwrap_or_default().saturating_add(1);
    if area.width > 60 {
        let place = Rect { x: area.right().saturating_sub(width), width, ..area };
        frame.render_widget(Line::styled(clock, look.dim()), place);
    }
}

/// The name of the board or the list.
fn title(board: &Board, look: &Look) -> String {
    if let Some(table) = &board.table {
        return table.kind.title().to_owned();
    }
    let Some(sheet) = board.shown_sheet() else { return String::new() };
    let page = format!("{} {}", sheet.icon, sheet.page);
    let parts = [page.trim(), sheet.title.trim()];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    look.safe(&parts.join(look.pick(" · ", " - ")))
}

/// What is asked or told, else the keys.
pub(super) fn foot(frame: &mut Frame<'_>, area: Rect, board: &Board, look: &Look) {
    let line = if let Some(typed) = &board.query.typed {
        let mut spans = vec![Span::raw(" filter: "), Span::styled(look.safe(typed), look.bold())];
        let column = Line::from(spans.clone()).width();
        if let Some(error) = &board.query.error {
            spans.push(Span::styled(format!("   {}", look.safe(error)), look.error()));
        }
        let x = area.x.saturating_add(u16::try_from(column).unwrap_or(u16::MAX));
        frame.set_cursor_position((x.min(area.right().saturating_sub(1)), area.y));
        Line::from(spans)
    } else if let Overlay::Confirm(deed) = &board.overlay {
        let kills = matches!(deed, Deed::Cancel { now: false, .. });
        let more = if kills { "  y / n / C kill at once" } else { "  y / n" };
        let question = format!(" {}", look.safe(&deed.question()));
        Line::from(vec![Span::styled(question, look.warning()), Span::raw(more)])
    } else if let Some(notice) = &board.notice {
        let style = if notice.is_error { look.error() } else { Style::new() };
        Line::styled(format!(" {}", look.safe(&notice.text)), style)
    } else {
        keys(board, look)
    };
    frame.render_widget(line, area);
}

fn keys<'a>(board: &Board, look: &Look) -> Line<'a> {
    let mut spans = Vec::new();
    for binding in keys::all().filter(|binding| !binding.short.is_empty()) {
        if board.readonly && matches!(binding.action, keys::Action::Do(_)) {
            continue;
        }
        let key = binding.shown.split(' ').next().unwrap_or_default();
        spans.push(Span::styled(format!(" {}", look.own(key)), look.bold()));
        spans.push(Span::raw(format!(" {} ", binding.short)));
    }
    Line::from(spans)
}
