//! What fits on a terminal: a function of its size and of what is open.

use super::Board;

/// Narrower columns say too little.
const NARROWEST: u16 = 24;
/// The least that a board can be drawn on.
const LEAST: (u16, u16) = (30, 8);
/// On a lower terminal a card is one line.
const LOW: u16 = 20;
/// On a lower terminal an open task covers the columns.
pub(super) const SPLITS: u16 = 26;

/// Where things are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Nothing fits.
    pub(crate) too_small: bool,
    /// The columns that are drawn: the first, and how many.
    pub(crate) columns: (usize, usize),
    /// Not all columns are drawn: a line names them all.
    pub(crate) tabs: bool,
    /// Lines of a card.
    pub(crate) lines: u16,
    /// Cards that are seen of a column.
    pub(crate) cards: u16,
    /// Rows of the columns with their heads.
    pub(crate) board: u16,
    /// Rows of the open task.
    pub(crate) detail: u16,
}

impl Layout {
    pub(super) fn of(board: &Board) -> Self {
        let (width, height) = board.size();
        let too_small = width < LEAST.0 || height < LEAST.1;
        let all = board.columns.len().max(1);
        let fits = usize::from((width / NARROWEST).max(1)).min(all);
        let before = board.layout.columns.0.min(all - fits);
        let focus = board.focus.min(all - 1);
        let first = before.clamp((focus + 1).saturating_sub(fits), focus);
        let tabs = fits < all;
        // The head and the foot.
        let room = height.saturating_sub(2);
        let detail = match &board.detail {
            None => 0,
            Some(detail) if detail.zoomed || height < SPLITS => room,
            Some(_) => room * 3 / 5,
        };
        let columns = room - detail;
        let lines = if height < LOW { 1 } else { 2 };
        let heads = 1 + u16::from(tabs);
        Self {
            too_small,
            columns: (first, fits),
            tabs,
            lines,
            cards: columns.saturating_sub(heads).max(1) / lines,
            board: columns,
            detail,
        }
    }
}
