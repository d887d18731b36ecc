//! `serve`: an app where it lies; deployed again with every save, its tasks' output as it comes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use capsule_proto::v1::tail_event::Event as Tailed;
use capsule_proto::v1::watch_event::Event;
use capsule_proto::v1::{
    DeployRequest, Filter, TailEvent, TailRequest, TaskView, WatchEvent, WatchRequest,
};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tokio_stream::{Stream, StreamExt as _, StreamMap};
use tonic::{Status, Streaming};

use super::deploy;
use super::entry::Entry;
use crate::client::Client;
use crate::commands::Context;
use crate::commands::patience::unless_interrupted;
use crate::error::{CliError, Exit};
use crate::ui::live::log::{Decor, Log};
use crate::ui::task::{ended, word};
use crate::ui::{self, escape};

/// How often files are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// The most files that are looked at.
const FILES_MAX: usize = 10_000;
/// How deep folders may lie.
const DEPTH_MAX: usize = 16;
/// The most tasks whose output is shown.
const TASKS_MAX: usize = 10_000;
/// Folders without code of the app.
const SKIPPED: [&str; 4] = ["__pycache__", "node_modules", "venv", "target"];

/// Run an app where it lies and deploy it again with every save
///
/// Output of its tasks is shown as it comes. A save that cannot be imported is shown and changes
/// nothing. Ctrl-C leaves the app deployed, without following changes any more.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  capsule serve app.py:app")]
pub(crate) struct ServeArgs {
    /// FILE.py:SYMBOL or MODULE:SYMBOL
    #[arg(value_name = "APP")]
    entry: PathBuf,
    /// Name of the app [default: what it says itself]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Interpreter, environment or version to run the app with
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
}

/// What a task says; at its end nothing more.
type Tail = Pin<Box<dyn Stream<Item = Option<Result<TailEvent, Status>>> + Send>>;

/// When each file of code was changed, and how long it is.
type Seen = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

impl ServeArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let Some(entry) = Entry::read(&self.entry)? else {
            let message = format!("{} names no app: expected FILE.py:SYMBOL", self.entry.display());
            return Err(CliError::usage(message).hint("capsule serve --help"));
        };
        let client = context.client().await?.patient();
        let request = DeployRequest {
            serve: true,
            name: self.name.clone().unwrap_or_default(),
            ..entry.request(self.python.as_deref())?
        };
        let mut serving = Serving {
            context,
            client,
            request,
            app: String::new(),
            changes: None,
            tails: StreamMap::new(),
            shown: BTreeMap::new(),
            ready: false,
        };
        serving.follow(&entry.dir).await
    }
}

/// An app that is followed.
struct Serving<'a> {
    context: &'a Context,
    client: Client,
    request: DeployRequest,
    /// Its name and revision, once it is deployed.
    app: String,
    changes: Option<Streaming<WatchEvent>>,
    /// What was there before is not shown.
    ready: bool,
    tails: StreamMap<u64, Tail>,
    shown: BTreeMap<u64, Shown>,
}

/// A task whose output is shown.
struct Shown {
    log: Log,
    /// All of its output is shown.
    silent: bool,
    /// Its end, to be told behind its output.
    end: Option<TaskView>,
}

