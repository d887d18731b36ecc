//! Schedules, queues, locks and apps: the tables of the commands, with a selected row.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;

use super::look::Look;
use super::row;
use crate::board::model::Board;
use crate::board::model::table::{Rows, Table};
use crate::commands::{admin, apps, schedule};

/// Draws the list that is open.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, board: &Board, look: &Look) {
    let Some(table) = &board.table else { return };
    let text = text(table, look, area.width);
    let Some(text) = text else {
        frame.render_widget(Line::styled("  ...", look.dim()), row(area, 0));
        return;
    };
    let mut lines = text.lines();
    if let Some(head) = lines.next() {
        frame.render_widget(Line::styled(format!(" {head}"), look.bold()), row(area, 0));
    }
    if table.len() == 0 {
        frame.render_widget(Line::styled("  none", look.dim()), row(area, 1));
        return;
    }
    let page = area.height.saturating_sub(1);
    for (number, (index, line)) in (0..page).zip(lines.enumerate().skip(table.top)) {
        let place = row(area, number + 1);
        let style = if index == table.cursor { look.selected() } else { Style::new() };
        frame.render_widget(Line::styled(format!(" {}", look.safe(line)), style), place);
        frame.buffer_mut().set_style(place, style);
    }
}

fn text(table: &Table, look: &Look, width: u16) -> Option<String> {
    let listing = match table.rows.as_ref()? {
        Rows::Queues(rows) => admin::queue::listing(rows),
        Rows::Locks(rows) => admin::lock::listing(&look.ui, rows),
        Rows::Schedules(rows) => schedule::show::schedules(&look.ui, rows),
        Rows::Apps(rows) => apps::app::apps(&look.ui, rows),
    };
    Some(listing.table.render(Some(usize::from(width).saturating_sub(1)), false))
}
