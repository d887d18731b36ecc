//! A task by its definition: the words behind its name, and the other ways to give parameters.

use capsule_proto::v1::{Call, Param};

use super::program::{folder, read_text};
use crate::args::submit::What;
use crate::args::words;
use crate::commands::Context;
use crate::error::CliError;

/// The message of a call.
pub(super) fn message(
    context: &Context,
    what: &What,
    call: &words::Call,
) -> Result<Call, CliError> {
    let program = &what.program;
    if program.shell || program.env_all || !program.env.is_empty() || program.stdin.is_some() {
        return Err(CliError::usage("--shell, --env, --env-all and --stdin are for programs")
            .hint("a program stands behind --: capsule submit -- COMMAND"));
    }
    Ok(Call {
        app: context.app().unwrap_or_default().to_owned(),
        task: call.task.clone(),
        raw: with_files(&call.raw)?,
        params: params(what)?,
        payload_json: payload(what.arguments.payload.as_deref())?,
        taken: call.taken.clone(),
        cwd: folder(program.cwd.as_deref())?,
    })
}

fn payload(source: Option<&str>) -> Result<String, CliError> {
    let text = match source {
        None => return Ok(String::new()),
        Some("-") => read_text("-")?,
        Some(text) => match text.strip_prefix('@') {
            Some(file) => read_text(file)?,
            None => text.to_owned(),
        },
    };
    match serde_json::from_str(&text) {
        Ok(serde_json::Value::Object(_)) => Ok(text),
        Ok(_) => Err(CliError::usage("--payload: expected a JSON object")),
        Err(error) => Err(CliError::usage(format!("--payload: not JSON: {error}"))),
    }
}

fn params(what: &What) -> Result<Vec<Param>, CliError> {
    let mut params = Vec::new();
    for word in &what.arguments.param {
        let Some((name, value)) = word.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(CliError::usage(format!("-p {word}: expected NAME=TEXT")));
        };
        params.push(Param { name: name.to_owned(), value: value_of(value)?, json: false });
    }
    for word in &what.arguments.param_json {
        let Some((name, value)) = word.split_once(":=").filter(|(name, _)| !name.is_empty()) else {
            return Err(CliError::usage(format!("-P {word}: expected NAME:=JSON")));
        };
        let value = value_of(value)?;
        if let Err(error) = serde_json::from_str::<serde_json::Value>(&value) {
            let message = format!("-P {name}: not JSON: {error}; text goes by -p {name}=TEXT");
            return Err(CliError::usage(message));
        }
        params.push(Param { name: name.to_owned(), value, json: true });
    }
    Ok(params)
}

/// `@file` is the text of the file, `@-` that of stdin; `@@x` is `@x`.
fn value_of(value: &str) -> Result<String, CliError> {
    match value.strip_prefix('@') {
        None => Ok(value.to_owned()),
        Some(escaped) if escaped.starts_with('@') => Ok(escaped.to_owned()),
        Some(file) => read_text(file).map_err(|error| {
            let message = format!("{error}; for the text '@{file}' itself write '@@{file}'");
            CliError::new(error.exit(), "unreadable", message)
        }),
    }
}

/// The words with files read. Text of a file is joined to its flag, so that it cannot pass for one.
fn with_files(raw: &[String]) -> Result<Vec<String>, CliError> {
    let mut words: Vec<String> = Vec::with_capacity(raw.len());
    for word in raw {
        if let Some((flag, value)) = word.split_once('=').filter(|_| word.starts_with("--")) {
            words.push(format!("{flag}={}", value_of(value)?));
            continue;
        }
        if !word.starts_with('@') {
            words.push(word.clone());
            continue;
        }
        let value = value_of(word)?;
        match words.last_mut() {
            Some(flag) if flag.starts_with("--") && !flag.contains('=') && flag.len() > 2 => {
                flag.push('=');
                flag.push_str(&value);
            }
            _ => words.push(value),
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> Vec<String> {
        let raw: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        with_files(&raw).unwrap()
    }

    #[test]
    fn files_are_read_and_joined_to_their_flag() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("body.txt");
        std::fs::write(&file, "--- text").unwrap();
        let at = format!("@{}", file.display());
        assert_eq!(words(&["--body", &at]), ["--body=--- text"]);
        assert_eq!(words(&[&format!("--body={at}")]), ["--body=--- text"]);
    }

    #[test]
    fn two_ats_are_one() {
        assert_eq!(
            words(&["--user", "@@acme", "--x=@@y", "plain"]),
            ["--user=@acme", "--x=@y", "plain"]
        );
    }

    #[test]
    fn a_missing_file_says_how_to_mean_the_text() {
        let error = value_of("@nowhere/at/all").unwrap_err();
        assert_eq!(error.exit().code(), 2);
        assert!(error.to_string().starts_with("cannot read nowhere/at/all"), "{error}");
    }

    #[test]
    fn a_payload_is_an_object() {
        assert_eq!(payload(Some("{\"a\":1}")).unwrap(), "{\"a\":1}");
        assert!(payload(Some("[1]")).is_err());
        assert!(payload(Some("{")).is_err());
        assert_eq!(payload(None).unwrap(), "");
    }
}
