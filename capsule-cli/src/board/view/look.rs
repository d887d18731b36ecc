//! Colours and signs: what a terminal can show of them.

use capsule_proto::v1::{Status, TaskView};
use ratatui::style::{Color, Modifier, Style};

use crate::ui::Ui;
use crate::ui::{escape, table};

/// How things look here and now.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) ui: Ui,
    pub(crate) colored: bool,
    /// Only signs that every terminal has.
    pub(crate) ascii: bool,
}

impl Look {
    /// As the flags and the environment ask for.
    pub(crate) fn new(ui: &Ui, ascii: bool) -> Self {
        Self { colored: ui.colored, ascii: ascii || !is_utf8(), ui: ui.clone() }
    }

    pub(crate) fn now_us(&self) -> i64 {
        self.ui.times.now.as_microsecond()
    }

    fn color(&self, color: Color) -> Style {
        if self.colored { Style::new().fg(color) } else { Style::new() }
    }

    /// The colours of the terminal itself, so that every theme goes.
    pub(crate) fn status(&self, status: Status) -> Style {
        match status {
            Status::Unspecified => Style::new(),
            Status::Scheduled => self.color(Color::Blue),
            Status::Pending | Status::Retry => self.color(Color::Yellow),
            Status::Claimed | Status::Running => self.color(Color::Cyan),
            Status::Completed => self.color(Color::Green),
            Status::Failed | Status::Timeout => self.color(Color::Red),
            Status::Cancelled => self.dim(),
        }
    }

    pub(crate) fn error(&self) -> Style {
        self.color(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub(crate) fn good(&self) -> Style {
        self.color(Color::Green)
    }

    pub(crate) fn warning(&self) -> Style {
        self.color(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    pub(crate) const fn dim(&self) -> Style {
        if self.colored { Style::new().add_modifier(Modifier::DIM) } else { Style::new() }
    }

    #[expect(clippy::unused_self, reason = "every style comes from the look")]
    pub(crate) const fn bold(&self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    #[expect(clippy::unused_self, reason = "every style comes from the look")]
    pub(crate) const fn selected(&self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// The sign of a task: state is never told by colour alone.
    pub(crate) fn sign(&self, task: &TaskView) -> &'static str {
        let (sign, ascii) = match task.status() {
            Status::Unspecified => ("?", "?"),
            Status::Scheduled => ("◷", "@"),
            Status::Retry => ("↻", "~"),
            Status::Pending if !task.lock.is_empty() && !task.waiting.is_empty() => ("◇", "&"),
            Status::Pending if task.hold => ("‖", "="),
            Status::Pending => ("○", "o"),
            Status::Claimed | Status::Running => ("▶", ">"),
            Status::Completed => ("✓", "v"),
            Status::Failed => ("✗", "x"),
            Status::Timeout => ("⧖", "t"),
            Status::Cancelled => ("⊘", "-"),
        };
        if self.ascii { ascii } else { sign }
    }

    pub(crate) const fn pick(&self, sign: &'static str, ascii: &'static str) -> &'static str {
        if self.ascii { ascii } else { sign }
    }

    /// Text from outside, for one line: nothing in it steers the terminal.
    pub(crate) fn safe(&self, text: &str) -> String {
        let text = escape::line(text);
        if !self.ascii {
            return text.into_owned();
        }
        text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect()
    }

    /// As much of a text as fits; a sign at its end says that there is more.
    pub(crate) fn cut(&self, text: &str, width: usize) -> String {
        let cut = table::cut(text, width);
        if self.ascii { cut.replace('…', "~") } else { cut }
    }

    /// Our own text.
    pub(crate) fn own(&self, text: &str) -> String {
        if !self.ascii {
            return text.to_owned();
        }
        let text = text.replace(['·', '—'], "-").replace('…', "...");
        let text = text.replace('←', "Left").replace('→', "Right").replace('↑', "Up");
        text.replace('↓', "Down").replace('●', "*").replace('│', "|")
    }
}

/// Whether the locale has more than ASCII: the first variable that says something decides.
fn is_utf8() -> bool {
    let said = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|value| !value.is_empty());
    said.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}
