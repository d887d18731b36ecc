//! From a call of a definition to a task: what fits, and how it runs. Every way in makes its tasks
//! here, so a command line, an app and a schedule always agree.

use std::collections::BTreeMap;

use capsule_core::lock::LockError;
use capsule_core::spec::{Payload, SUMMARY_MAX, TaskSpec};
use serde_json::{Map, Value};

use super::{App, ArgumentError, Definition, Given};
use crate::text::bounded;
use crate::work::{Call, Work};

/// Who makes a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    /// The owner of the task.
    pub owner: String,
    /// The user it runs as where its app says nothing.
    pub uid: u32,
}

/// Why a call makes no task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The arguments do not fit.
    #[error(transparent)]
    Arguments(#[from] ArgumentError),
    /// The arguments make no lock key.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl App {
    /// The work of a call of the revision in force, and the spec that its definition makes of it.
    ///
    /// # Errors
    /// The arguments do not fit, or make no lock key.
    pub fn call(
        &self,
        name: &str,
        definition: &Definition,
        given: &Given,
        by: By,
    ) -> Result<(Work, TaskSpec), CallError> {
        let arguments = definition.arguments(given)?;
        let lock = definition.lock_key(&arguments)?;
        let summary = summary(&arguments);
        let text = Value::Object(arguments).to_string();
        let in_force = self.in_force();
        let spec = TaskSpec {
            revision: in_force.map_or(0, |revision| revision.number),
            uid: in_force.map_or(by.uid, |revision| revision.uid),
            lock,
            summary,
            ..definition.spec(name.to_owned(), by)
        };
        Ok((Work::Call(Call { arguments: text }), spec))
    }
}

impl Definition {
    fn spec(&self, app: String, by: By) -> TaskSpec {
        TaskSpec {
            app,
            name: self.name.clone(),
            display_name: String::new(),
            owner: by.owner,
            uid: by.uid,
            queue: self.queue.clone(),
            priority: self.priority,
            labels: BTreeMap::new(),
            payload: Payload::Inline(Vec::new()),
            retries: self.retries,
            backoff: self.backoff,
            timeout: self.timeout,
            grace: self.grace,
            delivery: self.delivery,
            lock: None,
            lock_policy: self.lock_policy,
            key: None,
            start_within: None,
            after: Vec::new(),
            no_retry_exit_codes: self.no_retry_exit_codes.clone(),
            no_retry_on: self.no_retry_on.clone(),
            revision: 0,
            arguments: 0,
            summary: String::new(),
            not_before: None,
            hold: false,
            tick: None,
            parent: None,
        }
    }
}

fn summary(arguments: &Map<String, Value>) -> String {
    let pairs: Vec<String> = arguments
        .iter()
        .map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => format!("{name}={value}"),
        })
        .collect();
    bounded(&pairs.join(" "), SUMMARY_MAX)
}
