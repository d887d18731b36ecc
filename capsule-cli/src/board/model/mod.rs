//! What a board shows, as plain data: fed by the events of a watch and by keys.
//!
//! No I/O and no clock: what has to be asked of the daemon comes out as an [`Ask`]. Invariant: what
//! is kept is what stands in the windows, however many tasks there are.

pub(crate) mod column;
pub(crate) mod deed;
pub(crate) mod detail;
pub(crate) mod keys;
pub(crate) mod layout;
pub(crate) mod press;
pub(crate) mod sheet;
pub(crate) mod table;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};

use capsule_proto::query;
use capsule_proto::v1::watch_event::Event;
use capsule_proto::v1::{Columns, Filter, TaskView, WatchEvent, WatchRequest};

use self::column::Column;
use self::deed::Deed;
use self::detail::Detail;
use self::layout::Layout;
use self::sheet::Sheet;
use self::table::Table;

/// Everything that a board shows.
#[derive(Debug)]
pub(crate) struct Board {
    /// The boards there are: the default one, or those of the app's pages.
    pub(crate) sheets: Vec<Sheet>,
    /// Which of them is shown.
    pub(crate) sheet: usize,
    pub(crate) columns: Vec<Column>,
    /// Which column the selected card is in.
    pub(crate) focus: usize,
    cards: BTreeMap<u64, TaskView>,
    /// What the command line asked for.
    base: Filter,
    pub(crate) query: Query,
    pub(crate) detail: Option<Detail>,
    /// What is shown instead of the columns: schedules, queues, locks or apps.
    pub(crate) table: Option<Table>,
    pub(crate) overlay: Overlay,
    pub(crate) notice: Option<Notice>,
    pub(crate) link: Link,
    pub(crate) layout: Layout,
    /// The number of the last change that is shown.
    pub(crate) seq: u64,
    /// Nothing that changes tasks may be done.
    pub(crate) readonly: bool,
    size: (u16, u16),
}

/// The filter that people type.
#[derive(Debug, Default)]
pub(crate) struct Query {
    /// What is in force.
    pub(crate) text: String,
    filter: Filter,
    /// What is being typed.
    pub(crate) typed: Option<String>,
    /// Why that cannot be in force.
    pub(crate) error: Option<String>,
}

/// What lies over everything.
#[derive(Debug, Default, PartialEq)]
pub(crate) enum Overlay {
    #[default]
    None,
    /// The keys, from this line on.
    Help(u16),
    Confirm(Deed),
}

/// Something that people are told once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) text: String,
    pub(crate) is_error: bool,
}

/// How the board stands to the daemon.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// The first picture is on its way.
    #[default]
    Opening,
    Live,
    /// The daemon went away; the last picture stays.
    Lost,
}

/// What has to be done outside.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ask {
    Quit,
    /// Stop this process until the shell continues it.
    Suspend,
    Do(Deed),
    /// Ask anew what the table shows.
    Table,
}

impl Board {
    /// A board without a picture yet; `sheets` has at least one.
    pub(crate) fn new(sheets: Vec<Sheet>, base: Filter, size: (u16, u16)) -> Self {
        let mut board = Self {
            sheets,
            sheet: 0,
            columns: Vec::new(),
            focus: 0,
            cards: BTreeMap::new(),
            base,
            query: Query::default(),
            detail: None,
            table: None,
            overlay: Overlay::None,
            notice: None,
            link: Link::Opening,
            layout: Layout::default(),
            seq: 0,
            readonly: false,
            size,
        };
        board.turn_to(0);
        board
    }

    /// Shows another of the boards.
    pub(crate) fn turn_to(&mut self, sheet: usize) {
        let Some(shown) = self.sheets.get(sheet) else { return };
        self.columns = shown.columns.iter().map(Column::new).collect();
        self.sheet = sheet;
        self.focus = shown.first_focus();
        self.resize(self.size.0, self.size.1);
    }

