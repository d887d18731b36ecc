//! Whole lines out of the pieces in which a stream gives them.

use super::LINE_MAX;

/// Bytes of a line that is not whole yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    /// Before this there is no line end.
    searched: usize,
}

/// A line is longer than [`LINE_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {LINE_MAX} bytes")]
pub(super) struct TooLong;

impl Lines {
    /// Adds what was read and calls `each` for every line that is whole now.
    pub(super) fn push(&mut self, read: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), TooLong> {
        self.bytes.extend_from_slice(read);
        let mut start = 0;
        loop {
            let from = self.searched.max(start);
            let rest = self.bytes.get(from..).unwrap_or_default();
            let Some(at) = rest.iter().position(|byte| *byte == b'\n') else { break };
            each(self.bytes.get(start..from + at).unwrap_or_default());
            start = from + at + 1;
        }
        self.bytes.drain(..start);
        self.searched = self.bytes.len();
        if self.bytes.len() > LINE_MAX { Err(TooLong) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lines_come_out_as_they_went_in(
            lines in prop::collection::vec("[a-z]{0,9}", 0..20),
            cut in 1_usize..7,
        ) {
            let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
            let (mut buffer, mut found) = (Lines::default(), Vec::new());
            for piece in text.as_bytes().chunks(cut) {
                buffer.push(piece, |line| found.push(line.to_vec())).unwrap();
            }
            let found: Vec<String> =
                found.into_iter().map(|line| String::from_utf8(line).unwrap()).collect();
            prop_assert_eq!(found, lines);
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut buffer = Lines::default();
        let piece = vec![b'x'; LINE_MAX];
        assert_eq!(buffer.push(&piece, |_| {}), Ok(()));
        assert_eq!(buffer.push(b"x", |_| {}), Err(TooLong));
    }
}
