//! `status`: the daemon.

use std::fmt::Write as _;

use capsule_proto::v1::{StatusReply, StatusRequest};

use crate::client::Client;
use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::ui::{Ui, escape, shape, time};

/// Shows whether the daemon runs and how it does.
pub(crate) async fn run(context: &Context) -> Result<Exit, CliError> {
    let client = context.client().await?;
    let reply = ask(&client).await?;
    let ui = &context.ui;
    if ui.is_json() {
        ui.value(&shape::daemon(&reply))?;
    } else if !ui.quiet {
        ui.say(&text(ui, &client, &reply))?;
    }
    Ok(Exit::Done)
}

/// The state of the daemon.
pub(super) async fn ask(client: &Client) -> Result<StatusReply, CliError> {
    client.answer(client.daemon().status(StatusRequest {})).await
}

/// `capsuled 0.1.0 runs since 3h 5m  pid 812  4 of 8 slots`.
pub(super) fn headline(it: &StatusReply) -> String {
    let mut text = format!(
        "capsuled {} runs since {}  pid {}  {} of {} slots in use",
        escape::line(&it.version),
        time::millis(it.uptime_ms),
        it.pid,
        it.slots_used,
        it.slots
    );
    if it.shared_used > 0 {
        let _infallible = write!(text, "  {} in app hosts", it.shared_used);
    }
    if it.draining {
        text.push_str("  draining");
    }
    text
}

/// Statuses in the order that a task passes them.
const ORDER: [&str; 9] = [
    "scheduled",
    "pending",
    "claimed",
    "running",
    "retry",
    "completed",
    "failed",
    "timeout",
    "cancelled",
];

fn text(ui: &Ui, client: &Client, it: &StatusReply) -> String {
    let mut lines = vec![headline(it)];
    let mut push = |label: &str, text: &str| {
        if !text.is_empty() {
            lines.push(format!("  {label:<9} {}", escape::line(text)));
        }
    };
    push("socket", &client.socket.display().to_string());
    push("state", &it.state_dir);
    let free = format!(
        "{} store, {} logs, {} free",
        time::bytes(it.store_bytes),
        time::bytes(it.log_bytes),
        time::bytes(it.free_bytes)
    );
    push("disk", &free);
    let counts: Vec<String> = ORDER
        .iter()
        .filter_map(|name| {
            let count = it.by_status.get(*name).copied().filter(|count| *count > 0)?;
            Some(format!("{count} {name}"))
        })
        .collect();
    push("tasks", &if counts.is_empty() { "none".to_owned() } else { counts.join(", ") });
    let keeper = it.keeper.as_ref().map(|keeper| {
        if keeper.connected {
            format!("connected  pid {}  {}", keeper.pid, keeper.attribution)
        } else {
            "not connected: nothing starts".to_owned()
        }
    });
    push("keeper", &keeper.unwrap_or_default());
    for reason in &it.degraded {
        push("degraded", reason);
    }
    if ui.verbose {
        push("store", &format!("{}  seq {}", it.store_uuid, it.seq));
    }
    lines.join("\n")
}
