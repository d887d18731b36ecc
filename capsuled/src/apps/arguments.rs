//! From what was typed to the arguments of a call: checked against the definition, defaults
//! filled in.

use std::path::Path;

use capsule_core::time::Span;
use serde_json::{Map, Value};

use super::{Definition, Param, ParamKind};
use crate::text::{bounded, distance};

/// What was given on submit. Later sources win: payload, then params, then flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// A JSON object; empty = none.
    pub payload: String,
    /// `-p name=value` and `-P name:=json`.
    pub params: Vec<(String, String, bool)>,
    /// The words after the task's name.
    pub raw: Vec<String>,
    /// Against which relative paths are made absolute.
    pub cwd: String,
}

/// Why arguments do not fit. Nothing is queued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// The payload is no JSON object.
    #[error("the payload is not a JSON object: {0}")]
    Payload(String),
    /// No parameter has this name.
    #[error("{task} has no parameter {name}{}", hint(near.as_deref()))]
    Unknown {
        /// The task.
        task: String,
        /// As given.
        name: String,
        /// One that is spelled like it.
        near: Option<String>,
    },
    /// A required parameter is not given.
    #[error("{task} needs --{}", flag(name))]
    Missing {
        /// The task.
        task: String,
        /// Its name.
        name: String,
    },
    /// A flag at the end of the words, without its value.
    #[error("--{} needs a value: {wants}", flag(name))]
    NoValue {
        /// Its name.
        name: String,
        /// What fits.
        wants: String,
    },
    /// A value of the wrong type.
    #[error("--{} wants {wants}, not {value:?}", flag(name))]
    Type {
        /// Its name.
        name: String,
        /// What fits.
        wants: String,
        /// As given.
        value: String,
    },
    /// A word that belongs to no flag.
    #[error("{0:?} belongs to no flag; parameters are given as --name value")]
    Stray(String),
    /// A flag given twice that takes one value.
    #[error("--{} is given twice", flag(_0))]
    Twice(String),
}

fn hint(near: Option<&str>) -> String {
    near.map(|near| format!("; did you mean --{}?", flag(near))).unwrap_or_default()
}

fn flag(name: &str) -> String {
    name.replace('_', "-")
}

