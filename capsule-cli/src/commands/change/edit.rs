//! `edit`: change what may still be changed of a waiting task.

use std::time::Duration;

use capsule_proto::v1::{EditRequest, Targets};
use clap::Args;
use jiff::Timestamp;

use super::report;
use crate::args::filter::ids;
use crate::args::values;
use crate::commands::Context;
use crate::error::{CliError, Exit};

/// Change priority, queue, time or other options of a task
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  capsule edit 1842 --priority 50\n  capsule edit 1842 --no-hold"
)]
pub(crate) struct EditArgs {
    /// Ids: 1842, a UUID or its last 6 digits, @last, @failed, or - for ids on stdin
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// -100 (last) to 100 (first)
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-100..=100))]
    priority: Option<i32>,
    /// Queue to wait in
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// Do not start it
    #[arg(long)]
    hold: bool,
    /// Let it start
    #[arg(long, visible_alias = "release", conflicts_with = "hold")]
    no_hold: bool,
    /// Start at this time
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    at: Option<Timestamp>,
    /// How often to try again
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// Longest run of one attempt, 0 for none
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    timeout: Option<Duration>,
    /// Label to set
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = values::pair)]
    label: Vec<(String, String)>,
    /// Title on cards and boards
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
}

impl EditArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let change = EditRequest {
            targets: None,
            priority: self.priority,
            queue: self.queue.clone(),
            hold: (self.hold || self.no_hold).then_some(self.hold),
            at_us: self.at.map(Timestamp::as_microsecond),
            retries: self.retries,
            timeout_ms: self.timeout.map(values::millis),
            labels: self.label.iter().cloned().collect(),
            display_name: self.display_name.clone(),
        };
        if change == EditRequest::default() {
            return Err(CliError::usage("nothing to change")
                .hint("what can be changed    capsule edit --help"));
        }
        let client = context.client().await?;
        let targets = Some(Targets { ids: ids(&self.ids)?, ..Targets::default() });
        let request = EditRequest { targets, ..change };
        report(context, &client.answer(client.tasks().edit(request)).await?)
    }
}
