//! Apps, their revisions and task definitions: what `capsule deploy` registers.
//!
//! Pure data: it must not know the store, the engine or the wire. Invariant: a definition in here
//! has passed every check, so making a task or a command line of it fails only for its arguments.

mod arguments;
mod call;
mod command;
mod definition;
mod diff;
mod manifest;
mod python;
mod rlimits;
mod schedules;

use std::collections::BTreeMap;
use std::sync::Arc;

use capsule_core::lock::Template;
use capsule_core::retry::Backoff;
use capsule_core::spec::{Delivery, FailureClass, LockPolicy};
use capsule_core::time::{Span, Timestamp};
use serde_json::Value;

pub use self::arguments::{ArgumentError, Given};
pub use self::call::{By, CallError};
pub use self::command::CommandLine;
pub use self::definition::{Kind, Runner};
pub use self::diff::diff;
pub use self::manifest::{MANIFEST_MAX, ManifestError};
pub use self::python::{
    AppSchedule, DescriptionError, Handlers, Mode, Page, Python, SyncTasks, TaskBoard, Widget,
};

pub use self::schedules::Planned;

/// Revisions kept of each app, newest first.
pub const REVISIONS_KEPT: usize = 20;

/// All apps.
#[derive(Clone, Debug, Default)]
pub struct Apps {
    apps: BTreeMap<String, App>,
}

/// One app: its kept revisions, and the one in force.
#[derive(Clone, Debug, Default)]
pub struct App {
    /// By number.
    pub revisions: BTreeMap<u32, Arc<Revision>>,
    /// The number of the one in force.
    pub current: u32,
}

/// One state of an app's definitions.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// Counts up with each changed deploy.
    pub number: u32,
    /// When it was registered.
    pub deployed: Timestamp,
    /// Who registered it.
    pub by: String,
    /// The user its tasks run as.
    pub uid: u32,
    /// Where commands run unless they say otherwise.
    pub dir: String,
    /// The text it was made of.
    pub manifest: String,
    /// What a Python app has besides its definitions.
    pub python: Option<Arc<Python>>,
    /// What its manifest plans.
    pub schedules: Vec<Planned>,
    /// By task name.
    pub definitions: BTreeMap<String, Arc<Definition>>,
}

/// A task definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// Its name within the app.
    pub name: String,
    /// For people.
    pub help: String,
    /// Who carries an attempt to its verdict.
    pub runner: Runner,
    /// A task, or a schedule's handler.
    pub kind: Kind,
    /// The program and its arguments, with `{param}`.
    pub command: CommandLine,
    /// In the order of the manifest.
    pub params: Vec<Param>,
    /// It takes any other argument too.
    pub more_params: bool,
    /// Own failures that are made good.
    pub retries: u32,
    /// The pause between attempts.
    pub backoff: Backoff,
    /// The longest an attempt may run.
    pub timeout: Option<Span>,
    /// Between SIGTERM and SIGKILL.
    pub grace: Span,
    /// The template of its lock key, as written.
    pub lock: Option<String>,
    /// What a second submit under the same key does.
    pub lock_policy: LockPolicy,
    /// What happens after a loss.
    pub delivery: Delivery,
    /// The queue it waits in.
    pub queue: String,
    /// Higher starts sooner.
    pub priority: i8,
    /// Added to its environment.
    pub env: BTreeMap<String, String>,
    /// Where it runs; empty = the app's folder.
    pub cwd: String,
    /// How many of it run at once.
    pub concurrency: Option<u32>,
    /// Exit codes that no retry makes good.
    pub no_retry_exit_codes: Vec<i32>,
    /// Classes of failure that no retry makes good.
    pub no_retry_on: Vec<FailureClass>,
    /// Resource limits: the kernel's number, soft and hard.
    pub rlimits: Vec<(u32, u64)>,
    /// Told of each end of a task.
    pub callback_url: Option<String>,
}

/// What a revision's text says.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The app's name.
    pub app: String,
    /// By task name.
    pub definitions: BTreeMap<String, Arc<Definition>>,
    /// Of a manifest.
    pub schedules: Vec<Planned>,
    /// Of a Python app.
    pub python: Option<Arc<Python>>,
}

/// Why a revision's text is refused. Nothing is registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A `capsule.toml`.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A Python app's description.
    #[error(transparent)]
    Description(#[from] DescriptionError),
}

/// Reads the text of a revision: a `capsule.toml`, or the description of a Python app, which
/// begins with a brace.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn parse(text: &str) -> Result<Parsed, ParseError> {
    if text.starts_with('{') {
        let python::Described { app, definitions, mut python, planned } = python::read(text)?;
        let schedules = schedules::beside(planned, &definitions, &mut python.schedules)?;
        let python = Some(Arc::new(python));
        return Ok(Parsed { app, definitions, schedules, python });
    }
    Ok(manifest::parse(text)?)
}

