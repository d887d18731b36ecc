//! Draws a board. Everything that came from outside is made harmless before it becomes a cell.

mod bars;
mod cards;
mod detail;
mod help;
mod look;
mod pages;
mod table;
#[cfg(test)]
mod tests;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout as Split, Rect};
use ratatui::text::Line;

pub(crate) use self::look::Look;
use super::model::{Board, Overlay};

/// Draws all of it.
pub(crate) fn draw(frame: &mut Frame<'_>, board: &mut Board, look: &Look) {
    let area = frame.area();
    if board.size() != (area.width, area.height) {
        board.resize(area.width, area.height);
    }
    if board.layout.too_small {
        frame.render_widget(Line::from("too small for a board"), row(area, 0));
        return;
    }
    let layout = board.layout;
    let parts = Split::vertical([
        Constraint::Length(1),
        Constraint::Length(layout.board),
        Constraint::Length(layout.detail),
        Constraint::Length(1),
    ]);
    let [head, columns, detail, foot] = parts.areas(area);
    bars::head(frame, head, board, look);
    if let Overlay::Help(top) = board.overlay {
        let body = Rect { height: columns.height + detail.height, ..columns };
        board.overlay = Overlay::Help(help::draw(frame, body, top, look));
    } else {
        if board.table.is_some() {
            table::draw(frame, columns, board, look);
        } else {
            cards::draw(frame, columns, board, look);
        }
        detail::draw(frame, detail, board, look);
    }
    bars::foot(frame, foot, board, look);
}

/// A row of an area; empty when it has none of this number.
fn row(area: Rect, number: u16) -> Rect {
    let height = u16::from(number < area.height);
    Rect { y: area.y.saturating_add(number.min(area.height)), height, ..area }
}
