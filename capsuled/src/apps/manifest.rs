//! Reads a `capsule.toml`.

use std::collections::BTreeMap;
use std::sync::Arc;

use capsule_core::lock::{LockError, Template};
use capsule_core::retry::Backoff;
use capsule_core::spec::{Delivery, FailureClass, LockPolicy, SpecError, name};
use capsule_core::time::Span;
use serde::Deserialize;
use serde_json::Value;

use super::definition::GRACE;
use super::{CommandLine, Definition, Param, ParamKind, Parsed, Runner, rlimits, schedules};

/// The longest manifest, in bytes.
pub const MANIFEST_MAX: usize = 256 << 10;

/// Why a manifest is refused. Nothing is registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is no TOML, or not of this form; the text shows the line.
    #[error("{0}")]
    Form(String),
    /// It is over 256 KiB.
    #[error("the manifest has {0} bytes, the limit is {MANIFEST_MAX}")]
    TooLong(usize),
    /// A name that no app or task can have.
    #[error(transparent)]
    Name(#[from] SpecError),
    /// A task has nothing to run.
    #[error("[tasks.{0}] has no command")]
    NoCommand(String),
    /// An option of a schedule that makes no sense.
    #[error("[schedules.{schedule}] {option}: {why}")]
    Schedule {
        /// Which schedule.
        schedule: String,
        /// Which option.
        option: String,
        /// Why.
        why: String,
    },
    /// An option of a task that makes no sense.
    #[error("[tasks.{task}] {option}: {why}")]
    Option {
        /// Which task.
        task: String,
        /// Which option.
        option: String,
        /// Why.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    app: AppTable,
    #[serde(default)]
    tasks: toml::Table,
    #[serde(default)]
    schedules: toml::Table,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AppTable {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskTable {
    #[serde(default)]
    help: String,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    params: toml::Table,
    #[serde(default)]
    retries: u32,
    backoff: Option<String>,
    timeout: Option<String>,
    grace: Option<String>,
    lock: Option<String>,
    lock_policy: Option<String>,
    delivery: Option<String>,
    queue: Option<String>,
    #[serde(default)]
    priority: i64,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    cwd: String,
    concurrency: Option<u32>,
    #[serde(default)]
    no_retry_exit_codes: Vec<i32>,
    #[serde(default)]
    no_retry_on: Vec<String>,
    #[serde(default)]
    rlimits: toml::Table,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ParamTable {
    #[serde(default = "str_word")]
    r#type: String,
    default: Option<toml::Value>,
    required: Option<bool>,
    #[serde(default)]
    choices: Vec<toml::Value>,
    #[serde(default)]
    help: String,
}

fn str_word() -> String {
    "str".to_owned()
}

/// Reads a manifest: the app's name, its definitions and its schedules.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub(super) fn parse(text: &str) -> Result<Parsed, ManifestError> {
    if text.len() > MANIFEST_MAX {
        return Err(ManifestError::TooLong(text.len()));
    }
    let file: File =
        toml::from_str(text).map_err(|error| ManifestError::Form(error.to_string()))?;
    name("app", &file.app.name)?;
    let mut definitions = BTreeMap::new();
    for (task, table) in file.tasks {
        name("task name", &task)?;
        let table: TaskTable =
            table.try_into().map_err(|error: toml::de::Error| ManifestError::Option {
                task: task.clone(),
                option: "table".to_owned(),
                why: error.to_string().trim().to_owned(),
            })?;
        definitions.insert(task.clone(), Arc::new(definition(task, table)?));
    }
    let schedules = schedules::read(file.schedules, &definitions)?;
    Ok(Parsed { app: file.app.name, definitions, schedules, python: None })
}

/// Makes errors that name the task and the option.
struct Place<'a>(&'a str);

impl Place<'_> {
    fn wrong(&self, option: impl Into<String>, why: impl std::fmt::Display) -> ManifestError {
        ManifestError::Option {
            task: self.0.to_owned(),
            option: option.into(),
            why: why.to_string(),
        }
    }
}

fn definition(task: String, table: TaskTable) -> Result<Definition, ManifestError> {
    let place = Place(&task);
    if table.command.first().is_none_or(String::is_empty) {
        return Err(ManifestError::NoCommand(task));
    }
    let mut params = Vec::with_capacity(table.params.len());
    for (name, value) in table.params {
        params.push(param(&place, name, value)?);
    }
    let command = CommandLine::new(table.command);
    if let Some(name) = command.params().find(|name| !params.iter().any(|p| p.name == *name)) {
        let why = format!("{{{name}}} is no parameter of it (write {{{{{name}}}}} for the text)");
        return Err(place.wrong("command", why));
    }
    if let Some(lock) = &table.lock {
        check_lock(&place, lock, &params)?;
    }
    let span = |option: &str, text: Option<String>| {
        text.map(|text| Span::parse(&text)).transpose().map_err(|error| place.wrong(option, error))
    };
    let timeout = span("timeout", table.timeout)?.filter(|span| *span != Span::ZERO);
    let grace = span("grace", table.grace)?.unwrap_or(GRACE);
    let backoff = match table.backoff {
        Some(text) => Backoff::parse(&text).map_err(|error| place.wrong("backoff", error))?,
        None => Backoff::default(),
    };
    let delivery = delivery(&place, table.delivery.as_deref())?;
    let no_retry_on: Result<Vec<FailureClass>, ManifestError> =
        table.no_retry_on.iter().map(|word| class(&place, word)).collect();
    let definition = Definition {
        help: table.help,
        runner: Runner::Program,
        command,
        params,
        retries: table.retries,
        backoff,
        timeout,
        grace,
        lock: table.lock,
        lock_policy: lock_policy(&place, table.lock_policy.as_deref())?,
        delivery,
        queue: table.queue.unwrap_or_else(|| "default".to_owned()),
        priority: i8::try_from(table.priority)
            .ok()
            .filter(|priority| (-100..=100).contains(priority))
            .ok_or_else(|| place.wrong("priority", "it goes from -100 to 100"))?,
        env: env(&place, table.env)?,
        cwd: table.cwd,
        concurrency: table.concurrency,
        no_retry_exit_codes: table.no_retry_exit_codes,
        no_retry_on: no_retry_on?,
        rlimits: rlimits::read(table.rlimits).map_err(|(option, why)| place.wrong(option, why))?,
        ..Definition::blank(&task)
    };
    check_bounds(&place, &definition)?;
    Ok(definition)
}

fn check_bounds(place: &Place<'_>, definition: &Definition) -> Result<(), ManifestError> {
    name("queue", &definition.queue).map_err(|error| place.wrong("queue", error))?;
    if definition.concurrency == Some(0) {
        return Err(place.wrong("concurrency", "0 would never start it"));
    }
    if definition.retries > capsule_core::spec::RETRIES_MAX {
        return Err(
            place.wrong("retries", format!("the limit is {}", capsule_core::spec::RETRIES_MAX))
        );
    }
    if definition.delivery == Delivery::AtMostOnce && definition.retries > 0 {
        return Err(place.wrong("delivery", "at_most_once allows no retries"));
    }
    if definition.no_retry_exit_codes.len() > capsule_core::spec::EXIT_CODES_MAX {
        return Err(place.wrong("no_retry_exit_codes", "there are too many"));
    }
    Ok(())
}

fn check_lock(place: &Place<'_>, lock: &str, params: &[Param]) -> Result<(), ManifestError> {
    let template = Template::parse(lock).map_err(|error: LockError| place.wrong("lock", error))?;
    for name in template.params() {
        let Some(param) = params.iter().find(|param| param.name == name) else {
            return Err(place.wrong("lock", format!("{{{name}}} is no parameter of it")));
        };
        if !param.kind.is_scalar() {
            let why = format!("{{{name}}} is a {}, a lock takes single values", param.kind.word());
            return Err(place.wrong("lock", why));
        }
        if !param.required && param.default.is_none() {
            let why = format!("{{{name}}} may be missing: give it a default or make it required");
            return Err(place.wrong("lock", why));
        }
    }
    Ok(())
}

fn param(place: &Place<'_>, name: String, value: toml::Value) -> Result<Param, ManifestError> {
    let option = format!("params.{name}");
    let starts = name.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
    if !starts || !name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-') {
        return Err(place.wrong(option, "a parameter's name has letters, digits and _"));
    }
    let table = match value {
        toml::Value::String(word) => ParamTable {
            r#type: word,
            default: None,
            required: Some(true),
            choices: Vec::new(),
            help: String::new(),
        },
        other @ (toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_)
        | toml::Value::Array(_)
        | toml::Value::Table(_)) => other
            .try_into()
            .map_err(|error: toml::de::Error| place.wrong(&option, error.to_string().trim()))?,
    };
    let kind = ParamKind::ALL.into_iter().find(|kind| kind.word() == table.r#type);
    let Some(kind) = kind else {
        let words: Vec<&str> = ParamKind::ALL.iter().map(|kind| kind.word()).collect();
        let why = format!("type {:?} is none of {}", table.r#type, words.join(", "));
        return Err(place.wrong(option, why));
    };
    let choices = table.choices.into_iter().map(|choice| super::command::text_of(&json(choice)));
    let mut param = Param {
        name,
        kind,
        required: table.required.unwrap_or(false),
        choices: choices.collect(),
        help: table.help,
        ..Param::default()
    };
    if kind == ParamKind::Bool && !param.required {
        param.default = Some(Value::Bool(false));
    }
    if let Some(default) = table.default {
        if param.required {
            return Err(place.wrong(option, "a required parameter has no default"));
        }
        let default = param.check(&json(default), "");
        param.default =
            Some(default.map_err(|error| place.wrong(option, format!("default: {error}")))?);
    }
    Ok(param)
}

fn json(value: toml::Value) -> Value {
    if let toml::Value::Datetime(at) = value {
        return Value::String(at.to_string());
    }
    serde_json::to_value(value).unwrap_or(Value::Null)
}

fn delivery(place: &Place<'_>, word: Option<&str>) -> Result<Delivery, ManifestError> {
    match word {
        None | Some("at_least_once") => Ok(Delivery::AtLeastOnce),
        Some("at_most_once") => Ok(Delivery::AtMostOnce),
        Some(other) => {
            Err(place
                .wrong("delivery", format!("{other:?} is neither at_least_once nor at_most_once")))
        }
    }
}

fn lock_policy(place: &Place<'_>, word: Option<&str>) -> Result<LockPolicy, ManifestError> {
    match word {
        None | Some("merge") => Ok(LockPolicy::Merge),
        Some("wait") => Ok(LockPolicy::Wait),
        Some("replace") => Ok(LockPolicy::Replace),
        Some("reject") => Ok(LockPolicy::Reject),
        Some(other) => {
            let why = format!("{other:?} is none of merge, wait, replace and reject");
            Err(place.wrong("lock_policy", why))
        }
    }
}

fn class(place: &Place<'_>, word: &str) -> Result<FailureClass, ManifestError> {
    match word {
        "exit" => Ok(FailureClass::Exit),
        "signal" => Ok(FailureClass::Signal),
        "timeout" => Ok(FailureClass::Timeout),
        "memory" => Ok(FailureClass::Memory),
        other => {
            let why = format!("{other:?} is none of exit, signal, timeout and memory");
            Err(place.wrong("no_retry_on", why))
        }
    }
}

fn env(
    place: &Place<'_>,
    env: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, ManifestError> {
    for (name, value) in &env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(place.wrong("env", format!("{name:?} is no name of a variable")));
        }
    }
    Ok(env)
}
