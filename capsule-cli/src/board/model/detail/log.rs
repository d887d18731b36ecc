//! The log of the open task, as much of it as is kept to look at.

use std::collections::{HashMap, VecDeque};

use capsule_proto::v1::LogChunk;
use unicode_width::UnicodeWidthStr as _;

use crate::ui::escape::Filter;
use crate::ui::time;

/// Lines that are kept.
pub(crate) const LINES: usize = 5000;
/// Bytes of a line that are kept: a longer one is nothing to read on a terminal.
const LINE: usize = 4096;

/// A line of a log, safe to draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) at_us: i64,
    /// out, err or note
    pub(crate) stream: String,
    pub(crate) text: String,
    /// Cells that it takes.
    pub(crate) width: usize,
    /// Bytes of it that are not kept.
    pub(crate) cut: usize,
    /// Its end has come.
    complete: bool,
}

/// The last lines of a log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) lines: VecDeque<Line>,
    /// Lines that were there and are not kept.
    pub(crate) dropped: u64,
    filters: HashMap<String, Filter>,
    /// Where to go on reading.
    pub(crate) cursor: String,
}

impl Log {
    /// Takes in a piece.
    pub(crate) fn push(&mut self, chunk: &LogChunk) {
        if !chunk.cursor.is_empty() {
            self.cursor.clone_from(&chunk.cursor);
        }
        if chunk.gap > 0 {
            let size = time::bytes(chunk.gap);
            let why = if chunk.pruned { "pruned to make room" } else { "not kept" };
            self.begin(chunk.time_us, "note", &format!("[{size} {why}]"), true);
        }
        let filter = self.filters.entry(chunk.stream.clone()).or_insert_with(|| Filter::new(false));
        let text = filter.pass(&chunk.data);
        for part in text.split_inclusive('\n') {
            let ends = part.ends_with('\n');
            let part = part.trim_end_matches(['\n', '\r']);
            self.append(chunk, part, ends);
        }
    }

    /// Adds to the open line of the stream, or begins one.
    fn append(&mut self, chunk: &LogChunk, part: &str, ends: bool) {
        let part = crate::ui::escape::line(part).replace("\\t", "    ");
        let open = self.lines.iter_mut().rev().take(4).find(|line| line.stream == chunk.stream);
        match open {
            Some(line) if !line.complete => {
                line.complete = ends;
                extend(line, &part);
            }
            Some(_) | None => self.begin(chunk.time_us, &chunk.stream, &part, ends),
        }
    }

    fn begin(&mut self, at_us: i64, stream: &str, part: &str, complete: bool) {
        let (text, stream) = (String::new(), stream.to_owned());
        let mut line = Line { at_us, stream, text, width: 0, cut: 0, complete };
        extend(&mut line, part);
        self.lines.push_back(line);
        if self.lines.len() > LINES {
            self.lines.pop_front();
            self.dropped += 1;
        }
    }
}

fn extend(line: &mut Line, part: &str) {
    let room = LINE.saturating_sub(line.text.len());
    let end = (0..=room.min(part.len())).rev().find(|at| part.is_char_boundary(*at)).unwrap_or(0);
    let (kept, cut) = part.split_at_checked(end).unwrap_or((part, ""));
    line.text.push_str(kept);
    line.width += kept.width();
    line.cut += cut.len();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(stream: &str, data: &[u8]) -> LogChunk {
        LogChunk { stream: stream.to_owned(), data: data.to_vec(), ..LogChunk::default() }
    }

    #[test]
    fn lines_are_put_together_by_stream() {
        let mut log = Log::default();
        log.push(&chunk("out", b"one\ntw"));
        log.push(&chunk("err", b"bad\n"));
        log.push(&chunk("out", b"o\n\x1b[2Jthree\x07"));
        let texts: Vec<&str> = log.lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["one", "two", "bad", "three"]);
    }

    #[test]
    fn a_very_long_line_and_very_many_are_bounded() {
        let mut log = Log::default();
        let endless = vec![b'x'; 10 << 20];
        for part in endless.chunks(64 << 10) {
            log.push(&chunk("out", part));
        }
        assert_eq!(log.lines.len(), 1);
        assert_eq!(log.lines[0].text.len() + log.lines[0].cut, 10 << 20);
        assert_eq!(log.lines[0].text.len(), LINE);
        for number in 0..LINES * 2 {
            log.push(&chunk("err", format!("{number}\n").as_bytes()));
        }
        assert_eq!((log.lines.len(), log.dropped), (LINES, LINES as u64 + 1));
    }
}