impl Serving<'_> {
    async fn follow(&mut self, dir: &Path) -> Result<Exit, CliError> {
        let mut interrupts = signal(SignalKind::interrupt())?;
        let mut seen = look(dir);
        if unless_interrupted(&mut interrupts, self.deploy()).await?.is_none() {
            return Ok(Exit::Interrupted);
        }
        let mut next_look = tokio::time::interval(LOOK);
        next_look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changed = false;
        loop {
            tokio::select! {
                biased;
                _ = interrupts.recv() => return Ok(self.leave()),
                _ = next_look.tick() => {
                    let now = look(dir);
                    let settled = now == seen;
                    seen = now;
                    // Several files are saved one after the other.
                    if !settled || !changed {
                        changed |= !settled;
                        continue;
                    }
                    changed = false;
                    if unless_interrupted(&mut interrupts, self.deploy()).await?.is_none() {
                        return Ok(self.leave());
                    }
                }
                event = change(&mut self.changes) => self.changed(event).await?,
                Some((id, event)) = self.tails.next(), if !self.tails.is_empty() => {
                    self.tailed(id, event)?;
                }
            }
        }
    }

    /// Deploys; an app that is refused is told and the one before goes on.
    async fn deploy(&mut self) -> Result<(), CliError> {
        match self.client.answer(self.client.apps().deploy(self.request.clone())).await {
            Ok(reply) => {
                let first = self.app.is_empty();
                if reply.changed || first {
                    deploy::print(self.context, &reply)?;
                }
                self.app = format!("{}@r{}", reply.app, reply.revision);
                if first {
                    let filter = Filter { app: reply.app, ..Filter::default() };
                    let request =
                        WatchRequest { filter: Some(filter), limit: 1, ..WatchRequest::default() };
                    let mut tasks = self.client.tasks();
                    let stream = self.client.answer(tasks.watch(request)).await?;
                    self.changes = Some(stream);
                }
                Ok(())
            }
            Err(error) if matches!(error.code(), "bad_app" | "invalid_argument") => {
                ui::error::tell(&error, self.context.ui.is_json());
                self.context.ui.talk(&match self.app.as_str() {
                    "" => "nothing is deployed yet; waiting for a change".to_owned(),
                    app => format!("{app} goes on; waiting for a change"),
                });
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// A task of the app has changed.
    async fn changed(&mut self, event: Result<WatchEvent, Status>) -> Result<(), CliError> {
        let event = match event {
            Ok(event) => event,
            Err(status) => return Err(self.client.explain(status).await),
        };
        match event.event {
            Some(Event::Ready(_)) => self.ready = true,
            Some(Event::Task(task)) if self.ready && task.started_us.is_some() => {
                if !self.shown.contains_key(&task.id) && self.shown.len() < TASKS_MAX {
                    self.tail(&task).await?;
                }
                self.ended(task);
            }
            Some(Event::Removed(id)) => drop(self.shown.remove(&id)),
            Some(
                Event::Task(_)
                | Event::Reset(_)
                | Event::Schedule(_)
                | Event::Columns(_)
                | Event::Around(_),
            )
            | None => {}
        }
        Ok(())
    }

    /// Shows what a task writes from now on.
    async fn tail(&mut self, task: &TaskView) -> Result<(), CliError> {
        let request =
            TailRequest { id: task.id.to_string(), follow: true, ..TailRequest::default() };
        let mut tasks = self.client.tasks();
        let stream = self.client.answer(tasks.tail(request)).await?;
        let prefix = format!("{} {}", task.id, escape::line(&task.name));
        let decor = Decor { prefix: Some(prefix), times: None };
        let log = Log::new(&self.context.ui, true, decor);
        self.shown.insert(task.id, Shown { log, silent: false, end: None });
        self.tails.insert(task.id, Box::pin(stream.map(Some).chain(tokio_stream::once(None))));
        Ok(())
    }

    fn tailed(
        &mut self,
        id: u64,
        event: Option<Result<TailEvent, Status>>,
    ) -> Result<(), CliError> {
        let Some(shown) = self.shown.get_mut(&id) else { return Ok(()) };
        match event {
            Some(Ok(TailEvent { event: Some(Tailed::Chunk(chunk)) })) => shown.log.write(&chunk),
            // A log that cannot be read any more does not end the app.
            Some(Ok(_) | Err(_)) => Ok(()),
            None => {
                shown.log.finish()?;
                shown.silent = true;
                if let Some(end) = shown.end.take() {
                    self.told(&end);
                }
                Ok(())
            }
        }
    }

    /// Tells the end of a task, behind its output.
    fn ended(&mut self, task: TaskView) {
        let Some(shown) = self.shown.get_mut(&task.id) else { return };
        match (ended(task.status()), shown.silent) {
            (true, true) => self.told(&task),
            (true, false) => shown.end = Some(task),
            // Tried again under the same id.
            (false, true) => drop(self.shown.remove(&task.id)),
            (false, false) => {}
        }
    }

    fn told(&self, task: &TaskView) {
        let took = match (task.started_us, task.ended_us) {
            (Some(from), Some(to)) => ui::time::between(from, to),
            _ => String::new(),
        };
        let name = escape::line(&task.name);
        let reason = escape::line(&task.reason);
        let line = format!("{} {name} {} {took} {reason}", task.id, word(task.status()));
        self.context.ui.talk(line.trim_end());
    }

    fn leave(&self) -> Exit {
        if !self.app.is_empty() {
            let app = &self.app;
            let name = app.split('@').next().unwrap_or_default();
            ui::warn(&format!(
                "{app} stays deployed and its tasks go on; changes are not followed any more"
            ));
            ui::warn(&format!(
                "  hint: a copy in its place    capsule deploy {}",
                self.request.entry
            ));
            ui::warn(&format!("        remove it             capsule app remove {name}"));
        }
        Exit::Done
    }
}

/// The next event; never, as long as there is no app.
async fn change(changes: &mut Option<Streaming<WatchEvent>>) -> Result<WatchEvent, Status> {
    match changes {
        Some(stream) => match stream.message().await? {
            Some(event) => Ok(event),
            None => Err(Status::unavailable("the daemon ended the stream")),
        },
        None => std::future::pending().await,
    }
}

/// What the code of a project looks like now.
fn look(dir: &Path) -> Seen {
    let mut seen = Seen::new();
    walk(dir, 0, &mut seen);
    seen
}

fn walk(dir: &Path, depth: usize, seen: &mut Seen) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        let name = entry.file_name();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            let hidden = name.as_encoded_bytes().starts_with(b".");
            if !hidden && depth < DEPTH_MAX && !SKIPPED.iter().any(|skipped| name == *skipped) {
                walk(&path, depth + 1, seen);
            }
        } else if is_code(&path)
            && seen.len() < FILES_MAX
            && let Ok(about) = std::fs::metadata(&path)
        {
            seen.insert(path, (about.modified().ok(), about.len()));
        }
    }
}

fn is_code(path: &Path) -> bool {
    let ends = |end: &str| path.extension().is_some_and(|found| found == end);
    let named = |name: &str| path.file_name().is_some_and(|file| file == name);
    ends("py") || ends("toml") || named(".env") || named("requirements.txt") || named("uv.lock")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn saves_of_code_are_seen_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in
            [("app.py", "1"), ("pkg/a.py", "1"), (".venv/b.py", "1"), ("data.csv", "1")]
        {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let before = look(dir.path());
        assert_eq!(before.len(), 2);
        fs::write(dir.path().join("data.csv"), "12").unwrap();
        fs::write(dir.path().join(".venv/b.py"), "12").unwrap();
        assert_eq!(look(dir.path()), before);
        fs::write(dir.path().join("pkg/a.py"), "12").unwrap();
        assert_ne!(look(dir.path()), before);
        let before = look(dir.path());
        fs::write(dir.path().join(".env"), "A=1").unwrap();
        assert_ne!(look(dir.path()), before);
    }
}
