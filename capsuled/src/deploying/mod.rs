//! From `app.py:app` to the description of a revision: interpreter, snapshot, introspection.
//!
//! Owns the folders `apps`, `venvs` and `data` of the state directory. It must not know the wire
//! or the engine. Invariant: nothing of an app is imported but by a child, and
//! what is refused leaves nothing behind.

mod checks;
mod children;
mod draft;
mod features;
mod interpreter;
mod introspect;
mod settings;
mod snapshot;
#[cfg(test)]
mod tests;
mod venv;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::{Mutex, MutexGuard};

pub use self::children::{ChildError, Children, End, Running};
pub use self::draft::Draft;
pub use self::features::{Part, State, document, lacking, parts};
pub use self::interpreter::{Interpreter, Shell};
pub use self::introspect::Fault;
use self::introspect::{Seen, Visit, introspect};
use self::settings::Settings;
pub use self::settings::dotenv;
pub use self::snapshot::SnapshotError;
use crate::secrets::Secrets;

/// The version of the SDK that our host is made for, and that is installed where none is.
pub const KNOWN_SDK: &str = "0.3.181";
/// The longest description, in bytes.
pub const DESCRIPTION_MAX: usize = 256 << 10;
/// Lines of a crashed child's output in an error.
const OUTPUT_SHOWN: usize = 20;

/// What a client asks for.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// `app.py:app` or `pkg.module:symbol`.
    pub entry: String,
    /// The project's folder, absolute.
    pub dir: PathBuf,
    /// Name of the app; empty = what it says itself.
    pub name: String,
    /// The interpreter asked for: a path, the root of an environment, or a version.
    pub python: Option<PathBuf>,
    /// What the caller's shell says.
    pub shell: Shell,
    /// It runs where it lies and follows changes.
    pub serve: bool,
    /// Who deploys.
    pub user: String,
}

/// Why an app is refused. The revision in force stays.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// Not of the form `FILE.py:SYMBOL`.
    #[error("{0:?} names no app: expected FILE.py:SYMBOL or MODULE:SYMBOL")]
    Entry(String),
    /// No interpreter.
    #[error("{}", no_interpreter(asked))]
    NoInterpreter {
        /// The one asked for; empty = any.
        asked: String,
    },
    /// The `capsule.toml` beside it.
    #[error("capsule.toml: {message}")]
    Settings {
        /// What is wrong, with its line.
        message: String,
    },
    /// The project cannot be copied.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A file of ours.
    #[error("writing {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No process could be had.
    #[error("no process could be started: {0}")]
    Child(#[from] ChildError),
    /// A child did not do what it was for.
    #[error("{what}: the process {how}{}", tail(output))]
    Crashed {
        /// What it was for.
        what: String,
        /// How it ended.
        how: String,
        /// Its last lines.
        output: Vec<String>,
    },
    /// The app is none, or not a good one.
    #[error("{}{}", fault.placed(), indented(&fault.traceback))]
    Fault {
        /// What is wrong with it.
        fault: Box<Fault>,
        /// Its interpreter.
        program: PathBuf,
    },
    /// Its description.
    #[error("the app's description has {bytes} bytes, the limit is {DESCRIPTION_MAX}")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
}

fn no_interpreter(asked: &str) -> String {
    match asked {
        "" => {
            "there is no Python 3.10 or later: no .venv, no VIRTUAL_ENV, no python3 on PATH".into()
        }
        asked => format!("there is no Python at {asked:?}"),
    }
}

fn tail(output: &[String]) -> String {
    let last = output.iter().skip(output.len().saturating_sub(OUTPUT_SHOWN));
    last.map(|line| format!("\n  {line}")).collect::<Vec<_>>().concat()
}

fn indented(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("\n  {line}")).collect::<Vec<_>>().concat()
}

