//! Tasks shown in a chat: each a line, drawn over itself on a terminal, a new line for each change
//! elsewhere.

use std::fmt::Write as _;

use capsule_proto::v1::{Status, TaskView};

use crate::error::CliError;
use crate::ui::task::{ended, status_word};
use crate::ui::{Ui, color, columns, escape, table, time};

const PROMPT: &str = "> ";

/// The cards that stand right above the cursor, and the prompt.
#[derive(Debug)]
pub(crate) struct Cards {
    ui: Ui,
    prompts: bool,
    /// The prompt is the line of the cursor.
    prompted: bool,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    message: String,
    task: TaskView,
    result: String,
}

impl Cards {
    pub(crate) const fn new(ui: Ui, prompts: bool) -> Self {
        Self { ui, prompts, prompted: false, rows: Vec::new() }
    }

    /// Asks for the next message.
    pub(crate) fn prompt(&mut self) {
        if self.prompts {
            let clear = if self.prompted { "\r\x1b[K" } else { "" };
            drop(self.ui.raw_talk(format!("{clear}{PROMPT}").as_bytes()));
            self.prompted = true;
        }
    }

    /// A message was typed: its line ended the place of the cards.
    pub(crate) fn typed(&mut self) {
        self.prompted = false;
        self.rows.clear();
    }

    /// Something else is about to be printed where the prompt is.
    pub(crate) fn leave_place(&mut self) {
        if std::mem::take(&mut self.prompted) {
            drop(self.ui.raw_talk(b"\r\x1b[K"));
        }
        self.rows.clear();
    }

    /// Shows a task, in the place where it stands already.
    pub(crate) fn show(
        &mut self,
        message: &str,
        task: &TaskView,
        result: &str,
    ) -> Result<(), CliError> {
        let row =
            Row { message: message.to_owned(), task: task.clone(), result: result.to_owned() };
        if !self.in_place() {
            return self.ui.say(&text(&self.ui, &row));
        }
        if let Some(at) = self.rows.iter().position(|known| known.task.id == task.id) {
            if let Some(known) = self.rows.get_mut(at) {
                *known = row;
            }
            self.draw(at);
            return Ok(());
        }
        let prompted = std::mem::take(&mut self.prompted);
        let clear = if prompted { "\r\x1b[K" } else { "" };
        let line = self.cut(&text(&self.ui, &row));
        self.ui.raw(format!("{clear}{line}\n").as_bytes())?;
        self.rows.push(row);
        if prompted {
            self.prompt();
        }
        Ok(())
    }

    /// Draws the times of running tasks anew.
    pub(crate) fn redraw(&mut self) {
        if !self.in_place() {
            return;
        }
        let live = |row: &Row| !ended(row.task.status());
        let live: Vec<usize> =
            self.rows.iter().enumerate().filter(|(_, row)| live(row)).map(|(at, _)| at).collect();
        for at in live {
            self.draw(at);
        }
    }

    const fn in_place(&self) -> bool {
        self.ui.tty && self.ui.talk_tty
    }

    fn draw(&mut self, at: usize) {
        self.ui.times.now = jiff::Timestamp::now();
        let Some(row) = self.rows.get(at) else { return };
        let line = self.cut(&text(&self.ui, row));
        let up = self.rows.len() - at;
        // Up to its line and back, so that what is being typed stays as it is.
        drop(self.ui.raw(format!("\x1b7\x1b[{up}A\r\x1b[K{line}\x1b8").as_bytes()));
    }

    fn cut(&self, text: &str) -> String {
        let width = columns().unwrap_or(80).saturating_sub(1);
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let line = table::cut(&format!("{word} {rest}"), width);
        match (self.ui.colored, line.split_once(' ')) {
            (true, Some((word, rest))) => format!("{} {rest}", color::paint(color::BOLD, word)),
            _ => line,
        }
    }
}

/// `running 1842 sync_leads  Lead sync started  1/3  [00:12]  120/400 leads`.
fn text(ui: &Ui, Row { message, task, result }: &Row) -> String {
    let name = if task.display_name.is_empty() { &task.name } else { &task.display_name };
    let mut text = format!("{} {} {}", status_word(task), task.id, escape::line(name));
    if !message.is_empty() {
        let _ = write!(text, "  {}", escape::line(message));
    }
    if task.attempt > 1 {
        let _ = write!(text, "  try {}/{}", task.attempt, task.retries.saturating_add(1));
    }
    let running = matches!(task.status(), Status::Running | Status::Claimed);
    let until = task.ended_us.or(running.then_some(ui.times.now.as_microsecond()));
    if let Some((from, to)) = task.started_us.zip(until) {
        let _ = write!(text, "  {}", time::between(from, to.max(from)));
    }
    let note = match (&task.progress, task.reason.is_empty(), task.waiting.is_empty()) {
        (_, false, _) => task.reason.clone(),
        (Some(progress), true, _) if running => {
            let of = progress.total.map_or(String::new(), |total| format!("/{total}"));
            format!("{}{of} {}", progress.done, progress.text)
        }
        (_, true, false) => task.waiting.clone(),
        (_, true, true) if result.is_empty() || result == "null" => String::new(),
        (_, true, true) => format!("→ {result}"),
    };
    if !note.is_empty() {
        let _ = write!(text, "  {}", escape::line(note.trim_end()));
    }
    text
}

#[cfg(test)]
mod tests {
    use capsule_proto::v1::Progress;

    use super::*;
    use crate::args::Globals;

    fn row(status: Status) -> Row {
        let task = TaskView {
            id: 1842,
            name: "sync_leads".to_owned(),
            status: status.into(),
            attempt: 2,
            retries: 2,
            started_us: Some(1_000_000),
            ended_us: Some(13_000_000),
            ..TaskView::default()
        };
        Row { message: "Lead\x1b sync".to_owned(), task, result: r#"{"synced":3}"#.to_owned() }
    }

    #[test]
    fn a_card_says_how_far_a_task_is_and_what_it_gave() {
        let ui = Ui::new(&Globals::default());
        let done = text(&ui, &row(Status::Completed));
        assert_eq!(
            done,
            "completed 1842 sync_leads  Lead\\u{1b} sync  try 2/3  12s  → {\"synced\":3}"
        );
        let mut running = row(Status::Running);
        running.task.progress =
            Some(Progress { done: 1.0, total: Some(4.0), text: "leads\x1b".to_owned() });
        assert!(text(&ui, &running).ends_with("  1/4 leads\\u{1b}"), "{}", text(&ui, &running));
    }
}
