//! The help screen, from the table of keys.

use capsule_proto::query;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::look::Look;
use super::row;
use crate::board::model::keys;

/// Draws the help from this line on, and says which line it was in the end.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, top: u16, look: &Look) -> u16 {
    let mut lines = vec![Line::styled(" Keys", look.bold())];
    for binding in keys::all() {
        let key = format!("  {:<12}", look.own(binding.shown));
        lines.push(Line::from(vec![Span::styled(key, look.bold()), Span::raw(binding.text)]));
    }
    lines.push(Line::default());
    lines.push(Line::styled(" Filter: every word narrows, other words are a text", look.bold()));
    for (_, text, example) in query::WORDS {
        let example = format!("  {example:<22}");
        lines.push(Line::from(vec![Span::styled(example, look.bold()), Span::raw(text)]));
    }
    let most = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_sub(area.height);
    let top = top.min(most);
    for (number, line) in (0..area.height).zip(lines.into_iter().skip(usize::from(top))) {
        frame.render_widget(line, row(area, number));
    }
    top
}
