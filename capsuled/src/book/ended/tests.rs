//! The index against the rule, said as plainly as it can be.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// One ended task.
#[derive(Clone, Copy, Debug)]
struct Task {
    kin: u32,
    kind: Kind,
    mark: Mark,
}

/// Whether so many of its definition ended later.
fn is_last(all: &[Task], task: &Task) -> bool {
    let later = all.iter().filter(|other| other.kin == task.kin && other.mark > task.mark);
    later.count() < LAST_KEPT
}

/// What stays: without those that are too old, and then without the oldest ones beyond the number;
/// in both cases none of the last of its definition goes.
fn rule(all: &[Task], now: Timestamp, keep: &Keep) -> BTreeSet<u64> {
    let mut sorted = all.to_vec();
    sorted.sort_by_key(|task| task.mark);
    let too_old = |task: &Task| {
        let age = match task.kind {
            Kind::Done => keep.completed,
            Kind::Failed => keep.failed,
        };
        age.is_some_and(|age| task.mark.at.plus(age) <= now)
    };
    let mut left: Vec<Task> =
        sorted.iter().copied().filter(|task| is_last(all, task) || !too_old(task)).collect();
    let mut over = (left.len() as u64).saturating_sub(keep.ended);
    left.retain(|task| {
        let goes = over > 0 && !is_last(all, task);
        over -= u64::from(goes);
        !goes
    });
    left.iter().map(|task| task.mark.id.0).collect()
}

fn kin(number: u32) -> Kin {
    (Symbol(0), Symbol(number))
}

/// What the index lets go now, in its order.
fn passed(ended: &mut Ended, all: &[Task], now: Timestamp, keep: &Keep) -> Vec<u64> {
    let mut gone = Vec::new();
    while let Some(candidate) = ended.candidate(now, keep) {
        let task = *all.iter().find(|task| task.mark == candidate.mark).unwrap();
        if ended.take(candidate, kin(task.kin)) {
            ended.forget(kin(task.kin), task.kind, task.mark);
            gone.push(task.mark.id.0);
        }
    }
    gone
}

fn ends() -> impl Strategy<Value = Vec<Task>> {
    let end = (0u32..4, any::<bool>(), 0i64..60);
    proptest::collection::vec(end, 0..120).prop_map(|ends| {
        let task = |(id, (kin, done, at)): (u64, (u32, bool, i64))| Task {
            kin,
            kind: if done { Kind::Done } else { Kind::Failed },
            mark: Mark { at: Timestamp(at * 1_000_000), id: TaskId(id) },
        };
        (1..).zip(ends).map(task).collect()
    })
}

fn keeps() -> impl Strategy<Value = Keep> {
    let age = || proptest::option::of((0u64..60).prop_map(Span::from_secs));
    (age(), age(), 0u64..130).prop_map(|(completed, failed, ended)| Keep {
        completed,
        failed,
        ended,
    })
}

fn index(all: &[Task]) -> Ended {
    let mut ended = Ended::default();
    for task in all {
        ended.note(kin(task.kin), task.kind, task.mark);
    }
    ended
}

