//! What keys do to a board.

use capsule_proto::query;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::deed::{Deed, Verb};
use super::detail::{Detail, Tab};
use super::keys::{self, Action, Way};
use super::layout::SPLITS;
use super::table::{Kind, Table};
use super::{Ask, Board, Overlay};

/// Longer filters are not typed by people.
const QUERY_MAX: usize = 400;

impl Board {
    /// A key was pressed at this time.
    pub(crate) fn press(&mut self, event: KeyEvent, now_us: i64) -> Option<Ask> {
        self.notice = None;
        if event.modifiers.contains(KeyModifiers::CONTROL) && event.code == KeyCode::Char('c') {
            return Some(Ask::Quit);
        }
        if self.query.typed.is_some() {
            self.type_in(event, now_us);
            return None;
        }
        match std::mem::take(&mut self.overlay) {
            Overlay::Help(top) => self.read_help(event, top),
            Overlay::Confirm(deed) => self.answer(event, deed),
            Overlay::None => self.act(keys::action(event)?),
        }
    }

    /// Text came from the clipboard: it is meant for the filter, and never for keys.
    pub(crate) fn paste(&mut self, text: &str, now_us: i64) {
        if let Some(typed) = &mut self.query.typed {
            typed.extend(text.chars().filter(|c| !c.is_control()).take(QUERY_MAX));
            self.filter(false, now_us);
        }
    }

    fn read_help(&mut self, event: KeyEvent, top: u16) -> Option<Ask> {
        let top = match keys::action(event) {
            Some(Action::Quit) => return Some(Ask::Quit),
            Some(Action::Go(Way::Up)) => top.saturating_sub(1),
            Some(Action::Go(Way::Down)) => top.saturating_add(1),
            Some(Action::Go(Way::PageUp)) => top.saturating_sub(10),
            Some(Action::Go(Way::PageDown)) => top.saturating_add(10),
            Some(_) | None => return None,
        };
        self.overlay = Overlay::Help(top);
        None
    }

    fn answer(&mut self, event: KeyEvent, deed: Deed) -> Option<Ask> {
        match (event.code, deed) {
            (KeyCode::Char('C'), Deed::Cancel { id, name, now: false }) => {
                Some(Ask::Do(Deed::Cancel { id, name, now: true }))
            }
            (KeyCode::Char('y' | 'Y') | KeyCode::Enter, deed) => Some(Ask::Do(deed)),
            _ => {
                self.tell("nothing was done");
                None
            }
        }
    }

    fn type_in(&mut self, event: KeyEvent, now_us: i64) {
        let Some(typed) = &mut self.query.typed else { return };
        let ctrl = event.modifiers.contains(KeyModifiers::CONTROL);
        if event.code == KeyCode::Esc {
            return self.drop_filter();
        }
        if event.code == KeyCode::Enter {
            self.filter(true, now_us);
            if self.query.error.is_none() {
                self.query.typed = None;
            }
            return;
        }
        if event.code == KeyCode::Backspace {
            typed.pop();
        } else if ctrl && event.code == KeyCode::Char('u') {
            typed.clear();
        } else if let KeyCode::Char(character) = event.code
            && !ctrl
            && typed.len() < QUERY_MAX
        {
            typed.push(character);
        }
        self.filter(false, now_us);
    }

    /// Puts in force what is typed, as far as it makes sense. A last word that may become a name
    /// before a colon is left out until it is complete.
    fn filter(&mut self, complete: bool, now_us: i64) {
        let Some(typed) = self.query.typed.clone() else { return };
        let last = typed.rsplit(' ').next().unwrap_or_default();
        let may_be_name = |(name, _, _): &(&str, &str, &str)| name.starts_with(last);
        let open = !complete && query::WORDS.iter().any(may_be_name);
        let meant = if open { typed.strip_suffix(last).unwrap_or_default() } else { &typed };
        match query::parse(meant, now_us) {
            Ok(filter) => {
                self.query.error = None;
                self.query.filter = filter;
                meant.trim().clone_into(&mut self.query.text);
                self.columns.iter_mut().for_each(super::column::Column::release);
            }
            Err(error) => self.query.error = Some(error),
        }
    }

    fn drop_filter(&mut self) {
        self.query = super::Query::default();
    }

