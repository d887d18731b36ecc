//! Columns: as wide as their content, the widest cut when the terminal is narrow.

use anstyle::Style;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::{color, escape};

/// Spaces between columns.
const GAP: usize = 2;
/// No column becomes narrower than this.
const NARROWEST: usize = 4;
/// Cut below this, a column says too little: others that can be spared make room.
const READABLE: usize = 14;

/// A cell: text of one line, and its style.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell of any text: what would steer the terminal is shown instead.
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self { text: escape::line(text.as_ref()).into_owned(), style: Style::new() }
    }

    #[must_use]
    pub(crate) const fn style(mut self, style: Style) -> Self {
        self.style = style;
        self
    }
}

/// Rows under a head.
#[derive(Debug, Default)]
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    /// Columns that a narrow terminal goes without, the first one first.
    spared: &'static [&'static str],
    /// They go before any other is cut.
    whole: bool,
}

impl Table {
    pub(crate) const fn new(head: Vec<&'static str>) -> Self {
        Self { head, rows: Vec::new(), spared: &[], whole: false }
    }

    /// Names columns that a narrow terminal goes without, the first one first.
    #[must_use]
    pub(crate) const fn sparing(mut self, columns: &'static [&'static str]) -> Self {
        self.spared = columns;
        self
    }

    /// Names columns that go before any other is cut.
    #[must_use]
    pub(crate) const fn sparing_first(mut self, columns: &'static [&'static str]) -> Self {
        self.whole = true;
        self.sparing(columns)
    }

    /// Adds a row; it has as many cells as the head.
    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        debug_assert_eq!(row.len(), self.head.len(), "a row is as long as the head");
        self.rows.push(row);
    }

    /// The table as text, at most `width` columns wide when that can be.
    pub(crate) fn render(&self, width: Option<usize>, colored: bool) -> String {
        let natural = self.natural();
        let kept = self.kept(&natural, width);
        let natural: Vec<usize> = kept.iter().filter_map(|at| natural.get(*at).copied()).collect();
        let widths = match width {
            Some(limit) => shrunk(natural, limit),
            None => natural,
        };
        let head: Vec<Cell> =
            self.head.iter().map(|name| Cell::new(*name).style(color::BOLD)).collect();
        let mut text = String::new();
        for row in std::iter::once(&head).chain(&self.rows) {
            let cells: Vec<&Cell> = kept.iter().filter_map(|at| row.get(*at)).collect();
            push_row(&mut text, &cells, &widths, colored);
        }
        text
    }

    /// The rows without the head, cells separated by tabs.
    pub(crate) fn tsv(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<&str> = row.iter().map(|cell| cell.text.as_str()).collect();
            text.push_str(&cells.join("\t"));
            text.push('\n');
        }
        text
    }

    /// The width of each column's content.
    fn natural(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.head.iter().map(|name| name.width()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.width());
            }
        }
        widths
    }

    /// The columns that are shown: all, or without what can be spared.
    fn kept(&self, natural: &[usize], limit: Option<usize>) -> Vec<usize> {
        let mut kept: Vec<usize> = (0..self.head.len()).collect();
        let Some(limit) = limit else { return kept };
        for name in self.spared {
            let least: usize = kept
                .iter()
                .filter_map(|at| natural.get(*at))
                .map(|width| if self.whole { *width } else { (*width).min(READABLE) } + GAP)
                .sum();
            if least <= limit + GAP {
                break;
            }
            kept.retain(|at| self.head.get(*at) != Some(name));
        }
        kept
    }
}

/// The widths when the widest columns give way.
fn shrunk(mut widths: Vec<usize>, limit: usize) -> Vec<usize> {
    let room = limit.saturating_sub(GAP * widths.len().saturating_sub(1));
    loop {
        let total: usize = widths.iter().sum();
        let mut sorted: Vec<usize> = widths.clone();
        sorted.sort_unstable();
        let second = sorted.iter().rev().nth(1).copied().unwrap_or_default();
        let Some(widest) = widths.iter_mut().rev().max_by_key(|width| **width) else { break };
        if total <= room || *widest <= NARROWEST {
            break;
        }
        // Down to the next narrower column, or by what is too much.
        let step = (total - room).min((*widest - second).max(1));
        *widest = (*widest - step).max(NARROWEST);
    }
    widths
}

fn push_row(text: &mut String, row: &[&Cell], widths: &[usize], colored: bool) {
    let mut line = String::new();
    let last = row.len().saturating_sub(1);
    for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
        let cut = cut(&cell.text, *width);
        let pad = width.saturating_sub(cut.width());
        if colored && cell.style != Style::new() && !cut.is_empty() {
            line.push_str(&color::paint(cell.style, &cut));
        } else {
            line.push_str(&cut);
        }
        if column != last {
            line.extend(std::iter::repeat_n(' ', pad + GAP));
        }
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

/// The text in at most `width` columns, with an ellipsis where it was cut.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let mut used = 0;
    let mut short = String::new();
    for character in text.chars() {
        let wide = character.width().unwrap_or_default();
        if used + wide > room {
            break;
        }
        used += wide;
        short.push(character);
    }
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(vec!["ID", "TASK", "NOTE"]);
        table.push(vec![
            Cell::new("1842"),
            Cell::new("sync_leads"),
            Cell::new("lock owner:acme held by 1840 (running 12s)"),
        ]);
        table.push(vec![Cell::new("7"), Cell::new("日本語"), Cell::default()]);
        table
    }

    #[test]
    fn nothing_is_cut_without_a_width() {
        let expected = "ID    TASK        NOTE\n\
                        1842  sync_leads  lock owner:acme held by 1840 (running 12s)\n\
                        7     日本語\n";
        assert_eq!(sample().render(None, false), expected);
    }

    #[test]
    fn the_widest_column_gives_way() {
        let text = sample().render(Some(40), false);
        let expected = "ID    TASK        NOTE\n\
                        1842  sync_leads  lock owner:acme held …\n\
                        7     日本語\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in 16..80 {
            for line in sample().render(Some(width), false).lines() {
                assert!(line.width() <= width, "{width}: {line}");
            }
        }
        assert!(sample().render(Some(1), false).contains('7'));
    }

    #[test]
    fn a_narrow_terminal_goes_without_what_can_be_spared() {
        let mut table = Table::new(vec!["ID", "STATUS", "OWNER", "NOTE"]).sparing(&["OWNER"]);
        let cells = ["1842", "completed", "acme", "a long note that does not fit"];
        table.push(cells.iter().map(Cell::new).collect());
        assert!(table.render(Some(60), false).contains("OWNER"));
        let narrow = "ID    STATUS     NOTE\n1842  completed  a long note …\n";
        assert_eq!(table.render(Some(30), false), narrow);
        let table = table.sparing_first(&["OWNER"]);
        assert!(!table.render(Some(50), false).contains("OWNER"), "a note is not cut for it");
        assert!(table.render(Some(60), false).contains("OWNER"));
    }

    #[test]
    fn colours_do_not_move_columns() {
        let mut table = Table::new(vec!["A", "B"]);
        table.push(vec![Cell::new("x").style(color::RED), Cell::new("y")]);
        assert_eq!(table.render(None, true).lines().nth(1), Some("\x1b[31mx\x1b[0m  y"));
    }

    #[test]
    fn tabs_in_cells_do_not_break_tsv() {
        let mut table = Table::new(vec!["A", "B"]);
        table.push(vec![Cell::new("x\ty"), Cell::new("z\n")]);
        assert_eq!(table.tsv(), "x\\ty\tz\\n\n");
    }
}
