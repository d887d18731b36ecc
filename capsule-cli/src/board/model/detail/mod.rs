//! The open task: what the daemon says of it, its log, and what of that is seen.

pub(crate) mod log;

use capsule_proto::v1::{LogChunk, ShowReply, TaskView, WhyReply};

use self::log::Log;
use super::keys::Way;

/// What of a task is looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Tab {
    #[default]
    Log,
    Payload,
    Attempts,
    Timeline,
    Error,
    Result,
    Why,
}

impl Tab {
    pub(crate) const ALL: [Self; 7] = [
        Self::Log,
        Self::Payload,
        Self::Attempts,
        Self::Timeline,
        Self::Error,
        Self::Result,
        Self::Why,
    ];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Log => "Log",
            Self::Payload => "Payload",
            Self::Attempts => "Attempts",
            Self::Timeline => "Timeline",
            Self::Error => "Error",
            Self::Result => "Result",
            Self::Why => "Why",
        }
    }
}

/// A task that is open.
#[expect(clippy::struct_excessive_bools, reason = "each is a key")]
#[derive(Debug)]
pub(crate) struct Detail {
    pub(crate) id: u64,
    pub(crate) tab: Tab,
    /// None while the daemon has not answered.
    pub(crate) show: Option<ShowReply>,
    pub(crate) why: Option<WhyReply>,
    pub(crate) log: Log,
    /// The last line of the log stays in sight.
    pub(crate) follow: bool,
    /// Long lines go on in the next row.
    pub(crate) wrap: bool,
    /// Rows above what is seen.
    pub(crate) scroll: usize,
    /// It covers the columns.
    pub(crate) zoomed: bool,
    /// Keys go to it.
    pub(crate) focused: bool,
    /// Rows that there are, and that are seen, as last drawn.
    pub(crate) drawn: (usize, usize),
}

impl Detail {
    pub(crate) fn new(id: u64) -> Self {
        Self {
            id,
            tab: Tab::Log,
            show: None,
            why: None,
            log: Log::default(),
            follow: true,
            wrap: true,
            scroll: 0,
            zoomed: false,
            focused: true,
            drawn: (0, 0),
        }
    }

    pub(crate) fn task(&self) -> Option<&TaskView> {
        self.show.as_ref()?.task.as_ref()
    }

    /// Takes in a piece of the log.
    pub(crate) fn push(&mut self, chunk: &LogChunk) {
        let dropped = self.log.dropped;
        self.log.push(chunk);
        // What is read stays where it is while lines above it go.
        let gone = usize::try_from(self.log.dropped - dropped).unwrap_or(usize::MAX);
        if self.tab == Tab::Log && !self.follow {
            self.scroll = self.scroll.saturating_sub(gone);
        }
    }

    pub(crate) fn turn_to(&mut self, tab: Tab) {
        self.tab = tab;
        self.scroll = 0;
        self.follow = true;
    }

    /// The first row that is seen.
    pub(crate) fn top(&self, rows: usize, seen: usize) -> usize {
        let last = rows.saturating_sub(seen);
        if self.tab == Tab::Log && self.follow { last } else { self.scroll.min(last) }
    }

    pub(super) fn travel(&mut self, way: Way) {
        match way {
            Way::Up => self.step(-1),
            Way::Down => self.step(1),
            Way::PageUp => self.leaf(-1),
            Way::PageDown => self.leaf(1),
            Way::First => self.step(isize::MIN),
            Way::Last => self.step(isize::MAX),
            Way::Left | Way::Right => {
                let now = Tab::ALL.iter().position(|tab| *tab == self.tab).unwrap_or_default();
                let by = if way == Way::Left { Tab::ALL.len() - 1 } else { 1 };
                let next = Tab::ALL.get((now + by) % Tab::ALL.len());
                self.turn_to(next.copied().unwrap_or_default());
            }
        }
    }

    /// Scrolls; up leaves the end of the log, down to the end follows it again.
    fn step(&mut self, by: isize) {
        let (rows, seen) = self.drawn;
        let last = rows.saturating_sub(seen);
        self.scroll = self.top(rows, seen).saturating_add_signed(by).min(last);
        self.follow = self.tab == Tab::Log && self.scroll == last && by >= 0;
    }

    /// A page up or down.
    fn leaf(&mut self, pages: isize) {
        let page = isize::try_from(self.drawn.1.saturating_sub(1).max(1)).unwrap_or(1);
        self.step(pages.saturating_mul(page));
    }
}
