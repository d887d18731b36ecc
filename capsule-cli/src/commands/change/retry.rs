//! `retry`: give ended tasks a fresh budget, under the same id.

use std::time::Duration;

use capsule_proto::v1::RetryRequest;
use clap::Args;

use super::{confirm, nothing, preview, report};
use crate::args::filter::TargetArgs;
use crate::args::values;
use crate::commands::Context;
use crate::error::{CliError, Exit};

/// Run failed, timed out or cancelled tasks again, under the same id
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  capsule retry 1842 --timeout 20m\n  capsule retry --status failed --since 1h --all --yes"
)]
pub(crate) struct RetryArgs {
    /// Submit a copy under a new id; this is how a completed task is run again
    #[arg(long)]
    as_new: bool,
    /// Longest run of one attempt, 0 for none
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    timeout: Option<Duration>,
    /// How often to try again
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    targets: TargetArgs,
}

impl RetryArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let targets = self.targets.message("retry", context.app())?;
        let client = context.client().await?;
        let mut request = RetryRequest {
            targets: Some(targets),
            as_new: self.as_new,
            timeout_ms: self.timeout.map(values::millis),
            retries: self.retries,
            dry_run: self.dry_run || self.targets.all,
        };
        if self.targets.all && !self.dry_run {
            let plan = client.answer(client.tasks().retry(request.clone())).await?;
            if !confirm(context, "retry", &plan)? {
                return nothing(context);
            }
            request.dry_run = false;
        }
        let reply = client.answer(client.tasks().retry(request)).await?;
        if self.dry_run {
            return preview(context, reply);
        }
        report(context, &reply)
    }
}
