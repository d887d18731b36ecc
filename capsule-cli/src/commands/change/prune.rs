//! `prune`: forget ended tasks by age and number.

use std::time::Duration;

use capsule_proto::v1::PruneRequest;
use clap::Args;
use serde_json::json;

use super::{confirm, nothing, preview};
use crate::args::filter::FilterArgs;
use crate::args::values;
use crate::commands::Context;
use crate::error::{CliError, Exit};

/// Remove ended tasks by age and number, with their logs and results
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  capsule prune --older-than 30d --dry-run\n  capsule prune --status completed --keep 1000 --yes"
)]
pub(crate) struct PruneArgs {
    /// Only those that ended this long ago
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    older_than: Option<Duration>,
    /// Keep the newest this many
    #[arg(long, value_name = "N")]
    keep: Option<u64>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

impl PruneArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        if self.older_than.is_none() && self.keep.is_none() && self.filter.is_empty() {
            return Err(CliError::usage("which tasks? give --older-than, --keep or a filter")
                .hint("see what would go    capsule prune --older-than 30d --dry-run"));
        }
        let client = context.client().await?;
        let mut request = PruneRequest {
            filter: Some(self.filter.message(context.app())),
            older_than_ms: self.older_than.map(values::millis),
            keep: self.keep,
            dry_run: true,
        };
        let plan = client.answer(client.tasks().prune(request.clone())).await?;
        if self.dry_run {
            return preview(context, plan);
        }
        if !confirm(context, "remove", &plan)? {
            return nothing(context);
        }
        request.dry_run = false;
        let reply = client.answer(client.tasks().prune(request)).await?;
        let ui = &context.ui;
        if ui.is_json() {
            let ids: Vec<u64> = reply.results.iter().map(|it| it.id).collect();
            ui.value(&json!({"removed": ids.len(), "ids": ids}))?;
        } else {
            ui.talk(&format!("removed {}", reply.results.len()));
        }
        Ok(Exit::Done)
    }
}
