//! What was acknowledged against what became of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;

use capsule_proto::v1::tail_event::Event;
use capsule_proto::v1::{Status, TailRequest, TaskView};
use capsule_tests::{Home, rpc};

use super::client::Client;
use super::kills::Death;
use super::model::{Cancel, Gone, Hold, Known};
use super::plan::Plan;

/// Of so many tasks at the most the log is read.
const LOGS: usize = 300;

/// How often each attempt began and came to its end.
#[derive(Debug, Default)]
pub(super) struct Notes(BTreeMap<(u64, u32), (u32, u32)>);

impl Notes {
    pub(super) fn read(home: &Home) -> Self {
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

    /// The attempts of a task that began, each with how often it came to its end.
    fn attempts(&self, id: u64) -> Vec<(u32, u32)> {
        let of = self.0.range((id, 0)..=(id, u32::MAX));
        of.map(|((_, attempt), (_, ended))| (*attempt, *ended)).collect()
    }
}

/// So long after the death of its keeper, in microseconds, even a busy daemon has heard of it.
const HEARD_AFTER_US: i64 = 1_000_000;

/// All that is known at the end.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    pub(super) tasks: &'a [TaskView],
    pub(super) notes: &'a Notes,
    pub(super) deaths: &'a [Death],
}

impl Judge<'_> {
    /// Judges every attempt that ever ran, and all tasks that are there.
    pub(super) fn all(&self) {
        let known: HashMap<u64, &TaskView> =
            self.tasks.iter().map(|task| (task.id, task)).collect();
        assert_eq!(known.len(), self.tasks.len(), "an id stands for one task");
        let uuids: HashSet<&str> = self.tasks.iter().map(|task| &*task.uuid).collect();
        assert_eq!(uuids.len(), self.tasks.len(), "a UUID stands for one task");
        for ((id, attempt), (begun, ended)) in &self.notes.0 {
            assert!(*begun == 1 && *ended <= 1, "attempt {attempt} of {id} ran {begun} times");
            if let Some(task) = known.get(id) {
                assert!(*attempt <= task.attempt, "attempt {attempt} of {task:?} is not known");
            }
        }
        for task in self.tasks {
            let lost = task.reason.starts_with("lost");
            assert!(!lost || self.may_be_lost(task), "its keeper lived: {task:?}");
        }
    }

    /// Whether a keeper died while the task was there. What the daemon gives to a keeper that is
    /// dead already is lost with it, until it has heard of that.
    fn may_be_lost(&self, task: &TaskView) -> bool {
        let ended = task.ended_us.unwrap_or(i64::MAX);
        let there =
            |(before, after): &Death| task.created_us <= after + HEARD_AFTER_US && *before <= ended;
        self.deaths.iter().any(there)
    }

    /// Judges what one client was told.
    pub(super) fn client(&self, client: &Client) {
        let tasks: HashMap<u64, &TaskView> =
            self.tasks.iter().map(|task| (task.id, task)).collect();
        for (id, known) in &client.known {
            match (known.gone, tasks.get(id)) {
                (Gone::No, Some(task)) => self.end(known, task),
                (Gone::Yes, None) => {}
                (gone, task) => panic!("{id} {gone:?}: {known:?} became {task:?}"),
            }
        }
        for (plan, id) in &client.keys {
            assert!(id.is_some(), "a key of {} stands for nothing: {plan:?}", client.name);
        }
    }

    fn end(&self, known: &Known, task: &TaskView) {
        let ran = self.notes.attempts(task.id);
        let about = format!("{known:?} became {task:?} and ran {ran:?}");
        assert_eq!(known.hold, Hold::No, "{about}");
        if task.status() == Status::Cancelled {
            assert!(known.is_stopped(), "{about}");
            return;
        }
        assert_ne!(known.cancel, Some(Cancel::Done), "{about}");
        if task.reason.starts_with("lost") {
            assert_eq!(task.status(), Status::Failed, "{about}");
            return;
        }
        let end = (task.status(), task.exit_code, task.signal);
        let (status, code, signal) = known.plan.end();
        if status == Status::Timeout {
            assert_eq!(end.0, status, "{about}");
        } else {
            assert_eq!(end, (status, code, signal), "{about}");
        }
        let (begun, whole) = known.plan.attempts();
        if whole > 0 {
            assert_eq!(ran.last(), Some(&(task.attempt, 1)), "{about}");
        }
        if !self.may_be_lost(task) {
            // An attempt that was claimed ahead and put back spends a number, but never begins.
            let runs = usize::try_from(begun * (1 + known.retries)).unwrap();
            assert_eq!(ran.len(), runs, "{about}");
            let ends: u32 = ran.iter().map(|(_, ended)| ended).sum();
            assert_eq!(ends, whole * (1 + known.retries), "{about}");
        }
    }

    /// Nobody enters before the one inside has left, or was killed in there.
    pub(super) fn locks(&self, home: &Home) {
        let mut files = 0;
        for file in fs::read_dir(home.path("h")).unwrap() {
            let path = file.unwrap().path();
            if !path.file_name().unwrap().to_str().unwrap().starts_with("lock-") {
                continue;
            }
            files += 1;
            let mut inside: Option<(u64, u32)> = None;
            for line in fs::read_to_string(&path).unwrap().lines() {
                let words: Vec<&str> = line.split(' ').collect();
                let [way, id, attempt] = words[..] else { panic!("a torn note: {line}") };
                let who = (id.parse().unwrap(), attempt.parse().unwrap());
                if way == "out" {
                    assert_eq!(inside.take(), Some(who), "{} has left", path.display());
                } else if let Some(other) = inside.replace(who) {
                    let ended = self.notes.0[&other].1;
                    assert_eq!(ended, 0, "{who:?} entered before {other:?} had left");
                }
            }
        }
        assert!(files > 0, "no lock was ever taken");
    }

    /// Judges the logs of tasks that came to their own end.
    pub(super) async fn logs(&self, home: &Home, client: &Client) {
        let mut client_calls = rpc::connect(&home.socket()).await.unwrap();
        let whole = |task: &&TaskView| {
            task.status() != Status::Cancelled && !task.reason.starts_with("lost")
        };
        let told = self.tasks.iter().filter(whole);
        let told = told.filter_map(|task| Some((task.id, client.known.get(&task.id)?)));
        let told = told.filter(|(_, known)| known.plan != Plan::Absent);
        for (id, known) in told.take(LOGS) {
            let request = TailRequest { id: id.to_string(), ..TailRequest::default() };
            let mut events = client_calls.tail(request).await.unwrap().into_inner();
            let mut log = Vec::new();
            while let Some(event) = events.message().await.unwrap() {
                if let Some(Event::Chunk(chunk)) = event.event
                    && chunk.stream == "out"
                {
                    assert_eq!(chunk.gap, 0, "{id} {known:?}");
                    log.extend(chunk.data);
                }
            }
            assert_eq!(String::from_utf8_lossy(&log), known.plan.output(), "{id} {known:?}");
        }
    }
}
