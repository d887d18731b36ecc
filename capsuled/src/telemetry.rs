//! What the daemon says about itself: log lines, and the last words of a failure.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use crate::daemon::Hint;
use crate::store::StoreError;

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
    match error.downcast_ref::<StoreError>() {
        Some(refused) if refused.is_about_data() => ExitCode::from(EXIT_STORE),
        Some(_) | None => ExitCode::FAILURE,
    }
}
