//! What holds after every step.

use std::collections::{BTreeMap, BTreeSet};

use capsule_core::id::TaskId;
use capsule_core::time::{Span, Timestamp};

use super::world::World;
use crate::clock::Clock as _;
use crate::engine::TickRow;
use crate::engine::ticks::DROPPED;
use crate::schedule::{BUFFER_MAX, Counted, Fire, Outcome, Schedule, TICKS_KEPT, TickKey};
use crate::store::Table;

/// How far back a schedule is held against its plan.
const LOOKED_BACK: Span = Span::from_secs(6 * 3600);

impl World {
    pub(super) fn check(&mut self) {
        let mut schedules = self.bench.engine.book().schedules.clone();
        assert!(schedules.check(), "a schedule has no alarm, or two");
        let now = self.bench.clock.now();
        let all: Vec<Schedule> = schedules.iter().cloned().collect();
        for it in &all {
            self.is_on_disk(it);
            if let Some(next) = it.next.filter(|_| it.is_enabled()) {
                assert!(it.due_at(next) > now, "{next:?} is overdue at {now:?}: {it:#?}");
            }
            let mut rows = self.bench.engine.ticks(it.id, 5000).unwrap();
            rows.reverse();
            ticks_are_decided_once(it, &rows);
            self.fires_have_tasks(&rows);
            self.fires_once(&rows);
            self.waits_with_reason(it, &rows);
            self.backfills_with_reason(it, &rows);
            self.no_gap(it, &rows, now);
        }
        self.tasks_have_fires();
        self.runs_do_not_meet();
    }

    fn is_on_disk(&self, it: &Schedule) {
        let stored = self.bench.store.get(Table::Schedule, &it.id.0.to_be_bytes()).unwrap();
        let stored: Schedule = minicbor::decode(&stored.unwrap()).unwrap();
        assert_eq!(&stored, it, "the disk says something else");
    }

    fn fires_have_tasks(&mut self, rows: &[TickRow]) {
        for row in rows {
            if let Outcome::Fired { task, .. } = row.tick.outcome {
                assert!(self.bench.engine.task(task).unwrap().is_some(), "{row:?} has no task");
                let of = *self.runs.entry(task).or_insert(row.key);
                assert_eq!(of, row.key, "task {task} stands for two fires");
            }
        }
    }

    /// However long ago, and whichever rule planned it.
    fn fires_once(&mut self, rows: &[TickRow]) {
        for row in rows {
            if let Outcome::Fired { task, how } = row.tick.outcome
                && how != Fire::Manual
            {
                let instant = (row.key.schedule, row.key.planned);
                let of = *self.fired.entry(instant).or_insert(task);
                assert_eq!(of, task, "{row:?} has fired before");
            }
        }
    }

    fn tasks_have_fires(&self) {
        // A submit whose answer was lost has made its task nevertheless.
        let all: Vec<TaskId> = self.bench.engine.book().entries.iter().map(|(id, _)| id).collect();
        for id in all.into_iter().filter(|id| !self.runs.contains_key(id)) {
            assert!(self.bench.task(id).spec.parent.is_some(), "task {id} has no fire");
        }
    }

    fn is_going_on(&self, id: TaskId) -> bool {
        self.has_process(id) || !self.bench.status(id).is_ended()
    }

    fn runs_do_not_meet(&self) {
        let mut going: BTreeMap<_, Vec<TaskId>> = BTreeMap::new();
        for (id, key) in &self.runs {
            if self.is_going_on(*id) && !self.free.contains(&key.schedule) {
                going.entry(key.schedule).or_default().push(*id);
            }
        }
        for (schedule, runs) in going {
            assert!(runs.len() < 2, "runs {runs:?} of {schedule} go on at once");
        }
    }

    /// What waits has a row that says so, and something to wait for.
    fn waits_with_reason(&self, it: &Schedule, rows: &[TickRow]) {
        let buffered = |row: &&TickRow| matches!(row.tick.outcome, Outcome::Buffered { .. });
        let waiting: BTreeSet<TickKey> = rows.iter().filter(buffered).map(|row| row.key).collect();
        let told: BTreeSet<TickKey> = it.buffered.iter().map(|at| it.tick(*at)).collect();
        // Old rows go in time, and what they tell of goes on.
        assert!(waiting.is_subset(&told), "{waiting:?} wait for nothing: {it:#?}");
        if it.paused.is_none() && !it.buffered.is_empty() {
            let former = it.former.unwrap();
            let children = self.bench.engine.book().submitted_by(former);
            let counts = it.policy.counts == Counted::Submitted;
            let goes = self.is_going_on(former)
                || (counts && children.into_iter().any(|child| self.is_going_on(child)));
            assert!(goes, "{former} has ended, and a fire waits for it: {it:#?}");
        }
        if let Some(limit) = it.policy.limit {
            let fires = it.fires as usize + it.buffered.len();
            assert!(fires <= limit as usize, "{it:#?}");
        }
    }

