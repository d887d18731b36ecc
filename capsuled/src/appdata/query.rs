//! Filters, updates and orders of documents: a small part of what document databases have. What is
//! not understood is refused, never passed over.

use std::cell::RefCell;
use std::cmp::Ordering;

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use super::{DEPTH_MAX, DataError};

/// The most memory that one pattern may take, in bytes.
const REGEX_MAX: usize = 1 << 20;

/// A document, a filter or an update.
pub(super) type Object = Map<String, Value>;

/// Whether a document is meant.
pub(super) fn matches(document: &Object, filter: &Object) -> Result<bool, DataError> {
    for (field, wanted) in filter {
        let fits = match (field.as_str(), wanted) {
            ("$and", Value::Array(all)) => each(document, all)?.into_iter().all(|fits| fits),
            ("$or", Value::Array(any)) => each(document, any)?.into_iter().any(|fits| fits),
            (operator, _) if operator.starts_with('$') => return Err(unknown("filter", operator)),
            (field, wanted) => field_matches(at(document, field), wanted)?,
        };
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}

fn each(document: &Object, filters: &[Value]) -> Result<Vec<bool>, DataError> {
    let one = |filter: &Value| match filter.as_object() {
        Some(filter) => matches(document, filter),
        None => Err(DataError::Invalid("a part of $and or $or is no object".to_owned())),
    };
    filters.iter().map(one).collect()
}

fn field_matches(found: Option<&Value>, wanted: &Value) -> Result<bool, DataError> {
    let operators = wanted.as_object().filter(|wanted| is_operators(wanted));
    let Some(operators) = operators else { return Ok(equals(found, wanted)) };
    for (operator, operand) in operators {
        let ordered = |fits: fn(Ordering) -> bool| {
            found.and_then(|found| same_kind(found, operand)).is_some_and(fits)
        };
        let listed = || match operand.as_array() {
            Some(list) => Ok(list.iter().any(|one| equals(found, one))),
            None => Err(DataError::Invalid(format!("{operator} wants a list"))),
        };
        let fits = match operator.as_str() {
            "$eq" => equals(found, operand),
            "$ne" => !equals(found, operand),
            "$gt" => ordered(Ordering::is_gt),
            "$gte" => ordered(Ordering::is_ge),
            "$lt" => ordered(Ordering::is_lt),
            "$lte" => ordered(Ordering::is_le),
            "$in" => listed()?,
            "$nin" => !listed()?,
            "$regex" => like(found, operand, operators.get("$options"))?,
            "$options" if operators.contains_key("$regex") => true,
            "$exists" => found.is_some() == operand.as_bool().unwrap_or(true),
            other => return Err(unknown("filter", other)),
        };
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a text, or one of a list, has a part that fits the pattern.
fn like(
    found: Option<&Value>,
    pattern: &Value,
    options: Option<&Value>,
) -> Result<bool, DataError> {
    let options = options.and_then(Value::as_str).unwrap_or_default();
    let pattern = pattern.as_str().unwrap_or_default();
    let regex = compiled(pattern, options)?;
    Ok(match found {
        Some(Value::String(text)) => regex.is_match(text),
        Some(Value::Array(items)) => {
            items.iter().filter_map(Value::as_str).any(|text| regex.is_match(text))
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => false,
    })
}

/// The pattern, compiled once for all documents that a search looks at.
fn compiled(pattern: &str, options: &str) -> Result<Regex, DataError> {
    thread_local! {
        static LAST: RefCell<Option<(String, Regex)>> = const { RefCell::new(None) };
    }
    let name = format!("{options}/{pattern}");
    let known = LAST.with_borrow(|last| {
        last.as_ref().filter(|(known, _)| *known == name).map(|(_, regex)| regex.clone())
    });
    if let Some(regex) = known {
        return Ok(regex);
    }
    let wrong = |why: &dyn std::fmt::Display| DataError::Invalid(format!("$regex: {why}"));
    if let Some(option) = options.chars().find(|option| !"imsx".contains(*option)) {
        return Err(wrong(&format_args!("{option} is none of its options i, m, s and x")));
    }
    let regex = RegexBuilder::new(&unescaped(pattern))
        .case_insensitive(options.contains('i'))
        .multi_line(options.contains('m'))
        .dot_matches_new_line(options.contains('s'))
        .ignore_whitespace(options.contains('x'))
        .size_limit(REGEX_MAX)
        .build()
        .map_err(|error| wrong(&error))?;
    LAST.set(Some((name, regex.clone())));
    Ok(regex)
}

/// Python escapes a space, which needs none and may not have one here.
fn unescaped(pattern: &str) -> String {
    let mut text = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(letter) = chars.next() {
        match (letter, chars.clone().next()) {
            ('\\', Some(' ')) => {}
            ('\\', Some(escaped)) => {
                text.push(letter);
                text.push(escaped);
                chars.next();
            }
            _ => text.push(letter),
        }
    }
    text
}

/// Null stands for a missing field, and a list is also each of its items.
fn equals(found: Option<&Value>, wanted: &Value) -> bool {
    match found {
        None => wanted.is_null(),
        Some(found) if same(found, wanted) => true,
        Some(Value::Array(items)) => items.iter().any(|item| same(item, wanted)),
        Some(_) => false,
    }
}

fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(_), Some(_)) => order(one, other).is_eq(),
        _ => one == other,
    }
}

fn same_kind(one: &Value, other: &Value) -> Option<Ordering> {
    (rank(one) == rank(other)).then(|| order(one, other))
}

fn is_operators(value: &Object) -> bool {
    value.keys().next().is_some_and(|key| key.starts_with('$'))
}

fn unknown(what: &str, operator: &str) -> DataError {
    DataError::Invalid(format!("{operator} is no operator that a {what} has here"))
}

/// The value of a field; `a.b` is `b` of `a`.
fn at<'a>(document: &'a Object, path: &str) -> Option<&'a Value> {
    if let Some(value) = document.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    at(document.get(first)?.as_object()?, rest)
}

