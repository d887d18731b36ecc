//! `promote`: start scheduled tasks, and those that wait for a retry, as soon as they can.

use capsule_proto::v1::{Targets, TargetsRequest};
use clap::Args;

use super::{preview, report};
use crate::args::filter::ids;
use crate::commands::Context;
use crate::error::{CliError, Exit};

/// Let a scheduled task, or one that waits to be tried again, start now
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  capsule promote 1842")]
pub(crate) struct PromoteArgs {
    /// Ids: 1842, a UUID or its last 6 digits, @last, @failed, or - for ids on stdin
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

impl PromoteArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let client = context.client().await?;
        let targets = Some(Targets { ids: ids(&self.ids)?, ..Targets::default() });
        let request = TargetsRequest { targets, dry_run: self.dry_run };
        let reply = client.answer(client.tasks().promote(request)).await?;
        if self.dry_run {
            return preview(context, reply);
        }
        report(context, &reply)
    }
}
