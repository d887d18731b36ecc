//! A revision on its way: its copy of the project, its description, what is to be said of it.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::features::{Part, lacking};
use super::interpreter::Interpreter;
use super::settings::{Runner, Settings};
use super::snapshot::{self, Taken};
use super::venv::Made;
use super::{DESCRIPTION_MAX, DeployError, Deployer, KNOWN_SDK, Order};
use crate::apps::SyncTasks;
use crate::secrets::Secrets;

/// Folders of drafts begin so; no app's name does.
pub(super) const PREFIX: &str = ".new-";
/// The name of the copy within a draft's folder.
const COPY: &str = "app";

/// All about a revision that is not registered yet.
#[derive(Debug)]
pub struct Draft {
    /// The folder that goes with the draft.
    scratch: PathBuf,
    /// Where the app was imported.
    dir: PathBuf,
    taken: Taken,
    description: Map<String, Value>,
    /// The app's name.
    pub app: String,
    /// What works but may surprise.
    pub warnings: Vec<String>,
    /// Parts of the SDK that it uses and that are not wholly here.
    pub lacking: Vec<&'static Part>,
    /// Secrets it asks for that are not set.
    pub missing: Vec<String>,
    serve: bool,
}

/// What a description is completed by, besides what was found.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub order: &'a Order,
    pub settings: &'a Settings,
    pub secrets: &'a Secrets,
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Err(error) = snapshot::remove(&self.scratch) {
            tracing::warn!(dir = %self.scratch.display(), %error, "a draft stays behind");
        }
    }
}

impl Draft {
    /// Copies the project, or with `serve` looks at it where it lies.
    pub(super) fn begin(apps: &Path, project: &Path, serve: bool) -> Result<Self, DeployError> {
        let scratch = apps.join(format!("{PREFIX}{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir_all(&scratch)
            .map_err(|source| DeployError::Io { path: scratch.clone(), source })?;
        let dir = if serve { project.to_owned() } else { scratch.join(COPY) };
        let mut draft = Self {
            scratch,
            dir,
            taken: Taken::default(),
            description: Map::new(),
            app: String::new(),
            warnings: Vec::new(),
            lacking: Vec::new(),
            missing: Vec::new(),
            serve,
        };
        draft.taken = if serve {
            Taken { digest: snapshot::code(project)?, ..Taken::default() }
        } else {
            snapshot::take(project, &draft.dir)?
        };
        Ok(draft)
    }

    /// Where the app is imported.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A folder for what passes between us and children.
    pub(super) fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Adds to what the introspection said what only we know.
    pub(super) fn complete(
        &mut self,
        mut description: Map<String, Value>,
        asked: &Asked<'_>,
        found: Interpreter,
        made: Option<&Made>,
    ) -> Result<(), DeployError> {
        let Asked { order, settings, secrets } = asked;
        if !order.name.is_empty() {
            description.insert("app".to_owned(), order.name.clone().into());
        }
        self.app = text(&description, "app").to_owned();
        self.warnings = found.warnings;
        let (runs_it, why) = who_runs(settings, text(&description, "sdk"));
        if runs_it == "stock" {
            self.warnings.push(
                "the SDK's runner serves HTTP on port 8080 of all addresses, without asking who calls"
                    .to_owned(),
            );
        }
        if description.get("threads_at_import") == Some(&Value::Bool(true)) {
            self.warnings.push(
                "importing the app starts threads: its processes start anew instead of being forked"
                    .to_owned(),
            );
        }
        let (why_python, root, packages) = match made {
            Some(made) => {
                let why = format!("made by capsule from {}", found.why);
                (why, made.root.display().to_string(), made.packages.clone())
            }
            None => (found.why, String::new(), Vec::new()),
        };
        let sync_tasks = match settings.sync_tasks {
            SyncTasks::Process => "process",
            SyncTasks::Thread => "thread",
        };
        let added = json!({
            "interpreter": found.program.display().to_string(),
            "interpreter_why": why_python,
            "source": order.dir.display().to_string(),
            "mode": runs_it,
            "mode_why": why,
            "sync_tasks": sync_tasks,
            "serve": order.serve,
            "venv": root,
            "packages": packages,
            "snapshot": self.taken.digest,
        });
        if let Value::Object(added) = added {
            description.extend(added);
        }
        if !settings.schedules.is_empty() {
            description.insert("planned".to_owned(), settings.schedules.clone().into());
        }
        self.lacking = lacking(&texts(&description, "uses"));
        self.missing = secrets.missing(&texts(&description, "secrets"));
        self.description = description;
        let bytes = self.text(&self.dir).len();
        if bytes > DESCRIPTION_MAX { Err(DeployError::TooLong { bytes }) } else { Ok(()) }
    }

    /// The description of the app in `dir`.
    fn text(&self, dir: &Path) -> String {
        let mut description = self.description.clone();
        description.insert("dir".to_owned(), dir.display().to_string().into());
        Value::Object(description).to_string()
    }

    /// The description as it is before the draft is kept, to be checked and compared.
    pub fn description(&self) -> String {
        self.text(&self.dir)
    }

    /// Whether a kept description says the same of the same files.
    pub fn is_same(&self, kept: &str) -> bool {
        let Ok(Value::Object(mut kept)) = serde_json::from_str(kept) else { return false };
        kept.remove("dir");
        kept == self.description
    }

    /// How many files were copied, and how many bytes they have.
    pub fn size(&self) -> (u64, u64) {
        (self.taken.files, self.taken.bytes)
    }

    /// Puts the copy where revision `number` runs, and gives the description to register.
    ///
    /// # Errors
    /// The copy cannot be moved.
    pub fn keep(self, deployer: &Deployer, number: u32) -> Result<String, DeployError> {
        let make = |path: &Path| {
            std::fs::create_dir_all(path)
                .map_err(|source| DeployError::Io { path: path.to_owned(), source })
        };
        make(&deployer.data(&self.app))?;
        if self.serve {
            return Ok(self.description());
        }
        let home = deployer.apps().join(&self.app);
        make(&home)?;
        let dir = home.join(format!("r{number}"));
        let failed = |source| DeployError::Io { path: dir.clone(), source };
        // Left behind by an app of that name that was removed.
        snapshot::remove(&dir).map_err(failed)?;
        std::fs::rename(&self.dir, &dir).map_err(failed)?;
        snapshot::seal(&dir).map_err(failed)?;
        Ok(self.text(&dir))
    }
}

impl Deployer {
    /// Removes the copies of revisions that are forgotten.
    pub fn sweep(&self, app: &str, kept: impl Fn(u32) -> bool) {
        let home = self.apps().join(app);
        for entry in std::fs::read_dir(home).into_iter().flatten().filter_map(Result::ok) {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix('r')?.parse().ok());
            if number.is_some_and(|number| !kept(number))
                && let Err(error) = snapshot::remove(&entry.path())
            {
                tracing::warn!(app, dir = %entry.path().display(), %error, "an old copy stays behind");
            }
        }
    }
}

/// Who runs the app, and why.
fn who_runs(settings: &Settings, sdk: &str) -> (&'static str, String) {
    match settings.runner {
        Runner::Stock => ("stock", "capsule.toml asks for it".to_owned()),
        Runner::Host if sdk == KNOWN_SDK => ("host", format!("it knows cpsl {sdk}")),
        Runner::Host => ("stock", format!("the host knows cpsl {KNOWN_SDK}, this is {sdk}")),
    }
}

fn text<'a>(description: &'a Map<String, Value>, name: &str) -> &'a str {
    description.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn texts(description: &Map<String, Value>, name: &str) -> Vec<String> {
    let list = description.get(name).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
