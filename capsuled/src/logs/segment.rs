//! Reading one file of a log: its header, and its complete frames one after another.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::format::{
    FRAME_HEADER, FrameHeader, Opening, SEGMENT_HEADER, SegmentHeader, verified_payload,
};

/// Step of reading when payloads are wanted.
pub(super) const WHOLE: usize = 128 << 10;
/// Step of reading when payloads are skipped.
pub(super) const SKIP: usize = 4 << 10;

/// The header of a file as it stands now.
pub(super) fn opening(file: &File) -> io::Result<Opening> {
    let mut bytes = Vec::with_capacity(SEGMENT_HEADER);
    fill(file, &mut bytes, 0, SEGMENT_HEADER)?;
    Ok(SegmentHeader::decode(&bytes))
}

/// One pass over the frames of a file, up to the length that it had when the pass began.
///
/// Never kept for a second pass: a writer may have emptied the file in between.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    file: &'a File,
    /// Length of the file when the pass began.
    length: u64,
    /// Position of the next frame.
    pub(super) at: u64,
    /// Logical offset behind the last frame; a frame that begins before it is damage.
    pub(super) offset: u64,
    window: Vec<u8>,
    window_at: u64,
    step: usize,
}

impl<'a> Scan<'a> {
    /// Starts at a frame boundary. `step` is [`WHOLE`] or [`SKIP`].
    pub(super) fn new(file: &'a File, at: u64, offset: u64, step: usize) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file, length, at, offset, window: Vec::new(), window_at: 0, step })
    }

    /// The next frame, if it is complete; does not move.
    pub(super) fn peek(&mut self) -> io::Result<Option<FrameHeader>> {
        let offset = self.offset;
        let left = self.length.saturating_sub(self.at);
        let frame = self.bytes(FRAME_HEADER)?.and_then(FrameHeader::decode);
        Ok(frame.filter(|frame| frame.offset >= offset && frame.size() <= left))
    }

    /// The payload of the frame that [`Scan::peek`] gave; `None` when its checksum fails.
    pub(super) fn payload(&mut self, frame: &FrameHeader) -> io::Result<Option<&[u8]>> {
        let size = FRAME_HEADER + frame.length as usize;
        Ok(self.bytes(size)?.and_then(verified_payload))
    }

    /// Moves behind the frame.
    pub(super) fn pass(&mut self, frame: &FrameHeader) {
        self.at += frame.size();
        self.offset = frame.end();
    }

    fn bytes(&mut self, size: usize) -> io::Result<Option<&[u8]>> {
        let behind = self.at.checked_sub(self.window_at).and_then(|n| usize::try_from(n).ok());
        let missing = |from: usize| from.saturating_add(size) > self.window.len();
        let mut from = behind.filter(|from| *from <= self.window.len());
        if from.is_none_or(missing) {
            self.window.drain(..from.unwrap_or(self.window.len()));
            self.window_at = self.at;
            let have = self.at.saturating_add(self.window.len() as u64);
            let room = usize::try_from(self.length.saturating_sub(have)).unwrap_or(usize::MAX);
            let want = size.max(self.step).saturating_sub(self.window.len()).min(room);
            fill(self.file, &mut self.window, have, want)?;
            from = Some(0);
        }
        Ok(from.and_then(|from| self.window.get(from..)?.get(..size)))
    }
}

/// Appends up to `want` bytes of the file to `into`; fewer at its end.
fn fill(file: &File, into: &mut Vec<u8>, mut at: u64, want: usize) -> io::Result<()> {
    let mut have = into.len();
    into.resize(have + want, 0);
    while let Some(room) = into.get_mut(have..).filter(|room| !room.is_empty()) {
        match file.read_at(room, at) {
            Ok(0) => break,
            Ok(n) => {
                have += n;
                at += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    into.truncate(have);
    Ok(())
}
