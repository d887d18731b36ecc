//! `session.data`: one JSON object, saved whole, with a revision so that two writers notice each
//! other. What the SDK expects of it is in its names.

use std::fmt::Write as _;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::sessions::{Session, change};
use super::{AppData, DataError, SESSION_DATA_MAX};

const REVISION: &str = "__cpsl_session_rev";
const CHECKSUM: &str = "__cpsl_session_checksum";
const NONCE: &str = "__cpsl_session_nonce";

/// New data of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Save {
    /// The whole object, JSON.
    pub data: String,
    /// The revision it was made from.
    pub base_revision: i64,
    /// The checksum of that; empty = not said.
    pub base_checksum: String,
    /// Names this save: the same one again changes nothing.
    pub nonce: String,
    /// The checksum of `data`; empty = not said.
    pub checksum: String,
}

/// What became of a save.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Somebody else has saved meanwhile: merge with `data` and try again.
    pub conflict: bool,
    /// The revision that stands.
    pub revision: i64,
    /// Its checksum.
    pub checksum: String,
    /// Its data with the revision and the checksum inside.
    pub data: String,
}

impl AppData {
    /// Saves the data of a session.
    ///
    /// # Errors
    /// There is no such session, the data is no JSON object, or it is too large.
    pub async fn save(&self, app: &str, session: &str, save: Save) -> Result<Saved, DataError> {
        let (app, session, now) = (app.to_owned(), session.to_owned(), self.clock.now().0);
        self.change(move |transaction| {
            change(transaction, &app, &session, |session| session.save(save, now))
        })
        .await
    }
}

impl Session {
    fn save(&mut self, save: Save, now: i64) -> Result<Saved, DataError> {
        if save.data.len() > SESSION_DATA_MAX {
            let length = save.data.len();
            let message =
                format!("the session's data has {length} bytes, the limit is {SESSION_DATA_MAX}");
            return Err(DataError::Invalid(message));
        }
        let data = object(&save.data)?;
        let checksum = if save.checksum.is_empty() { checksum(&data) } else { save.checksum };
        let again = !save.nonce.is_empty() && save.nonce == self.nonce;
        if again || checksum == self.checksum() {
            return Ok(self.saved(false));
        }
        let based = save.base_revision == self.revision
            && (save.base_checksum.is_empty() || save.base_checksum == self.checksum());
        if !based {
            return Ok(self.saved(true));
        }
        self.data = Value::Object(data).to_string();
        self.revision += 1;
        self.checksum = checksum;
        self.nonce = save.nonce;
        self.updated = now;
        Ok(self.saved(false))
    }

    fn checksum(&self) -> String {
        if self.checksum.is_empty() { checksum(&Map::new()) } else { self.checksum.clone() }
    }

    fn saved(&self, conflict: bool) -> Saved {
        let checksum = self.checksum();
        Saved { conflict, revision: self.revision, checksum, data: self.data_json() }
    }

    /// Its data as the SDK reads it: with the revision and the checksum inside.
    pub fn data_json(&self) -> String {
        let mut data = object(&self.data).unwrap_or_default();
        data.insert(REVISION.to_owned(), self.revision.into());
        data.insert(CHECKSUM.to_owned(), self.checksum().into());
        if !self.nonce.is_empty() {
            data.insert(NONCE.to_owned(), self.nonce.clone().into());
        }
        Value::Object(data).to_string()
    }
}

/// A JSON object without the keys that are ours.
fn object(text: &str) -> Result<Map<String, Value>, DataError> {
    let text = if text.is_empty() { "{}" } else { text };
    match serde_json::from_str(text) {
        Ok(Value::Object(mut object)) => {
            for ours in [REVISION, CHECKSUM, NONCE] {
                object.remove(ours);
            }
            Ok(object)
        }
        Ok(_) | Err(_) => {
            Err(DataError::Invalid("the session's data is no JSON object".to_owned()))
        }
    }
}

/// The checksum of a session's data, as the SDK makes it: SHA-256 of the JSON with sorted keys,
/// without spaces, and what could end a script in a web page escaped.
pub fn checksum(data: &Map<String, Value>) -> String {
    let mut text = String::new();
    write_object(data, &mut text);
    let mut sum = "sha256:".to_owned();
    for byte in Sha256::digest(text.as_bytes()) {
        write!(sum, "{byte:02x}").expect("writing to memory does not fail");
    }
    sum
}

fn write_object(object: &Map<String, Value>, into: &mut String) {
    let mut keys: Vec<&String> = object.keys().collect();
    keys.sort_unstable();
    into.push('{');
    for (at, key) in keys.into_iter().enumerate() {
        if at > 0 {
            into.push(',');
        }
        write_text(&Value::String(key.clone()), into);
        into.push(':');
        write_value(object.get(key).unwrap_or(&Value::Null), into);
    }
    into.push('}');
}

fn write_value(value: &Value, into: &mut String) {
    match value {
        Value::Object(object) => write_object(object, into),
        Value::Array(items) => {
            into.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    into.push(',');
                }
                write_value(item, into);
            }
            into.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            write_text(value, into);
        }
    }
}

fn write_text(value: &Value, into: &mut String) {
    for letter in value.to_string().chars() {
        match letter {
            '&' | '<' | '>' | '\u{2028}' | '\u{2029}' => {
                write!(into, "\\u{:04x}", u32::from(letter))
                    .expect("writing to memory does not fail");
            }
            other => into.push(other),
        }
    }
}
