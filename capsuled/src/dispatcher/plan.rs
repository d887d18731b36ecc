//! From a claimed task to what the keeper is to start.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use capsule_core::attempt::ResultRefusal;
use capsule_core::id::{AttemptNumber, TaskId};
use capsule_core::spec::Payload;
use capsule_core::task::Task;

use super::python::{Of, PythonSurroundings, token_file};
use crate::apps::{Definition, Revision, Runner};
use crate::engine::{Engine, RESULT_MAX};
use crate::jail::Plan;
use crate::store::SideKind;
use crate::work::{Call, Program, Work};

/// What every attempt is given besides its own environment.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Where payload and result files lie while an attempt runs.
    pub work: PathBuf,
    /// The daemon's socket.
    pub socket: PathBuf,
    /// The folder of our own programs, first in every PATH.
    pub programs: Option<PathBuf>,
    /// What Python processes are given besides.
    pub python: PythonSurroundings,
}

/// Why no plan can be made of a task.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlanError {
    #[error("its payload is not there any more")]
    PayloadGone,
    #[error("its payload cannot be read")]
    PayloadUnreadable,
    #[error("its definition is not there any more")]
    NoDefinition,
    #[error("a {} task does not run in a process of its own", _0.word())]
    OtherRunner(Runner),
    #[error("writing {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl Surroundings {
    /// The plan of a claimed attempt; its payload file is written.
    pub(super) fn plan(
        &self,
        engine: &Engine,
        task: &Task,
        attempt: AttemptNumber,
    ) -> Result<Plan, PlanError> {
        // A task may have removed it, along with everything else in reach.
        if !self.work.is_dir() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.work)
                .map_err(|source| PlanError::Write { path: self.work.clone(), source })?;
        }
        match work_of(engine, task)? {
            Work::Program(program) => Ok(self.program(task, attempt, program)),
            Work::Call(call) => self.call(engine, task, attempt, &call),
        }
    }

    fn program(&self, task: &Task, attempt: AttemptNumber, program: Program) -> Plan {
        let Program { argv, shell, cwd, env, stdin } = program;
        let argv = if shell {
            ["/bin/sh".to_owned(), "-c".to_owned()].into_iter().chain(argv).collect()
        } else {
            argv
        };
        let mut environment = Environment::default();
        for (name, value) in env {
            environment.set(&name, value);
        }
        self.add_ours(&mut environment, task, attempt);
        Plan {
            argv: argv.into_iter().map(String::into_bytes).collect(),
            cwd: cwd.into_bytes(),
            env: environment.entries(),
            stdin,
            deadline_ms: task.spec.timeout.map_or(0, |timeout| timeout.0),
            grace_ms: task.spec.grace.0,
            event_fd: true,
            ..Plan::default()
        }
    }

    fn call(
        &self,
        engine: &Engine,
        task: &Task,
        attempt: AttemptNumber,
        call: &Call,
    ) -> Result<Plan, PlanError> {
        let (revision, definition) = defined(engine, task).ok_or(PlanError::NoDefinition)?;
        let arguments =
            serde_json::from_str(&call.arguments).map_err(|_| PlanError::PayloadUnreadable)?;
        let payload = self.payload_file(task.id, attempt);
        write_private(&payload, call.arguments.as_bytes())
            .map_err(|source| PlanError::Write { path: payload.clone(), source })?;
        match definition.runner {
            Runner::Program => {}
            Runner::Process => return self.python(task, attempt, &revision),
            Runner::Loop | Runner::Thread | Runner::Stock => {
                return Err(PlanError::OtherRunner(definition.runner));
            }
        }
        let mut environment = Environment::default();
        for name in INHERITED {
            if let Ok(value) = std::env::var(name) {
                environment.set(name, value);
            }
        }
        for (name, value) in &definition.env {
            environment.set(name, value.as_str());
        }
        self.add_ours(&mut environment, task, attempt);
        environment.set("CAPSULE_PAYLOAD_FILE", payload.display().to_string());
        environment.set("CAPSULE_APP", task.spec.app.as_str());
        let cwd = Path::new(&revision.dir).join(&definition.cwd);
        let rlimit = |(resource, limit): &(u32, u64)| crate::jail::Rlimit {
            resource: *resource,
            soft: *limit,
            hard: *limit,
        };
        Ok(Plan {
            argv: definition.command.with(&arguments).into_iter().map(String::into_bytes).collect(),
            cwd: cwd.into_os_string().into_vec(),
            env: environment.entries(),
            rlimits: definition.rlimits.iter().map(rlimit).collect(),
            deadline_ms: task.spec.timeout.map_or(0, |timeout| timeout.0),
            grace_ms: task.spec.grace.0,
            event_fd: true,
            ..Plan::default()
        })
    }

    /// One attempt in a Python process; its payload file is there already.
    fn python(
        &self,
        task: &Task,
        attempt: AttemptNumber,
        revision: &Revision,
    ) -> Result<Plan, PlanError> {
        let python = revision.python.as_deref().ok_or(PlanError::NoDefinition)?;
        let of = Of { app: &task.spec.app, revision, python };
        let payload = self.payload_file(task.id, attempt).display().to_string();
        let add = |environment: &mut Environment| {
            self.add_ours(environment, task, attempt);
            environment.set("CAPSULE_PAYLOAD_FILE", payload.as_str());
        };
        let plan = self.python.attempt_plan(of, (task, attempt), &self.work, add);
        plan.map_err(|source| PlanError::Write { path: self.work.clone(), source })
    }

    fn add_ours(&self, environment: &mut Environment, task: &Task, attempt: AttemptNumber) {
        let path = environment.get("PATH").unwrap_or(PATH).to_owned();
        if let Some(ours) = self.programs.as_ref().and_then(|folder| folder.to_str()) {
            environment.set("PATH", format!("{ours}:{path}"));
        } else {
            environment.set("PATH", path);
        }
        environment.set("CAPSULE_TASK_ID", task.id.to_string());
        environment.set("CAPSULE_TASK", task.spec.name.clone());
        environment.set("CAPSULE_ATTEMPT", attempt.to_string());
        environment.set("CAPSULE_SOCKET", self.socket.display().to_string());
        let result = self.result_file(task.id, attempt);
        environment.set("CAPSULE_RESULT_FILE", result.display().to_string());
    }

    fn result_file(&self, task: TaskId, attempt: AttemptNumber) -> PathBuf {
        self.work.join(format!("{task}.{attempt}.result"))
    }

    fn payload_file(&self, task: TaskId, attempt: AttemptNumber) -> PathBuf {
        self.work.join(format!("{task}.{attempt}.payload"))
    }

    /// What the attempt wrote into its result file, as JSON: text that is no JSON becomes a JSON
    /// string, at most [`RESULT_MAX`] bytes. `None` when it wrote nothing.
    pub(super) fn result(
        &self,
        task: TaskId,
        attempt: AttemptNumber,
    ) -> Result<Option<Vec<u8>>, ResultRefusal> {
        let bytes = read_bounded(&self.result_file(task, attempt))?;
        if bytes.is_empty() || serde_json::from_slice::<serde_json::Value>(&bytes).is_ok() {
            return Ok(Some(bytes).filter(|bytes| !bytes.is_empty()));
        }
        let text = serde_json::Value::String(String::from_utf8_lossy(&bytes).into_owned());
        // Escapes and marks for bytes that are no text make it longer.
        let bytes = serde_json::to_vec(&text).map_err(|_| ResultRefusal::Unreadable)?;
        if bytes.len() > RESULT_MAX { Err(ResultRefusal::TooLarge) } else { Ok(Some(bytes)) }
    }

    /// Takes the files of attempts away that are over, and whose end nobody told: their keeper died.
    pub(super) fn sweep(&self, engine: &Engine) {
        for file in fs::read_dir(&self.work).into_iter().flatten().flatten() {
            let name = file.file_name();
            let mut parts = name.to_str().unwrap_or_default().split('.');
            let task = parts.next().and_then(|part| part.parse().ok()).map(TaskId);
            let attempt = parts.next().and_then(|part| part.parse().ok()).map(AttemptNumber);
            let (Some(task), Some(attempt)) = (task, attempt) else { continue };
            let over = engine.task(task).is_ok_and(|task| {
                let lease = task.as_ref().and_then(|task| task.state.lease());
                lease.is_none_or(|lease| lease.attempt > attempt)
            });
            if over && let Err(error) = remove(&file.path()) {
                tracing::warn!(path = %file.path().display(), %error, "a work file stays behind");
            }
        }
    }

    /// Takes the attempt's files away.
    pub(super) fn clear(&self, task: TaskId, attempt: AttemptNumber) {
        let token = token_file(&self.work, task, attempt);
        for path in [self.result_file(task, attempt), self.payload_file(task, attempt), token] {
            match remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "a work file stays behind");
                }
                Ok(()) | Err(_) => {}
            }
        }
    }
}

