//! `list --watch`: the newest tasks, redrawn with every change.

use std::collections::BTreeMap;
use std::time::Duration;

use capsule_proto::v1::watch_event::Event;
use capsule_proto::v1::{Filter, TaskView, WatchEvent, WatchRequest};
use tokio::signal::unix::{SignalKind, signal};
use tonic::Streaming;

use crate::client::Client;
use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::ui::live::screen::Screen;
use crate::ui::task::{ended, listing};
use crate::ui::{Ui, shape};

/// Tasks that are kept.
const TASKS: u32 = 1000;
/// Changes that come together are drawn together.
const PAUSE: Duration = Duration::from_millis(30);

/// The tasks of a watch, as its events say.
#[derive(Debug, Default)]
struct Tasks {
    by_id: BTreeMap<u64, TaskView>,
    ready: bool,
}

impl Tasks {
    /// Takes in one event.
    fn apply(&mut self, event: WatchEvent) {
        match event.event {
            Some(Event::Task(task)) => {
                self.by_id.insert(task.id, task);
                self.bound();
            }
            Some(Event::Removed(id)) => {
                self.by_id.remove(&id);
            }
            Some(Event::Ready(_)) => self.ready = true,
            Some(Event::Reset(_)) => *self = Self::default(),
            Some(Event::Schedule(_) | Event::Columns(_) | Event::Around(_)) | None => {}
        }
    }

    /// Forgets the oldest ended task when there are too many.
    fn bound(&mut self) {
        if self.by_id.len() <= usize::try_from(TASKS).unwrap_or(usize::MAX) * 2 {
            return;
        }
        let oldest = self.by_id.values().find(|task| ended(task.status())).map(|task| task.id);
        if let Some(id) = oldest {
            self.by_id.remove(&id);
        }
    }

    /// Newest first.
    fn newest(&self) -> impl Iterator<Item = &TaskView> {
        self.by_id.values().rev()
    }
}

/// The list of `list --watch`, redrawn on a terminal; elsewhere the changes, one a line.
pub(super) async fn watch_list(
    context: &Context,
    client: &Client,
    filter: Filter,
    limit: u32,
) -> Result<Exit, CliError> {
    let statuses = filter.statuses.clone();
    let mut stream = watch(client, filter, limit).await?;
    if context.ui.tty && !context.ui.is_json() {
        let draw = |ui: &Ui, tasks: &Tasks, rows: Option<usize>| {
            let room = rows.map_or(usize::MAX, |rows| rows.saturating_sub(1));
            let shown: Vec<TaskView> = tasks
                .newest()
                .filter(|task| statuses.is_empty() || statuses.contains(&task.status))
                .take(room.min(usize::try_from(limit).unwrap_or(usize::MAX)))
                .cloned()
                .collect();
            listing(ui, &shown).table.render(ui.width, ui.colored)
        };
        return redraw(context, client, stream, draw).await;
    }
    while let Some(event) = next(client, &mut stream).await? {
        if let Some(Event::Task(task)) = &event.event {
            context.ui.event(&shape::task(task))?;
        }
    }
    Ok(Exit::Done)
}

async fn watch(
    client: &Client,
    filter: Filter,
    limit: u32,
) -> Result<Streaming<WatchEvent>, CliError> {
    let request =
        WatchRequest { filter: Some(filter), since_seq: None, limit, ..WatchRequest::default() };
    client.answer(client.tasks().watch(request)).await
}

async fn next(
    client: &Client,
    stream: &mut Streaming<WatchEvent>,
) -> Result<Option<WatchEvent>, CliError> {
    match stream.message().await {
        Ok(event) => Ok(event),
        Err(status) => Err(client.explain(status).await),
    }
}

async fn snapshot(client: &Client, stream: &mut Streaming<WatchEvent>) -> Result<Tasks, CliError> {
    let mut tasks = Tasks::default();
    while !tasks.ready {
        let Some(event) = next(client, stream).await? else { break };
        tasks.apply(event);
    }
    Ok(tasks)
}

/// Draws after each change, until Ctrl-C.
async fn redraw(
    context: &Context,
    client: &Client,
    mut stream: Streaming<WatchEvent>,
    draw: impl Fn(&Ui, &Tasks, Option<usize>) -> String,
) -> Result<Exit, CliError> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut resized = signal(SignalKind::window_change())?;
    let mut tasks = snapshot(client, &mut stream).await?;
    let mut screen = Screen::open(&context.ui)?;
    let mut dirty = true;
    loop {
        if dirty {
            screen.draw(|ui, rows| draw(ui, &tasks, rows))?;
        }
        dirty = true;
        tokio::select! {
            biased;
            _ = interrupts.recv() => return Ok(Exit::Done),
            _ = resized.recv() => {}
            event = next(client, &mut stream) => match event? {
                Some(event) => {
                    tasks.apply(event);
                    drain(client, &mut stream, &mut tasks).await?;
                }
                None => return Ok(Exit::Done),
            },
            // Ages and running times move on by themselves.
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// Takes in what else comes within the pause.
async fn drain(
    client: &Client,
    stream: &mut Streaming<WatchEvent>,
    tasks: &mut Tasks,
) -> Result<(), CliError> {
    let pause = tokio::time::sleep(PAUSE);
    tokio::pin!(pause);
    loop {
        tokio::select! {
            () = &mut pause => return Ok(()),
            event = next(client, stream) => match event? {
                Some(event) => tasks.apply(event),
                None => return Ok(()),
            },
        }
    }
}
