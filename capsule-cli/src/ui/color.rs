//! Colours: whether, and which.

use anstream::ColorChoice;
use anstyle::{AnsiColor, Style};
use capsule_proto::v1::Status;

use crate::args::Color;

/// Applies `--color`, over what the environment says.
pub(crate) fn choose(color: Color) {
    match color {
        Color::Auto => {}
        Color::Always => ColorChoice::Always.write_global(),
        Color::Never => ColorChoice::Never.write_global(),
    }
}

/// Whether stdout has colours: `--color`, `NO_COLOR`, `CLICOLOR_FORCE`, a terminal.
pub(crate) fn on_stdout() -> bool {
    anstream::AutoStream::choice(&std::io::stdout()) != ColorChoice::Never
}

/// Whether stderr has colours.
pub(crate) fn on_stderr() -> bool {
    anstream::AutoStream::choice(&std::io::stderr()) != ColorChoice::Never
}

/// Text in a style.
pub(crate) fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(crate) const RED: Style = AnsiColor::Red.on_default();
pub(crate) const GREEN: Style = AnsiColor::Green.on_default();

/// The colour of a status.
pub(crate) const fn of(status: Status) -> Style {
    match status {
        Status::Unspecified => Style::new(),
        Status::Scheduled => AnsiColor::Blue.on_default(),
        Status::Pending | Status::Retry => AnsiColor::Yellow.on_default(),
        Status::Claimed | Status::Running => AnsiColor::Cyan.on_default(),
        Status::Completed => GREEN,
        Status::Failed | Status::Timeout => RED,
        Status::Cancelled => DIM,
    }
}
