//! What can be done to a task, a queue or a schedule.

use super::Board;
use super::table::Place;

/// Something that changes what the daemon holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Stop it; `now` = without its grace.
    Cancel {
        id: u64,
        name: String,
        now: bool,
    },
    Retry {
        id: u64,
        name: String,
    },
    /// Hold it back, or let it go.
    Hold {
        id: u64,
        name: String,
        on: bool,
    },
    Promote {
        id: u64,
        name: String,
    },
    /// Pause the queue, or open it again.
    Queue {
        name: String,
    },
    /// Pause the schedule, or resume it.
    Schedule {
        id: u64,
        name: String,
    },
}

impl Deed {
    /// The question before it is done.
    pub(crate) fn question(&self) -> String {
        match self {
            Self::Cancel { id, name, now: false } => format!("Cancel {id} {name}?"),
            Self::Cancel { id, name, now: true } => format!("Kill {id} {name} without its grace?"),
            Self::Retry { id, name } => format!("Retry {id} {name}?"),
            Self::Hold { id, name, on: true } => format!("Hold {id} {name}?"),
            Self::Hold { id, name, on: false } => format!("Let {id} {name} go?"),
            Self::Promote { id, name } => format!("Start {id} {name} as soon as possible?"),
            Self::Queue { name } => format!("Pause or resume the queue {name}?"),
            Self::Schedule { name, .. } => format!("Pause or resume the schedule {name}?"),
        }
    }

    /// Whether it cannot be taken back.
    const fn is_final(&self) -> bool {
        match self {
            Self::Cancel { .. } => true,
            Self::Retry { .. }
            | Self::Hold { .. }
            | Self::Promote { .. }
            | Self::Queue { .. }
            | Self::Schedule { .. } => false,
        }
    }
}

/// The deeds that keys stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Cancel,
    Retry,
    Hold,
    Promote,
    Pause,
}

impl Board {
    /// What the verb would do to what is selected.
    pub(super) fn deed(&self, verb: Verb) -> Result<Deed, String> {
        if verb == Verb::Pause
            && let Some(place) = self.table.as_ref().and_then(super::table::Table::selected)
        {
            return match place {
                Place::Queue(name) => Ok(Deed::Queue { name }),
                Place::Schedule { id, name } => Ok(Deed::Schedule { id, name }),
                Place::Task(_) | Place::Other => Err("only queues and schedules pause".to_owned()),
            };
        }
        if self.table.is_some() && self.detail.is_none() {
            return Err("open a task first".to_owned());
        }
        let task = self.subject().ok_or("no task is selected")?;
        let (id, name) = (task.id, task.name.clone());
        let ended = crate::ui::task::ended(task.status());
        match verb {
            Verb::Cancel | Verb::Hold | Verb::Promote if ended => {
                Err(format!("{id} has ended already"))
            }
            Verb::Retry if !ended => Err(format!("{id} has not ended yet")),
            Verb::Cancel => Ok(Deed::Cancel { id, name, now: false }),
            Verb::Retry => Ok(Deed::Retry { id, name }),
            Verb::Hold => Ok(Deed::Hold { id, name, on: !task.hold }),
            Verb::Promote => Ok(Deed::Promote { id, name }),
            Verb::Pause => Ok(Deed::Queue { name: task.queue.clone() }),
        }
    }

    /// Whether a deed is asked about first: it is final, it touches more than one task, or nobody
    /// has moved to the card, so that another may have come in its place.
    pub(super) fn needs_a_word(&self, deed: &Deed) -> bool {
        let is_open = self.detail.as_ref().is_some_and(|detail| detail.focused);
        let held =
            is_open || self.columns.get(self.focus).is_some_and(super::column::Column::is_held);
        let wide = matches!(deed, Deed::Queue { .. });
        deed.is_final() || wide || (self.table.is_none() && !held)
    }
}
