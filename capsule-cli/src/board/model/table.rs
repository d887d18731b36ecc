//! The lists that are shown instead of the columns.

use super::keys::Way;
use capsule_proto::v1::{AppView, LockView, QueueView, ScheduleView};

/// What a list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Schedules,
    Queues,
    Locks,
    Apps,
}

impl Kind {
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Schedules => "Schedules",
            Self::Queues => "Queues",
            Self::Locks => "Locks",
            Self::Apps => "Apps",
        }
    }
}

/// What the daemon said.
#[derive(Debug, Clone)]
pub(crate) enum Rows {
    Schedules(Vec<ScheduleView>),
    Queues(Vec<QueueView>),
    Locks(Vec<LockView>),
    Apps(Vec<AppView>),
}

/// What stands in a row, as far as something can be done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Queue(String),
    Schedule {
        id: u64,
        name: String,
    },
    /// The task that a lock is held by, or that a schedule made last.
    Task(u64),
    Other,
}

/// A list with a selected row.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) kind: Kind,
    /// None while the daemon has not answered.
    pub(crate) rows: Option<Rows>,
    pub(crate) cursor: usize,
    pub(crate) top: usize,
}

impl Table {
    pub(crate) const fn new(kind: Kind) -> Self {
        Self { kind, rows: None, cursor: 0, top: 0 }
    }

    /// Takes in an answer; one to another question is passed over.
    pub(crate) fn fill(&mut self, rows: Rows) {
        let kind = match &rows {
            Rows::Schedules(_) => Kind::Schedules,
            Rows::Queues(_) => Kind::Queues,
            Rows::Locks(_) => Kind::Locks,
            Rows::Apps(_) => Kind::Apps,
        };
        if kind == self.kind {
            self.rows = Some(rows);
            self.step(0, 1);
        }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.rows {
            None => 0,
            Some(Rows::Schedules(rows)) => rows.len(),
            Some(Rows::Queues(rows)) => rows.len(),
            Some(Rows::Locks(rows)) => rows.len(),
            Some(Rows::Apps(rows)) => rows.len(),
        }
    }

    pub(super) fn travel(&mut self, way: Way, page: usize) {
        let leaf = isize::try_from(page).unwrap_or(1);
        match way {
            Way::Up => self.step(-1, page),
            Way::Down => self.step(1, page),
            Way::PageUp => self.step(-leaf, page),
            Way::PageDown => self.step(leaf, page),
            Way::First => self.step(isize::MIN, page),
            Way::Last => self.step(isize::MAX, page),
            Way::Left | Way::Right => {}
        }
    }

    /// Moves the selection; `page` rows are seen.
    fn step(&mut self, by: isize, page: usize) {
        let last = self.len().saturating_sub(1);
        self.cursor = self.cursor.saturating_add_signed(by).min(last);
        let lowest = (self.cursor + 1).saturating_sub(page.max(1));
        self.top = self.top.clamp(lowest, self.cursor);
    }

    pub(crate) fn selected(&self) -> Option<Place> {
        Some(match self.rows.as_ref()? {
            Rows::Queues(rows) => Place::Queue(rows.get(self.cursor)?.name.clone()),
            Rows::Schedules(rows) => {
                let row = rows.get(self.cursor)?;
                Place::Schedule { id: row.id, name: row.label.clone() }
            }
            Rows::Locks(rows) => rows.get(self.cursor)?.holder.map_or(Place::Other, Place::Task),
            Rows::Apps(_) => Place::Other,
        })
    }

    /// The task to open from the selected row.
    pub(crate) fn task(&self) -> Option<u64> {
        match self.rows.as_ref()? {
            Rows::Locks(rows) => {
                let row = rows.get(self.cursor)?;
                row.holder.or_else(|| row.waiters.first().copied())
            }
            Rows::Schedules(rows) => rows.get(self.cursor)?.last.as_ref()?.task,
            Rows::Queues(_) | Rows::Apps(_) => None,
        }
    }
}