impl Definition {
    /// Checks what was given and fills in defaults.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn arguments(&self, given: &Given) -> Result<Map<String, Value>, ArgumentError> {
        let mut arguments = self.payload(&given.payload)?;
        for (name, value, is_json) in &given.params {
            let param = match self.param(name) {
                Ok(param) => param,
                Err(error) => {
                    let name = self.other(name, error)?;
                    arguments
                        .insert(name, if *is_json { other_json(value)? } else { loose(value) });
                    continue;
                }
            };
            let value = if *is_json {
                let parsed = serde_json::from_str(value).map_err(|_| param.wrong(value))?;
                param.check(&parsed, &given.cwd)?
            } else {
                param.read(value, &given.cwd)?
            };
            arguments.insert(param.name.clone(), value);
        }
        self.flags(&given.raw, &given.cwd, &mut arguments)?;
        self.complete(arguments)
    }

    /// Checks arguments that fitted an earlier revision.
    ///
    /// # Errors
    /// The first thing that no longer fits.
    pub fn refit(&self, arguments: &Map<String, Value>) -> Result<(), ArgumentError> {
        for (name, value) in arguments {
            match self.param(name) {
                Ok(param) if value.is_null() && !param.required => {}
                Ok(param) => drop(param.check(value, "/")?),
                Err(error) => drop(self.other(name, error)?),
            }
        }
        self.complete(arguments.clone()).map(drop)
    }

    fn payload(&self, payload: &str) -> Result<Map<String, Value>, ArgumentError> {
        let mut arguments = Map::new();
        if payload.trim().is_empty() {
            return Ok(arguments);
        }
        let parsed: Value =
            serde_json::from_str(payload).map_err(|e| ArgumentError::Payload(e.to_string()))?;
        let Value::Object(object) = parsed else {
            return Err(ArgumentError::Payload("it is another kind of JSON".to_owned()));
        };
        for (name, value) in object {
            let param = match self.param(&name) {
                Ok(param) => param,
                Err(error) => {
                    arguments.insert(self.other(&name, error)?, value);
                    continue;
                }
            };
            if value.is_null() && !param.required {
                continue;
            }
            arguments.insert(param.name.clone(), param.check(&value, "/")?);
        }
        Ok(arguments)
    }

    fn complete(
        &self,
        mut arguments: Map<String, Value>,
    ) -> Result<Map<String, Value>, ArgumentError> {
        let mut complete = Map::new();
        for param in &self.params {
            // Of a program, what is not given is not there; of Python, its own default holds then.
            let default = || param.default.clone().filter(|default| !default.is_null());
            match arguments.remove(&param.name).or_else(default) {
                Some(value) => {
                    complete.insert(param.name.clone(), value);
                }
                None if param.required => {
                    let (task, name) = (self.name.clone(), param.name.clone());
                    return Err(ArgumentError::Missing { task, name });
                }
                None => {}
            }
        }
        if self.more_params {
            complete.extend(arguments);
        }
        Ok(complete)
    }

    /// A name that no parameter has, if any other is taken; as Python spells it.
    fn other(&self, name: &str, unknown: ArgumentError) -> Result<String, ArgumentError> {
        let name = name.replace('-', "_");
        let starts = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
        let fits = starts && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        if self.more_params && fits { Ok(name) } else { Err(unknown) }
    }

    fn flags(
        &self,
        raw: &[String],
        cwd: &str,
        arguments: &mut Map<String, Value>,
    ) -> Result<(), ArgumentError> {
        let mut words = raw.iter();
        let mut seen: Vec<&str> = Vec::new();
        let mut others: Vec<String> = Vec::new();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--").filter(|flag| !flag.is_empty()) else {
                return Err(ArgumentError::Stray(word.clone()));
            };
            let (name, inline) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let (param, negated) = match self.flag_param(name) {
                Ok(found) => found,
                Err(error) => {
                    let name = self.other(name, error)?;
                    if arguments.contains_key(&name) && others.contains(&name) {
                        return Err(ArgumentError::Twice(name));
                    }
                    let text = inline.or_else(|| words.next().cloned()).ok_or_else(|| {
                        let (name, wants) = (name.clone(), "text or JSON".to_owned());
                        ArgumentError::NoValue { name, wants }
                    })?;
                    arguments.insert(name.clone(), loose(&text));
                    others.push(name);
                    continue;
                }
            };
            let value = match (param.kind, inline) {
                (ParamKind::Bool, None) => Value::Bool(!negated),
                (_, Some(_)) if negated => return Err(param.wrong(word)),
                (_, Some(text)) => param.read(&text, cwd)?,
                (_, None) => {
                    let text = words.next().ok_or_else(|| {
                        let (name, wants) = (param.name.clone(), param.wants());
                        ArgumentError::NoValue { name, wants }
                    })?;
                    param.read(text, cwd)?
                }
            };
            let again = seen.contains(&param.name.as_str());
            seen.push(&param.name);
            match (arguments.get_mut(&param.name), value) {
                (Some(Value::Array(items)), Value::Array(more)) if again => items.extend(more),
                (_, _) if again => return Err(ArgumentError::Twice(param.name.clone())),
                (_, value) => {
                    arguments.insert(param.name.clone(), value);
                }
            }
        }
        Ok(())
    }

    fn flag_param(&self, name: &str) -> Result<(&Param, bool), ArgumentError> {
        match self.param(name) {
            Ok(param) => Ok((param, false)),
            Err(error) => {
                let positive = name.strip_prefix("no-").and_then(|name| self.param(name).ok());
                match positive.filter(|param| param.kind == ParamKind::Bool) {
                    Some(param) => Ok((param, true)),
                    None => Err(error),
                }
            }
        }
    }

    fn param(&self, name: &str) -> Result<&Param, ArgumentError> {
        let wanted = name.replace('-', "_");
        let fits = |param: &&Param| param.name == name || param.name.replace('-', "_") == wanted;
        self.params.iter().find(fits).ok_or_else(|| {
            let near = self
                .params
                .iter()
                .map(|param| (distance(&param.name, &wanted), &param.name))
                .min()
                .filter(|(distance, _)| *distance <= 2)
                .map(|(_, name)| name.clone());
            ArgumentError::Unknown { task: self.name.clone(), name: name.to_owned(), near }
        })
    }
}

