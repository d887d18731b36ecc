//! `{param}` in the words of a command.

use serde_json::{Map, Value};

/// A command whose words may name parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    words: Vec<Vec<Piece>>,
    written: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Param(String),
}

impl CommandLine {
    /// Reads the words; `{{` and `}}` stand for braces. Braces around anything but a name are
    /// left as they are, so that shell and JSON text need no escapes.
    pub fn new(words: Vec<String>) -> Self {
        Self { words: words.iter().map(|word| pieces(word)).collect(), written: words }
    }

    /// As written.
    pub fn written(&self) -> &[String] {
        &self.written
    }

    /// The parameters it names.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.words.iter().flatten().filter_map(|piece| match piece {
            Piece::Param(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The words with these arguments. A word that is nothing but a parameter becomes as many
    /// words as a list has, and none when there is no value.
    pub fn with(&self, arguments: &Map<String, Value>) -> Vec<String> {
        let mut words = Vec::with_capacity(self.words.len());
        for pieces in &self.words {
            if let [Piece::Param(name)] = pieces.as_slice() {
                match arguments.get(name) {
                    None | Some(Value::Null) => {}
                    Some(Value::Array(items)) => words.extend(items.iter().map(text_of)),
                    Some(value) => words.push(text_of(value)),
                }
                continue;
            }
            let word = pieces.iter().map(|piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Param(name) => arguments.get(name).map(text_of).unwrap_or_default(),
            });
            words.push(word.collect());
        }
        words
    }
}

/// A value as a program wants it in its arguments: text bare, all else as JSON.
pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn pieces(word: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = word;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("{{") {
            text.push('{');
            rest = after;
        } else if let Some(after) = rest.strip_prefix("}}") {
            text.push('}');
            rest = after;
        } else if let Some((name, after)) = named(rest) {
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(Piece::Param(name.to_owned()));
            rest = after;
        } else {
            text.push(c);
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
    }
    if !text.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(text));
    }
    pieces
}

fn named(text: &str) -> Option<(&str, &str)> {
    let (name, after) = text.strip_prefix('{')?.split_once('}')?;
    let starts = name.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
    let fits = starts && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    fits.then_some((name, after))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn words(word: &str, arguments: &Value) -> Vec<String> {
        let command = CommandLine::new(vec![word.to_owned()]);
        command.with(arguments.as_object().unwrap())
    }

    #[test]
    fn parameters_become_words() {
        let arguments = json!({"a": "x y", "n": 5, "l": ["p", "q"], "e": [], "b": true, "z": null});
        for (word, expected) in [
            ("{a}", vec!["x y"]),
            ("--a={a}", vec!["--a=x y"]),
            ("{n}{b}", vec!["5true"]),
            ("{l}", vec!["p", "q"]),
            ("-l{l}", vec![r#"-l["p","q"]"#]),
            ("{e}", vec![]),
            ("{z}", vec![]),
            ("z={z}", vec!["z="]),
            ("{{a}}", vec!["{a}"]),
            ("${HOME} {1..3} { a }", vec!["$ {1..3} { a }"]),
            ("", vec![""]),
        ] {
            assert_eq!(words(word, &arguments), expected, "{word}");
        }
        let command = CommandLine::new(vec!["x".into(), "{a}-{b}".into()]);
        assert_eq!(command.params().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(command.written(), ["x", "{a}-{b}"]);
    }
}
