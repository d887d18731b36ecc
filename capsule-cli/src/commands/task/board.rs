//! `board`: tasks in columns by status, redrawn with every change; and `list --watch`.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use capsule_proto::v1::watch_event::Event;
use capsule_proto::v1::{Filter, TaskView, WatchEvent, WatchRequest};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tonic::Streaming;

use super::page;
use crate::args::filter::FilterArgs;
use crate::client::Client;
use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::ui::live::board;
use crate::ui::live::screen::Screen;
use crate::ui::task::{ended, listing};
use crate::ui::{Ui, shape};

/// Tasks that the board keeps.
pub(super) const TASKS: u32 = 1000;
/// Changes that come together are drawn together.
const PAUSE: Duration = Duration::from_millis(30);

/// Show tasks in columns by status, live
///
/// Ctrl-C leaves the board; the tasks go on.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  capsule board --task sync_leads\n  capsule board --once\n  capsule board --page Tasks"
)]
pub(crate) struct BoardArgs {
    /// Print the board once, as text
    #[arg(long)]
    once: bool,
    /// Show this page of the app
    #[arg(long, value_name = "NAME")]
    page: Option<String>,
    /// List the pages of the app
    #[arg(long, conflicts_with = "page")]
    pages: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

/// The tasks of a watch, as its events say.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    by_id: BTreeMap<u64, TaskView>,
    counts: HashMap<String, u64>,
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
            Some(Event::Ready(counts)) => {
                self.counts = counts.by_status;
                self.ready = true;
            }
            Some(Event::Reset(_)) => *self = Self::default(),
            Some(Event::Schedule(_)) | None => {}
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
    pub(super) fn newest(&self) -> impl Iterator<Item = &TaskView> {
        self.by_id.values().rev()
    }
}

impl BoardArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        if self.pages {
            return page::list(context).await;
        }
        if let Some(name) = &self.page {
            return page::show(context, name, self.once).await;
        }
        let client = context.client().await?;
        let filter = self.filter.message(context.app());
        let statuses = filter.statuses.clone();
        let draw = |ui: &Ui, tasks: &Tasks, rows: Option<usize>| {
            let shown: Vec<&TaskView> = tasks
                .newest()
                .filter(|task| statuses.is_empty() || statuses.contains(&task.status))
                .collect();
            board::render(ui, &shown, rows)
        };
        let mut stream = watch(&client, filter.clone(), TASKS).await?;
        if self.once || !context.ui.tty || context.ui.is_json() {
            let tasks = snapshot(&client, &mut stream).await?;
            let ui = &context.ui;
            if ui.is_json() {
                ui.value(&tasks.newest().map(shape::task).collect::<Vec<_>>().into())?;
            } else {
                ui.block(&draw(ui, &tasks, None))?;
            }
            return Ok(Exit::Done);
        }
        redraw(context, &client, stream, draw).await
    }
}

/// The list of `list --watch`, redrawn on a terminal; elsewhere the changes, one a line.
pub(crate) async fn watch_list(
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

pub(super) async fn watch(
    client: &Client,
    filter: Filter,
    limit: u32,
) -> Result<Streaming<WatchEvent>, CliError> {
    let request = WatchRequest { filter: Some(filter), since_seq: None, limit, schedules: false };
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

pub(super) async fn snapshot(
    client: &Client,
    stream: &mut Streaming<WatchEvent>,
) -> Result<Tasks, CliError> {
    let mut tasks = Tasks::default();
    while !tasks.ready {
        let Some(event) = next(client, stream).await? else { break };
        tasks.apply(event);
    }
    Ok(tasks)
}

/// Draws after each change, until Ctrl-C.
pub(super) async fn redraw(
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