impl Param {
    /// What fits, for people.
    pub fn wants(&self) -> String {
        if !self.choices.is_empty() {
            return format!("one of {}", self.choices.join(", "));
        }
        match self.kind {
            ParamKind::Str => "a text",
            ParamKind::Int => "a whole number",
            ParamKind::Float => "a number",
            ParamKind::Bool => "true or false",
            ParamKind::List => "a text (again for more)",
            ParamKind::Json if self.loose => "text or JSON",
            ParamKind::Json => "JSON",
            ParamKind::Path => "a path",
            ParamKind::Datetime => "a time as 2026-12-01T09:00:00Z",
            ParamKind::Duration => "a duration as 90s or 5m",
        }
        .to_owned()
    }

    fn wrong(&self, value: &str) -> ArgumentError {
        let value = bounded(value, 80);
        ArgumentError::Type { name: self.name.clone(), wants: self.wants(), value }
    }

    /// Reads a value from text.
    fn read(&self, text: &str, cwd: &str) -> Result<Value, ArgumentError> {
        let wrong = || self.wrong(text);
        let value = match self.kind {
            ParamKind::Str | ParamKind::Path | ParamKind::Datetime | ParamKind::Duration => {
                Value::String(text.to_owned())
            }
            ParamKind::Int => Value::from(text.parse::<i64>().map_err(|_| wrong())?),
            ParamKind::Float => {
                let number: f64 = text.parse().map_err(|_| wrong())?;
                serde_json::Number::from_f64(number).map(Value::Number).ok_or_else(wrong)?
            }
            ParamKind::Bool => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Value::Bool(true),
                "false" | "no" | "off" | "0" => Value::Bool(false),
                _ => return Err(wrong()),
            },
            ParamKind::List => match serde_json::from_str(text) {
                Ok(Value::Array(items)) => Value::Array(items),
                Ok(_) | Err(_) => Value::Array(vec![Value::String(text.to_owned())]),
            },
            ParamKind::Json if self.loose => loose(text),
            ParamKind::Json => serde_json::from_str(text).map_err(|_| wrong())?,
        };
        self.check(&value, cwd)
    }

    /// Checks a value and brings it into its one form.
    pub(super) fn check(&self, value: &Value, cwd: &str) -> Result<Value, ArgumentError> {
        let wrong = || self.wrong(&value.to_string());
        let text = || value.as_str().ok_or_else(wrong);
        let checked = match self.kind {
            ParamKind::Str => Value::String(text()?.to_owned()),
            ParamKind::Int => Value::from(value.as_i64().ok_or_else(wrong)?),
            ParamKind::Float if value.is_number() => value.clone(),
            ParamKind::Bool if value.is_boolean() => value.clone(),
            ParamKind::List if value.is_array() => value.clone(),
            ParamKind::Float | ParamKind::Bool | ParamKind::List => return Err(wrong()),
            ParamKind::Json => value.clone(),
            ParamKind::Path => {
                let path = text()?;
                let absolute = Path::new(cwd).join(path);
                let keep = path.is_empty() || cwd.is_empty();
                let path = if keep { path.to_owned() } else { absolute.display().to_string() };
                Value::String(path)
            }
            ParamKind::Datetime => Value::String(instant(text()?).ok_or_else(wrong)?),
            ParamKind::Duration => {
                let span = Span::parse(text()?).map_err(|_| wrong())?;
                Value::String(span.to_string())
            }
        };
        let listed = |value: &Value| self.choices.contains(&super::command::text_of(value));
        let fits = match &checked {
            _ if self.choices.is_empty() => true,
            Value::Array(items) => items.iter().all(listed),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Object(_) => listed(&checked),
        };
        if fits { Ok(checked) } else { Err(wrong()) }
    }
}

/// JSON, or text when it is none.
fn loose(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

fn other_json(text: &str) -> Result<Value, ArgumentError> {
    serde_json::from_str(text).map_err(|error| ArgumentError::Payload(error.to_string()))
}

/// An instant in RFC 3339; a time without a zone is UTC.
fn instant(text: &str) -> Option<String> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some(at.to_string());
    }
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().to_string())
}
