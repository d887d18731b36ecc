//! The log of a task on its way to the user: raw off a terminal, harmless on one.

use capsule_proto::v1::LogChunk;

use crate::error::CliError;
use crate::ui::time::Times;
use crate::ui::{Ui, color, escape, time, warn};

/// What stands before each line; nothing leaves the bytes as they are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decor {
    /// The id of the task.
    pub(crate) prefix: Option<String>,
    /// The time of the line.
    pub(crate) times: Option<Times>,
}

impl Decor {
    const fn is_empty(&self) -> bool {
        self.prefix.is_none() && self.times.is_none()
    }
}

/// Where the log of one task goes.
#[derive(Debug)]
pub(crate) struct Log {
    ui: Ui,
    /// The task's stdout goes to ours; else all of its log goes to stderr.
    data: bool,
    decor: Decor,
    out: Side,
    err: Side,
}

/// One of the task's two outputs.
#[derive(Debug, Default)]
struct Side {
    filter: Option<escape::Filter>,
    /// The last line is not complete: its decoration is printed.
    open: bool,
}

impl Side {
    fn new(terminal: bool, colored: bool) -> Self {
        Self { filter: terminal.then(|| escape::Filter::new(colored)), open: false }
    }
}

impl Log {
    pub(crate) fn new(ui: &Ui, data: bool, decor: Decor) -> Self {
        let talk = || Side::new(ui.talk_tty, color::on_stderr());
        let out = if data { Side::new(ui.tty, ui.colored) } else { talk() };
        Self { ui: ui.clone(), data, decor, out, err: talk() }
    }

    /// Writes a piece.
    pub(crate) fn write(&mut self, chunk: &LogChunk) -> Result<(), CliError> {
        if chunk.pruned {
            let (attempt, size) = (chunk.attempt, time::bytes(chunk.gap));
            warn(&format!("[the log of attempt {attempt} was pruned to make room: {size}]"));
        } else if chunk.gap > 0 {
            warn(&format!("[{} not kept]", time::bytes(chunk.gap)));
        }
        let is_out = chunk.stream != "err" && chunk.stream != "note";
        let side = if is_out { &mut self.out } else { &mut self.err };
        let safe = side.filter.as_mut().map(|filter| filter.pass(&chunk.data).into_bytes());
        let bytes = safe.as_deref().unwrap_or(&chunk.data);
        let decorated = (!self.decor.is_empty())
            .then(|| decorate(&self.decor, &mut side.open, bytes, chunk.time_us));
        self.put(is_out, decorated.as_deref().unwrap_or(bytes))
    }

    /// Switches colours off that the task left on.
    pub(crate) fn finish(&mut self) -> Result<(), CliError> {
        let out = self.out.filter.as_mut().map_or("", escape::Filter::finish);
        self.put(true, out.as_bytes())?;
        let err = self.err.filter.as_mut().map_or("", escape::Filter::finish);
        self.put(false, err.as_bytes())
    }

    fn put(&self, is_out: bool, bytes: &[u8]) -> Result<(), CliError> {
        match bytes {
            [] => Ok(()),
            _ if is_out && self.data => self.ui.raw(bytes),
            _ => self.ui.raw_talk(bytes),
        }
    }
}

fn decorate(decor: &Decor, open: &mut bool, bytes: &[u8], at_us: i64) -> Vec<u8> {
    let mut lines = Vec::with_capacity(bytes.len() + 32);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if !*open {
            if let Some(prefix) = &decor.prefix {
                lines.extend_from_slice(format!("{prefix}  ").as_bytes());
            }
            if let Some(times) = &decor.times {
                lines.extend_from_slice(format!("{}  ", times.clock(at_us)).as_bytes());
            }
        }
        *open = !line.ends_with(b"\n");
        lines.extend_from_slice(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cut_in_two_is_decorated_once() {
        let decor = Decor { prefix: Some("7".to_owned()), times: None };
        let mut open = false;
        let mut text = decorate(&decor, &mut open, b"one\ntw", 0);
        text.extend(decorate(&decor, &mut open, b"o\nthree", 0));
        assert_eq!(String::from_utf8(text).unwrap(), "7  one\n7  two\n7  three");
        assert!(open);
    }
}