impl DeployError {
    /// A command that helps.
    pub fn hint(&self) -> String {
        match self {
            Self::NoInterpreter { .. } => "name one    capsule deploy APP --python PATH".to_owned(),
            Self::Fault { fault, program } => fault_hint(fault, program),
            Self::Crashed { .. } => "see what it needs    capsule help manifest".to_owned(),
            Self::Settings { .. } => "capsule help manifest".to_owned(),
            Self::Snapshot(SnapshotError::TooLarge { .. }) => {
                "move data out of the project and pass its path: capsule help data".to_owned()
            }
            Self::Entry(_)
            | Self::Snapshot(SnapshotError::Io { .. })
            | Self::Io { .. }
            | Self::Child(_)
            | Self::TooLong { .. } => "capsule deploy --help".to_owned(),
        }
    }
}

fn fault_hint(fault: &Fault, program: &Path) -> String {
    let program = program.display();
    let missing = fault.message.split_once("No module named ").map(|(_, name)| name);
    match (fault.kind.as_str(), missing) {
        ("import", Some(name)) => {
            let name = name.trim_matches(|c| c == '\'' || c == '"');
            let package = name.split(['.', '\'']).next().unwrap_or_default();
            format!("if it is a package    {program} -m pip install {package}")
        }
        ("no_sdk" | "old_sdk", _) => {
            format!("{program} -m pip install --upgrade 'cpsl=={KNOWN_SDK}'")
        }
        ("cron", _) => "capsule help cron".to_owned(),
        ("lock", _) => {
            "a lock names parameters of its task, as lock=\"owner:{owner_id}\"".to_owned()
        }
        ("duplicate", _) => "each task, schedule and handler needs a name of its own".to_owned(),
        ("default", _) => {
            "a default is text, a number, true, false, None, a list or a dict".to_owned()
        }
        _ => "capsule deploy --help".to_owned(),
    }
}

/// Makes drafts of revisions.
#[derive(Debug)]
pub struct Deployer {
    /// The state directory.
    state: PathBuf,
    /// The folder of the host's files.
    host: PathBuf,
    children: Arc<dyn Children>,
    secrets: Secrets,
    turn: Mutex<()>,
    /// One environment is made at a time: two apps may want the same.
    building: Mutex<()>,
}

impl Deployer {
    /// A deployer over a state directory; `host` is the folder of the host's Python files.
    pub fn new(state: &Path, host: PathBuf, children: Arc<dyn Children>) -> Self {
        let deployer = Self {
            state: state.to_owned(),
            host,
            children,
            secrets: Secrets::new(state),
            turn: Mutex::new(()),
            building: Mutex::new(()),
        };
        for left in std::fs::read_dir(deployer.apps()).into_iter().flatten().filter_map(Result::ok)
        {
            if left.file_name().to_string_lossy().starts_with(draft::PREFIX) {
                drop(snapshot::remove(&left.path()));
            }
        }
        deployer
    }

    /// Waits until no other revision is being registered: its number and its folder belong together.
    pub async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    fn apps(&self) -> PathBuf {
        self.state.join("apps")
    }

    /// Where an app keeps data across its revisions.
    pub fn data(&self, app: &str) -> PathBuf {
        self.state.join("data").join(app)
    }