    fn act(&mut self, action: Action) -> Option<Ask> {
        match action {
            Action::Quit => return Some(Ask::Quit),
            Action::Suspend => return Some(Ask::Suspend),
            Action::Help => self.overlay = Overlay::Help(0),
            Action::Back => self.back(),
            Action::Open => self.open(),
            Action::Swap => {
                if let Some(detail) = self.detail.as_mut().filter(|detail| !detail.zoomed) {
                    detail.focused = !detail.focused;
                }
            }
            Action::Filter => {
                self.table = None;
                self.query.typed = Some(self.query.text.clone());
                self.relayout();
            }
            Action::Sheet => self.next_sheet(),
            Action::Board => {
                (self.table, self.detail) = (None, None);
                self.relayout();
            }
            Action::Table(kind) => {
                self.show_table(kind);
                return Some(Ask::Table);
            }
            Action::Do(verb) => return self.attempt(verb),
            Action::Tab(number) => {
                let tab = Tab::ALL.get(number).copied().unwrap_or_default();
                if let Some(detail) = &mut self.detail {
                    detail.turn_to(tab);
                } else if self.open_selected() {
                    self.detail.iter_mut().for_each(|detail| detail.turn_to(tab));
                }
            }
            Action::Follow => {
                if let Some(detail) = &mut self.detail {
                    let top = detail.top(detail.drawn.0, detail.drawn.1);
                    (detail.scroll, detail.follow) = (top, !detail.follow);
                }
            }
            Action::Wrap => self.detail.iter_mut().for_each(|detail| detail.wrap = !detail.wrap),
            Action::Go(way) => self.travel(way),
        }
        None
    }

    fn travel(&mut self, way: Way) {
        if let Some(detail) = self.detail.as_mut().filter(|detail| detail.focused) {
            return detail.travel(way);
        }
        if let Some(table) = &mut self.table {
            let page = usize::from(self.layout.board.saturating_sub(1).max(1));
            return table.travel(way, page);
        }
        let last = self.columns.len().saturating_sub(1);
        match way {
            Way::Left => self.focus = self.focus.saturating_sub(1),
            Way::Right => self.focus = (self.focus + 1).min(last),
            Way::Up | Way::Down | Way::PageUp | Way::PageDown | Way::First | Way::Last => {
                self.columns.get_mut(self.focus).into_iter().for_each(|column| column.travel(way));
            }
        }
        self.relayout();
    }

    fn open(&mut self) {
        match &mut self.detail {
            Some(detail) if detail.focused => detail.zoomed = !detail.zoomed,
            Some(_) | None => drop(self.open_selected()),
        }
        self.relayout();
    }

    /// Opens the selected task; false when there is none.
    fn open_selected(&mut self) -> bool {
        let from_table = self.table.as_ref().map(Table::task);
        let id = from_table.unwrap_or_else(|| self.selected().map(|task| task.id));
        let Some(id) = id else { return false };
        match &mut self.detail {
            Some(detail) if detail.id == id => detail.focused = true,
            Some(_) | None => self.detail = Some(Detail::new(id)),
        }
        self.relayout();
        true
    }

    fn back(&mut self) {
        if let Some(detail) = self.detail.as_mut().filter(|detail| detail.zoomed) {
            detail.zoomed = false;
            if self.size().1 < SPLITS {
                self.detail = None;
            }
        } else if self.detail.take().is_none() && self.table.take().is_none() {
            self.drop_filter();
        }
        self.relayout();
    }

    fn next_sheet(&mut self) {
        if self.sheets.len() < 2 {
            self.tell("there is no other board");
            return;
        }
        (self.table, self.detail) = (None, None);
        self.turn_to((self.sheet + 1) % self.sheets.len());
    }

    fn show_table(&mut self, kind: Kind) {
        self.detail = None;
        self.table = Some(Table::new(kind));
        self.relayout();
    }

    fn attempt(&mut self, verb: Verb) -> Option<Ask> {
        if self.readonly {
            self.warn("this board only looks (--readonly)");
            return None;
        }
        match self.deed(verb) {
            Ok(deed) if self.needs_a_word(&deed) => {
                self.overlay = Overlay::Confirm(deed);
                None
            }
            Ok(deed) => Some(Ask::Do(deed)),
            Err(why) => {
                self.warn(why);
                None
            }
        }
    }
}
