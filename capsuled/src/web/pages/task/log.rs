//! What a task wrote, for a page: text only, without what would steer a terminal.

use askama::Template;
use capsule_proto::v1::LogChunk;

use crate::web::words::turns;

/// The longest control sequence that is looked for.
const SEQUENCE_MAX: usize = 64;

/// A piece of a log.
#[derive(Clone, Debug, PartialEq, Eq, Template)]
#[template(path = "piece.html")]
pub(in crate::web) struct Piece {
    /// out, err, event, note
    stream: String,
    text: String,
}

impl Piece {
    /// What is said in a log about itself.
    pub(in crate::web) fn note(text: impl Into<String>) -> Self {
        Self { stream: "note".to_owned(), text: text.into() }
    }

    /// How much of the page it takes.
    pub(in crate::web) fn len(&self) -> usize {
        self.text.len()
    }
}

/// Makes text of chunks; what one cuts in two is put together again.
#[derive(Debug, Default)]
pub(in crate::web) struct Text {
    streams: Vec<(String, Stream)>,
}

#[derive(Debug, Default)]
struct Stream {
    /// The beginning of a character.
    rest: Vec<u8>,
    state: State,
    returned: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Plain,
    Escape,
    /// A control sequence, and how long it is by now.
    Control(usize),
    /// A command to the terminal, up to its end.
    Command(usize),
}

impl Text {
    /// The pieces of a chunk: what is missing before it, then its text.
    pub(in crate::web) fn pieces(&mut self, chunk: &LogChunk) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if chunk.pruned {
            let was = crate::web::words::bytes(chunk.gap);
            pieces.push(Piece::note(format!(
                "the log of attempt {} ({was}) is not kept any more\n",
                chunk.attempt
            )));
        } else if chunk.gap > 0 {
            let gap = crate::web::words::bytes(chunk.gap);
            pieces.push(Piece::note(format!("… {gap} are not kept …\n")));
        }
        let at = self.streams.iter().position(|(name, _)| *name == chunk.stream);
        let at = at.unwrap_or_else(|| {
            self.streams.push((chunk.stream.clone(), Stream::default()));
            self.streams.len() - 1
        });
        let text = self.streams.get_mut(at).map(|(_, stream)| stream.pass(&chunk.data));
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            pieces.push(Piece { stream: chunk.stream.clone(), text });
        }
        pieces
    }
}

impl Stream {
    fn pass(&mut self, data: &[u8]) -> String {
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(data);
        let mut text = String::with_capacity(bytes.len());
        let mut seen = 0;
        for part in bytes.utf8_chunks() {
            seen += part.valid().len() + part.invalid().len();
            part.valid().chars().for_each(|character| self.step(character, &mut text));
            let cut = seen == bytes.len() && part.invalid().len() < 4;
            if cut && starts_character(part.invalid()) {
                part.invalid().clone_into(&mut self.rest);
            } else if !part.invalid().is_empty() {
                self.step('\u{fffd}', &mut text);
            }
        }
        text
    }

    fn step(&mut self, character: char, text: &mut String) {
        self.state = match (self.state, character) {
            (State::Plain | State::Command(_), '\x1b') | (State::Escape, ' '..='/') => {
                State::Escape
            }
            (State::Plain, _) => {
                self.plain(character, text);
                State::Plain
            }
            (State::Escape, '[') => State::Control(0),
            (State::Escape, ']' | 'P' | '_' | '^' | 'X') => State::Command(0),
            (State::Control(length), '\x20'..='\x3f') if length < SEQUENCE_MAX => {
                State::Control(length + 1)
            }
            (State::Command(length), other) if other != '\x07' && length < SEQUENCE_MAX * 16 => {
                State::Command(length + 1)
            }
            (State::Escape | State::Control(_) | State::Command(_), _) => State::Plain,
        };
    }

    fn plain(&mut self, character: char, text: &mut String) {
        let returned = std::mem::replace(&mut self.returned, character == '\r');
        match character {
            '\r' => text.push('\n'),
            // The line was ended by the return before it.
            '\n' if returned => {}
            '\n' | '\t' => text.push(character),
            other if other.is_control() || turns(other) => text.extend(other.escape_default()),
            other => text.push(other),
        }
    }
}

/// Whether these bytes may be the beginning of a character.
fn starts_character(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(chunks: &[&[u8]]) -> String {
        let mut text = Text::default();
        let mut all = String::new();
        for data in chunks {
            let chunk =
                LogChunk { stream: "out".to_owned(), data: data.to_vec(), ..LogChunk::default() };
            text.pieces(&chunk).iter().for_each(|piece| all.push_str(&piece.text));
        }
        all
    }

    #[test]
    fn colours_and_titles_are_dropped() {
        assert_eq!(told(&[b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07end"]), "red end");
        assert_eq!(told(&[b"a\x1b[3", b"1mb"]), "ab");
        assert_eq!(told(&[b"1%\r2%\r\n3\x07\xe2\x80\xae"]), "1%\n2%\n3\\u{7}\\u{202e}");
    }

    #[test]
    fn a_character_that_is_cut_is_whole_again() {
        assert_eq!(told(&[b"gr\xc3", b"\xbcn"]), "grün");
        assert_eq!(told(&[b"\xff\xfeok"]), "\u{fffd}\u{fffd}ok");
        assert_eq!(told(&[b"\xf0\x9f", b"x"]), "\u{fffd}x");
    }

    #[test]
    fn what_is_not_kept_is_said() {
        let chunk = LogChunk {
            gap: 2048,
            stream: "err".to_owned(),
            data: b"x".to_vec(),
            ..LogChunk::default()
        };
        let pieces = Text::default().pieces(&chunk);
        assert_eq!(pieces[0], Piece::note("… 2.0 KiB are not kept …\n"));
        assert_eq!(pieces[1].text, "x");
    }
}
