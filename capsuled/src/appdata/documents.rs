//! Documents of collections. The store of keys and values and the settings of an app are
//! collections too.

use std::collections::BTreeSet;

use redb::{ReadableTable as _, TableDefinition, WriteTransaction};
use serde_json::Value;

use super::query::{self, Object};
use super::state::checksum;
use super::{ANSWER_MAX, AppData, DEPTH_MAX, DOCUMENT_MAX, DataError, INSERT_MAX, failed, name};

pub(super) const DOCUMENTS: TableDefinition<'_, (&str, &str, &str), &[u8]> =
    TableDefinition::new("documents");

/// A collection of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The app, or its own name for what runs under `serve`.
    pub app: String,
    /// The collection.
    pub collection: String,
}

/// What to find, and how much of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Find {
    /// What a document must be like.
    pub filter: Object,
    /// Fields, each 1 or -1; empty = as inserted.
    pub sort: Object,
    /// How many to pass over.
    pub skip: usize,
    /// The most; 0 = all.
    pub limit: usize,
}

impl AppData {
    /// Adds documents and gives their `_id`s. All of them or none.
    ///
    /// # Errors
    /// An `_id` is there already, or a bound is passed.
    pub async fn insert(
        &self,
        place: Place,
        documents: Vec<Object>,
    ) -> Result<Vec<String>, DataError> {
        place.check()?;
        if documents.len() > INSERT_MAX {
            let message =
                format!("{} documents at once, the limit is {INSERT_MAX}", documents.len());
            return Err(DataError::Invalid(message));
        }
        let stamp = self.clock.now().0;
        self.change(move |transaction| {
            let mut rows = Vec::with_capacity(documents.len());
            let mut next = next_id(transaction, &place, stamp)?;
            let mut given = BTreeSet::new();
            let table = transaction.open_table(DOCUMENTS).map_err(failed)?;
            for mut document in documents {
                let id = id_of(&mut document, &mut next);
                name("the _id", &id)?;
                let taken = !given.insert(id.clone());
                if taken || table.get(place.key(&id)).map_err(failed)?.is_some() {
                    return Err(DataError::Exists(format!("there is a document with _id {id}")));
                }
                rows.push((id, encode(&document)?));
            }
            drop(table);
            let mut table = transaction.open_table(DOCUMENTS).map_err(failed)?;
            for (id, bytes) in &rows {
                table.insert(place.key(id), bytes.as_slice()).map_err(failed)?;
            }
            Ok(rows.into_iter().map(|(id, _)| id).collect())
        })
        .await
    }

    /// The documents that match, as JSON.
    ///
    /// # Errors
    /// The filter makes no sense, or the answer is too large.
    pub async fn find(&self, place: Place, find: Find) -> Result<Vec<Vec<u8>>, DataError> {
        place.check()?;
        self.look(move |transaction| {
            let stop = match (find.sort.is_empty(), find.limit) {
                (true, limit) if limit > 0 => find.skip.saturating_add(limit),
                _ => usize::MAX,
            };
            let mut found = search(transaction, &place, &find.filter, stop)?;
            if !find.sort.is_empty() {
                query::sort(&mut found, &find.sort);
            }
            let limit = if find.limit == 0 { usize::MAX } else { find.limit };
            let mut size = 0;
            let mut page = Vec::new();
            for document in found.into_iter().skip(find.skip).take(limit) {
                let bytes = encode(&document)?;
                size += bytes.len();
                if size > ANSWER_MAX {
                    let message =
                        format!("the answer has more than {ANSWER_MAX} bytes, give a limit");
                    return Err(DataError::Full(message));
                }
                page.push(bytes);
            }
            Ok(page)
        })
        .await
    }

    /// How many documents match.
    ///
    /// # Errors
    /// The filter makes no sense.
    pub async fn count(&self, place: Place, filter: Object) -> Result<u64, DataError> {
        place.check()?;
        self.look(move |transaction| {
            Ok(search(transaction, &place, &filter, usize::MAX)?.len() as u64)
        })
        .await
    }

    /// Changes the first document that matches; with `upsert` makes one when none does. Gives how
    /// many matched and how many are other than before.
    ///
    /// # Errors
    /// The filter or the update makes no sense, or a bound is passed.
    pub async fn update(
        &self,
        place: Place,
        filter: Object,
        update: Object,
        upsert: bool,
    ) -> Result<(u64, u64), DataError> {
        place.check()?;
        let stamp = self.clock.now().0;
        self.change(move |transaction| {
            let found = search(transaction, &place, &filter, 1)?.pop();
            let (mut document, new) = match found {
                Some(document) => (document, false),
                // The SDK sets a setting with a plain update, and means that it is there then.
                None if upsert || place.is_setting(&filter) => {
                    let mut document = query::seed(&filter)?;
                    if let Some(id) = place.own_id(&filter) {
                        document.insert("_id".to_owned(), Value::String(id));
                    }
                    (document, true)
                }
                None => return Ok((0, 0)),
            };
            let before = document.clone();
            query::update(&mut document, &update, new)?;
            let id = match document.get("_id").and_then(Value::as_str) {
                Some(id) => id.to_owned(),
                None => id_of(&mut document, &mut next_id(transaction, &place, stamp)?),
            };
            name("the _id", &id)?;
            if document != before {
                let bytes = encode(&document)?;
                let mut table = transaction.open_table(DOCUMENTS).map_err(failed)?;
                table.insert(place.key(&id), bytes.as_slice()).map_err(failed)?;
            }
            Ok((u64::from(!new), u64::from(new || document != before)))
        })
        .await
    }

