//! From a revision of a Python app to what the keeper is to start: a host, or one attempt.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use capsule_core::id::{AttemptNumber, TaskId};
use capsule_core::task::Task;

use super::plan::{Environment, INHERITED, PATH, write_private};
use crate::apps::{Python, Revision, SyncTasks};
use crate::deploying::dotenv;
use crate::jail::Plan;

/// What Python processes are given besides their own environment.
#[derive(Clone, Debug, Default)]
pub struct PythonSurroundings {
    /// The folder of the host's files: what the interpreter is to run.
    pub host: PathBuf,
    /// The socket that hosts and attempts speak to.
    pub socket: PathBuf,
    /// A file for each secret, by its name.
    pub secrets: PathBuf,
    /// A folder for each app, kept across its revisions.
    pub data: PathBuf,
}

/// Names a revision in force, and what it is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Of<'a> {
    pub(super) app: &'a str,
    pub(super) revision: &'a Revision,
    pub(super) python: &'a Python,
}

impl PythonSurroundings {
    /// The plan of a host that says `token`.
    pub(super) fn host_plan(&self, of: Of<'_>, token: &str) -> io::Result<Plan> {
        let mut environment = self.environment(of)?;
        self.add_socket(&mut environment, token);
        Ok(self.plan(of, environment, "host"))
    }

    /// The plan of the SDK's own runner, which speaks to `gateway` with `token`.
    pub(super) fn stock_plan(&self, of: Of<'_>, gateway: &Path, token: &str) -> io::Result<Plan> {
        let Python { dir, interpreter, module, symbol, .. } = of.python;
        let mut environment = self.environment(of)?;
        for (name, value) in [
            ("CAPSULE_GATEWAY_HOST", format!("unix://{}", gateway.display())),
            ("CAPSULE_RUNNER_TOKEN", token.to_owned()),
            // It never ends by itself.
            ("CAPSULE_KEEP_WARM_SECONDS", "0".to_owned()),
            ("PYTHONPATH", dir.clone()),
        ] {
            environment.set(name, value);
        }
        let entry = format!("{module}:{symbol}");
        let argv = [interpreter.as_str(), "-u", "-m", "cpsl.runner", &entry];
        Ok(python_plan(of, environment, &argv))
    }

    /// The plan of a server that forks attempts.
    pub(super) fn forks_plan(&self, of: Of<'_>) -> io::Result<Plan> {
        // It speaks to nobody but the keeper, so it gets no word.
        let environment = self.environment(of)?;
        Ok(Plan { fork_server: true, ..self.plan(of, environment, "forks") })
    }

    /// Turns the plan of an attempt into that of one in Python.
    pub(super) fn attempt_plan(
        &self,
        of: Of<'_>,
        (task, attempt): (&Task, AttemptNumber),
        work: &Path,
        mut add: impl FnMut(&mut Environment),
    ) -> io::Result<Plan> {
        let token = new_token();
        write_private(&token_file(work, task.id, attempt), token.as_bytes())?;
        let mut environment = self.environment(of)?;
        self.add_socket(&mut environment, &token);
        let labels = &task.spec.labels;
        let session = labels.get(SESSION_LABEL).map_or("", String::as_str);
        environment.set("CAPSULE_SESSION_ID", session);
        environment.set("CAPSULE_TASK_USER_ID", task.spec.owner.as_str());
        add(&mut environment);
        Ok(Plan {
            deadline_ms: task.spec.timeout.map_or(0, |timeout| timeout.0),
            grace_ms: task.spec.grace.0,
            event_fd: true,
            ..self.plan(of, environment, "attempt")
        })
    }

    fn plan(&self, of: Of<'_>, environment: Environment, role: &str) -> Plan {
        let host = self.host.display().to_string();
        python_plan(of, environment, &[of.python.interpreter.as_str(), "-u", &host, role])
    }

    /// Where our own host and its attempts speak to the daemon.
    fn add_socket(&self, environment: &mut Environment, token: &str) {
        environment.set("CAPSULE_HOST_SOCKET", self.socket.display().to_string());
        environment.set("CAPSULE_HOST_TOKEN", token);
    }

    /// What all code of an app finds. A copy of a project has no `.env`, so it is read in the
    /// project itself, at each start.
    fn environment(&self, of: Of<'_>) -> io::Result<Environment> {
        let Of { app, revision, python } = of;
        let mut environment = Environment::default();
        for name in INHERITED {
            if let Ok(value) = std::env::var(name) {
                environment.set(name, value);
            }
        }
        if !python.venv.is_empty() {
            let path = environment.get("PATH").unwrap_or(PATH).to_owned();
            environment.set("PATH", format!("{}/bin:{path}", python.venv));
            environment.set("VIRTUAL_ENV", python.venv.as_str());
        }
        for name in &python.secrets {
            match fs::read_to_string(self.secrets.join(name)) {
                Ok(value) => environment.set(name, value.trim_end_matches('\n')),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    tracing::warn!(app, secret = name, "a secret is not set");
                }
                Err(error) => return Err(error),
            }
        }
        let data = self.data.join(app);
        make_folder(&data)?;
        let kind = if python.serve { "serve" } else { "deploy" };
        let letter = if python.serve { 's' } else { 'r' };
        let threads = python.sync_tasks == SyncTasks::Thread;
        for (name, value) in [
            ("CAPSULE_ENTRY", python.entry.clone()),
            ("CAPSULE_APP", app.to_owned()),
            ("CAPSULE_APP_ID", app.to_owned()),
            ("CAPSULE_USER_ID", revision.by.clone()),
            ("CAPSULE_VERSION_ID", format!("{letter}{}", revision.number)),
            ("CAPSULE_VERSION_TYPE", kind.to_owned()),
            ("CAPSULE_ENV_TYPE", kind.to_owned()),
            ("CAPSULE_DATA_DIR", data.display().to_string()),
            ("CAPSULE_SYNC_TASKS", if threads { "thread" } else { "process" }.to_owned()),
        ] {
            environment.set(name, value);
        }
        for (name, value) in dotenv(Path::new(&python.source)) {
            if environment.get(&name).is_none() {
                environment.set(&name, value);
            }
        }
        Ok(environment)
    }
}

fn python_plan(of: Of<'_>, environment: Environment, argv: &[&str]) -> Plan {
    Plan {
        argv: argv.iter().map(|word| word.as_bytes().to_vec()).collect(),
        cwd: of.python.dir.as_bytes().to_vec(),
        env: environment.entries(),
        no_new_privs: true,
        ..Plan::default()
    }
}

/// The label that names the chat session a task is bound to.
pub(super) const SESSION_LABEL: &str = "session";

/// A word that nobody guesses.
pub(super) fn new_token() -> String {
    [uuid::Uuid::now_v7(), uuid::Uuid::now_v7()].map(|id| id.simple().to_string()).concat()
}

/// Where the word that an attempt says to the host's socket is kept while it runs.
pub(super) fn token_file(work: &Path, task: TaskId, attempt: AttemptNumber) -> PathBuf {
    work.join(format!("{task}.{attempt}.token"))
}

fn make_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