/// Two values in their order: null, numbers, texts, objects, lists, truth.
pub(super) fn order(one: &Value, other: &Value) -> Ordering {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            if let (Some(one), Some(other)) = (one.as_i64(), other.as_i64()) {
                return one.cmp(&other);
            }
            one.as_f64().partial_cmp(&other.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Value::String(one), Value::String(other)) => one.cmp(other),
        (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
        _ if rank(one) == rank(other) => one.to_string().cmp(&other.to_string()),
        _ => rank(one).cmp(&rank(other)),
    }
}

const fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Number(_) => 1,
        Value::String(_) => 2,
        Value::Object(_) => 3,
        Value::Array(_) => 4,
        Value::Bool(_) => 5,
    }
}

/// Sorts by fields, each 1 or -1, the first the most significant; ties stay as they are.
pub(super) fn sort(documents: &mut [Object], by: &Object) {
    documents.sort_by(|one, other| {
        for (field, direction) in by {
            let null = Value::Null;
            let (one, other) = (at(one, field).unwrap_or(&null), at(other, field).unwrap_or(&null));
            let ordering = order(one, other);
            let down = direction.as_f64().is_some_and(|direction| direction < 0.0);
            if ordering.is_ne() {
                return if down { ordering.reverse() } else { ordering };
            }
        }
        Ordering::Equal
    });
}

/// Changes a document; `new` when it is about to be inserted. The `_id` never changes.
pub(super) fn update(document: &mut Object, update: &Object, new: bool) -> Result<(), DataError> {
    if !is_operators(update) {
        return set_all(document, update);
    }
    for (operator, fields) in update {
        let Some(fields) = fields.as_object() else {
            return Err(DataError::Invalid(format!("{operator} wants an object of fields")));
        };
        match operator.as_str() {
            "$set" => set_all(document, fields)?,
            "$setOnInsert" if new => set_all(document, fields)?,
            "$setOnInsert" => {}
            "$unset" => {
                for field in fields.keys() {
                    let (holder, last) = place(document, field)?;
                    holder.remove(last);
                }
            }
            "$inc" => each_field(document, fields, increase)?,
            "$push" => each_field(document, fields, push)?,
            other => return Err(unknown("update", other)),
        }
    }
    Ok(())
}

