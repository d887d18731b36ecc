//! `web`: a link that opens the web board.

use capsule_proto::v1::WebLinkRequest;
use serde_json::json;

use crate::commands::Context;
use crate::error::{CliError, Exit};

/// Prints a link that lets one browser in; on stderr the socket, where the board is served on one.
pub(crate) async fn run(context: &Context) -> Result<Exit, CliError> {
    let client = context.client().await?;
    let link = client.answer(client.daemon().web_link(WebLinkRequest {})).await?;
    let ui = &context.ui;
    if ui.is_json() {
        let until = jiff::Timestamp::from_microsecond(link.until_us).ok();
        let until = until.map(|at| at.to_string());
        let socket = Some(&link.socket).filter(|socket| !socket.is_empty());
        ui.value(&json!({"url": link.url, "until": until, "socket": socket}))?;
        return Ok(Exit::Done);
    }
    ui.say(&link.url)?;
    if !link.socket.is_empty() {
        ui.talk(&format!("it is served on the socket {}", link.socket));
    }
    Ok(Exit::Done)
}
