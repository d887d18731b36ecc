//! What the daemon says about itself: log lines, and the last words of a failure.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use crate::store::StoreError;
use crate::store::archive::ArchiveError;

/// Log lines on stderr: text on a terminal, JSON elsewhere; `CAPSULE_LOG` filters them.
pub fn start() {
    let filter = EnvFilter::try_from_env("CAPSULE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        lines.with_target(false).init();
    } else {
        lines.json().flatten_event(true).init();
    }
}

/// Exit code of a store whose data cannot be used (sysexits.h: `EX_DATAERR`).
const EXIT_STORE: u8 = 65;

/// Prints an error with its causes and its hint, and gives the exit code.
pub fn explain(error: &anyhow::Error) -> ExitCode {
    let hint = error.downcast_ref::<Hint>();
    let causes: Vec<String> = error
        .chain()
        .map(ToString::to_string)
        .filter(|cause| hint.is_none_or(|hint| hint.0 != *cause))
        .collect();
    let mut text = format!("error: {}\n", causes.join(": "));
    if let Some(Hint(hint)) = hint {
        text.push_str("  hint: ");
        text.push_str(hint);
        text.push('\n');
    }
    // Nobody may be there to read it.
    drop(std::io::stderr().write_all(text.as_bytes()));
    let of_store = error.downcast_ref().is_some_and(StoreError::is_about_data);
    let of_archive = error.downcast_ref().is_some_and(ArchiveError::is_about_data);
    if of_store || of_archive { ExitCode::from(EXIT_STORE) } else { ExitCode::FAILURE }
}

/// A store's refusal with the command that helps.
pub fn helped(error: StoreError) -> anyhow::Error {
    let hint = error.hint();
    let error = anyhow::Error::new(error);
    match hint {
        Some(hint) => error.context(Hint(hint)),
        None => error,
    }
}

/// A runnable command that helps; printed behind the error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint(pub String);

impl std::fmt::Display for Hint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
