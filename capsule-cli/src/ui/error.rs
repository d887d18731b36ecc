//! How an error is told: for people, or as one JSON object.

use std::fmt::Write as _;

use serde_json::json;

use super::{color, warn};
use crate::error::{CliError, Told};

/// Shows an error on stderr.
pub(crate) fn tell(error: &CliError, as_json: bool) {
    match error {
        CliError::BrokenPipe => {}
        CliError::Usage(error) if as_json && error.use_stderr() => {
            let text = error.to_string();
            let message = text.lines().next().unwrap_or_default();
            let message = message.strip_prefix("error: ").unwrap_or(message);
            let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
            warn(&object("usage", message, tip, error.exit_code()));
        }
        // It prints itself, `--help` on stdout; a reader that went away is not told.
        CliError::Usage(error) => drop(error.print()),
        CliError::Told(told) if as_json => {
            let hint = (!told.hints.is_empty()).then(|| told.hints.join("\n"));
            let exit = i32::from(told.exit.code());
            warn(&object(&told.code, &told.message, hint.as_deref(), exit));
        }
        CliError::Told(told) => warn(&text(told, color::on_stderr())),
    }
}

fn object(code: &str, message: &str, hint: Option<&str>, exit: i32) -> String {
    json!({"error": {"code": code, "message": message, "hint": hint, "exit": exit}}).to_string()
}

fn text(told: &Told, colored: bool) -> String {
    let error =
        if colored { color::paint(color::RED.bold(), "error:") } else { "error:".to_owned() };
    let mut text = format!("{error} {}", super::escape::block(&told.message));
    for (number, hint) in told.hints.iter().enumerate() {
        let label = match number {
            _ if hint.starts_with("tip: ") => "",
            0 => "hint: ",
            _ => "      ",
        };
        let _ = write!(text, "\n  {label}{}", super::escape::block(hint));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    #[test]
    fn hints_stand_below_the_message() {
        let error = CliError::new(Exit::Missing, "not_found", "no task 7")
            .hint("capsule list")
            .hint("capsule help ids");
        let CliError::Told(told) = error else { panic!("not told") };
        let expected = "error: no task 7\n  hint: capsule list\n        capsule help ids";
        assert_eq!(text(&told, false), expected);
    }

    #[test]
    fn the_object_has_all_keys() {
        assert_eq!(
            object("not_found", "no task 7", None, 4),
            r#"{"error":{"code":"not_found","message":"no task 7","hint":null,"exit":4}}"#
        );
    }

    #[test]
    fn a_message_cannot_steer_the_terminal() {
        let error = CliError::new(Exit::Failure, "x", "a\x1b[2Jb");
        let CliError::Told(told) = error else { panic!("not told") };
        assert_eq!(text(&told, false), "error: a\\u{1b}[2Jb");
    }
}