    /// As many wait to be backfilled as it says, and for something.
    fn backfills_with_reason(&self, it: &Schedule, rows: &[TickRow]) {
        let waits = |row: &&TickRow| row.tick.outcome == Outcome::ToBackfill;
        let waiting: Vec<&TickRow> = rows.iter().filter(waits).collect();
        assert_eq!(waiting.len(), it.backfill as usize, "{it:#?} {waiting:#?}");
        assert!(waiting.len() <= BUFFER_MAX, "{it:#?}");
        assert!(waiting.iter().all(|row| row.key.generation == it.generation), "{waiting:#?}");
        let held = it.paused.as_ref().is_some_and(|paused| !paused.backfills);
        if !waiting.is_empty() && !held {
            let former = it.former.unwrap();
            let children = self.bench.engine.book().submitted_by(former);
            let counts = it.policy.counts == Counted::Submitted;
            let goes = self.is_going_on(former)
                || (counts && children.into_iter().any(|child| self.is_going_on(child)));
            assert!(goes, "{former} has ended, and a backfill waits for it: {it:#?}");
        }
    }

    /// Each planned tick that is over has a row.
    fn no_gap(&self, it: &Schedule, rows: &[TickRow], now: Timestamp) {
        if !it.is_active() {
            return;
        }
        let back =
            |at: Timestamp, span: Span| Timestamp(at.0 - i64::try_from(span.as_micros()).unwrap());
        let since = it.since.unwrap_or(it.created);
        let kept = back(self.latest, TICKS_KEPT);
        let oldest = rows.first().filter(|_| rows.len() > 990).map_or(kept, |row| row.key.planned);
        let from = since.max(kept).max(oldest).max(back(now, LOOKED_BACK));
        let until = it.next.map_or(it.decided, |next| Timestamp(next.0 - 1)).min(now);
        let here = || rows.iter().filter(|row| row.key.generation == it.generation);
        let singles: BTreeSet<Timestamp> = here().map(|row| row.key.planned).collect();
        let ranges: Vec<_> = here().map(|row| (row.key.planned, end(row))).collect();
        let mut next = it.planned_after(from);
        while let Some(at) = next.filter(|at| *at <= until) {
            let in_range = || ranges.iter().any(|(from, to)| *from <= at && at <= *to);
            assert!(singles.contains(&at) || in_range(), "{at:?} was left out: {it:#?} {rows:#?}");
            next = it.planned_after(at);
        }
    }
}

/// The last tick that a row stands for.
fn end(row: &TickRow) -> Timestamp {
    match row.tick.outcome {
        Outcome::Missed { until, .. } | Outcome::Paused { until, .. } => until,
        Outcome::Fired { .. }
        | Outcome::Skipped { .. }
        | Outcome::Refused { .. }
        | Outcome::Buffered { .. }
        | Outcome::PassedOver { .. }
        | Outcome::ToBackfill => row.key.planned,
    }
}

/// No instant is decided twice, whichever rule planned it.
fn ticks_are_decided_once(it: &Schedule, rows: &[TickRow]) {
    let by_hand = |row: &&TickRow| {
        matches!(
            &row.tick.outcome,
            Outcome::Fired { how: Fire::Manual | Fire::Backfilled, .. } | Outcome::ToBackfill
        ) || matches!(&row.tick.outcome, Outcome::Refused { why } if why == DROPPED)
    };
    let mut before = Timestamp(i64::MIN);
    for row in rows.iter().filter(|row| !by_hand(row)) {
        assert!(row.key.planned > before, "{row:?} again: {it:#?} {rows:#?}");
        assert!(!matches!(row.tick.outcome, Outcome::Refused { .. }), "{row:?}");
        before = end(row);
    }
    assert!(it.next.is_none_or(|next| next > before), "{it:#?} goes back");
}