    /// Takes away the first document that matches, or all of them. Gives how many.
    ///
    /// # Errors
    /// The filter makes no sense.
    pub async fn delete(&self, place: Place, filter: Object, all: bool) -> Result<u64, DataError> {
        place.check()?;
        self.change(move |transaction| {
            let most = if all { usize::MAX } else { 1 };
            let found = search(transaction, &place, &filter, most)?;
            let mut table = transaction.open_table(DOCUMENTS).map_err(failed)?;
            for document in &found {
                let id = document.get("_id").and_then(Value::as_str).unwrap_or_default();
                table.remove(place.key(id)).map_err(failed)?;
            }
            Ok(found.len() as u64)
        })
        .await
    }
}

impl Place {
    fn key<'a>(&'a self, id: &'a str) -> (&'a str, &'a str, &'a str) {
        (&self.app, &self.collection, id)
    }

    /// The `_id` of the one document that a filter for a key or a setting means. A key of the
    /// whole app is another one than the same key of a session, which the filter alone could not
    /// tell; and it is found without a search.
    fn own_id(&self, filter: &Object) -> Option<String> {
        let field = match self.collection.as_str() {
            "_kv" => "_key",
            "_settings" => "_setting",
            _ => return None,
        };
        let plain = filter.values().all(|value| !value.is_object() && !value.is_array());
        let own = plain && filter.contains_key(field) && !filter.contains_key("_id");
        own.then(|| checksum(filter))
    }

    fn is_setting(&self, filter: &Object) -> bool {
        self.collection == "_settings" && self.own_id(filter).is_some()
    }

    fn check(&self) -> Result<(), DataError> {
        name("the app", &self.app)?;
        name("the collection", &self.collection)?;
        if self.collection.is_empty() {
            return Err(DataError::Invalid("the collection has no name".to_owned()));
        }
        Ok(())
    }
}

/// Documents that match, in the order of their `_id`s, `most` at the most.
fn search(
    transaction: &WriteTransaction,
    place: &Place,
    filter: &Object,
    most: usize,
) -> Result<Vec<Object>, DataError> {
    let table = transaction.open_table(DOCUMENTS).map_err(failed)?;
    let mut found = Vec::new();
    let named = filter.get("_id").and_then(Value::as_str).map(str::to_owned);
    if let Some(id) = named.or_else(|| place.own_id(filter)) {
        if let Some(bytes) = table.get(place.key(&id)).map_err(failed)? {
            let document = decode(bytes.value())?;
            if query::matches(&document, filter)? {
                found.push(document);
            }
        }
        return Ok(found);
    }
    for row in table.range(place.key("")..).map_err(failed)? {
        let (key, bytes) = row.map_err(failed)?;
        let (app, collection, _) = key.value();
        if found.len() >= most || app != place.app || collection != place.collection {
            break;
        }
        let document = decode(bytes.value())?;
        if query::matches(&document, filter)? {
            found.push(document);
        }
    }
    Ok(found)
}

/// Digits of an `_id` that is given here.
const ID_LENGTH: usize = 24;

/// The number of the next document: microseconds, but always above the last one, so that `_id`s
/// that are given here keep the order of insertion.
fn next_id(transaction: &WriteTransaction, place: &Place, stamp: i64) -> Result<u128, DataError> {
    let stamp = u128::try_from(stamp).unwrap_or(0) << 20;
    let table = transaction.open_table(DOCUMENTS).map_err(failed)?;
    // Every id that is given here stands before this one, and hardly any other does.
    let end = place.key("g");
    let last = table.range(place.key("")..end).map_err(failed)?.next_back();
    let last = match last {
        Some(row) => {
            let (key, _) = row.map_err(failed)?;
            let id = key.value().2.to_owned();
            Some(id).filter(|id| id.len() == ID_LENGTH)
        }
        None => None,
    };
    let last = last.and_then(|id| u128::from_str_radix(&id, 16).ok());
    Ok(last.map_or(stamp, |last| stamp.max(last + 1)))
}

/// The `_id` of a document, which gets one when it has none.
fn id_of(document: &mut Object, next: &mut u128) -> String {
    match document.get("_id") {
        Some(Value::String(id)) if !id.is_empty() => return id.clone(),
        Some(Value::Null | Value::String(_)) | None => {}
        Some(other) => {
            let id = other.to_string();
            document.insert("_id".to_owned(), Value::String(id.clone()));
            return id;
        }
    }
    let id = format!("{next:024x}");
    *next += 1;
    document.insert("_id".to_owned(), Value::String(id.clone()));
    id
}

fn encode(document: &Object) -> Result<Vec<u8>, DataError> {
    if document.values().any(|value| deeper(value, DEPTH_MAX - 1)) {
        let message = format!("a document is nested over {DEPTH_MAX} deep");
        return Err(DataError::Invalid(message));
    }
    let bytes =
        serde_json::to_vec(document).map_err(|error| DataError::Failed(error.to_string()))?;
    if bytes.len() > DOCUMENT_MAX {
        let message = format!("a document has {} bytes, the limit is {DOCUMENT_MAX}", bytes.len());
        return Err(DataError::Invalid(message));
    }
    Ok(bytes)
}

/// Whether objects and lists lie in one another more than `levels` deep.
fn deeper(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(list) => levels == 0 || list.iter().any(|one| deeper(one, levels - 1)),
        Value::Object(object) => levels == 0 || object.values().any(|one| deeper(one, levels - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn decode(bytes: &[u8]) -> Result<Object, DataError> {
    serde_json::from_slice(bytes)
        .map_err(|error| DataError::Failed(format!("reading a document: {error}")))
}
