//! `submit --each`: one task for each line of a file of JSON objects.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader};

use capsule_proto::v1::submit_request::Work as Wire;
use capsule_proto::v1::{SubmitBatchRequest, SubmitRequest, SubmitResult};
use serde_json::{Value, json};

use super::request;
use crate::args::submit::What;
use crate::client::Client;
use crate::commands::{Context, outcome};
use crate::error::{CliError, Exit};
use crate::ui::escape;

/// Rows that go in one request.
const CHUNK: usize = 1000;

/// What became of the rows so far.
#[derive(Default)]
struct Tally {
    row: u64,
    ids: Vec<u64>,
    merged: u64,
    refused: u64,
    /// Every refusal was about the row's arguments.
    only_arguments: bool,
}

/// Submits the rows; a bad row does not stop the others.
pub(super) async fn run(
    context: &Context,
    what: &What,
    rows: &str,
    wait: bool,
) -> Result<Exit, CliError> {
    let rows = rows.strip_prefix('@').unwrap_or(rows);
    let template = request(context, what)?;
    if !matches!(template.work, Some(Wire::Call(_))) {
        return Err(CliError::usage("--each needs the name of a task")
            .hint("tasks of your apps    capsule tasks"));
    }
    let reader: Box<dyn BufRead> = if rows == "-" {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        let file = File::open(rows).map_err(|error| {
            CliError::new(Exit::Usage, "unreadable", format!("cannot read {rows}: {error}"))
        })?;
        Box::new(BufReader::new(file))
    };
    let client = context.client().await?.patient();
    let mut tally = Tally { only_arguments: true, ..Tally::default() };
    let mut chunk = Vec::new();
    for line in reader.lines() {
        let line = line?;
        if !line.trim().is_empty() {
            chunk.push(row(&template, line));
        }
        if chunk.len() == CHUNK {
            send(context, &client, std::mem::take(&mut chunk), &mut tally).await?;
        }
    }
    if !chunk.is_empty() {
        send(context, &client, chunk, &mut tally).await?;
    }
    sum_up(context, &tally);
    let refused = match (tally.refused, tally.only_arguments) {
        (0, _) => Exit::Done,
        (_, true) => Exit::Usage,
        (_, false) => Exit::Failure,
    };
    if !wait || refused != Exit::Done {
        return Ok(refused);
    }
    let mut worst = Exit::Done;
    for id in tally.ids {
        let task = super::super::task::wait::ended(&client, id).await?;
        if worst == Exit::Done {
            worst = outcome::of_task(&task);
        }
    }
    Ok(worst)
}

fn row(template: &SubmitRequest, line: String) -> SubmitRequest {
    let mut request = template.clone();
    if let Some(Wire::Call(call)) = &mut request.work {
        call.payload_json = line;
    }
    request
}

async fn send(
    context: &Context,
    client: &Client,
    submits: Vec<SubmitRequest>,
    tally: &mut Tally,
) -> Result<(), CliError> {
    let request = SubmitBatchRequest { submits };
    let reply = client.answer(client.tasks().submit_batch(request)).await?;
    for result in reply.results {
        tally.row += 1;
        tell(context, tally.row, &result)?;
        if !result.error.is_empty() || !result.error_code.is_empty() {
            tally.refused += 1;
            tally.only_arguments &=
                matches!(result.error_code.as_str(), "invalid_argument" | "unknown_task");
            continue;
        }
        tally.merged += u64::from(result.merged);
        tally.ids.push(result.id);
    }
    Ok(())
}

/// One line for each row as it is answered, so that a pipe can go on at once.
fn tell(context: &Context, row: u64, result: &SubmitResult) -> Result<(), CliError> {
    let ui = &context.ui;
    let refused = !result.error.is_empty() || !result.error_code.is_empty();
    if ui.is_json() {
        return ui.event(&json!({
            "row": row,
            "id": if refused { Value::Null } else { result.id.into() },
            "merged": result.merged,
            "existing": result.existing,
            "error": crate::ui::json::text(&result.error),
            "error_code": crate::ui::json::text(&result.error_code),
        }));
    }
    if refused {
        crate::ui::warn(&format!("error: row {row}: {}", escape::line(&result.error)));
        return Ok(());
    }
    if ui.tty && !ui.quiet { Ok(()) } else { ui.say(&result.id.to_string()) }
}

fn sum_up(context: &Context, tally: &Tally) {
    if context.ui.is_json() || !context.ui.talk_tty {
        return;
    }
    let mut text = format!("submitted {}", tally.ids.len());
    if let (Some(first), Some(last)) = (tally.ids.iter().min(), tally.ids.iter().max()) {
        let _ = write!(text, " ({first}-{last})");
    }
    if tally.merged > 0 {
        let _ = write!(text, ", {} of them merged", tally.merged);
    }
    if tally.refused > 0 {
        let _ = write!(text, ", {} refused", tally.refused);
    }
    context.ui.talk(&text);
}