/// A parameter of a definition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Param {
    /// Its name.
    pub name: String,
    /// What fits.
    pub kind: ParamKind,
    /// Text that is no JSON fits too: nothing says what it is.
    pub loose: bool,
    /// It must be given.
    pub required: bool,
    /// What it is when it is not given.
    pub default: Option<Value>,
    /// When not empty, one of these.
    pub choices: Vec<String>,
    /// For people.
    pub help: String,
}

/// What fits a parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ParamKind {
    /// Any text.
    #[default]
    Str,
    /// A whole number of 64 bits.
    Int,
    /// A number.
    Float,
    /// True or false.
    Bool,
    /// Several texts.
    List,
    /// Any JSON.
    Json,
    /// A path, made absolute against the caller's folder.
    Path,
    /// An instant, RFC 3339.
    Datetime,
    /// A span of time, as `5m`.
    Duration,
}

impl ParamKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Str,
        Self::Int,
        Self::Float,
        Self::Bool,
        Self::List,
        Self::Json,
        Self::Path,
        Self::Datetime,
        Self::Duration,
    ];

    /// The word for it in a manifest.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Str => "str",
            Self::Int => "int",
            Self::Float => "float",
            Self::Bool => "bool",
            Self::List => "list",
            Self::Json => "json",
            Self::Path => "path",
            Self::Datetime => "datetime",
            Self::Duration => "duration",
        }
    }

    /// Whether a lock template may name it.
    pub const fn is_scalar(self) -> bool {
        match self {
            Self::List | Self::Json => false,
            Self::Str
            | Self::Int
            | Self::Float
            | Self::Bool
            | Self::Path
            | Self::Datetime
            | Self::Duration => true,
        }
    }
}

impl Apps {
    /// Every app by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &App)> {
        self.apps.iter()
    }

    /// An app.
    pub fn get(&self, app: &str) -> Option<&App> {
        self.apps.get(app)
    }

    /// The only app there is.
    pub fn only(&self) -> Option<&str> {
        let mut names = self.apps.keys();
        names.next().filter(|_| names.next().is_none()).map(String::as_str)
    }

    /// The definition in force.
    pub fn definition(&self, app: &str, name: &str) -> Option<&Arc<Definition>> {
        self.apps.get(app)?.in_force()?.definitions.get(name)
    }

    /// Notes a revision; it is in force from now on.
    pub fn put(&mut self, app: &str, revision: Revision) {
        let entry = self.apps.entry(app.to_owned()).or_default();
        entry.current = revision.number;
        entry.revisions.insert(revision.number, Arc::new(revision));
    }

    /// Puts a kept revision in force again.
    pub fn set_current(&mut self, app: &str, number: u32) {
        if let Some(app) = self.apps.get_mut(app) {
            app.current = number;
        }
    }

    /// Forgets the oldest revisions beyond [`REVISIONS_KEPT`], never the one in force.
    pub fn trim(&mut self, app: &str) -> Vec<u32> {
        let Some(app) = self.apps.get_mut(app) else { return Vec::new() };
        let over = app.revisions.len().saturating_sub(REVISIONS_KEPT);
        let current = app.current;
        let old: Vec<u32> =
            app.revisions.keys().copied().filter(|n| *n != current).take(over).collect();
        for number in &old {
            app.revisions.remove(number);
        }
        old
    }

    /// Forgets an app.
    pub fn remove(&mut self, app: &str) -> Option<App> {
        self.apps.remove(app)
    }
}

impl App {
    /// The revision in force.
    pub fn in_force(&self) -> Option<&Arc<Revision>> {
        self.revisions.get(&self.current)
    }

    /// The number after the highest one.
    pub fn next_number(&self) -> u32 {
        self.revisions.keys().next_back().map_or(1, |last| last.saturating_add(1))
    }
}

impl Definition {
    /// The lock key that these arguments make; `None` = it has no lock.
    ///
    /// # Errors
    /// The key is too long.
    pub fn lock_key(
        &self,
        arguments: &serde_json::Map<String, Value>,
    ) -> Result<Option<String>, capsule_core::lock::LockError> {
        let Some(template) = &self.lock else { return Ok(None) };
        // As Python formats what is left at its default.
        let left = |name: &str| {
            let param = self.params.iter().find(|param| param.name == name)?;
            (param.default == Some(Value::Null)).then(|| "None".to_owned())
        };
        let value = |name: &str| arguments.get(name).map(command::text_of).or_else(|| left(name));
        let key = Template::parse(template)?.render(value)?;
        Ok(Some(key))
    }
}
