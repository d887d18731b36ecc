//! Which ended tasks are forgotten next: by age, by number, and never the last few of a definition.
//!
//! An ended task is in one of three places: among the last of its definition, aside because
//! something still needs it, or in one of two rows by end, for there are two ages. The rows take
//! 16 bytes a task, for there may be a million.

use std::collections::{BTreeMap, HashMap, VecDeque};

use capsule_core::id::TaskId;
use capsule_core::task::{State, Status, Task};
use capsule_core::time::{Span, Timestamp};

use super::{Book, Symbol};

/// The most ended tasks that are kept unless the daemon is told otherwise.
pub const ENDED_MAX: u64 = 1_000_000;
/// So many ended tasks of each definition are kept, however old.
pub const LAST_KEPT: usize = 10;
/// The longest that an idle daemon waits to forget many tasks at once.
const SLACK: Span = Span::from_secs(600);
/// That wait is this part of the age at most.
const SLACK_PART: u64 = 16;
/// When the rows shrink: so many marks of tasks that are gone, and half of all.
const DEAD_MAX: usize = 1024;

/// How long ended tasks are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Completed and cancelled ones; `None` = whatever their age.
    pub completed: Option<Span>,
    /// Failed ones and those that ran too long; `None` = whatever their age.
    pub failed: Option<Span>,
    /// The most of all kinds together. The last [`LAST_KEPT`] of each definition stay beyond it,
    /// as long as all together are not over [`ENDED_MAX`].
    pub ended: u64,
}

impl Default for Keep {
    fn default() -> Self {
        const DAY: u64 = 86_400;
        let (completed, failed) = (Span::from_secs(7 * DAY), Span::from_secs(30 * DAY));
        Self { completed: Some(completed), failed: Some(failed), ended: ENDED_MAX }
    }
}

/// The two kinds of end, which are kept for different times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Completed or cancelled.
    Done,
    /// Failed or timed out.
    Failed,
}

/// The end of a task. Its order is that of the ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    at: Timestamp,
    id: TaskId,
}

/// A task that may have to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    mark: Mark,
    kind: Kind,
    /// It goes although it is among the last of its definition.
    pressed: bool,
}

/// What tells a definition: app and name.
pub(super) type Kin = (Symbol, Symbol);

/// All ended tasks by their end.
#[derive(Debug, Default)]
pub struct Ended {
    /// The last ones of each definition, oldest first.
    last: HashMap<Kin, Vec<(Mark, Kind)>>,
    /// All others, oldest first.
    done: Row,
    failed: Row,
    /// Those that something needs, and until when they are left alone.
    aside: BTreeMap<Mark, (Timestamp, Kind)>,
    /// The first instant in `aside`.
    wake: Option<Timestamp>,
    /// The last of their definitions that go all the same, newest first.
    pressed: Vec<(Mark, Kind)>,
    count: u64,
    /// Ends that came since this was last asked for.
    fresh: usize,
}

/// Marks in the order of their ends. Those of tasks that are gone stay until they reach the front
/// or are too many, so that taking one out moves nothing.
#[derive(Debug, Default)]
struct Row {
    marks: VecDeque<Mark>,
    dead: usize,
    /// Tasks come in the order of ids while the book is made; they are sorted once.
    unsorted: bool,
}

/// The bit of an id that marks it dead; ids are counted from 1 and never reach it.
const DEAD: u64 = 1 << 63;

impl Mark {
    const fn is_dead(self) -> bool {
        self.id.0 & DEAD != 0
    }

    const fn place(self) -> (Timestamp, u64) {
        (self.at, self.id.0 & !DEAD)
    }
}

impl Row {
    fn insert(&mut self, mark: Mark) {
        if self.unsorted || self.marks.back().is_none_or(|last| last.place() < mark.place()) {
            self.marks.push_back(mark);
        } else {
            let at = self.marks.partition_point(|other| other.place() < mark.place());
            self.marks.insert(at, mark);
        }
    }

    fn sort(&mut self) {
        self.marks.make_contiguous().sort_unstable_by_key(|mark| mark.place());
        self.unsorted = false;
        self.tidy();
    }

    fn front(&self) -> Option<Mark> {
        self.marks.front().copied()
    }

