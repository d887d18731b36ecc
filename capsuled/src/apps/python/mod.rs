//! An app of the SDK as its introspection describes it: the text kept as a revision's manifest.
//!
//! The format is `capsuled/host/`'s; unknown fields are passed over, so that a newer host can say
//! more.

mod changes;
mod definitions;
mod pages;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use capsule_core::spec::SpecError;
use capsule_core::time::Timestamp;
use serde::Deserialize;
use serde_json::Value;

pub use self::pages::{TaskBoard, Widget};
use super::Definition;
use crate::schedule::{Policy, Rule};

/// The version of the description that this program reads.
const FORMAT: u32 = 1;

/// What a revision of a Python app has besides its task definitions.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Python {
    /// As given to deploy: `app.py:app`.
    pub entry: String,
    /// The module to import.
    pub module: String,
    /// The app's name in it.
    pub symbol: String,
    /// The version of the SDK.
    pub sdk: String,
    /// The version of Python.
    pub python: String,
    /// The interpreter, absolute.
    pub interpreter: String,
    /// Where the interpreter was found, for people.
    pub interpreter_why: String,
    /// Where its code runs: a snapshot, or with `serve` the project itself.
    pub dir: String,
    /// The project's folder.
    pub source: String,
    /// The environment made for it, absolute; empty = its own.
    pub venv: String,
    /// What was asked for in that environment.
    pub packages: Vec<String>,
    /// The digest of its files.
    pub snapshot: String,
    /// Who runs it.
    pub mode: Mode,
    /// Why that mode.
    pub mode_why: String,
    /// What runs its plain functions.
    pub sync_tasks: SyncTasks,
    /// It runs in the project's folder and follows changes.
    pub serve: bool,
    /// What `@app.schedule` says.
    pub schedules: Vec<AppSchedule>,
    /// Its pages, in their order.
    pub pages: Vec<Page>,
    /// Which handlers it has.
    pub handlers: Handlers,
    /// Names of secrets it asks for.
    pub secrets: Vec<String>,
    /// Parts of the SDK it uses, by the names of `docs/sdk-compatibility.md`.
    pub uses: Vec<String>,
    /// Importing it starts threads, so nothing can be forked from it.
    pub threads_at_import: bool,
}

impl Mode {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Stock => "stock",
        }
    }
}

impl SyncTasks {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Thread => "thread",
        }
    }
}

impl Handlers {
    /// All of them by name, as `message` or `action:show_more`.
    pub fn names(&self) -> Vec<String> {
        let named = |kind: &str, names: &[String]| -> Vec<String> {
            let name = |name: &String| {
                if name.is_empty() { kind.to_owned() } else { format!("{kind}:{name}") }
            };
            names.iter().map(name).collect()
        };
        let hooks = [
            ("boot", self.boot),
            ("enter", self.enter),
            ("exit", self.exit),
            ("shutdown", self.shutdown),
        ];
        let mut all = named("message", &self.message);
        all.extend(named("action", &self.action));
        all.extend(named("session", &self.session));
        all.extend(hooks.iter().filter(|(_, has)| *has).map(|(name, _)| (*name).to_owned()));
        all
    }
}

/// Who runs an app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Our own host.
    #[default]
    Host,
    /// The SDK's own runner, unmodified.
    Stock,
}

/// What runs plain functions, which no thread could be made to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncTasks {
    /// A process each.
    #[default]
    Process,
    /// Threads of the host, as the SDK does it.
    Thread,
}

/// A schedule of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AppSchedule {
    /// The handler's name.
    pub name: String,
    /// A cron expression, or `@every 90s`.
    pub cron: String,
    /// The zone of the expression; empty = UTC.
    #[serde(skip)]
    pub tz: String,
    /// What goes for all fires.
    #[serde(skip)]
    pub policy: Policy,
}

impl AppSchedule {
    /// The rule of a schedule that begins at `now`; `None` = this version cannot read it.
    pub fn rule(&self, now: Timestamp) -> Option<Rule> {
        Rule::parse(&self.cron, &self.tz, &self.name, now).ok()
    }
}

/// A page of an app.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Page {
    /// Its name, shown as the title.
    pub name: String,
    /// The icon's name.
    pub icon: String,
    /// Where it stands among the pages.
    pub order: i64,
    /// The tree of widgets, as the SDK makes it.
    pub tree: Value,
}

/// Which handlers an app has.
#[expect(clippy::struct_excessive_bools, reason = "each is a hook of the SDK")]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Handlers {
    /// Names of message handlers; the default one is empty.
    pub message: Vec<String>,
    /// Names of actions.
    pub action: Vec<String>,
    /// Names of session handlers.
    pub session: Vec<String>,
    /// It has `@app.boot`.
    pub boot: bool,
    /// It has `@app.enter`.
    pub enter: bool,
    /// It has `@app.exit`.
    pub exit: bool,
    /// It has `@app.shutdown`.
    pub shutdown: bool,
}

/// Why a description is refused. Nothing is registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptionError {
    /// Not of this form.
    #[error("the app's description is not of this form: {0}")]
    Form(String),
    /// Of a newer host.
    #[error("the app's description has format {0}, this version reads {FORMAT}")]
    Newer(u32),
    /// A name that no app or task can have.
    #[error(transparent)]
    Name(#[from] SpecError),
    /// An option that makes no sense.
    #[error("{file}:{line}: {task}: {option}: {why}")]
    Option {
        /// Where it is defined.
        file: String,
        /// On which line.
        line: u32,
        /// Which task or schedule.
        task: String,
        /// Which option.
        option: String,
        /// Why.
        why: String,
    },
}

#[derive(Deserialize)]
struct Description {
    app: String,
    #[serde(default)]
    tasks: Vec<definitions::Task>,
    #[serde(default)]
    schedules: Vec<definitions::Schedule>,
    #[serde(flatten)]
    python: Python,
}

/// A description that has passed every check.
#[derive(Debug)]
pub(super) struct Described {
    /// The app's name.
    pub app: String,
    /// Its tasks, and its schedules' handlers.
    pub definitions: BTreeMap<String, Arc<Definition>>,
    /// The rest.
    pub python: Python,
    /// `[schedules.NAME]` of the file beside it.
    pub planned: toml::Table,
}

/// Reads a description.
///
/// # Errors
/// The first thing that is wrong, with its place in the app.
pub(super) fn read(text: &str) -> Result<Described, DescriptionError> {
    let form = |error: serde_json::Error| DescriptionError::Form(error.to_string());
    let value: Value = serde_json::from_str(text).map_err(form)?;
    let format = value.get("format").and_then(Value::as_u64).unwrap_or(0);
    if format > u64::from(FORMAT) {
        return Err(DescriptionError::Newer(u32::try_from(format).unwrap_or(u32::MAX)));
    }
    // `flatten` hides schedules from one of the two that want them, so they are read twice.
    let schedules = value.get("schedules").cloned();
    let planned = value.get("planned").cloned().map(serde_json::from_value).transpose();
    let planned = planned.map_err(form)?.unwrap_or_default();
    let mut description: Description = serde_json::from_value(value).map_err(form)?;
    if let Some(schedules) = schedules {
        description.python.schedules = serde_json::from_value(schedules).map_err(form)?;
    }
    let Description { app, tasks, schedules, python } = description;
    capsule_core::spec::name("app", &app)?;
    let definitions = definitions::all(tasks, schedules, &python)?;
    Ok(Described { app, definitions, python, planned })
}
