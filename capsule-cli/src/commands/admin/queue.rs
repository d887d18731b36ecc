//! `queue`: what waits where, pause and limits.

use capsule_proto::v1::{ListQueuesRequest, QueueView, SetQueueRequest};
use clap::Subcommand;

use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::ui::table::{Cell, Table};
use crate::ui::{Listing, shape};

/// Show queues, pause and resume them, limit how many tasks run at once
#[derive(Debug, Subcommand)]
pub(crate) enum QueueVerb {
    /// Show queues
    #[command(visible_alias = "ls")]
    List,
    /// Start no task of a queue; running ones finish
    Pause {
        /// Name of the queue
        #[arg(value_name = "QUEUE")]
        name: String,
        /// Why, for whoever asks
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Start tasks of a queue again
    Resume {
        /// Name of the queue
        #[arg(value_name = "QUEUE")]
        name: String,
    },
    /// Let at most this many tasks of a queue run at once
    Limit {
        /// Name of the queue
        #[arg(value_name = "QUEUE")]
        name: String,
        /// A number, or none
        #[arg(value_name = "N|none", value_parser = limit)]
        limit: Limit,
    },
}

/// How many tasks may run at once.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    AtMost(u32),
    Unlimited,
}

fn limit(text: &str) -> Result<Limit, String> {
    match text {
        "none" => Ok(Limit::Unlimited),
        number => {
            number.parse().map(Limit::AtMost).map_err(|_| "expected a number or none".to_owned())
        }
    }
}

impl QueueVerb {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let client = context.client().await?;
        let change = match self {
            Self::List => {
                let reply =
                    client.answer(client.daemon().list_queues(ListQueuesRequest {})).await?;
                context.ui.listing(listing(&reply.queues))?;
                return Ok(Exit::Done);
            }
            Self::Pause { name, note } => SetQueueRequest {
                name: name.clone(),
                paused: Some(true),
                note: note.clone().unwrap_or_default(),
                ..SetQueueRequest::default()
            },
            Self::Resume { name } => SetQueueRequest {
                name: name.clone(),
                paused: Some(false),
                ..SetQueueRequest::default()
            },
            Self::Limit { name, limit: Limit::AtMost(limit) } => SetQueueRequest {
                name: name.clone(),
                limit: Some(*limit),
                ..SetQueueRequest::default()
            },
            Self::Limit { name, limit: Limit::Unlimited } => {
                SetQueueRequest { name: name.clone(), no_limit: true, ..SetQueueRequest::default() }
            }
        };
        let queue = client.answer(client.daemon().set_queue(change)).await?;
        if context.ui.is_json() {
            context.ui.value(&shape::queue(&queue))?;
        } else if !context.ui.quiet {
            context.ui.listing(listing(std::slice::from_ref(&queue)))?;
        }
        Ok(Exit::Done)
    }
}

pub(crate) fn listing(queues: &[QueueView]) -> Listing {
    let mut table = Table::new(vec!["QUEUE", "STATE", "LIMIT", "WAITING", "RUNNING", "NOTE"]);
    for queue in queues {
        table.push(vec![
            Cell::new(&queue.name),
            Cell::new(if queue.paused { "paused" } else { "open" }),
            Cell::new(queue.limit.map_or("-".to_owned(), |limit| limit.to_string())),
            Cell::new(queue.waiting.to_string()),
            Cell::new(queue.running.to_string()),
            Cell::new(&queue.note),
        ]);
    }
    let json = queues.iter().map(shape::queue).collect();
    let ids = queues.iter().map(|queue| queue.name.clone()).collect();
    Listing { table, json, ids }
}