    /// Takes a mark out; false when it is not here.
    fn remove(&mut self, mark: Mark) -> bool {
        if self.unsorted {
            self.sort();
        }
        let at = self.marks.partition_point(|other| other.place() < mark.place());
        let Some(found) = self.marks.get_mut(at).filter(|found| **found == mark) else {
            return false;
        };
        found.id.0 |= DEAD;
        self.dead += 1;
        self.tidy();
        true
    }

    /// The front is never dead, and most of the row is not.
    fn tidy(&mut self) {
        while self.marks.front().is_some_and(|mark| mark.is_dead()) {
            self.marks.pop_front();
            self.dead -= 1;
        }
        if self.dead > DEAD_MAX && self.dead > self.marks.len() / 2 {
            self.marks.retain(|mark| !mark.is_dead());
            self.marks.shrink_to(self.marks.len() * 2);
            self.dead = 0;
        }
    }
}

impl Ended {
    /// For a book in the making: marks are sorted by [`Ended::settle`].
    fn unsettle(&mut self) {
        (self.done.unsorted, self.failed.unsorted) = (true, true);
    }

    fn settle(&mut self) {
        self.done.sort();
        self.failed.sort();
    }

    fn row(&mut self, kind: Kind) -> &mut Row {
        match kind {
            Kind::Done => &mut self.done,
            Kind::Failed => &mut self.failed,
        }
    }

    /// How many ended tasks there are.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// How many ends came since this was last asked.
    pub const fn take_fresh(&mut self) -> usize {
        std::mem::replace(&mut self.fresh, 0)
    }

    /// A task of this definition has ended.
    fn note(&mut self, kin: Kin, kind: Kind, mark: Mark) {
        self.count += 1;
        self.fresh += 1;
        if let Some((oldest, kind)) = self.enter(kin, kind, mark) {
            self.row(kind).insert(oldest);
        }
    }

    /// Puts an end among the last of its definition; gives the one that is none of them any more.
    fn enter(&mut self, kin: Kin, kind: Kind, mark: Mark) -> Option<(Mark, Kind)> {
        let last = self.last.entry(kin).or_insert_with(|| Vec::with_capacity(1));
        let at = last.partition_point(|(other, _)| *other < mark);
        last.insert(at, (mark, kind));
        (last.len() > LAST_KEPT).then(|| last.remove(0))
    }

    /// A task is no longer ended, or no longer there.
    fn forget(&mut self, kin: Kin, kind: Kind, mark: Mark) {
        self.count = self.count.saturating_sub(1);
        if let Some(last) = self.last.get_mut(&kin)
            && let Some(at) = last.iter().position(|(other, _)| *other == mark)
        {
            last.remove(at);
            if last.is_empty() {
                self.last.remove(&kin);
            }
        } else if !self.row(kind).remove(mark) && self.aside.remove(&mark).is_none() {
            self.pressed.retain(|(other, _)| *other != mark);
        }
    }

    /// The next task that is too old, or one too many.
    pub fn candidate(&mut self, now: Timestamp, keep: &Keep) -> Option<Candidate> {
        let found = |mark, kind| Candidate { mark, kind, pressed: false };
        for (row, kind, age) in
            [(&self.done, Kind::Done, keep.completed), (&self.failed, Kind::Failed, keep.failed)]
        {
            if let (Some(mark), Some(age)) = (row.front(), age)
                && mark.at.plus(age) <= now
            {
                return Some(found(mark, kind));
            }
        }
        if self.count - self.aside.len() as u64 <= keep.ended {
            return None;
        }
        let done = self.done.front().map(|mark| (mark, Kind::Done));
        let failed = self.failed.front().map(|mark| (mark, Kind::Failed));
        match done.into_iter().chain(failed).min_by_key(|(mark, _)| *mark) {
            Some((mark, kind)) => Some(found(mark, kind)),
            None => self.press(keep.ended.max(ENDED_MAX)),
        }
    }

    /// Where there are so many definitions that their last ones are too many, the oldest go.
    fn press(&mut self, most: u64) -> Option<Candidate> {
        let over = usize::try_from(self.count.saturating_sub(most)).unwrap_or(usize::MAX);
        if over > 0 && self.pressed.is_empty() {
            self.pressed = self.last.values().flatten().copied().collect();
            self.pressed.sort_unstable_by_key(|(mark, _)| std::cmp::Reverse(*mark));
            let keep = self.pressed.len().saturating_sub(over.max(DEAD_MAX));
            self.pressed.drain(..keep);
        }
        let (mark, kind) = *self.pressed.last().filter(|_| over > 0)?;
        Some(Candidate { mark, kind, pressed: true })
    }

