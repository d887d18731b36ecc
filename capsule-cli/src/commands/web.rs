//! `web`: a link that opens the web board.

use capsule_proto::v1::WebLinkRequest;
use clap::Args;
use serde_json::json;

use crate::commands::Context;
use crate::error::{CliError, Exit};

/// Print a link that opens the board in a browser, good once and for ten minutes
#[derive(Debug, Args)]
#[command(
    after_help = "The board is served on this machine only, from the first `capsule web` on.\n\
                  From another machine: ssh -L 7788:127.0.0.1:7788 HOST, then the link as it is.\n\n\
                  Examples:\n  capsule web\n  xdg-open \"$(capsule web)\""
)]
pub(crate) struct WebArgs {}

impl WebArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let client = context.client().await?;
        let link = client.answer(client.daemon().web_link(WebLinkRequest {})).await?;
        let ui = &context.ui;
        if ui.is_json() {
            let until = jiff::Timestamp::from_microsecond(link.until_us).ok();
            let socket = Some(&link.socket).filter(|socket| !socket.is_empty());
            ui.value(&json!({"url": link.url, "until": until.map(|at| at.to_string()), "socket": socket}))?;
            return Ok(Exit::Done);
        }
        ui.say(&link.url)?;
        if !link.socket.is_empty() {
            ui.talk(&format!("it is served on the socket {}", link.socket));
        }
        Ok(Exit::Done)
    }
}
