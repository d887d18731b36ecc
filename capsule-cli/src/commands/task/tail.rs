//! `tail`: the log of a task, and on to its end.

use std::collections::BTreeMap;

use capsule_proto::v1::tail_event::Event;
use capsule_proto::v1::{LogChunk, ShowRequest, TailEvent, TailRequest};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::{StreamExt as _, StreamMap};

use crate::args::filter::ids;
use crate::args::values;
use crate::client::Client;
use crate::commands::Context;
use crate::commands::patience::{again, leave, unless_interrupted};
use crate::error::{CliError, Exit};
use crate::ui::live::log::{Decor, Log};
use crate::ui::{shape, warn};

/// Print the log of a task; on a terminal, follow it to its end
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
                        capsule tail 1842\n  \
                        capsule tail @last -n 20 --no-follow\n  \
                        capsule tail 1842 --stream err > err.log")]
pub(crate) struct TailArgs {
    /// Ids: 1842, a UUID or its last 6 digits, @last, @failed, or - for ids on stdin
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// Go on until the task has ended
    #[arg(short, long)]
    follow: bool,
    /// Print what there is and stop
    #[arg(long, conflicts_with = "follow")]
    no_follow: bool,
    /// Only the last lines, or `all`
    #[arg(short = 'n', long, value_name = "N|all", value_parser = lines)]
    lines: Option<Lines>,
    /// Only this attempt
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
    /// Only these streams
    #[arg(long, value_name = "STREAM", value_delimiter = ',')]
    stream: Vec<StreamArg>,
    /// Only what came after this time, or this long ago
    #[arg(long, value_name = "TIME|DURATION", value_parser = values::moment, allow_hyphen_values = true)]
    since: Option<Timestamp>,
    /// Print the time of each line
    #[arg(short, long)]
    timestamps: bool,
    /// Print the id before each line [default with several ids]
    #[arg(long)]
    prefix: bool,
    /// Go on behind this place
    #[arg(long, value_name = "CURSOR")]
    after_cursor: Option<String>,
    /// Say on stderr at the end where to go on
    #[arg(long)]
    show_cursor: bool,
}

/// How many lines.
#[derive(Debug, Clone, Copy)]
enum Lines {
    All,
    Last(u64),
}

fn lines(text: &str) -> Result<Lines, String> {
    match text {
        "all" => Ok(Lines::All),
        number => {
            number.parse().map(Lines::Last).map_err(|_| "expected a number or all".to_owned())
        }
    }
}

/// Streams of a log.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum StreamArg {
    /// What it wrote to stdout
    Out,
    /// What it wrote to stderr
    Err,
    /// Its progress and other events
    Event,
    /// What Capsule has to say
    Note,
}

impl TailArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let ids = ids(&self.ids)?;
        let client = context.client().await?;
        let follow = self.follow || (context.ui.tty && !self.no_follow);
        let prefix = self.prefix || ids.len() > 1;
        if follow {
            let ids = numbered(&client, ids).await?;
            return self.print(context, &client, (&ids, follow), prefix).await;
        }
        for id in &ids {
            self.print(context, &client, (std::slice::from_ref(id), follow), prefix).await?;
        }
        Ok(Exit::Done)
    }

    /// Prints the logs of these tasks as they come.
    async fn print(
        &self,
        context: &Context,
        client: &Client,
        (ids, follow): (&[String], bool),
        prefix: bool,
    ) -> Result<Exit, CliError> {
        let mut client = client.clone();
        let mut streams = StreamMap::new();
        for id in ids {
            let request = self.request(id, follow);
            streams.insert(id.clone(), client.answer(client.tasks().tail(request)).await?);
        }
        let mut logs: Vec<(&String, Log)> =
            ids.iter().map(|id| (id, self.log(context, prefix.then(|| id.clone())))).collect();
        let mut cursors: BTreeMap<String, String> = BTreeMap::new();
        let mut interrupts = signal(SignalKind::interrupt())?;
        loop {
            let next = tokio::select! {
                biased;
                _ = interrupts.recv(), if follow => {
                    return Ok(leave(ids));
                }
                next = streams.next() => next,
            };
            let Some((id, event)) = next else { break };
            let event = match event {
                Ok(event) => event,
                Err(status) if follow => {
                    let cursor = cursors.get(&id).cloned().unwrap_or_default();
                    let request = TailRequest { cursor, ..self.request(&id, follow) };
                    let back = again(context, &client, status, async |client| {
                        client.answer(client.tasks().tail(request.clone())).await
                    });
                    let Some(back) = unless_interrupted(&mut interrupts, back).await? else {
                        return Ok(leave(ids));
                    };
                    client = back.0;
                    streams.insert(id, back.1);
                    continue;
                }
                Err(status) => return Err(client.explain(status).await),
            };
            let TailEvent { event: Some(Event::Chunk(chunk)) } = event else { continue };
            if !chunk.cursor.is_empty() {
                cursors.insert(id.clone(), chunk.cursor.clone());
            }
            write(context, &mut logs, &id, &chunk)?;
        }
        logs.iter_mut().try_for_each(|(_, log)| log.finish())?;
        if self.show_cursor {
            for (id, cursor) in &cursors {
                warn(&format!("cursor: {id} {cursor}"));
            }
        }
        Ok(Exit::Done)
    }

    fn log(&self, context: &Context, prefix: Option<String>) -> Log {
        let times = self.timestamps.then(|| context.ui.times.clone());
        Log::new(&context.ui, true, Decor { prefix, times })
    }

    fn request(&self, id: &str, follow: bool) -> TailRequest {
        let streams = self.stream.iter().filter_map(ValueEnum::to_possible_value);
        TailRequest {
            id: id.to_owned(),
            attempt: self.attempt.unwrap_or_default(),
            follow,
            lines: match self.lines {
                Some(Lines::Last(count)) => Some(count),
                Some(Lines::All) | None => None,
            },
            streams: streams.map(|value| value.get_name().to_owned()).collect(),
            cursor: self.after_cursor.clone().unwrap_or_default(),
            since_us: self.since.map(Timestamp::as_microsecond),
        }
    }
}

/// The numbers behind `@last` and the like, which will mean other tasks in a minute.
async fn numbered(client: &Client, ids: Vec<String>) -> Result<Vec<String>, CliError> {
    let mut numbers = Vec::with_capacity(ids.len());
    for id in ids {
        if !id.starts_with('@') {
            numbers.push(id);
            continue;
        }
        let reply = client.answer(client.tasks().show(ShowRequest { id })).await?;
        numbers.push(reply.task.unwrap_or_default().id.to_string());
    }
    Ok(numbers)
}

fn write(
    context: &Context,
    logs: &mut [(&String, Log)],
    id: &String,
    chunk: &LogChunk,
) -> Result<(), CliError> {
    if context.ui.is_json() {
        return context.ui.event(&shape::chunk(id, chunk));
    }
    match logs.iter_mut().find(|(name, _)| *name == id) {
        Some((_, log)) => log.write(chunk),
        None => Ok(()),
    }
}
