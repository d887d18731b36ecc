//! `rm`: forget ended tasks with their logs.

use capsule_proto::v1::TargetsRequest;
use clap::Args;

use super::{confirm, nothing, preview, report};
use crate::args::filter::TargetArgs;
use crate::commands::Context;
use crate::error::{CliError, Exit};

/// Remove ended tasks with their logs and results
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  capsule rm 1842\n  capsule rm --status cancelled --all --yes")]
pub(crate) struct RmArgs {
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    targets: TargetArgs,
}

impl RmArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let targets = self.targets.message("rm", context.app())?;
        let client = context.client().await?;
        let dry_run = self.dry_run || self.targets.all;
        let mut request = TargetsRequest { targets: Some(targets), dry_run };
        if self.targets.all && !self.dry_run {
            let plan = client.answer(client.tasks().remove(request.clone())).await?;
            if !confirm(context, "remove", &plan)? {
                return nothing(context);
            }
            request.dry_run = false;
        }
        let reply = client.answer(client.tasks().remove(request)).await?;
        if self.dry_run {
            return preview(context, reply);
        }
        report(context, &reply)
    }
}
