//! The only place that prints. Data goes to stdout, talk goes to stderr.
//!
//! Owns colours, width, formats and escaping; it knows nothing of the daemon. Whatever a task wrote
//! passes through [`escape`] before it reaches a terminal.

pub(crate) mod color;
pub(crate) mod error;
pub(crate) mod escape;
pub(crate) mod json;
pub(crate) mod live;
pub(crate) mod shape;
pub(crate) mod table;
pub(crate) mod task;
pub(crate) mod time;

use std::io::{self, IsTerminal as _, Write as _};

use anstyle::Style;
use jiff::Timestamp;
use serde_json::Value;

use crate::args::{Format, Globals};
use crate::error::{CliError, Exit};
use table::Table;
use time::Times;

/// How this run of the command prints.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about the terminal")]
#[derive(Debug, Clone)]
pub(crate) struct Ui {
    pub(crate) format: Format,
    /// Of `--json FIELDS`; none = all.
    pub(crate) fields: Vec<String>,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
    /// Stdout is a terminal.
    pub(crate) tty: bool,
    /// Stderr is a terminal.
    pub(crate) talk_tty: bool,
    pub(crate) colored: bool,
    pub(crate) times: Times,
    /// Columns of the terminal; none off a terminal, where nothing is cut.
    pub(crate) width: Option<usize>,
}

/// Things to print in any format.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) table: Table,
    pub(crate) json: Vec<Value>,
    pub(crate) ids: Vec<String>,
}

impl Ui {
    pub(crate) fn new(globals: &Globals) -> Self {
        let (tty, talk_tty) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        color::choose(globals.color);
        let json = globals.json.as_deref();
        let format = globals.format.unwrap_or(Format::Table);
        let format = match json {
            Some(_) if format != Format::Ndjson => Format::Json,
            Some(_) | None => format,
        };
        let fields = json.unwrap_or_default().split(',').filter(|name| !name.is_empty());
        Self {
            format,
            fields: fields.map(str::to_owned).collect(),
            quiet: globals.quiet,
            verbose: globals.verbose > 0,
            tty,
            talk_tty,
            colored: color::on_stdout(),
            times: Times::new(globals.time, globals.utc, Timestamp::now()),
            width: if tty { columns() } else { None },
        }
    }

    /// The format is JSON or NDJSON.
    pub(crate) const fn is_json(&self) -> bool {
        matches!(self.format, Format::Json | Format::Ndjson)
    }

    /// Tells people something that is not data; silent under `--quiet`.
    pub(crate) fn talk(&self, text: &str) {
        if !self.quiet {
            warn(text);
        }
    }

    /// Prints one JSON value: pretty on a terminal, with the chosen fields only.
    pub(crate) fn value(&self, value: &Value) -> Result<(), CliError> {
        let value = json::select(value, &self.fields)?;
        if self.format == Format::Ndjson || !self.tty {
            return self.say(&value.to_string());
        }
        self.say(&format!("{value:#}"))
    }

    /// Prints one object of a stream on a line of its own.
    pub(crate) fn event(&self, value: &Value) -> Result<(), CliError> {
        self.say(&json::select(value, &self.fields)?.to_string())
    }

    /// Prints a list in the format asked for.
    pub(crate) fn listing(&self, listing: Listing) -> Result<(), CliError> {
        match self.format {
            Format::Json => self.value(&Value::Array(listing.json)),
            Format::Ndjson => listing.json.iter().try_for_each(|value| self.event(value)),
            Format::Id => self.lines(&listing.ids),
            Format::Table if self.quiet => self.lines(&listing.ids),
            Format::Table => self.block(&listing.table.render(self.width, self.colored)),
            Format::Tsv => self.block(&listing.table.tsv()),
        }
    }

    fn lines(&self, lines: &[String]) -> Result<(), CliError> {
        let mut text = String::new();
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        self.block(&text)
    }

    /// Prints text that brings its own line ends.
    pub(crate) fn block(&self, text: &str) -> Result<(), CliError> {
        self.raw(text.as_bytes())
    }

    /// Text in a style, when stdout has colours.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        if self.colored { color::paint(style, text) } else { text.to_owned() }
    }

    /// Asks on the terminal; without one, or with `--no-input`, it is an error.
    pub(crate) fn confirm(&self, globals: &Globals, question: &str) -> Result<(), CliError> {
        if globals.yes {
            return Ok(());
        }
        let silent = globals.no_input || std::env::var_os("CAPSULE_NO_INPUT").is_some();
        if silent || !io::stdin().is_terminal() || !self.talk_tty {
            let message = format!("{question} nobody can be asked");
            return Err(CliError::new(Exit::Declined, "not_confirmed", message)
                .hint(format!("say yes beforehand    {} --yes", task::this_command())));
        }
        write!(io::stderr().lock(), "{question} Continue? [y/N] ")?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(CliError::new(Exit::Declined, "declined", "nothing was done")),
        }
    }
}

#[expect(clippy::unused_self, reason = "whoever prints holds the Ui, nothing prints by the way")]
impl Ui {
    /// Prints one line of data.
    pub(crate) fn say(&self, text: &str) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")?;
        Ok(out.flush()?)
    }

    /// Prints bytes of data as they are.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        Ok(out.flush()?)
    }

    /// Prints bytes on stderr as they are.
    pub(crate) fn raw_talk(&self, bytes: &[u8]) -> Result<(), CliError> {
        Ok(io::stderr().lock().write_all(bytes)?)
    }
}

/// Writes a line to stderr; nobody is left to tell when that fails.
pub(crate) fn warn(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Columns of the terminal: what the user says, else what it says itself.
pub(crate) fn columns() -> Option<usize> {
    if let Some(columns) = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()) {
        return Some(columns);
    }
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
}

/// Rows of the terminal.
pub(crate) fn rows() -> Option<usize> {
    terminal_size::terminal_size().map(|(_, height)| usize::from(height.0))
}