fn work_of(engine: &Engine, task: &Task) -> Result<Work, PlanError> {
    let bytes = match &task.spec.payload {
        Payload::Inline(bytes) => bytes.clone(),
        Payload::Side { .. } => engine
            .side(SideKind::Payload, task.id)
            .map_err(|_| PlanError::PayloadUnreadable)?
            .ok_or(PlanError::PayloadGone)?,
    };
    Work::decode(&bytes).ok_or(PlanError::PayloadUnreadable)
}

/// The arguments of a call.
pub(super) fn arguments(engine: &Engine, task: &Task) -> Result<serde_json::Value, PlanError> {
    match work_of(engine, task)? {
        Work::Call(call) => {
            serde_json::from_str(&call.arguments).map_err(|_| PlanError::PayloadUnreadable)
        }
        Work::Program(_) => Err(PlanError::PayloadUnreadable),
    }
}

/// The definition that a claimed attempt runs on, and its revision.
pub(super) fn defined(engine: &Engine, task: &Task) -> Option<(Arc<Revision>, Arc<Definition>)> {
    let apps = engine.apps();
    let app = apps.get(&task.spec.app)?;
    let number = task.last.as_ref().map_or(app.current, |last| last.revision);
    let revision = app.revisions.get(&number).or_else(|| app.in_force())?;
    let definition = revision.definitions.get(&task.spec.name)?;
    Some((Arc::clone(revision), Arc::clone(definition)))
}