proptest! {
    /// In whatever order they ended, and however the index came to be, the rule is carried out.
    #[test]
    fn what_goes_is_what_the_rule_lets_go(
        all in ends(), keep in keeps(), now in 0i64..130, restarted in any::<bool>(),
    ) {
        let now = Timestamp(now * 1_000_000);
        let mut ended = if restarted {
            let mut ended = Ended::default();
            ended.unsettle();
            for task in &all {
                ended.note(kin(task.kin), task.kind, task.mark);
            }
            ended.settle();
            ended
        } else {
            index(&all)
        };
        let gone: BTreeSet<u64> = passed(&mut ended, &all, now, &keep).into_iter().collect();
        let stays: BTreeSet<u64> =
            all.iter().map(|task| task.mark.id.0).filter(|id| !gone.contains(id)).collect();
        prop_assert_eq!(&stays, &rule(&all, now, &keep));
        prop_assert_eq!(ended.count(), stays.len() as u64);
        let due = ended.next_alarm(&keep);
        prop_assert!(due.is_none_or(|due| due > now), "nothing is left to do");
    }

    /// Tasks that people took away or started again in between only ever save others: none of the
    /// last of its definition goes, and the number of those that are left is right.
    #[test]
    fn the_last_ones_stay_whatever_people_take_away(
        all in ends(), keep in keeps(), now in 0i64..130,
        taken in proptest::collection::btree_set(0usize..120, 0..60), before in any::<bool>(),
    ) {
        let now = Timestamp(now * 1_000_000);
        let mut ended = index(&all);
        if before {
            passed(&mut ended, &all, Timestamp(now.0 / 2), &keep);
        }
        let there: BTreeSet<Mark> = every(&ended);
        for task in taken.iter().filter_map(|at| all.get(*at)) {
            if there.contains(&task.mark) {
                ended.forget(kin(task.kin), task.kind, task.mark);
            }
        }
        let left: Vec<Task> =
            all.iter().copied().filter(|task| every(&ended).contains(&task.mark)).collect();
        prop_assert_eq!(ended.count(), left.len() as u64);
        for id in passed(&mut ended, &all, now, &keep) {
            let task = left.iter().find(|task| task.mark.id.0 == id).unwrap();
            prop_assert!(!is_last(&left, task), "{id} was among the last of its definition");
        }
        prop_assert_eq!(ended.count(), every(&ended).len() as u64);
    }
}

/// All that the index holds.
fn every(ended: &Ended) -> BTreeSet<Mark> {
    let rows = ended.done.marks.iter().chain(&ended.failed.marks).filter(|mark| !mark.is_dead());
    let last = ended.last.values().flatten().map(|(mark, _)| mark);
    rows.chain(last).chain(ended.aside.keys()).copied().collect()
}

fn done(id: u64) -> Mark {
    Mark { at: Timestamp(i64::try_from(id).unwrap()), id: TaskId(id) }
}

#[test]
fn what_is_needed_waits_aside_and_comes_again() {
    let keep = Keep { completed: Some(Span::ZERO), failed: None, ended: 5 };
    let mut ended = Ended::default();
    for id in 1..=12 {
        ended.note(kin(1), Kind::Done, done(id));
    }
    let now = Timestamp(20);
    let first = ended.candidate(now, &keep).unwrap();
    assert!(ended.take(first, kin(1)));
    ended.put_aside(first, Timestamp(100));
    let second = ended.candidate(now, &keep).unwrap();
    assert_eq!(second.id(), TaskId(2));
    assert!(ended.take(second, kin(1)));
    ended.forget(kin(1), Kind::Done, second.mark);
    ended.look_again(now);
    assert_eq!(ended.candidate(now, &keep), None, "what is aside does not come up");
    assert_eq!((ended.count(), ended.next_alarm(&keep)), (11, Some(Timestamp(100))));
    ended.look_again(Timestamp(100));
    assert_eq!(ended.candidate(Timestamp(100), &keep), Some(first));
}

#[test]
fn a_million_definitions_do_not_keep_more_than_the_most() {
    let keep = Keep { completed: None, failed: None, ended: 5 };
    let mut ended = Ended::default();
    // The count alone says how many there are: the test need not make a million.
    for id in 1..=30 {
        ended.note(kin(u32::try_from(id).unwrap()), Kind::Done, done(id));
    }
    assert_eq!(ended.candidate(Timestamp(50), &keep), None, "beyond the wanted number they stay");
    ended.count = ENDED_MAX + 3;
    let mut gone = Vec::new();
    while let Some(candidate) = ended.candidate(Timestamp(50), &keep) {
        let id = candidate.id().0;
        let of = kin(u32::try_from(id).unwrap());
        assert!(ended.take(candidate, of));
        ended.forget(of, Kind::Done, candidate.mark);
        gone.push(id);
    }
    assert_eq!(gone, [1, 2, 3]);
}

#[test]
fn rows_shrink_when_people_take_much_away() {
    let mut ended = Ended::default();
    for id in 1..=10_000 {
        ended.note(kin(1), Kind::Done, done(id));
    }
    for id in (2000..9000).rev() {
        ended.forget(kin(1), Kind::Done, done(id));
    }
    assert_eq!(ended.count(), 3000);
    assert!(ended.done.marks.len() < 6000 && ended.done.marks.capacity() < 12_000);
    assert_eq!(size_of::<Mark>(), 16, "a million of them are 16 MB");
}
