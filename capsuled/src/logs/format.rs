//! The bytes of a log file: one segment header, then frames. All numbers are little-endian.
//!
//! Segment header, 96 bytes: magic (8), version (2), length of this header (2), zero (4), task (8),
//! attempt (4), zero (4), generation (8), base offset (8), totals before this segment of out, err,
//! event and note (4 × 8), dropped bytes before it (8), zero (4), crc32 of all that (4).
//!
//! Frame, 32 bytes and the payload: magic (4), payload length (4), time in µs since 1970 (8),
//! logical offset (8), stream (1), zero (3), crc32 of those 28 bytes and the payload (4).

use super::Stream;

/// Length of the segment header that this version writes.
pub(super) const SEGMENT_HEADER: usize = 96;
/// Length of a frame without its payload.
pub(super) const FRAME_HEADER: usize = 32;
/// The longest payload that a reader accepts; anything longer is damage.
pub(super) const MAX_PAYLOAD: usize = 1 << 20;

const SEGMENT_MAGIC: [u8; 8] = *b"CAPSLOG\n";
const FRAME_MAGIC: [u8; 4] = *b"\xffLF\n";
const VERSION: u16 = 1;
/// Where the checksum of the segment header lies, in all versions of it.
const SEGMENT_CRC: usize = 92;

/// Bytes of payload per stream, and how many of all of them were dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) out: u64,
    pub(super) err: u64,
    pub(super) event: u64,
    pub(super) note: u64,
    pub(super) dropped: u64,
}

impl Totals {
    pub(super) fn add(&mut self, stream: Stream, bytes: u64) {
        match stream {
            Stream::Out => self.out += bytes,
            Stream::Err => self.err += bytes,
            Stream::Event => self.event += bytes,
            Stream::Note => self.note += bytes,
        }
    }

    /// The logical offset of the next byte.
    pub(super) fn offset(&self) -> u64 {
        self.out.saturating_add(self.err).saturating_add(self.event).saturating_add(self.note)
    }
}

/// What stands at the start of each file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) task: u64,
    pub(super) attempt: u32,
    /// 0 is the head; the tail segments count up from 1, odd ones in `t0`, even ones in `t1`.
    pub(super) generation: u64,
    /// Totals before the first frame; their sum is the base offset.
    pub(super) totals: Totals,
    /// Where the first frame starts.
    pub(super) length: u16,
}

/// What the first bytes of a file turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    Segment(SegmentHeader),
    /// Empty, half written, or not a log.
    Nothing,
    Newer(u16),
}

impl SegmentHeader {
    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        let from = into.len();
        into.extend_from_slice(&SEGMENT_MAGIC);
        into.extend_from_slice(&VERSION.to_le_bytes());
        into.extend_from_slice(&self.length.to_le_bytes());
        into.extend_from_slice(&[0; 4]);
        into.extend_from_slice(&self.task.to_le_bytes());
        into.extend_from_slice(&self.attempt.to_le_bytes());
        into.extend_from_slice(&[0; 4]);
        into.extend_from_slice(&self.generation.to_le_bytes());
        into.extend_from_slice(&self.totals.offset().to_le_bytes());
        let Totals { out, err, event, note, dropped } = self.totals;
        for total in [out, err, event, note, dropped] {
            into.extend_from_slice(&total.to_le_bytes());
        }
        into.extend_from_slice(&[0; 4]);
        let crc = crc32fast::hash(into.get(from..).unwrap_or_default());
        into.extend_from_slice(&crc.to_le_bytes());
    }

    /// Reads the header out of the first bytes of a file.
    pub(super) fn decode(bytes: &[u8]) -> Opening {
        Self::decode_known(bytes).unwrap_or(Opening::Nothing)
    }

    fn decode_known(bytes: &[u8]) -> Option<Opening> {
        if bytes.get(..8)? != SEGMENT_MAGIC {
            return None;
        }
        let version = u16_at(bytes, 8)?;
        if version > VERSION {
            return Some(Opening::Newer(version));
        }
        if u32_at(bytes, SEGMENT_CRC)? != crc32fast::hash(bytes.get(..SEGMENT_CRC)?) {
            return None;
        }
        let totals = Totals {
            out: u64_at(bytes, 48)?,
            err: u64_at(bytes, 56)?,
            event: u64_at(bytes, 64)?,
            note: u64_at(bytes, 72)?,
            dropped: u64_at(bytes, 80)?,
        };
        Some(Opening::Segment(Self {
            task: u64_at(bytes, 16)?,
            attempt: u32_at(bytes, 24)?,
            generation: u64_at(bytes, 32)?,
            totals,
            length: u16_at(bytes, 10)?,
        }))
    }
}