    /// The app has these boards now; the one that is shown stays, when there still is one like it.
    pub(crate) fn reshape(&mut self, sheets: Vec<Sheet>) {
        if sheets.is_empty() || sheets == self.sheets {
            return;
        }
        let place = |sheet: &Sheet| (sheet.page.clone(), sheet.title.clone());
        let shown = self.shown_sheet().cloned();
        let again = shown.as_ref().and_then(|shown| {
            let same = |sheet: &Sheet| place(sheet) == place(shown);
            sheets.iter().position(same).or_else(|| {
                sheets.iter().position(|sheet| sheet.page == shown.page && !shown.page.is_empty())
            })
        });
        self.sheets = sheets;
        let sheet = again.unwrap_or_default();
        if shown.as_ref() == self.sheets.get(sheet) {
            self.sheet = sheet;
        } else {
            self.turn_to(sheet);
            self.tell("the app was deployed: its board is another one now");
        }
    }

    /// The terminal has this size now.
    pub(crate) fn resize(&mut self, width: u16, height: u16) {
        self.size = (width, height);
        self.layout = Layout::of(self);
        let page = self.layout.cards;
        for column in &mut self.columns {
            column.fit(page);
        }
    }

    pub(crate) const fn size(&self) -> (u16, u16) {
        self.size
    }

    /// Works the layout out again: a pane was opened or closed.
    fn relayout(&mut self) {
        self.resize(self.size.0, self.size.1);
    }

    pub(crate) fn shown_sheet(&self) -> Option<&Sheet> {
        self.sheets.get(self.sheet)
    }

    /// What has to be watched for this board as it is.
    pub(crate) fn watch(&self) -> WatchRequest {
        let mut filter = self.base.clone();
        if let Some(sheet) = self.shown_sheet() {
            query::narrow(&mut filter, &sheet.filter);
        }
        query::narrow(&mut filter, &self.query.filter);
        WatchRequest {
            filter: Some(filter),
            windows: self.columns.iter().map(Column::window).collect(),
            schedules: true,
            around: true,
            ..WatchRequest::default()
        }
    }

    /// Takes in an event; true when a picture is complete.
    pub(crate) fn apply(&mut self, event: WatchEvent) -> bool {
        match event.event {
            Some(Event::Task(task)) => {
                self.cards.insert(task.id, task);
                false
            }
            Some(Event::Columns(columns)) => {
                self.seq = self.seq.max(event.seq);
                self.place(columns);
                self.link = Link::Live;
                true
            }
            Some(
                Event::Removed(_)
                | Event::Ready(_)
                | Event::Reset(_)
                | Event::Schedule(_)
                | Event::Around(_),
            )
            | None => false,
        }
    }

    fn place(&mut self, columns: Columns) {
        for (column, seen) in self.columns.iter_mut().zip(columns.columns) {
            column.place(seen);
        }
        let shown: BTreeSet<u64> =
            self.columns.iter().flat_map(|column| column.ids.iter().copied()).collect();
        let open = self.detail.as_ref().map(|detail| detail.id);
        self.cards.retain(|id, _| shown.contains(id) || Some(*id) == open);
    }

    /// A card that stands in a window.
    pub(crate) fn card(&self, id: u64) -> Option<&TaskView> {
        self.cards.get(&id)
    }

    /// How many cards are kept.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.cards.len()
    }

    /// The selected card.
    pub(crate) fn selected(&self) -> Option<&TaskView> {
        self.card(self.columns.get(self.focus)?.selected()?)
    }

    /// The task that a deed would be done to: the open one, else the selected one.
    pub(crate) fn subject(&self) -> Option<&TaskView> {
        match &self.detail {
            Some(detail) if detail.focused => {
                // What a change told may be newer than the answer that is on its way.
                let newer = |card: &&TaskView| detail.task().is_none_or(|task| card.seq > task.seq);
                self.card(detail.id).filter(newer).or_else(|| detail.task())
            }
            Some(_) | None => self.selected(),
        }
    }

    pub(crate) fn tell(&mut self, text: impl Into<String>) {
        self.notice = Some(Notice { text: text.into(), is_error: false });
    }

    pub(crate) fn warn(&mut self, text: impl Into<String>) {
        self.notice = Some(Notice { text: text.into(), is_error: true });
    }
}
