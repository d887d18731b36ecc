//! `deploy`: register a manifest, or an app of the SDK, as an app or as its next revision.

use std::path::{Path, PathBuf};
use std::time::Duration;

use capsule_proto::v1::{DeployReply, DeployRequest};
use clap::Args;
use serde_json::json;

use super::entry::Entry;
use super::python;

use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::ui::{color, escape, shape, warn};

/// The manifest of a folder.
const MANIFEST: &str = "capsule.toml";
/// After so long a word is due.
const PATIENCE: Duration = Duration::from_secs(2);

/// Register the tasks of an app or a manifest; a changed one becomes the next revision
///
/// An app of the SDK is named as FILE.py:SYMBOL or MODULE:SYMBOL. It runs from a copy of its
/// project with the Python that `uv run` would take.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  capsule deploy app.py:app\n  capsule deploy leads.app:app --python .venv\n  capsule deploy leads/capsule.toml --dry-run"
)]
pub(crate) struct DeployArgs {
    /// FILE.py:SYMBOL, MODULE:SYMBOL, a capsule.toml, or the folder it is in
    #[arg(value_name = "APP", default_value = MANIFEST)]
    path: PathBuf,
    /// Name of the app [default: what it says itself]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Check and show what would change
    #[arg(long, visible_alias = "diff")]
    dry_run: bool,
    /// Exit 5 when something changes or would change
    #[arg(long)]
    exit_code: bool,
    /// Interpreter, environment or version to run the app with
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Refuse an app that uses what is not wholly here
    #[arg(long)]
    strict: bool,
}

impl DeployArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let request = self.request()?;
        let client = context.client().await?.patient();
        let mut apps = client.apps();
        let mut answer = client.answer(apps.deploy(request));
        let reply = if let Ok(reply) = tokio::time::timeout(PATIENCE, &mut answer).await {
            reply?
        } else {
            context.ui.talk("still at it; packages that are missing take a while to install");
            answer.await?
        };
        print(context, &reply)?;
        Ok(if self.exit_code && reply.changed { Exit::Refused } else { Exit::Done })
    }

    fn request(&self) -> Result<DeployRequest, CliError> {
        if let Some(entry) = Entry::read(&self.path)? {
            return Ok(DeployRequest {
                dry_run: self.dry_run,
                name: self.name.clone().unwrap_or_default(),
                strict: self.strict,
                ..entry.request(self.python.as_deref())?
            });
        }
        let path = if self.path.is_dir() { self.path.join(MANIFEST) } else { self.path.clone() };
        if path.extension().is_none_or(|extension| extension != "toml") {
            let message = format!("{} is neither an app nor a manifest", path.display());
            let error = CliError::usage(message);
            return Err(if path.extension().is_some_and(|extension| extension == "py") {
                error.hint(format!("name the app in it    capsule deploy {}:app", path.display()))
            } else {
                error.hint("what deploy takes    capsule deploy --help")
            });
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
            ..DeployRequest::default()
        })
    }
}

pub(super) fn text(path: &Path) -> Result<String, CliError> {
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
            "took_ms": reply.took_ms,
            "python": reply.python.as_ref().map(shape::python_app),
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
    if let Some(about) = &reply.python {
        ui.say(&python::deployed(ui, about, reply.took_ms))?;
    }
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