fn set_all(document: &mut Object, fields: &Object) -> Result<(), DataError> {
    for (field, value) in fields {
        if field == "_id" && document.get("_id").is_some_and(|id| id != value) {
            return Err(DataError::Invalid("the _id of a document does not change".to_owned()));
        }
        let (holder, last) = place(document, field)?;
        holder.insert(last.to_owned(), value.clone());
    }
    Ok(())
}

fn each_field(
    document: &mut Object,
    fields: &Object,
    change: fn(&mut Value, &Value) -> Result<(), String>,
) -> Result<(), DataError> {
    for (field, operand) in fields {
        let (holder, last) = place(document, field)?;
        let value = holder.entry(last).or_insert(Value::Null);
        change(value, operand).map_err(|why| DataError::Invalid(format!("{field}: {why}")))?;
    }
    Ok(())
}

fn increase(value: &mut Value, by: &Value) -> Result<(), String> {
    let zero = Value::from(0);
    let old = if value.is_null() { &zero } else { &*value };
    *value = match (old.as_i64(), by.as_i64()) {
        (Some(old), Some(by)) => {
            Value::from(old.checked_add(by).ok_or("the number grows too large")?)
        }
        _ => match (old.as_f64(), by.as_f64()) {
            (Some(old), Some(by)) => Value::from(old + by),
            _ => return Err("$inc wants numbers".to_owned()),
        },
    };
    Ok(())
}

fn push(value: &mut Value, item: &Value) -> Result<(), String> {
    if value.is_null() {
        *value = Value::Array(Vec::new());
    }
    let Some(list) = value.as_array_mut() else {
        return Err("$push wants a list".to_owned());
    };
    match item.as_object().and_then(|item| item.get("$each")) {
        Some(Value::Array(items)) => list.extend(items.iter().cloned()),
        Some(_) => return Err("$each wants a list".to_owned()),
        None => list.push(item.clone()),
    }
    Ok(())
}

/// The object that holds a field, made on the way, and the field's own name.
fn place<'a, 'p>(
    document: &'a mut Object,
    path: &'p str,
) -> Result<(&'a mut Object, &'p str), DataError> {
    if path.bytes().filter(|byte| *byte == b'.').count() >= DEPTH_MAX {
        return Err(DataError::Invalid(format!("a field lies over {DEPTH_MAX} objects deep")));
    }
    walk(document, path)
}

fn walk<'a, 'p>(
    document: &'a mut Object,
    path: &'p str,
) -> Result<(&'a mut Object, &'p str), DataError> {
    let Some((first, rest)) = path.split_once('.') else { return Ok((document, path)) };
    let inner = document.entry(first).or_insert_with(|| Value::Object(Object::new()));
    match inner.as_object_mut() {
        Some(inner) => walk(inner, rest),
        None => Err(DataError::Invalid(format!("{first} is no object, so it has no {rest}"))),
    }
}

/// What an upsert starts from: the fields that the filter wants equal.
pub(super) fn seed(filter: &Object) -> Result<Object, DataError> {
    let mut document = Object::new();
    for (field, wanted) in filter {
        let value = match wanted.as_object().filter(|wanted| is_operators(wanted)) {
            None => Some(wanted),
            Some(operators) => operators.get("$eq"),
        };
        if let Some(value) = value.filter(|_| !field.starts_with('$')) {
            let (holder, last) = place(&mut document, field)?;
            holder.insert(last.to_owned(), value.clone());
        }
    }
    Ok(document)
}
