//! The status line of a followed task: the last line of the terminal on stderr, redrawn in place.

use std::fmt::Write as _;
use std::time::Duration;

use capsule_proto::v1::TaskView;

use crate::ui::task::status_word;
use crate::ui::{Ui, color, escape, table, time};

/// A line that is drawn over itself; off a terminal it is never drawn.
#[derive(Debug)]
pub(crate) struct StatusLine {
    ui: Ui,
    drawn: bool,
    /// The output before it did not end its line.
    open: bool,
}

impl StatusLine {
    pub(crate) const fn new(ui: Ui) -> Self {
        Self { ui, drawn: false, open: false }
    }

    fn shown(&self) -> bool {
        self.ui.talk_tty && !self.ui.quiet
    }

    /// Draws what the task is doing.
    pub(crate) fn draw(&mut self, task: &TaskView, running: Option<Duration>) {
        if !self.shown() || self.open {
            return;
        }
        let width = self.ui.width.unwrap_or(80).saturating_sub(1);
        let text = table::cut(&text(task, running), width);
        let text = if color::on_stderr() { color::paint(color::DIM, &text) } else { text };
        // A terminal that went away ends the process by its own signal.
        drop(self.ui.raw_talk(format!("\r\x1b[K{text}").as_bytes()));
        self.drawn = true;
    }

    /// Takes the line away, before output that ends its line or not.
    pub(crate) fn clear(&mut self, output: &[u8]) {
        if self.drawn {
            drop(self.ui.raw_talk(b"\r\x1b[K"));
            self.drawn = false;
        }
        if let Some(last) = output.last() {
            self.open = *last != b'\n';
        }
    }

    /// The last word about the task, on a line of its own.
    pub(crate) fn end(&mut self, task: &TaskView) {
        self.clear(&[]);
        if self.shown() {
            let open = if self.open { "\n" } else { "" };
            let took = task.started_us.zip(task.ended_us);
            let took =
                took.map_or(String::new(), |(from, to)| format!("  {}", time::between(from, to)));
            let reason =
                if task.reason.is_empty() { String::new() } else { format!("  {}", task.reason) };
            let name = escape::line(&task.name);
            let text = format!(
                "{open}{} {} {name}{took}{}",
                status_word(task),
                task.id,
                escape::line(&reason)
            );
            self.ui.talk(&text);
        }
    }
}

fn text(task: &TaskView, running: Option<Duration>) -> String {
    let mut text = format!("{} {} {}", status_word(task), task.id, escape::line(&task.name));
    if let Some(running) = running {
        let seconds = running.as_secs();
        let _ = write!(text, "  [{:02}:{:02}]", seconds / 60, seconds % 60);
    }
    if let Some(progress) = &task.progress {
        let of = progress.total.map_or(String::new(), |total| format!("/{total}"));
        let _ = write!(text, "  {}{of}", progress.done);
        if !progress.text.is_empty() {
            let _ = write!(text, " {}", escape::line(&progress.text));
        }
    } else if !task.waiting.is_empty() {
        let _ = write!(text, "  {}", escape::line(&task.waiting));
    }
    text
}

#[cfg(test)]
mod tests {
    use capsule_proto::v1::{Progress, Status};

    use super::*;

    #[test]
    fn it_says_what_is_done_of_what() {
        let progress = Progress { done: 120.0, total: Some(400.0), text: "leads\x1b".to_owned() };
        let task = TaskView {
            id: 1844,
            name: "sync_leads".to_owned(),
            status: Status::Running.into(),
            progress: Some(progress),
            ..TaskView::default()
        };
        assert_eq!(
            text(&task, Some(Duration::from_secs(63))),
            "running 1844 sync_leads  [01:03]  120/400 leads\\u{1b}"
        );
    }
}
