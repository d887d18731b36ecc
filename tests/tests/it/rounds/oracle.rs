//! What was acknowledged against what became of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;

use capsule_proto::v1::tail_event::Event;
use capsule_proto::v1::{Status, TailRequest, TaskView};
use capsule_tests::{Home, rpc};

use super::plan::Plan;

/// A task whose submit was answered.
#[derive(Debug)]
pub(super) struct Acknowledged {
    pub(super) id: u64,
    pub(super) uuid: String,
    pub(super) plan: Plan,
    pub(super) cancel: Option<Cancel>,
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

impl Acknowledged {
    /// Whether it may have been kept from its own end.
    fn is_stopped(&self) -> bool {
        matches!(self.cancel, Some(Cancel::Done | Cancel::Asked))
    }
}

/// How often each attempt began and came to its end.
#[derive(Debug, Default)]
struct Notes(BTreeMap<(u64, u32), (u32, u32)>);

impl Notes {
    fn read(home: &Home) -> Self {
        let mut notes = Self::default();
        for line in fs::read_to_string(home.path("h/notes")).unwrap().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [what, id, attempt] = words[..] else { panic!("a torn note: {line}") };
            let key = (id.parse().unwrap(), attempt.parse().unwrap());
            let (begun, ended) = notes.0.entry(key).or_default();
            *(if what == "begin" { begun } else { ended }) += 1;
        }
        notes
    }

    fn attempts(&self, id: u64) -> Vec<(u32, (u32, u32))> {
        let of = self.0.range((id, 0)..=(id, u32::MAX));
        of.map(|((_, attempt), counts)| (*attempt, *counts)).collect()
    }
}

/// Judges every acknowledged task, and every attempt that ever ran.
pub(super) fn judge(home: &Home, tasks: &[TaskView], acknowledged: &[Acknowledged]) {
    let known: HashMap<u64, &TaskView> = tasks.iter().map(|task| (task.id, task)).collect();
    assert_eq!(known.len(), tasks.len(), "an id stands for one task");
    let ids: HashSet<u64> = acknowledged.iter().map(|task| task.id).collect();
    assert_eq!(ids.len(), acknowledged.len(), "an id was acknowledged twice");

    let notes = Notes::read(home);
    for ((id, attempt), (begun, ended)) in &notes.0 {
        assert!(*begun == 1 && *ended <= 1, "attempt {attempt} of {id} ran {begun} times");
        let task = known.get(id).unwrap_or_else(|| panic!("{id} ran and is not known"));
        assert!(*attempt <= task.attempt, "attempt {attempt} of {id} is not known");
    }
    for task in tasks {
        assert!(!task.reason.starts_with("lost"), "{} is lost: {}", task.id, task.reason);
    }
    for one in acknowledged {
        let task = known.get(&one.id).unwrap_or_else(|| panic!("{} is lost", one.id));
        assert_eq!(task.uuid, one.uuid, "{} was used again", one.id);
        judge_end(one, task, &notes.attempts(one.id));
    }
    for key in 0..2 {
        judge_lock(&fs::read_to_string(home.path(format!("h/lock-{key}"))).unwrap_or_default());
    }
}

fn judge_end(one: &Acknowledged, task: &TaskView, ran: &[(u32, (u32, u32))]) {
    let about = format!("{one:?} became {task:?} and ran {ran:?}");
    if task.status() == Status::Cancelled {
        assert!(one.is_stopped(), "{about}");
        return;
    }
    assert_ne!(one.cancel, Some(Cancel::Done), "{about}");
    let own = one.plan.code();
    let status = if own == 0 { Status::Completed } else { Status::Failed };
    assert_eq!(task.status(), status, "{about}");
    assert_eq!(task.exit_code, Some(i32::try_from(own).unwrap()), "{about}");
    assert_eq!(task.attempt, one.plan.attempts(), "{about}");
    let whole: Vec<_> = (1..=one.plan.attempts()).map(|attempt| (attempt, (1, 1))).collect();
    assert_eq!(ran, whole, "{about}");
}

/// Nobody enters before the one inside has left.
fn judge_lock(text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.chunks(2) {
        let inside = pair[0].strip_prefix("in ").unwrap_or_else(|| panic!("{pair:?}"));
        assert_eq!(
            pair.get(1).and_then(|line| line.strip_prefix("out ")),
            Some(inside),
            "{pair:?}"
        );
    }
}

/// Judges the logs of all that came to their own end.
pub(super) async fn judge_logs(home: &Home, tasks: &[TaskView], acknowledged: &[Acknowledged]) {
    let cancelled: HashSet<u64> = tasks
        .iter()
        .filter(|task| task.status() == Status::Cancelled)
        .map(|task| task.id)
        .collect();
    let mut client = rpc::connect(&home.socket()).await.unwrap();
    for one in acknowledged.iter().filter(|one| !cancelled.contains(&one.id)) {
        let request = TailRequest { id: one.id.to_string(), ..TailRequest::default() };
        let mut events = client.tail(request).await.unwrap().into_inner();
        let mut log = Vec::new();
        while let Some(event) = events.message().await.unwrap() {
            if let Some(Event::Chunk(chunk)) = event.event {
                assert_eq!((chunk.gap, chunk.stream.as_str()), (0, "out"), "{one:?}");
                log.extend(chunk.data);
            }
        }
        assert_eq!(String::from_utf8_lossy(&log), one.plan.output(), "{one:?}");
    }
}
