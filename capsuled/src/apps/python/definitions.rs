//! From the described tasks of an app to definitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use capsule_core::lock::Template;
use capsule_core::spec::name;
use capsule_core::time::{Span, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use super::{DescriptionError, Mode, Python, SyncTasks};
use crate::apps::{Definition, Kind, Param, ParamKind, Runner};
use crate::schedule::Rule;

/// A described task.
#[derive(Deserialize)]
pub(super) struct Task {
    name: String,
    #[serde(default)]
    doc: String,
    #[serde(default)]
    file: String,
    #[serde(default)]
    line: u32,
    #[serde(default, rename = "async")]
    is_async: bool,
    #[serde(default)]
    process: bool,
    #[serde(default)]
    retries: u32,
    /// Seconds; 0 = none.
    #[serde(default)]
    timeout: f64,
    lock: Option<String>,
    #[serde(default)]
    callback_url: String,
    #[serde(default)]
    params: Vec<TaskParam>,
    #[serde(default)]
    var_kwargs: bool,
}

#[derive(Deserialize)]
struct TaskParam {
    name: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    default: Value,
    #[serde(default)]
    choices: Vec<Value>,
    #[serde(default)]
    help: String,
    /// The app says its type.
    #[serde(default = "yes")]
    annotated: bool,
}

const fn yes() -> bool {
    true
}

/// A described schedule: its handler is run like a task.
#[derive(Deserialize)]
pub(super) struct Schedule {
    name: String,
    cron: String,
    #[serde(default)]
    doc: String,
    #[serde(default)]
    file: String,
    #[serde(default)]
    line: u32,
}

/// All definitions; a name may stand once.
pub(super) fn all(
    tasks: Vec<Task>,
    schedules: Vec<Schedule>,
    python: &Python,
) -> Result<BTreeMap<String, Arc<Definition>>, DescriptionError> {
    let mut definitions = BTreeMap::new();
    for task in tasks {
        let place = Place { task: task.name.clone(), file: task.file.clone(), line: task.line };
        let definition = definition(&place, task, python)?;
        if definitions.insert(place.task.clone(), Arc::new(definition)).is_some() {
            return Err(place.wrong("name", "it is there twice"));
        }
    }
    for schedule in schedules {
        let Schedule { name: task, cron, doc, file, line } = schedule;
        let place = Place { task, file, line };
        name("schedule", &place.task)?;
        let rule = Rule::parse(&cron, "", &place.task, Timestamp(0));
        rule.map_err(|error| place.wrong("schedule", error))?;
        let definition = Definition {
            help: doc,
            runner: if python.mode == Mode::Stock { Runner::Stock } else { Runner::Loop },
            kind: Kind::Tick,
            ..Definition::blank(&place.task)
        };
        if definitions.insert(place.task.clone(), Arc::new(definition)).is_some() {
            return Err(place.wrong("name", "a task has the same"));
        }
    }
    Ok(definitions)
}

struct Place {
    task: String,
    file: String,
    line: u32,
}

impl Place {
    fn wrong(&self, option: &str, why: impl std::fmt::Display) -> DescriptionError {
        DescriptionError::Option {
            file: self.file.clone(),
            line: self.line,
            task: self.task.clone(),
            option: option.to_owned(),
            why: why.to_string(),
        }
    }
}

fn definition(place: &Place, task: Task, python: &Python) -> Result<Definition, DescriptionError> {
    name("task name", &task.name)?;
    if task.retries > capsule_core::spec::RETRIES_MAX {
        let why = format!("the limit is {}", capsule_core::spec::RETRIES_MAX);
        return Err(place.wrong("retries", why));
    }
    let params = task.params.into_iter().map(|param| read_param(place, param));
    let params = params.collect::<Result<Vec<_>, _>>()?;
    let lock = task.lock.filter(|lock| !lock.is_empty());
    if let Some(lock) = &lock {
        check_lock(place, lock, &params)?;
    }
    let runner = match (python.mode, task.process, task.is_async, python.sync_tasks) {
        (Mode::Stock, ..) => Runner::Stock,
        (Mode::Host, true, ..) | (Mode::Host, false, false, SyncTasks::Process) => Runner::Process,
        (Mode::Host, false, false, SyncTasks::Thread) => Runner::Thread,
        (Mode::Host, false, true, _) => Runner::Loop,
    };
    Ok(Definition {
        help: task.doc,
        runner,
        params,
        more_params: task.var_kwargs,
        retries: task.retries,
        timeout: seconds(place, task.timeout)?,
        lock,
        callback_url: Some(task.callback_url).filter(|url| !url.is_empty()),
        ..Definition::blank(&place.task)
    })
}

fn seconds(place: &Place, seconds: f64) -> Result<Option<Span>, DescriptionError> {
    let span = std::time::Duration::try_from_secs_f64(seconds)
        .map_err(|_| place.wrong("timeout", format!("{seconds} is no number of seconds")))?;
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    Ok(Some(Span(millis)).filter(|span| *span != Span::ZERO))
}

fn check_lock(place: &Place, lock: &str, params: &[Param]) -> Result<(), DescriptionError> {
    let template = Template::parse(lock).map_err(|error| place.wrong("lock", error))?;
    for name in template.params() {
        if !params.iter().any(|param| param.name == name) {
            return Err(place.wrong("lock", format!("{{{name}}} is no parameter of it")));
        }
    }
    Ok(())
}

fn read_param(place: &Place, param: TaskParam) -> Result<Param, DescriptionError> {
    let word = if param.kind.is_empty() { "json" } else { param.kind.as_str() };
    let kind = ParamKind::ALL.into_iter().find(|kind| kind.word() == word);
    let kind = kind.ok_or_else(|| place.wrong(&param.name, format!("no such type: {word:?}")))?;
    let default = Some(param.default).filter(|_| !param.required);
    Ok(Param {
        name: param.name,
        kind,
        loose: kind == ParamKind::Json && !param.annotated,
        required: param.required,
        default,
        choices: param.choices.iter().map(crate::apps::command::text_of).collect(),
        help: param.help,
    })
}
