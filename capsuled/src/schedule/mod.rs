//! Schedules: when something is to be started again and again, and what became of each fire.
//!
//! Pure data and the calendar: it must not know the engine, the store or the wire. Invariant: no
//! rule is kept that was not read and found to come at least once.

mod backfill;
mod cron;
mod index;
mod plan;
mod policy;
mod rule;
mod template;
mod tick;

use capsule_core::id::{ScheduleId, TaskId};
use capsule_core::time::{Span, Timestamp};
use minicbor::{Decode, Encode};

pub use self::backfill::{Backfill, Rows};
pub use self::cron::{Cron, CronError, Shift, local_zone};
pub use self::index::Schedules;
pub use self::plan::{Due, LATE, Missed};
pub use self::policy::{
    BUFFER_MAX, CATCH_UP_MAX, CatchUp, Counted, JITTER_MAX, Overlap, Paused, Policy,
};
pub use self::rule::{MISSED_MAX, Rule, RuleError};
pub use self::template::Template;
pub use self::tick::{Fire, LastTick, Outcome, Tick, TickKey};

/// How long what became of a tick is kept, and a schedule after its end.
pub const TICKS_KEPT: Span = Span::from_secs(90 * 86_400);

/// The most ticks kept of one schedule.
pub const TICKS_MAX: u32 = 1000;

/// The shortest time from one fire of a recurrence to the next.
pub const EVERY_MIN: Span = Span::from_secs(1);

/// A schedule. Fields are numbered for the disk: never reuse a number.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Schedule {
    /// Never given again, and no task has the same.
    #[n(0)]
    pub id: ScheduleId,
    /// Its app.
    #[n(1)]
    pub app: String,
    /// The handler that it runs, or the task that it submits.
    #[n(2)]
    pub name: String,
    /// When it fires.
    #[n(3)]
    pub rule: Rule,
    /// Counts up with each change of the rule.
    #[n(4)]
    pub generation: u32,
    /// Where it comes from.
    #[n(5)]
    pub origin: Origin,
    /// Who deployed or submitted it.
    #[n(6)]
    pub owner: String,
    /// When it was registered.
    #[n(7)]
    pub created: Timestamp,
    /// The next planned fire; `None` = it does not fire again.
    #[n(8)]
    pub next: Option<Timestamp>,
    /// When it was taken away.
    #[n(9)]
    pub ended: Option<Timestamp>,
    /// The last planned fire, and what became of it.
    #[n(10)]
    pub last: Option<LastTick>,
    /// The last task that it made.
    #[n(11)]
    pub former: Option<TaskId>,
    /// What each fire of a recurrence submits; a handler's run is made of its definition.
    #[n(12)]
    pub template: Option<Template>,
    /// Every planned instant up to this one has been decided, whichever rule planned it; later
    /// than now when the clock was set back.
    #[n(13)]
    pub decided: Timestamp,
    /// What goes for all its fires.
    #[n(14)]
    #[cbor(default)]
    pub policy: Policy,
    /// Nothing fires until it is resumed.
    #[n(15)]
    pub paused: Option<Paused>,
    /// This tick will be passed over, because somebody asked for that.
    #[n(16)]
    pub skip: Option<SkipNext>,
    /// How often the rule in force has fired by its plan.
    #[n(17)]
    #[cbor(default)]
    pub fires: u32,
    /// How many of its last runs have failed, in a row.
    #[n(18)]
    #[cbor(default)]
    pub failures: u32,
    /// Ticks that wait until the run before has ended, oldest first.
    #[n(19)]
    #[cbor(default)]
    pub buffered: Vec<Timestamp>,
    /// Its own name, where that is not the name of a handler.
    #[n(20)]
    #[cbor(default)]
    pub title: String,
    /// When the rule in force and its bounds began; `None` = with the schedule.
    #[n(21)]
    pub since: Option<Timestamp>,
    /// How many ticks wait to be backfilled: those whose rows say [`Outcome::ToBackfill`].
    #[n(22)]
    #[cbor(default)]
    pub backfill: u32,
    /// From the first to the last tick from before it was registered that was backfilled and whose
    /// row is not kept any more.
    #[n(23)]
    pub forgotten: Option<(Timestamp, Timestamp)>,
}

/// A tick that will be passed over.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SkipNext {
    /// Which.
    #[n(0)]
    pub planned: Timestamp,
    /// Who asked for that.
    #[n(1)]
    pub by: String,
}

/// Where a schedule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Origin {
    /// An app's code.
    #[n(0)]
    App,
    /// A task submitted through the SDK with a recurrence.
    #[n(1)]
    Sdk,
    /// The manifest of an app.
    #[n(2)]
    Manifest,
    /// Somebody added it by hand.
    #[n(3)]
    Manual,
}

impl Origin {
    /// Whether it comes and goes with the revision of its app.
    pub const fn is_deployed(self) -> bool {
        matches!(self, Self::App | Self::Manifest)
    }
}

impl Schedule {
    /// A recurrence of nothing yet that begins at `now`.
    pub fn new(id: ScheduleId, rule: Rule, now: Timestamp) -> Self {
        Self {
            id,
            app: String::new(),
            name: String::new(),
            next: rule.next_after(now),
            rule,
            generation: 1,
            origin: Origin::Sdk,
            owner: String::new(),
            created: now,
            ended: None,
            last: None,
            former: None,
            template: None,
            decided: now,
            policy: Policy::default(),
            paused: None,
            skip: None,
            fires: 0,
            failures: 0,
            buffered: Vec::new(),
            title: String::new(),
            since: None,
            backfill: 0,
            forgotten: None,
        }
    }

    /// Whether it still fires.
    pub const fn is_active(&self) -> bool {
        self.ended.is_none()
    }

    /// Whether the clock fires it: it is neither ended, nor done, nor paused.
    pub const fn is_enabled(&self) -> bool {
        self.ended.is_none() && self.paused.is_none() && self.next.is_some()
    }

    /// What people call it: its name, a handler's name, or a recurrence's id.
    pub fn label(&self) -> String {
        match self.origin {
            Origin::App => self.name.clone(),
            Origin::Sdk => self.id.to_string(),
            Origin::Manifest | Origin::Manual => self.title.clone(),
        }
    }

    /// The key of a fire under the rule in force.
    pub const fn tick(&self, planned: Timestamp) -> TickKey {
        TickKey { schedule: self.id, generation: self.generation, planned }
    }

    /// Every tick until this one has been decided: the next is the one behind it.
    pub fn go_on(&mut self, until: Timestamp) {
        self.decided = self.decided.max(until);
        self.next = self.next_after(self.decided);
        let next = self.next;
        self.skip.take_if(|skip| next.is_none_or(|next| next > skip.planned));
    }

    /// When the clock does something to it: its next fire, or the end of what is kept of it.
    fn alarm(&self) -> Option<Timestamp> {
        match (self.ended, &self.paused) {
            (Some(ended), _) => Some(ended.plus(TICKS_KEPT)),
            (None, Some(_)) => None,
            (None, None) => self.next.map(|planned| self.due_at(planned)),
        }
    }
}