/// What the tasks of an app take over from the daemon's environment.
pub(super) const INHERITED: [&str; 7] = ["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "SHELL"];

pub(super) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

/// The search path of a task that brought none.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The bytes of a regular file, none when there is no file. The attempt may have put anything
/// there, so neither a link nor a pipe is followed.
fn read_bounded(path: &Path) -> Result<Vec<u8>, ResultRefusal> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match fs::OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(ResultRefusal::NotAFile);
        }
        Err(_) => return Err(ResultRefusal::Unreadable),
    };
    let unreadable = |_| ResultRefusal::Unreadable;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(ResultRefusal::NotAFile);
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(RESULT_MAX).unwrap_or(u64::MAX);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > RESULT_MAX { Err(ResultRefusal::TooLarge) } else { Ok(bytes) }
}

/// Removes what an attempt left at `path`, be it a whole folder; a link itself, not what it names.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => fs::remove_dir_all(path),
        done => done,
    }
}

/// An environment in which each name stands once.
#[derive(Debug, Default)]
pub(super) struct Environment(Vec<(String, String)>);

impl Environment {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    pub(super) fn entries(self) -> Vec<Vec<u8>> {
        let entry = |(name, value): (String, String)| {
            let mut entry = OsString::from(name);
            entry.push("=");
            entry.push(value);
            entry.into_vec()
        };
        self.0.into_iter().map(entry).collect()
    }
}
