//! What a client knows of a task, and how that is held against what the daemon shows of it.

use capsule_proto::v1::{Status, TaskView};

use super::plan::Plan;

/// A task whose submit was answered.
#[derive(Debug)]
pub(super) struct Known {
    /// Not told by a batch; known from the first look on.
    pub(super) uuid: String,
    pub(super) plan: Plan,
    /// Those with the same number are cancelled and pruned together; none: neither happens.
    pub(super) group: Option<u64>,
    pub(super) cancel: Option<Cancel>,
    pub(super) gone: Gone,
    pub(super) hold: Hold,
    /// It is in the queue that is paused now and then.
    pub(super) queued: bool,
    pub(super) priority: Option<i32>,
    /// How often it was run anew once it had ended.
    pub(super) retries: u32,
    /// Another retry was not answered.
    pub(super) retry_asked: bool,
    /// It waits in a paused queue: no attempt may come after this one.
    pub(super) frozen: Option<u32>,
    pub(super) seen: Option<Seen>,
}

/// What is known of a cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cancel {
    /// It is cancelled, said the daemon.
    Done,
    /// It is being stopped, or nothing was said: either end is true.
    Asked,
    /// It had ended, said the daemon.
    TooLate,
}

/// Whether it was removed or pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    No,
    /// Nothing was said.
    Asked,
    Yes,
}

/// Whether it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    No,
    Yes,
    /// Its release was not answered.
    Asked,
}

/// What the daemon showed of it last: that is durable, so it is never undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) seq: u64,
    pub(super) status: Status,
    pub(super) attempt: u32,
    ended_us: Option<i64>,
}

impl Seen {
    pub(super) fn of(view: &TaskView) -> Self {
        let TaskView { seq, attempt, ended_us, .. } = *view;
        Self { seq, status: view.status(), attempt, ended_us }
    }
}

pub(super) fn is_over(status: Status) -> bool {
    matches!(status, Status::Completed | Status::Failed | Status::Timeout | Status::Cancelled)
}

impl Known {
    pub(super) fn new(plan: Plan, group: Option<u64>) -> Self {
        Self {
            uuid: String::new(),
            plan,
            group,
            cancel: None,
            gone: Gone::No,
            hold: Hold::No,
            queued: false,
            priority: None,
            retries: 0,
            retry_asked: false,
            frozen: None,
            seen: None,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.seen.is_some_and(|seen| is_over(seen.status))
    }

    /// Whether it may have been kept from its own end.
    pub(super) fn is_stopped(&self) -> bool {
        matches!(self.cancel, Some(Cancel::Done | Cancel::Asked))
    }

    /// Notes the daemon's word on a cancel.
    pub(super) fn cancelled(&mut self, outcome: &str) {
        self.cancel = match outcome {
            "cancelled" => Some(Cancel::Done),
            "already_ended" => self.cancel.or(Some(Cancel::TooLate)),
            "cancelling" | "unchanged" => Some(Cancel::Asked),
            other => panic!("an outcome that is not known: {other}"),
        };
    }

    /// Takes in what an answer shows.
    pub(super) fn learn(&mut self, view: &TaskView) {
        if self.uuid.is_empty() {
            self.uuid.clone_from(&view.uuid);
        }
        assert_eq!(self.uuid, view.uuid, "the id of {self:?} was used again: {view:?}");
        self.seen = Some(Seen::of(view));
    }

    /// Holds what the daemon shows after a crash against what it had shown and said before.
    pub(super) fn compare(&mut self, id: u64, view: Option<&TaskView>) {
        let Some(view) = view else {
            assert_ne!(self.gone, Gone::No, "{id} is lost: {self:?}");
            self.gone = Gone::Yes;
            return;
        };
        assert_ne!(self.gone, Gone::Yes, "{id} was removed and has come back: {self:?} {view:?}");
        self.gone = Gone::No;
        let about = format!("{id}: {self:?} became {view:?}");
        let now = Seen::of(view);
        if let Some(seen) = self.seen {
            assert!(now.seq >= seen.seq && now.attempt >= seen.attempt, "undone: {about}");
            assert!(now.seq > seen.seq || now == seen, "changed without a change: {about}");
            if is_over(seen.status) && now.seq > seen.seq {
                assert!(self.retry_asked, "it had ended: {about}");
                self.retries += 1;
            }
        }
        self.retry_asked = false;
        if self.cancel == Some(Cancel::Done) {
            assert_eq!(now.status, Status::Cancelled, "its cancel is undone: {about}");
        }
        if let Some(priority) = self.priority {
            assert_eq!(view.priority, priority, "its priority is undone: {about}");
        }
        match self.hold {
            Hold::Yes => {
                assert!(view.hold && now.attempt == 0, "it is held and began: {about}");
            }
            Hold::Asked if view.hold => self.hold = Hold::Yes,
            Hold::Asked => self.hold = Hold::No,
            Hold::No => assert!(!view.hold, "its release is undone: {about}"),
        }
        if let Some(frozen) = self.frozen {
            assert_eq!(now.attempt, frozen, "it began in a paused queue: {about}");
        }
        self.learn(view);
    }
}