    /// The secrets of this daemon.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Finds out all about an app; nothing is registered, and what was copied goes with the draft.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub async fn prepare(&self, order: &Order) -> Result<Draft, DeployError> {
        let file = file_of(&order.entry, &order.dir)?;
        let settings = Settings::read(&order.dir)?;
        let mut found =
            interpreter::find(&order.dir, order.python.as_deref(), &settings, &order.shell)?;
        let (apps, project, serve) = (self.apps(), order.dir.clone(), order.serve);
        // Copying a project takes a while, and the daemon's runtime has one thread.
        let begun = tokio::task::spawn_blocking(move || Draft::begin(&apps, &project, serve));
        let mut draft = begun.await.map_err(|error| ChildError(error.to_string()))??;
        let mut made = None;
        let mut seen = self.look(order, &found.program, &draft).await?;
        if let Seen::Fault(fault) = &seen
            && (fault.kind == "no_sdk" || (found.environment.is_none() && lacks_package(fault)))
        {
            let wanted = venv::Wanted {
                all: &self.state.join("venvs"),
                base: &found,
                dir: draft.dir(),
                file: file.clone(),
                scratch: draft.scratch(),
            };
            let building = self.building.lock().await;
            let environment = venv::make(&*self.children, &wanted).await?;
            drop(building);
            found.program.clone_from(&environment.program);
            seen = self.look(order, &found.program, &draft).await?;
            made = Some(environment);
        }
        let description = match seen {
            Seen::Described(description) => description,
            Seen::Fault(fault) => {
                return Err(DeployError::Fault { fault: fault.into(), program: found.program });
            }
        };
        check_schedules(&description).map_err(|fault| DeployError::Fault {
            fault: fault.into(),
            program: found.program.clone(),
        })?;
        let asked = draft::Asked { order, settings: &settings, secrets: &self.secrets };
        draft.complete(description, &asked, found, made.as_ref())?;
        Ok(draft)
    }

    async fn look(
        &self,
        order: &Order,
        program: &Path,
        draft: &Draft,
    ) -> Result<Seen, DeployError> {
        let visit = Visit {
            program,
            host: &self.host,
            dir: draft.dir(),
            result: draft.scratch().join("description.json"),
            env: self.environment(order, program, draft),
            secrets: &self.secrets,
        };
        introspect(&*self.children, visit).await
    }

    /// What the app finds in its environment while it is imported.
    fn environment(&self, order: &Order, program: &Path, draft: &Draft) -> Vec<(String, String)> {
        let mut env = dotenv(&order.dir);
        // Its secrets are not known yet, and it may want them now: those that its source names.
        env.extend(self.secrets.named_in(draft.dir(), &order.entry));
        let app = if order.name.is_empty() { "app" } else { order.name.as_str() };
        let data = match order.name.as_str() {
            "" => draft.scratch().to_owned(),
            name => self.data(name),
        };
        let kind = if order.serve { "serve" } else { "deploy" };
        let mut set = |name: &str, value: &str| env.push((name.to_owned(), value.to_owned()));
        set("CAPSULE_ENTRY", &order.entry);
        set("CAPSULE_APP", app);
        set("CAPSULE_APP_ID", app);
        set("CAPSULE_USER_ID", &order.user);
        set("CAPSULE_VERSION_TYPE", kind);
        set("CAPSULE_ENV_TYPE", kind);
        set("CAPSULE_DATA_DIR", &data.display().to_string());
        set("PYTHONUNBUFFERED", "1");
        set("PYTHONUTF8", "1");
        set("PYTHONFAULTHANDLER", "1");
        if let Some(root) = program.parent().and_then(Path::parent)
            && root.join("pyvenv.cfg").is_file()
        {
            let path = std::env::var("PATH").unwrap_or_default();
            set("VIRTUAL_ENV", &root.display().to_string());
            set("PATH", &format!("{}:{path}", root.join("bin").display()));
        }
        env
    }
}

/// The app's file, when the entry names one that is there.
fn file_of(entry: &str, dir: &Path) -> Result<Option<PathBuf>, DeployError> {
    let parts = entry.rsplit_once(':').filter(|(place, symbol)| {
        !place.is_empty() && !symbol.is_empty() && !entry.contains(['\0', '\n'])
    });
    let Some((place, _)) = parts else { return Err(DeployError::Entry(entry.to_owned())) };
    if Path::new(place).extension().is_some_and(|end| end == "py") {
        return Ok(Some(PathBuf::from(place)));
    }
    let module = place.replace('.', "/");
    let files = [format!("{module}.py"), format!("{module}/__init__.py")];
    Ok(files.into_iter().map(PathBuf::from).find(|file| dir.join(file).is_file()))
}

/// It may be mended by installing what the app names.
fn lacks_package(fault: &Fault) -> bool {
    fault.kind == "import" && fault.message.contains("No module named")
}

fn check_schedules(description: &Map<String, Value>) -> Result<(), Fault> {
    let schedules = description.get("schedules").and_then(Value::as_array);
    for schedule in schedules.into_iter().flatten() {
        let text = |name: &str| schedule.get(name).and_then(Value::as_str).unwrap_or_default();
        let line = schedule.get("line").and_then(Value::as_u64).unwrap_or_default();
        let place = (text("file"), u32::try_from(line).unwrap_or_default());
        if let Some(fault) = checks::cron_fault(text("name"), text("cron"), place) {
            return Err(fault);
        }
    }
    Ok(())
}
