//! Finding where the last lines of a log begin, from its end backwards, in little memory.

use std::io;

use super::reader::{ATTEMPTS, Cursor, LogReader, Segment};
use super::segment::{SKIP, Scan, WHOLE};
use super::{Chunk, LogError, Stream};

/// How much of a file is searched at once.
const BLOCK: u64 = 64 << 10;

/// What came of searching one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Searched {
    Found(Cursor),
    /// It has not enough lines; go on with the one before.
    TooFew,
    /// The writer emptied it meanwhile.
    Emptied,
}

/// Counts line ends from the last byte of a log towards its first.
#[derive(Debug)]
struct Backwards<'a> {
    streams: &'a [Stream],
    /// Line ends still to pass; the one that ends the last line is not among them.
    left: u64,
    /// No byte of the wanted streams was seen yet.
    at_end: bool,
    /// Where the searched part begins.
    start: Cursor,
}

impl LogReader {
    /// The last whole line of one stream, if there is one among its last `limit` bytes. A line that
    /// is being written is not whole.
    pub fn last_line(&mut self, stream: Stream, limit: usize) -> Result<Option<Vec<u8>>, LogError> {
        // An unfinished line counts as the last one, so two are looked at.
        let start = self.last_lines(2, &[stream])?;
        let mut text = Vec::new();
        for chunk in self.read(start, limit)?.chunks {
            if let Chunk::Data { stream: of, bytes, .. } = chunk
                && of == stream
            {
                text.extend(bytes);
            }
        }
        let Some(end) = text.iter().rposition(|byte| *byte == b'\n') else { return Ok(None) };
        let whole = text.get(..end).unwrap_or_default();
        Ok(whole.rsplit(|byte| *byte == b'\n').next().map(<[u8]>::to_vec))
    }

    /// Where to read from to get the last `lines` lines that the wanted streams make together, when
    /// the other streams are left out. A line without an end counts as one.
    ///
    /// If there are fewer, the result is the start of the log, and reading from there shows what is
    /// missing as gaps. Needs memory for some 128 KiB of the log, however large that is.
    pub fn last_lines(&mut self, lines: u64, streams: &[Stream]) -> Result<Cursor, LogError> {
        let mut search = Backwards::new(lines, streams);
        for _ in 0..ATTEMPTS {
            let Some(segments) = self.segments()? else { continue };
            search = Backwards::new(lines, streams);
            search.start = Cursor(self.size()?.written);
            if lines == 0 {
                break;
            }
            let mut searched = Searched::TooFew;
            for segment in segments.iter().rev() {
                searched = search.segment(segment).map_err(self.failed(segment))?;
                match searched {
                    Searched::Found(cursor) => return Ok(cursor),
                    Searched::TooFew => {}
                    Searched::Emptied => break,
                }
            }
            if searched == Searched::TooFew {
                return Ok(Cursor(0));
            }
        }
        // The writer was faster each time: what was searched is all that is still there.
        Ok(search.start)
    }
}

impl<'a> Backwards<'a> {
    fn new(lines: u64, streams: &'a [Stream]) -> Self {
        Self { streams, left: lines, at_end: true, start: Cursor(0) }
    }

    fn segment(&mut self, segment: &Segment) -> io::Result<Searched> {
        let header = &segment.header;
        let mut blocks = Vec::new();
        let mut scan =
            Scan::new(&segment.file, header.length.into(), header.totals.offset(), SKIP)?;
        let mut block_ends = 0;
        while let Some(frame) = scan.peek()? {
            if scan.at >= block_ends {
                blocks.push((scan.at, scan.offset));
                block_ends = scan.at + BLOCK;
            }
            scan.pass(&frame);
        }
        let mut end = scan.at;
        for (at, offset) in blocks.into_iter().rev() {
            let found = self.block(segment, (at, offset), end)?;
            if !segment.is_current()? {
                return Ok(Searched::Emptied);
            }
            if let Some(cursor) = found {
                return Ok(Searched::Found(cursor));
            }
            (end, self.start) = (at, Cursor(offset));
        }
        Ok(if segment.is_current()? { Searched::TooFew } else { Searched::Emptied })
    }

    fn block(
        &mut self,
        segment: &Segment,
        from: (u64, u64),
        end: u64,
    ) -> io::Result<Option<Cursor>> {
        let mut frames = Vec::new();
        let mut scan = Scan::new(&segment.file, from.0, from.1, WHOLE)?;
        while scan.at < end
            && let Some(frame) = scan.peek()?
        {
            if self.streams.contains(&frame.stream)
                && let Some(payload) = scan.payload(&frame)?
                && !payload.is_empty()
            {
                frames.push((frame.offset, payload.to_vec()));
            }
            scan.pass(&frame);
        }
        for (offset, bytes) in frames.iter().rev() {
            for (index, _) in bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                let ends_last_line = self.at_end && index + 1 == bytes.len();
                if ends_last_line {
                    continue;
                }
                self.left -= 1;
                if self.left == 0 {
                    return Ok(Some(Cursor(offset + index as u64 + 1)));
                }
            }
            self.at_end = false;
        }
        Ok(None)
    }
}
