//! What the tabs of the open task hold.

use std::fmt::Write as _;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthChar as _;

use super::look::Look;
use super::row;
use crate::board::model::detail::{Detail, Tab, log};
use crate::ui::{task, time};

/// Rows of a text that is no log; nobody reads more of it here.
const ROWS: usize = 20_000;

/// Draws the part that is seen, and notes how much there is.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, detail: &mut Detail, look: &Look) {
    if detail.tab == Tab::Log {
        draw_log(frame, area, detail, look);
        return;
    }
    let width = usize::from(area.width).saturating_sub(1).max(1);
    let mut rows = Vec::new();
    for line in text(detail, look).lines() {
        let parts = if detail.wrap { wrapped(line, width) } else { vec![line.to_owned()] };
        rows.extend(parts);
        if rows.len() > ROWS {
            break;
        }
    }
    let seen = usize::from(area.height);
    detail.drawn = (rows.len(), seen);
    let top = detail.top(rows.len(), seen);
    for (number, text) in (0..area.height).zip(rows.into_iter().skip(top)) {
        frame.render_widget(Line::raw(format!(" {text}")), row(area, number));
    }
}

/// The text of a tab, safe to draw.
fn text(detail: &Detail, look: &Look) -> String {
    let Some(show) = &detail.show else { return "...".to_owned() };
    let lines = |text: &str| -> String {
        let safe: Vec<String> = text.lines().map(|line| look.safe(line)).collect();
        safe.join("\n")
    };
    let text = match detail.tab {
        Tab::Log => String::new(),
        Tab::Payload => {
            let argv = show.program.as_ref().map(|program| task::shell_line(&program.argv));
            let payload = lines(&pretty(&show.payload_json));
            [look.safe(&argv.unwrap_or_default()), payload].join("\n").trim().to_owned()
        }
        Tab::Attempts => {
            let attempts = show.attempts.iter().map(|attempt| {
                let mut text = look.safe(&task::attempt_line(attempt));
                if !attempt.error.is_empty() {
                    text.push_str("\n    ");
                    text.push_str(&lines(&attempt.error).replace('\n', "\n    "));
                }
                text
            });
            attempts.collect::<Vec<_>>().join("\n")
        }
        Tab::Timeline => {
            let entry =
                |at_us, what: &str| format!("{}  {}", look.ui.times.clock(at_us), look.safe(what));
            let entries = show.timeline.iter().map(|it| entry(it.at_us, &it.what));
            entries.collect::<Vec<_>>().join("\n")
        }
        Tab::Error => lines(&show.error),
        Tab::Result => lines(&pretty(&show.result_json)),
        Tab::Why => {
            let why = detail.why.as_ref();
            let gates = why.map_or(&show.gates, |why| &why.gates);
            let mut text = lines(why.map_or("", |why| why.text.as_str()));
            for (number, gate) in (1..).zip(gates) {
                let _ = write!(text, "\n  {number}. {}", look.safe(&gate.text));
            }
            text
        }
    };
    if text.is_empty() { "none".to_owned() } else { text }
}

fn pretty(json: &str) -> String {
    let value: Result<serde_json::Value, _> = serde_json::from_str(json);
    value.map_or_else(|_| json.to_owned(), |value| format!("{value:#}"))
}

/// Rows of at most this width.
fn wrapped(line: &str, width: usize) -> Vec<String> {
    let (mut rows, mut row, mut used) = (Vec::new(), String::new(), 0);
    for character in line.chars() {
        let wide = character.width().unwrap_or(0);
        if used + wide > width {
            rows.push(std::mem::take(&mut row));
            used = 0;
        }
        row.push(character);
        used += wide;
    }
    rows.push(row);
    rows
}

/// Only the lines in sight are laid out: the log may have thousands, and changes often.
fn draw_log(frame: &mut Frame<'_>, area: Rect, detail: &mut Detail, look: &Look) {
    let width = usize::from(area.width).max(20);
    let stamp = if width >= 60 { 13 } else { 0 };
    let room = width - stamp - 1;
    let wrap = detail.wrap;
    let height = |line: &log::Line| if wrap { line.width.max(1).div_ceil(room) } else { 1 };
    let rows: usize = detail.log.lines.iter().map(height).sum();
    let seen = usize::from(area.height);
    detail.drawn = (rows, seen);
    if rows == 0 {
        frame.render_widget(Line::styled(" nothing written yet", look.dim()), row(area, 0));
        return;
    }
    let mut above = detail.top(rows, seen);
    let mut at = 0;
    for line in &detail.log.lines {
        let tall = height(line);
        if above >= tall {
            above -= tall;
            continue;
        }
        for (number, part) in
            parts(line, look, wrap.then_some(room)).into_iter().enumerate().skip(above)
        {
            let head =
                if number == 0 && stamp > 0 { stamped(line, look) } else { " ".repeat(stamp) };
            let style = match line.stream.as_str() {
                "err" => look.warning(),
                "note" => look.dim(),
                _ => Style::new(),
            };
            let spans =
                vec![Span::styled(format!(" {head}"), look.dim()), Span::styled(part, style)];
            frame.render_widget(Line::from(spans), row(area, at));
            at += 1;
            if at >= area.height {
                return;
            }
        }
        above = 0;
    }
}

/// `14:13:05 out `.
fn stamped(line: &log::Line, look: &Look) -> String {
    let clock = look.ui.times.clock(line.at_us);
    let clock = clock.get(clock.len().saturating_sub(8)..).unwrap_or_default();
    format!("{clock} {:<4}", line.stream.get(..3).unwrap_or("?"))
}

fn parts(line: &log::Line, look: &Look, room: Option<usize>) -> Vec<String> {
    let text = if look.ascii { look.safe(&line.text) } else { line.text.clone() };
    let mut parts = room.map_or_else(|| vec![text.clone()], |room| wrapped(&text, room));
    if line.cut > 0 {
        let more = format!(" [{} more]", time::bytes(line.cut as u64));
        if let Some(last) = parts.last_mut() {
            last.push_str(&more);
        }
    }
    parts
}
