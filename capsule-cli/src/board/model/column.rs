//! One column: how many tasks it has, which of them are known, where the selection is.

use capsule_proto::v1::{ColumnView, Status, Window};

use super::keys::Way;
use super::sheet::Shape;

/// Known beside what is seen, so that scrolling finds its cards there: so many pages in all.
const PAGES: u64 = 6;
/// A window has no fewer cards.
const LEAST: u64 = 60;
/// A window has no more; the daemon gives no more.
const MOST: u64 = 1000;

/// A column of cards, newest first.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) label: String,
    pub(crate) statuses: Vec<Status>,
    /// Of the whole column.
    pub(crate) total: u64,
    /// So many stand before the known ones.
    pub(crate) skip: u64,
    /// The known ones.
    pub(crate) ids: Vec<u64>,
    /// The place of the first that is seen.
    pub(crate) top: u64,
    /// The place of the selected one.
    pub(crate) cursor: u64,
    /// The selected one, once somebody has moved to it: the selection stays with it then.
    held: Option<u64>,
    /// How many are seen.
    page: u64,
    /// What the daemon is asked for.
    asked: (u64, u64),
}

impl Column {
    pub(crate) fn new(shape: &Shape) -> Self {
        Self {
            label: shape.label.clone(),
            statuses: shape.statuses.clone(),
            total: 0,
            skip: 0,
            ids: Vec::new(),
            top: 0,
            cursor: 0,
            held: None,
            page: 1,
            asked: (0, LEAST),
        }
    }

    /// What the daemon is to tell of this column.
    pub(crate) fn window(&self) -> Window {
        Window {
            statuses: self.statuses.iter().map(|status| i32::from(*status)).collect(),
            skip: self.asked.0,
            limit: u32::try_from(self.asked.1).unwrap_or(u32::MAX),
        }
    }

    /// So many cards are seen at once from now on.
    pub(crate) fn fit(&mut self, page: u16) {
        self.page = u64::from(page.max(1));
        self.show_cursor();
    }

    /// Takes in what the daemon tells.
    pub(crate) fn place(&mut self, seen: ColumnView) {
        let at_top = self.top == 0;
        (self.total, self.skip, self.ids) = (seen.total, seen.skip, seen.ids);
        match self.held.and_then(|id| self.place_of(id)) {
            Some(place) => {
                // The cards that are seen stay where they are on the screen.
                let row = self.cursor.saturating_sub(self.top);
                self.cursor = place;
                self.top = if at_top { 0 } else { place.saturating_sub(row) };
            }
            None => self.held = None,
        }
        self.show_cursor();
    }

    fn place_of(&self, id: u64) -> Option<u64> {
        let index = self.ids.iter().position(|known| *known == id)?;
        Some(self.skip + index as u64)
    }

    /// The card at a place; none when it is not known, or there is none.
    pub(crate) fn at(&self, place: u64) -> Option<u64> {
        let index = usize::try_from(place.checked_sub(self.skip)?).ok()?;
        self.ids.get(index).copied()
    }

    pub(crate) fn selected(&self) -> Option<u64> {
        self.at(self.cursor)
    }

    /// Whether somebody has moved to the selected card, so that no other can take its place.
    pub(crate) fn is_held(&self) -> bool {
        self.held.is_some() && self.held == self.selected()
    }

    /// Moves up or down.
    pub(super) fn travel(&mut self, way: Way) {
        match way {
            Way::Up => self.step(-1),
            Way::Down => self.step(1),
            Way::PageUp => self.leaf(-1),
            Way::PageDown => self.leaf(1),
            Way::First => self.release(),
            Way::Last => self.go(u64::MAX),
            Way::Left | Way::Right => {}
        }
    }

    /// Moves the selection; what is behind an end is that end.
    fn go(&mut self, place: u64) {
        self.cursor = place;
        self.show_cursor();
        self.held = self.selected();
    }

    fn step(&mut self, by: i64) {
        self.go(self.cursor.saturating_add_signed(by));
    }

    /// A page up or down.
    fn leaf(&mut self, pages: i64) {
        let by = i64::try_from(self.page.saturating_sub(1).max(1)).unwrap_or(1);
        self.step(pages.saturating_mul(by));
    }

    /// Lets the selection follow the newest card again.
    pub(crate) fn release(&mut self) {
        self.go(0);
        self.held = None;
    }

    /// The places that are seen.
    pub(crate) fn seen(&self) -> std::ops::Range<u64> {
        self.top..(self.top + self.page).min(self.total)
    }

    fn show_cursor(&mut self) {
        self.cursor = self.cursor.min(self.total.saturating_sub(1));
        let lowest = self.cursor.saturating_sub(self.page - 1);
        self.top = self.top.clamp(lowest, self.cursor);
        self.ask();
    }

    /// Asks for another window when what is seen comes near an end of this one.
    fn ask(&mut self) {
        let limit = (self.page * PAGES).clamp(LEAST, MOST);
        let (skip, end) = (self.asked.0, self.asked.0 + self.asked.1);
        let margin = self.page.min(limit / 4);
        let above = skip == 0 || self.top >= skip + margin;
        let below = end >= self.total || self.top + self.page + margin <= end;
        if above && below && self.asked.1 == limit {
            return;
        }
        let middle = self.top + self.page / 2;
        self.asked = (middle.saturating_sub(limit / 2), limit);
    }
}
