//! Parts of JSON output that all messages share, and the choice of fields.
//!
//! Names are the protocol's; a time `x_us` becomes RFC 3339 under `x_at`, spans stay `*_ms`, what is
//! unset is null and never left out, keys keep their order.

use serde_json::{Map, Value};

use super::time;
use crate::error::{CliError, Exit};

/// Text; unset is null.
pub(crate) fn text(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { Value::from(text) }
}

/// A time.
pub(crate) fn at(us: i64) -> Value {
    Value::from(time::iso(us))
}

/// A time that may be unset.
pub(crate) fn maybe_at(us: Option<i64>) -> Value {
    us.map_or(Value::Null, at)
}

/// A span of microseconds, as milliseconds.
pub(crate) fn ms(us: Option<u64>) -> Value {
    match us {
        None => Value::Null,
        Some(us) if us % 1000 == 0 => Value::from(us / 1000),
        // Milliseconds with their fraction; a span that a double cannot hold lasts 285 years.
        Some(us) =>
        // Through its decimal digits, so that 7408 µs is 7.408 and nothing near it.
        {
            format!("{}.{:03}", us / 1000, us % 1000)
                .parse::<f64>()
                .map_or(Value::Null, Value::from)
        }
    }
}

/// JSON that came as text; text that is no JSON stays text.
pub(crate) fn embedded(json: &str) -> Value {
    if json.is_empty() {
        return Value::Null;
    }
    serde_json::from_str(json).unwrap_or_else(|_| Value::from(json))
}

/// A map, by its keys in order.
pub(crate) fn map<'a, V: Clone + Into<Value> + 'a>(
    entries: impl IntoIterator<Item = (&'a String, &'a V)>,
) -> Value {
    let mut entries: Vec<(&String, &V)> = entries.into_iter().collect();
    entries.sort_by_key(|(name, _)| *name);
    let object: Map<String, Value> =
        entries.into_iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    Value::Object(object)
}

/// Names of enums on the wire, as they read: `AT_LEAST_ONCE` is `at_least_once`.
pub(crate) fn name(wire: &str) -> Value {
    match wire.to_ascii_lowercase() {
        unset if unset.ends_with("unspecified") => Value::Null,
        set => Value::from(set),
    }
}

/// The chosen fields of an object, or of each object of an array.
pub(crate) fn select(value: &Value, fields: &[String]) -> Result<Value, CliError> {
    if fields.is_empty() {
        return Ok(value.clone());
    }
    match value {
        Value::Array(items) => {
            let chosen: Result<Vec<Value>, CliError> =
                items.iter().map(|item| select(item, fields)).collect();
            Ok(Value::Array(chosen?))
        }
        Value::Object(object) => fields
            .iter()
            .map(|name| match object.get(name) {
                Some(value) => Ok((name.clone(), value.clone())),
                None => Err(unknown(name, object)),
            })
            .collect::<Result<Map<String, Value>, CliError>>()
            .map(Value::Object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(value.clone()),
    }
}

fn unknown(name: &str, object: &Map<String, Value>) -> CliError {
    let names: Vec<&str> = object.keys().map(String::as_str).collect();
    let message = format!("there is no field '{name}' here; there are {}", names.join(", "));
    CliError::new(Exit::Usage, "unknown_field", message)
        .hint("fields of a task    capsule list --json=help")
}

/// Fields that may stand behind `--json` as a word of their own.
const FIELDS: &[&str] = &[
    "id",
    "uuid",
    "app",
    "name",
    "display_name",
    "revision",
    "status",
    "reason",
    "waiting",
    "owner",
    "uid",
    "queue",
    "priority",
    "labels",
    "lock",
    "key",
    "created_at",
    "due_at",
    "started_at",
    "ended_at",
    "attempt",
    "failures",
    "retries",
    "exit_code",
    "signal",
    "pid",
    "summary",
    "progress",
    "hold",
    "cancelling",
    "schedule",
    "seq",
    "merged_into",
    "merged",
    "existing",
    "payload",
    "note",
    "attempts",
    "result",
    "error",
    "gates",
    "timeline",
    "task",
    "outcome",
    "text",
    "help",
    "params",
];

/// Fields of a task, for `--json=help`.
pub(crate) fn help() -> String {
    let mut names = FIELDS.to_vec();
    names.sort_unstable();
    names.join("\n")
}

/// The word is a list of fields: `id,status`.
pub(crate) fn are_fields(word: &str) -> bool {
    word == "help" || word.split(',').all(|name| FIELDS.contains(&name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_chosen_in_the_order_asked_for() {
        let fields = ["status".to_owned(), "id".to_owned()];
        let value = json!([{"id": 1, "name": "x", "status": "failed"}]);
        assert_eq!(select(&value, &fields).unwrap().to_string(), r#"[{"status":"failed","id":1}]"#);
        let error = select(&value, &["state".to_owned()]).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
    }

    #[test]
    fn unset_is_null() {
        assert_eq!(text(""), Value::Null);
        assert_eq!(maybe_at(None), Value::Null);
        assert_eq!(ms(None), Value::Null);
        assert_eq!(embedded(""), Value::Null);
        assert_eq!(name("STATUS_UNSPECIFIED"), Value::Null);
    }

    #[test]
    fn spans_and_times() {
        assert_eq!(ms(Some(4_100_000)), json!(4100));
        assert_eq!(ms(Some(1_500)), json!(1.5));
        assert_eq!(at(1_000_000), json!("1970-01-01T00:00:01Z"));
        assert_eq!(name("AT_LEAST_ONCE"), json!("at_least_once"));
        assert_eq!(embedded("{\"a\":1}"), json!({"a": 1}));
        assert_eq!(embedded("not json"), json!("not json"));
    }
}