/// What stands before each payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) length: u32,
    pub(super) time_us: u64,
    /// Payload bytes of all streams before this frame.
    pub(super) offset: u64,
    pub(super) stream: Stream,
    pub(super) crc: u32,
}

impl FrameHeader {
    /// Writes the header of `payload`, checksum included. The payload must not be longer than
    /// [`MAX_PAYLOAD`].
    pub(super) fn encode(
        into: &mut Vec<u8>,
        time_us: u64,
        offset: u64,
        stream: Stream,
        payload: &[u8],
    ) {
        let from = into.len();
        let length = u32::try_from(payload.len()).expect("the caller cuts at MAX_PAYLOAD");
        into.extend_from_slice(&FRAME_MAGIC);
        into.extend_from_slice(&length.to_le_bytes());
        into.extend_from_slice(&time_us.to_le_bytes());
        into.extend_from_slice(&offset.to_le_bytes());
        into.extend_from_slice(&[stream as u8, 0, 0, 0]);
        let crc = checksum(into.get(from..).unwrap_or_default(), payload);
        into.extend_from_slice(&crc.to_le_bytes());
    }

    /// Reads a header; `None` when these bytes are not one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.get(..4)? != FRAME_MAGIC {
            return None;
        }
        let length = u32_at(bytes, 4)?;
        if length as usize > MAX_PAYLOAD {
            return None;
        }
        let stream = match bytes.get(24)? {
            1 => Stream::Out,
            2 => Stream::Err,
            3 => Stream::Event,
            4 => Stream::Note,
            _ => return None,
        };
        let (time_us, offset) = (u64_at(bytes, 8)?, u64_at(bytes, 16)?);
        offset.checked_add(u64::from(length))?;
        Some(Self { length, time_us, offset, stream, crc: u32_at(bytes, 28)? })
    }

    /// The logical offset behind the payload.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.length))
    }

    /// Bytes in the file, header and payload.
    pub(super) fn size(&self) -> u64 {
        FRAME_HEADER as u64 + u64::from(self.length)
    }
}

/// The payload of a whole frame (header and payload) if its checksum holds.
pub(super) fn verified_payload(frame: &[u8]) -> Option<&[u8]> {
    let (header, payload) = frame.split_at_checked(FRAME_HEADER)?;
    let crc = u32_at(header, 28)?;
    (checksum(header.get(..28)?, payload) == crc).then_some(payload)
}

/// The shard folder of a task.
pub(super) fn shard_name(task: u64) -> String {
    (task / 1000).to_string()
}

/// The file that holds a generation of a log.
pub(super) fn file_name(task: u64, attempt: u32, generation: u64) -> String {
    let suffix = match generation {
        0 => "head",
        odd if odd % 2 == 1 => "t0",
        _ => "t1",
    };
    format!("{task}.{attempt}.{suffix}")
}

/// The task and the attempt that a file belongs to; `None` for anything that is not a log file.
pub(super) fn parse_file_name(name: &str) -> Option<(u64, u32)> {
    let mut parts = name.split('.');
    let (task, attempt) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let known = matches!(parts.next()?, "head" | "t0" | "t1") && parts.next().is_none();
    known.then_some((task, attempt))
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(header);
    crc.update(payload);
    crc.finalize()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}
