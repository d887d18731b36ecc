//! `deploy`: register a manifest as an app, or as its next revision.

use std::path::{Path, PathBuf};

use capsule_proto::v1::{DeployReply, DeployRequest};
use clap::Args;
use serde_json::json;

use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::ui::{color, escape, warn};

/// The manifest of a folder.
const MANIFEST: &str = "capsule.toml";

/// Register the tasks of a manifest; a changed one becomes the next revision
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  capsule deploy\n  capsule deploy leads/capsule.toml --dry-run"
)]
pub(crate) struct DeployArgs {
    /// A capsule.toml, or the folder it is in
    #[arg(value_name = "PATH", default_value = MANIFEST)]
    path: PathBuf,
    /// Name of the app [default: what the manifest says]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Check and show what would change
    #[arg(long, visible_alias = "diff")]
    dry_run: bool,
    /// Exit 5 when something changes or would change
    #[arg(long)]
    exit_code: bool,
}

impl DeployArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let request = self.request()?;
        let client = context.client().await?.patient();
        let reply = client.answer(client.apps().deploy(request)).await?;
        print(context, &reply)?;
        Ok(if self.exit_code && reply.changed { Exit::Refused } else { Exit::Done })
    }

    fn request(&self) -> Result<DeployRequest, CliError> {
        let path = if self.path.is_dir() { self.path.join(MANIFEST) } else { self.path.clone() };
        if path.extension().is_none_or(|extension| extension != "toml") {
            let message = format!("{} is not a manifest: expected a .toml file", path.display());
            return Err(CliError::usage(message).hint("what deploy takes    capsule deploy --help"));
        }
        let manifest = std::fs::read_to_string(&path).map_err(|error| {
            let message = format!("cannot read the manifest {}: {error}", path.display());
            CliError::new(Exit::Usage, "unreadable", message)
                .hint("what stands in one    capsule help manifest")
        })?;
        let whole = std::path::absolute(&path)?;
        let dir = whole.parent().unwrap_or(Path::new("/"));
        let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        Ok(DeployRequest {
            manifest,
            dir: text(&dir)?,
            dry_run: self.dry_run,
            name: self.name.clone().unwrap_or_default(),
            path: text(&path)?,
        })
    }
}

fn text(path: &Path) -> Result<String, CliError> {
    match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(CliError::usage(format!("the path {} is not UTF-8", path.display()))),
    }
}

/// Says what a deploy or a rollback changed.
pub(super) fn print(context: &Context, reply: &DeployReply) -> Result<(), CliError> {
    let ui = &context.ui;
    if ui.is_json() {
        return ui.value(&json!({
            "app": reply.app,
            "revision": reply.revision,
            "changed": reply.changed,
            "diff": reply.diff,
            "warnings": reply.warnings,
            "dry_run": reply.dry_run,
        }));
    }
    for warning in &reply.warnings {
        warn(&format!("warning: {}", escape::line(warning)));
    }
    if ui.quiet {
        return Ok(());
    }
    let name = escape::line(&reply.app);
    ui.say(&match (reply.dry_run, reply.changed) {
        (false, true) => format!("deployed {name}@r{}", reply.revision),
        (false, false) => format!("unchanged {name}@r{}", reply.revision),
        (true, true) => format!("would deploy {name}@r{}", reply.revision),
        (true, false) => format!("nothing would change in {name}@r{}", reply.revision),
    })?;
    for line in &reply.diff {
        let style = match line.chars().next() {
            Some('+') => color::GREEN,
            Some('-') => color::RED,
            _ => color::DIM,
        };
        ui.say(&format!("  {}", ui.paint(style, &escape::line(line))))?;
    }
    Ok(())
}