    /// Takes a candidate out if it is really the one to go: of its definition so many ended later.
    /// Otherwise it is one of the last from now on, and there may be another candidate.
    pub fn take(&mut self, candidate: Candidate, kin: Kin) -> bool {
        let Candidate { mark, kind, pressed } = candidate;
        if pressed {
            self.pressed.pop();
            if let Some(last) = self.last.get_mut(&kin) {
                last.retain(|(other, _)| *other != mark);
            }
            return true;
        }
        self.row(kind).remove(mark);
        match self.enter(kin, kind, mark) {
            Some((oldest, _)) if oldest == mark => true,
            Some((oldest, kind)) => {
                self.row(kind).insert(oldest);
                false
            }
            None => false,
        }
    }

    /// Leaves alone until then what was taken out.
    pub fn put_aside(&mut self, candidate: Candidate, until: Timestamp) {
        self.aside.insert(candidate.mark, (until, candidate.kind));
        self.wake = Some(self.wake.map_or(until, |wake| wake.min(until)));
    }

    /// Has another look at what was put aside until now.
    pub fn look_again(&mut self, now: Timestamp) {
        if self.wake.is_none_or(|wake| wake > now) {
            return;
        }
        let (due, later) =
            std::mem::take(&mut self.aside).into_iter().partition(|(_, it)| it.0 <= now);
        self.aside = later;
        self.wake = self.aside.values().map(|(until, _)| *until).min();
        let due: BTreeMap<Mark, (Timestamp, Kind)> = due;
        for (mark, (_, kind)) in due {
            self.row(kind).insert(mark);
        }
    }

    /// When an idle daemon has to forget something, at the latest.
    pub fn next_alarm(&self, keep: &Keep) -> Option<Timestamp> {
        let due = |row: &Row, age: Option<Span>| {
            let age = age?;
            let slack = Span(age.0 / SLACK_PART).min(SLACK);
            Some(row.front()?.at.plus(age).plus(slack))
        };
        let rows = [due(&self.done, keep.completed), due(&self.failed, keep.failed), self.wake];
        rows.into_iter().flatten().min()
    }
}

impl Candidate {
    /// Which task.
    pub const fn id(&self) -> TaskId {
        self.mark.id
    }

    /// Gives up a candidate that is no task: the index knows one too many.
    pub fn drop_from(self, ended: &mut Ended) {
        ended.row(self.kind).remove(self.mark);
        ended.pressed.retain(|(mark, _)| *mark != self.mark);
        ended.count = ended.count.saturating_sub(1);
    }
}

/// When and how a task has ended.
fn end(task: &Task) -> Option<(Kind, Mark)> {
    let State::Ended { at, .. } = task.state else { return None };
    let kind = match task.status() {
        Status::Failed | Status::Timeout => Kind::Failed,
        Status::Scheduled
        | Status::Pending
        | Status::Claimed
        | Status::Running
        | Status::Retry
        | Status::Completed
        | Status::Cancelled => Kind::Done,
    };
    Some((kind, Mark { at, id: task.id }))
}

impl Book {
    /// Tasks come in the order of their ids from here on, until [`Book::settle_ended`].
    pub fn unsettle_ended(&mut self) {
        self.ended.unsettle();
    }

    /// All stored tasks are there.
    pub fn settle_ended(&mut self) {
        self.ended.settle();
    }

    /// Notes that a task has ended, has not any more, or is gone.
    pub(super) fn note_end(&mut self, before: Option<&Task>, after: Option<&Task>) {
        let (was, is) = (before.and_then(end), after.and_then(end));
        if was == is {
            return;
        }
        if let (Some(task), Some((kind, mark))) = (before, was) {
            let kin = self.kin(task);
            self.ended.forget(kin, kind, mark);
        }
        if let (Some(task), Some((kind, mark))) = (after, is) {
            let kin = self.kin(task);
            self.ended.note(kin, kind, mark);
        }
    }

    /// The definition of a task.
    pub fn kin(&mut self, task: &Task) -> Kin {
        (self.symbols.intern(&task.spec.app), self.symbols.intern(&task.spec.name))
    }
}

#[cfg(test)]
mod tests;
