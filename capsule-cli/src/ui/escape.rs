//! Keeps what tasks wrote from steering the terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Text for one line: control and direction characters are shown, not obeyed.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |character| steers(character) || matches!(character, '\n' | '\t'))
}

/// Text of several lines: as [`line()`], but line ends and tabs stay.
pub(crate) fn block(text: &str) -> Cow<'_, str> {
    escaped(text, steers)
}

fn escaped(text: &str, shown: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&shown) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if shown(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

/// Control characters but for line end and tab, and what changes the direction of text.
fn steers(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            true
        }
        _ => character.is_control(),
    }
}

/// Passes a log to a terminal: text and colours stay, every other escape sequence is dropped.
///
/// It keeps what a chunk cut in two, so one filter belongs to one stream.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// Bytes of a character that is not complete.
    bytes: Vec<u8>,
    state: State,
    colored: bool,
    /// A colour is on that was not switched off.
    lit: bool,
    /// The last character was a carriage return.
    returned: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Text,
    Escape,
    /// Parameters of a control sequence.
    Control(String),
    /// A command to the terminal, up to its end mark.
    Command,
    CommandEscape,
}

/// Longer parameters are no colour.
const LONGEST_SEQUENCE: usize = 64;

impl Filter {
    /// A filter that keeps colours, or drops them too.
    pub(crate) fn new(colored: bool) -> Self {
        Self { colored, ..Self::default() }
    }

    /// What of these bytes a terminal may have.
    pub(crate) fn pass(&mut self, chunk: &[u8]) -> String {
        self.bytes.extend_from_slice(chunk);
        let bytes = std::mem::take(&mut self.bytes);
        let mut safe = String::with_capacity(bytes.len());
        for part in bytes.utf8_chunks() {
            for character in part.valid().chars() {
                self.step(character, &mut safe);
            }
            let broken = part.invalid();
            let at_end = bytes.ends_with(broken) && incomplete(broken);
            if at_end {
                broken.clone_into(&mut self.bytes);
            } else if !broken.is_empty() {
                self.step('\u{fffd}', &mut safe);
            }
        }
        safe
    }

    /// What ends the stream: colours off.
    pub(crate) fn finish(&mut self) -> &'static str {
        if std::mem::take(&mut self.lit) { "\x1b[0m" } else { "" }
    }

    fn step(&mut self, character: char, safe: &mut String) {
        match std::mem::take(&mut self.state) {
            State::Text => self.text(character, safe),
            State::Escape => {
                self.state = match character {
                    '[' => State::Control(String::new()),
                    ']' | 'P' | '_' | '^' | 'X' => State::Command,
                    // An intermediate byte: one more character belongs to it.
                    ' '..='/' => State::Escape,
                    _ => State::Text,
                }
            }
            State::Control(mut parameters) => match character {
                'm' => self.color(&parameters, safe),
                '\x40'..='\x7e' => {}
                '\x20'..='\x3f' if parameters.len() < LONGEST_SEQUENCE => {
                    parameters.push(character);
                    self.state = State::Control(parameters);
                }
                '\x20'..='\x3f' => self.state = State::Control(parameters),
                _ => self.text(character, safe),
            },
            State::Command => {
                self.state = match character {
                    '\x07' => State::Text,
                    '\x1b' => State::CommandEscape,
                    _ => State::Command,
                }
            }
            State::CommandEscape => {
                self.state = if character == '\\' { State::Text } else { State::Command }
            }
        }
    }

    fn text(&mut self, character: char, safe: &mut String) {
        let returned = std::mem::replace(&mut self.returned, character == '\r');
        match character {
            '\x1b' => self.state = State::Escape,
            '\n' | '\t' => safe.push(character),
            // A program that draws over its line gets a line for each drawing.
            '\r' => {}
            _ => {
                if returned {
                    safe.push('\n');
                }
                if !steers(character) {
                    safe.push(character);
                } else if !character.is_control() {
                    safe.extend(character.escape_default());
                }
            }
        }
    }

    fn color(&mut self, parameters: &str, safe: &mut String) {
        let harmless = |c: char| c.is_ascii_digit() || c == ';' || c == ':';
        if self.colored && parameters.chars().all(harmless) {
            self.lit = !matches!(parameters, "" | "0");
            // Writing to a string cannot fail.
            let _ = write!(safe, "\x1b[{parameters}m");
        }
    }
}

/// The bytes may be the beginning of a character.
fn incomplete(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_stays_on_its_line() {
        assert_eq!(line("plain text"), "plain text");
        assert_eq!(line("a\x1b[31mred\x07\n\tb\u{9b}2J"), "a\\u{1b}[31mred\\u{7}\\n\\tb\\u{9b}2J");
        assert_eq!(line("\u{202e}gpj.exe"), "\\u{202e}gpj.exe");
        assert_eq!(block("a\n\tb\x1b"), "a\n\tb\\u{1b}");
    }

    fn passed(chunks: &[&[u8]], colored: bool) -> String {
        let mut filter = Filter::new(colored);
        let mut text: String = chunks.iter().map(|chunk| filter.pass(chunk)).collect();
        text.push_str(filter.finish());
        text
    }

    #[test]
    fn colours_pass_and_nothing_else_does() {
        assert_eq!(passed(&[b"\x1b[1;31mred\x1b[0m"], true), "\x1b[1;31mred\x1b[0m");
        assert_eq!(passed(&[b"\x1b[1;31mred\x1b[0m"], false), "red");
        assert_eq!(passed(&[b"a\x1b[2Jb\x1b[10;3Hc\x1b[?1049hd"], true), "abcd");
        assert_eq!(
            passed(&[b"a\x1b]0;title\x07b\x1b]8;;http://x\x1b\\c\x1bPq\x1b\\d"], true),
            "abcd"
        );
        assert_eq!(passed(&["a\u{9b}31mb\u{8}\u{7}".as_bytes()], true), "a31mb");
        assert_eq!(passed(&["x\u{202e}y".as_bytes()], true), "x\\u{202e}y");
    }

    #[test]
    fn sequences_and_characters_may_be_cut_anywhere() {
        let whole = "\x1b[32mgrün\x1b[0m\x1b]0;t\x07 ende€".as_bytes();
        let expected = passed(&[whole], true);
        for cut in 0..whole.len() {
            let (left, right) = whole.split_at(cut);
            assert_eq!(passed(&[left, right], true), expected, "cut at {cut}");
        }
        assert_eq!(expected, "\x1b[32mgrün\x1b[0m ende€");
    }

    #[test]
    fn bytes_that_are_no_text_are_marked() {
        assert_eq!(passed(&[b"a\xff\xfeb"], true), "a\u{fffd}\u{fffd}b");
    }

    #[test]
    fn a_colour_left_on_is_switched_off() {
        assert_eq!(passed(&[b"\x1b[31mred"], true), "\x1b[31mred\x1b[0m");
    }

    #[test]
    fn drawing_over_a_line_makes_lines() {
        assert_eq!(passed(&[b"10%\r20%\r\nend\r\n"], true), "10%\n20%\nend\n");
    }
}
