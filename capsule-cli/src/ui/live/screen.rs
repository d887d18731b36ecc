//! The alternate screen of a terminal, given back when it is dropped.

use crate::error::CliError;
use crate::ui::{Ui, columns, rows};

/// A screen that is drawn over itself.
#[derive(Debug)]
pub(crate) struct Screen {
    ui: Ui,
}

impl Screen {
    /// Takes the terminal; the text that was on it comes back at the end.
    pub(crate) fn open(ui: &Ui) -> Result<Self, CliError> {
        ui.raw(b"\x1b[?1049h\x1b[?25l")?;
        Ok(Self { ui: ui.clone() })
    }

    /// Draws the text that `content` makes for the present size and time.
    pub(crate) fn draw(
        &mut self,
        content: impl FnOnce(&Ui, Option<usize>) -> String,
    ) -> Result<(), CliError> {
        self.ui.width = columns();
        self.ui.times.now = jiff::Timestamp::now();
        let height = rows();
        let text = content(&self.ui, height);
        // Each line clears what stood behind it, so that nothing flickers.
        let lines: Vec<&str> = text.lines().take(height.unwrap_or(usize::MAX)).collect();
        let frame = format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\r\n"));
        self.ui.raw(frame.as_bytes())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that went away needs nothing back.
        drop(self.ui.raw(b"\x1b[?25h\x1b[?1049l"));
    }
}
