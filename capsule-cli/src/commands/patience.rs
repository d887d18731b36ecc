//! Following a task longer than the daemon lives, and no longer than the user wants.

use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::Instant;
use tonic::Status;

use super::Context;
use crate::client::Client;
use crate::error::{CliError, Exit};

/// How long a daemon that went away is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks for it.
const PAUSE: Duration = Duration::from_millis(100);

/// Connects again to a daemon that went away: tasks go on without it. Any other error stands.
pub(crate) async fn again<T>(
    context: &Context,
    client: &Client,
    status: Status,
    open: impl AsyncFn(&Client) -> Result<T, CliError>,
) -> Result<(Client, T), CliError> {
    let lost = client.explain(status).await;
    if lost.exit() != Exit::Unreachable {
        return Err(lost);
    }
    context.ui.talk("the daemon went away; waiting for it to come back");
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        tokio::time::sleep(PAUSE).await;
        let Ok(client) = context.client().await else { continue };
        match open(&client).await {
            Ok(opened) => return Ok((client, opened)),
            Err(error) if error.exit() == Exit::Unreachable => {}
            Err(error) => return Err(error),
        }
    }
    Err(lost)
}

/// The value, or nothing when Ctrl-C comes first.
pub(crate) async fn unless_interrupted<T>(
    interrupts: &mut Signal,
    value: impl Future<Output = Result<T, CliError>>,
) -> Result<Option<T>, CliError> {
    tokio::select! {
        biased;
        _ = interrupts.recv() => Ok(None),
        value = value => value.map(Some),
    }
}

/// Says that tasks are not touched by our leaving.
pub(crate) fn leave(ids: &[String]) -> Exit {
    for id in ids {
        crate::ui::warn(&format!("{id} goes on: capsule tail {id}"));
    }
    Exit::Interrupted
}
