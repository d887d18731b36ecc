//! Decides what becomes of a submit: a new task, or the one that stands for it.

use std::sync::Arc;

use capsule_core::command::Command;
use capsule_core::id::{TaskId, Uuid};
use capsule_core::spec::{INLINE_PAYLOAD_MAX, LockPolicy, Payload, TaskSpec};
use capsule_core::task::{State, Task};

use super::group::Group;
use super::request::{How, NewTask, SubmitError, Submitted};
use super::{EngineError, PAYLOAD_MAX, TASKS_MAX};
use crate::store::SideKind;

type Decided = Result<Submitted, SubmitError>;

impl Group<'_> {
    /// Decides one submit. Order: checks, idempotency key, lock, dependencies, creation.
    pub(super) fn submit(&mut self, new: NewTask) -> Result<Decided, EngineError> {
        let NewTask { mut spec, payload, parent, dry_run } = new;
        spec.parent = parent;
        if let Err(error) = self.check(&spec, &payload) {
            return Ok(Err(error));
        }
        if let Some(decided) = self.known_key(&spec)? {
            return Ok(decided);
        }
        let mut how = How::Created;
        if let Some(key) = spec.lock.clone() {
            let standing = self.duplicate(&spec, &key, parent)?;
            match (standing, spec.lock_policy) {
                (None, _) | (Some(_), LockPolicy::Wait) => {}
                (Some(task), LockPolicy::Merge) => return self.merge(&spec, task).map(Ok),
                (Some(task), LockPolicy::Reject) => {
                    let (holder, status) = (task.id, task.status());
                    return Ok(Err(SubmitError::Locked { key, holder, status }));
                }
                (Some(_), LockPolicy::Replace) if dry_run => {}
                (Some(_), LockPolicy::Replace) => how = self.replace(&spec, &key, parent)?,
            }
        }
        if let Some(error) = self.resolve_dependencies(&mut spec)? {
            return Ok(Err(error));
        }
        let id = TaskId(self.carry.last_id.0 + 1);
        spec.payload = if payload.len() <= INLINE_PAYLOAD_MAX {
            Payload::Inline(payload)
        } else {
            let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            if !dry_run
                && let Err(error) =
                    self.shared.write_side(SideKind::Payload, id, &payload, PAYLOAD_MAX)
            {
                return Ok(Err(SubmitError::Degraded(error.to_string())));
            }
            Payload::Side { length }
        };
        let command = Command::Submit { id, uuid: super::new_uuid(self.now), spec: spec.into() };
        if dry_run {
            return Ok(Ok(self.rehearse(&command)));
        }
        self.carry.last_id = id;
        match self.ask(id, &command)?.result {
            Ok(task) => Ok(Ok(Submitted { task, how, waiting: None })),
            Err(_) => Err(EngineError::Record(id)),
        }
    }

    fn check(&self, spec: &TaskSpec, payload: &[u8]) -> Result<(), SubmitError> {
        if payload.len() > PAYLOAD_MAX {
            return Err(SubmitError::PayloadTooLarge(payload.len()));
        }
        spec.check()?;
        let unfinished: u64 = self
            .book
            .counts
            .iter()
            .filter(|(status, _)| !status.is_ended())
            .map(|(_, count)| count)
            .sum();
        if unfinished >= TASKS_MAX {
            return Err(SubmitError::QueueFull(unfinished));
        }
        if let Some(why) = self.book.degraded.get(super::DISK) {
            return Err(SubmitError::Degraded(why.clone()));
        }
        Ok(())
    }

    /// The task that an idempotency key stands for, until 24 h after it ended.
    fn known_key(&mut self, spec: &TaskSpec) -> Result<Option<Decided>, EngineError> {
        let Some(key) = &spec.key else { return Ok(None) };
        let Some(id) = self.book.by_key(&spec.app, &spec.name, key) else { return Ok(None) };
        let Some(task) = self.load(id)? else { return Ok(None) };
        if let State::Ended { at, .. } = task.state
            && self.now.since(at) > super::KEY_KEPT
        {
            return Ok(None);
        }
        if task.spec.arguments != spec.arguments {
            return Ok(Some(Err(SubmitError::KeyConflict { key: key.clone(), id })));
        }
        Ok(Some(Ok(Submitted { task, how: How::Existing, waiting: None })))
    }

    /// The unfinished task of the same name and owner under the same key. The attempt that makes
    /// the submit holds the lock itself and does not count: its own successor must wait for it.
    fn duplicate(
        &self,
        spec: &TaskSpec,
        key: &str,
        parent: Option<TaskId>,
    ) -> Result<Option<Arc<Task>>, EngineError> {
        for id in self.book.unfinished(&spec.app, key) {
            if parent == Some(id) {
                continue;
            }
            if let Some(task) = self.load(id)?
                && task.spec.name == spec.name
                && task.spec.owner == spec.owner
                && task.state.cancel().is_none()
            {
                return Ok(Some(task));
            }
        }
        Ok(None)
    }

    /// A scheduled task is pulled forward to the earlier instant; a backoff is not shortened.
    fn merge(&mut self, spec: &TaskSpec, task: Arc<Task>) -> Result<Submitted, EngineError> {
        let arguments_differ = task.spec.arguments != spec.arguments;
        let wanted = spec.not_before.unwrap_or(self.now);
        let earlier = matches!(task.state, State::Scheduled { due } if wanted < due);
        let mut standing = task;
        if earlier {
            let edit = capsule_core::command::Edit { at: Some(wanted), ..Default::default() };
            let acted = self.ask(standing.id, &Command::Edit(edit.into()))?;
            standing = acted.result.unwrap_or(standing);
        }
        let how = How::Merged { arguments_differ, pulled_forward: earlier };
        Ok(Submitted { task: standing, how, waiting: None })
    }

    /// Cancels the ones that wait; one that runs is waited for.
    fn replace(
        &mut self,
        spec: &TaskSpec,
        key: &str,
        parent: Option<TaskId>,
    ) -> Result<How, EngineError> {
        let mut replaced = Vec::new();
        for id in self.book.unfinished(&spec.app, key) {
            let Some(task) = self.load(id)? else { continue };
            let same = task.spec.name == spec.name && task.spec.owner == spec.owner;
            if same && parent != Some(id) && task.state.lease().is_none() {
                let reason = "replaced by a newer submit".to_owned();
                self.ask(id, &Command::Cancel { reason, grace: None })?;
                replaced.push(id);
            }
        }
        Ok(if replaced.is_empty() { How::Created } else { How::Replaced(replaced) })
    }

    /// Takes out dependencies that have ended as wanted; one that ended otherwise stays and is
    /// answered when the task is created.
    fn resolve_dependencies(
        &self,
        spec: &mut TaskSpec,
    ) -> Result<Option<SubmitError>, EngineError> {
        let mut open = Vec::new();
        for dependency in &spec.after {
            let Some(task) = self.load(dependency.task)? else {
                return Ok(Some(SubmitError::NoDependency(dependency.task)));
            };
            if !dependency.on.satisfied_by(task.status()) {
                open.push(*dependency);
            }
        }
        spec.after = open;
        Ok(None)
    }

    /// A dependency that had already ended so that the task can never start ends it at once.
    pub(super) fn settle(&mut self, task: &Task) -> Result<Option<Arc<Task>>, EngineError> {
        for dependency in &task.spec.after {
            let status = self.book.entries.get(&dependency.task).map(|entry| entry.status);
            if let Some(status) = status.filter(|status| status.is_ended()) {
                let command = Command::DependencyEnded { task: dependency.task, status };
                return Ok(self.ask(task.id, &command)?.result.ok());
            }
        }
        Ok(None)
    }

    fn rehearse(&self, command: &Command) -> Submitted {
        let mut task = None;
        if let Ok(events) = capsule_core::decide(None, command, self.now) {
            for event in &events {
                capsule_core::evolve(&mut task, event);
            }
        }
        let task = task.expect("a submit with nothing there is never refused");
        let task = Task { id: TaskId(0), uuid: Uuid::default(), ..task };
        Submitted { task: Arc::new(task), how: How::Checked, waiting: None }
    }
}
