//! `limits`: every bound of the daemon, and how much of it is in use.

use capsule_proto::v1::{Limit, LimitsRequest};
use serde_json::{Value, json};

use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::ui::table::{Cell, Table};
use crate::ui::{Listing, time};

/// Shows what is bounded, by how much, and which flag of the daemon changes it.
pub(crate) async fn run(context: &Context) -> Result<Exit, CliError> {
    let client = context.client().await?;
    let reply = client.answer(client.daemon().limits(LimitsRequest {})).await?;
    let mut table = Table::new(vec!["LIMIT", "VALUE", "USED", "OF", "FLAG"]);
    for it in &reply.limits {
        table.push(vec![
            Cell::new(&it.name),
            Cell::new(it.value.map_or_else(|| "none".to_owned(), |value| told(it, value))),
            Cell::new(it.used.map_or_else(String::new, |used| told(it, used))),
            Cell::new(&it.text),
            Cell::new(&it.flag),
        ]);
    }
    let json = reply.limits.iter().map(shape).collect();
    let ids = reply.limits.iter().map(|it| it.name.clone()).collect();
    context.ui.listing(Listing { table, json, ids })?;
    Ok(Exit::Done)
}

fn told(limit: &Limit, value: u64) -> String {
    match limit.unit.as_str() {
        "bytes" => time::bytes(value),
        "ms" => time::millis(value),
        _ => value.to_string(),
    }
}

fn shape(it: &Limit) -> Value {
    json!({
        "name": it.name,
        "value": it.value,
        "unit": Some(&it.unit).filter(|unit| !unit.is_empty()),
        "used": it.used,
        "text": it.text,
        "flag": Some(&it.flag).filter(|flag| !flag.is_empty()),
    })
}
