//! `version`: of this command and of the daemon.

use capsule_proto::{API_MAJOR, API_MINOR};
use serde_json::json;

use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::ui::escape;

/// Shows the versions of this command and of the daemon.
pub(crate) async fn run(context: &Context) -> Result<Exit, CliError> {
    let own = env!("CARGO_PKG_VERSION");
    let hello = match context.client().await {
        Ok(client) => client.hello().await.ok(),
        // The own version is worth telling without a daemon.
        Err(error) if error.exit() == Exit::Unreachable => None,
        Err(error) => return Err(error),
    };
    let ui = &context.ui;
    if ui.is_json() {
        let daemon = hello.map(|it| {
            let api = format!("{}.{}", it.api_major, it.api_minor);
            json!({"version": it.version, "api": api})
        });
        let api = format!("{API_MAJOR}.{API_MINOR}");
        ui.value(&json!({"version": own, "api": api, "daemon": daemon}))?;
        return Ok(Exit::Done);
    }
    ui.say(&format!("capsule {own} (protocol {API_MAJOR}.{API_MINOR})"))?;
    match hello {
        Some(it) => {
            let version = escape::line(&it.version);
            ui.say(&format!("capsuled {version} (protocol {}.{})", it.api_major, it.api_minor))?;
        }
        None => ui.say("capsuled is not running")?,
    }
    Ok(Exit::Done)
}
