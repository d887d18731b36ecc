//! The reading side: from a logical offset onward, also while the writer is at work.
//!
//! The writer may empty a tail file at any moment. So whatever was read from a file counts only if
//! its header, read again afterwards, still shows the same generation.

use std::fs::File;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::format::{FrameHeader, Opening, SegmentHeader, file_name, shard_name};
use super::segment::{SKIP, Scan, WHOLE, opening};
use super::{LogDir, LogError, Stream};

/// Most chunks of one batch, so that many tiny writes do not need much memory.
const MAX_CHUNKS: usize = 4096;
/// How often a read starts again because the writer emptied the file under it.
pub(super) const ATTEMPTS: u32 = 16;

/// A place in a log: the number of payload bytes before it, over all streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor(pub u64);

/// A piece of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Bytes of one stream, as they were read from the task or a part of that.
    Data {
        /// Logical offset of the first byte.
        offset: u64,
        /// When they were read, in µs since 1970.
        time_us: u64,
        /// Where they came from.
        stream: Stream,
        /// The bytes, never empty.
        bytes: Vec<u8>,
    },
    /// Bytes that are not there any more, or never were because the disk was full.
    Gap {
        /// Logical offset of the first missing byte.
        offset: u64,
        /// How many are missing, of all streams.
        bytes: u64,
    },
}

/// What one read gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// In the order in which the writer got them.
    pub chunks: Vec<Chunk>,
    /// Where to go on reading.
    pub next: Cursor,
    /// There may be more to read at once; if false, everything written until now was read.
    pub more: bool,
}

/// How large a log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSize {
    /// Payload bytes of all streams since the start, also those that are gone: the cursor behind
    /// the last complete frame.
    pub written: u64,
    /// Bytes that the files have now.
    pub stored: u64,
}

/// Reads the log of one attempt. The files need not exist yet.
#[derive(Debug)]
pub struct LogReader {
    dir: Arc<LogDir>,
    task: u64,
    attempt: u32,
    /// Head, `t0`, `t1`, each opened when it is first seen.
    files: [Option<Arc<File>>; 3],
    /// The boundary where the last read stopped, to go on there without scanning.
    stopped: Option<Boundary>,
    /// The furthest end seen by `size`.
    written: u64,
}

/// A file that held a segment when its header was read.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) file: Arc<File>,
    pub(super) header: SegmentHeader,
}

/// A frame boundary: its position in the file of a generation, and the offset before it.
#[derive(Clone, Copy, Debug)]
struct Boundary {
    generation: u64,
    at: u64,
    offset: u64,
}

impl LogReader {
    /// Prepares reading; opens files when they are needed.
    pub fn open(dir: Arc<LogDir>, task: u64, attempt: u32) -> Self {
        Self { dir, task, attempt, files: [None, None, None], stopped: None, written: 0 }
    }

    /// Reads from `cursor` on, at most `limit` payload bytes (at least one).
    pub fn read(&mut self, cursor: Cursor, limit: usize) -> Result<Batch, LogError> {
        let mut batch = Batch { chunks: Vec::new(), next: cursor, more: true };
        let mut left = limit.max(1);
        let mut tries = 0;
        while left > 0 && batch.chunks.len() < MAX_CHUNKS && tries < ATTEMPTS {
            let Some(segments) = self.segments()? else { break };
            let Some(first) = segments.first() else {
                batch.more = false;
                break;
            };
            batch.skip_to(first.header.totals.offset());
            let base = |segment: &Segment| segment.header.totals.offset();
            let index = segments.iter().rposition(|it| base(it) <= batch.next.0).unwrap_or(0);
            let Some(segment) = segments.get(index) else { break };
            let part = self.part(segment, batch.next, left)?;
            if !segment.is_current().map_err(self.failed(segment))? {
                tries += 1;
                continue;
            }
            self.stopped = Some(part.stopped);
            left -= part.bytes;
            let ended = part.ended;
            batch.add(part);
            if !ended {
                break;
            }
            // That segment was seen to have a successor before it was read, so it was complete.
            let Some(next) = segments.get(index + 1) else {
                batch.more = false;
                break;
            };
            batch.skip_to(base(next));
        }
        Ok(batch)
    }

    /// The size of the log now. While the writer is very fast it may lag behind, but `written` never
    /// goes back.
    pub fn size(&mut self) -> Result<LogSize, LogError> {
        let mut stored = 0;
        for _ in 0..ATTEMPTS {
            let Some(segments) = self.segments()? else { continue };
            stored = 0;
            for file in self.files.iter().flatten() {
                let name = || format!("{}.{}", self.task, self.attempt);
                stored += file.metadata().map_err(LogError::io("reading", name()))?.len();
            }
            let Some(newest) = segments.last() else { break };
            let written = self.end_of(newest).map_err(self.failed(newest))?;
            if newest.is_current().map_err(self.failed(newest))? {
                self.written = self.written.max(written);
                break;
            }
        }
        Ok(LogSize { written: self.written, stored })
    }

    /// The segments that existed at one moment, oldest first; `None` when the writer never paused
    /// long enough to see such a moment.
    ///
    /// Files are looked at one after another, and the writer may switch in between. A generation
    /// never comes back, and only one tail file is without a header at a time; so when two rounds
    /// see the same, that is what was there between them.
    pub(super) fn segments(&mut self) -> Result<Option<Vec<Segment>>, LogError> {
        let mut before = self.look()?;
        for round in 1..=ATTEMPTS {
            let now = self.look()?;
            let headers = |found: &[Segment]| found.iter().map(|it| it.header).collect::<Vec<_>>();
            let opened = self.files.iter().skip(1).flatten().count();
            let tails = now.iter().filter(|it| it.header.generation > 0).count();
            let possible = opened < 2 || tails > 0 || round == ATTEMPTS;
            if possible && headers(&now) == headers(&before) {
                return Ok(Some(now));
            }
            before = now;
        }
        Ok(None)
    }

    fn look(&mut self) -> Result<Vec<Segment>, LogError> {
        self.open_missing()?;
        let mut found = Vec::with_capacity(3);
        for (generation, file) in (0..).zip(&self.files) {
            let Some(file) = file else { continue };
            let name = || file_name(self.task, self.attempt, generation);
            match opening(file).map_err(LogError::io("reading", name()))? {
                Opening::Segment(header)
                    if (header.task, header.attempt) == (self.task, self.attempt) =>
                {
                    found.push(Segment { file: Arc::clone(file), header });
                }
                Opening::Segment(_) | Opening::Nothing => {}
                Opening::Newer(version) => return Err(LogError::Newer { name: name(), version }),
            }
        }
        found.sort_by_key(|segment| segment.header.generation);
        Ok(found)
    }

    pub(super) fn failed(&self, segment: &Segment) -> impl FnOnce(std::io::Error) -> LogError {
        LogError::io("reading", file_name(self.task, self.attempt, segment.header.generation))
    }

    /// Reads within one segment. The result counts only if the segment is still current.
    fn part(&self, segment: &Segment, from: Cursor, limit: usize) -> Result<Part, LogError> {
        let failed = || self.failed(segment);
        let start = self.boundary(segment, from);
        let mut scan = Scan::new(&segment.file, start.at, start.offset, WHOLE).map_err(failed())?;
        let mut part = Part {
            chunks: Vec::new(),
            next: from,
            bytes: 0,
            stopped: start,
            damaged: false,
            ended: false,
        };
        loop {
            // Behind a damaged frame only once a whole one follows; until then it may be half
            // written. The offset of the one that follows shows the gap.
            if !part.damaged {
                part.stopped = Boundary { at: scan.at, offset: scan.offset, ..start };
            }
            if part.bytes >= limit || part.chunks.len() >= MAX_CHUNKS {
                break;
            }
            let Some(frame) = scan.peek().map_err(failed())? else {
                part.ended = true;
                break;
            };
            if frame.end() > part.next.0 || frame.offset > part.next.0 {
                let payload = scan.payload(&frame).map_err(failed())?;
                part.damaged = payload.is_none();
                if !part.take(&frame, payload.unwrap_or_default(), limit) {
                    break;
                }
            }
            scan.pass(&frame);
        }
        Ok(part)
    }

    /// The nearest known frame boundary at or before a cursor.
    fn boundary(&self, segment: &Segment, cursor: Cursor) -> Boundary {
        let SegmentHeader { generation, length, .. } = segment.header;
        let start =
            Boundary { generation, at: length.into(), offset: segment.header.totals.offset() };
        self.stopped
            .filter(|known| known.generation == generation && known.offset <= cursor.0)
            .unwrap_or(start)
    }

    fn end_of(&self, segment: &Segment) -> std::io::Result<u64> {
        let from = self.boundary(segment, Cursor(u64::MAX));
        let mut scan = Scan::new(&segment.file, from.at, from.offset, SKIP)?;
        while let Some(frame) = scan.peek()? {
            scan.pass(&frame);
        }
        Ok(scan.offset)
    }

    fn open_missing(&mut self) -> Result<(), LogError> {
        if self.files.iter().all(Option::is_some) {
            return Ok(());
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let shard = shard_name(self.task);
        let in_shard = flags | OFlag::O_DIRECTORY;
        let shard = match openat(self.dir.fd(), shard.as_str(), in_shard, Mode::empty()) {
            Ok(shard) => shard,
            Err(Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(LogError::io("opening", shard)(error.into())),
        };
        for (generation, slot) in (0..).zip(&mut self.files) {
            if slot.is_some() {
                continue;
            }
            let name = file_name(self.task, self.attempt, generation);
            match openat(&shard, name.as_str(), flags, Mode::empty()) {
                Ok(file) => *slot = Some(Arc::new(File::from(file))),
                Err(Errno::ENOENT) => {}
                Err(error) => return Err(LogError::io("opening", name)(error.into())),
            }
        }
        Ok(())
    }
}

impl Segment {
    /// Whether the file still holds the generation that it held when this was made.
    pub(super) fn is_current(&self) -> std::io::Result<bool> {
        Ok(match opening(&self.file)? {
            Opening::Segment(header) => header.generation == self.header.generation,
            Opening::Nothing | Opening::Newer(_) => false,
        })
    }
}

/// What was read from one segment.
#[derive(Debug)]
struct Part {
    chunks: Vec<Chunk>,
    next: Cursor,
    /// Payload bytes of the chunks.
    bytes: usize,
    stopped: Boundary,
    /// The last frame looked at has a wrong checksum.
    damaged: bool,
    /// There is no further complete frame.
    ended: bool,
}

impl Part {
    fn skip_to(&mut self, offset: u64) {
        skip(&mut self.chunks, &mut self.next, offset);
    }

    /// Takes what the limit allows; false if some of the payload is left.
    fn take(&mut self, frame: &FrameHeader, payload: &[u8], limit: usize) -> bool {
        if self.damaged {
            return true;
        }
        self.skip_to(frame.offset);
        let skip = usize::try_from(self.next.0 - frame.offset).unwrap_or(usize::MAX);
        let wanted = payload.get(skip..).unwrap_or_default();
        let bytes = wanted.get(..limit - self.bytes).unwrap_or(wanted);
        if !bytes.is_empty() {
            let (offset, time_us, stream) = (self.next.0, frame.time_us, frame.stream);
            self.bytes += bytes.len();
            self.next.0 += bytes.len() as u64;
            self.chunks.push(Chunk::Data { offset, time_us, stream, bytes: bytes.to_vec() });
        }
        bytes.len() == wanted.len()
    }
}

impl Batch {
    fn skip_to(&mut self, offset: u64) {
        skip(&mut self.chunks, &mut self.next, offset);
    }

    fn add(&mut self, part: Part) {
        for chunk in part.chunks {
            match &chunk {
                Chunk::Gap { offset, bytes } => self.skip_to(offset.saturating_add(*bytes)),
                Chunk::Data { offset, bytes, .. } => {
                    self.next.0 = offset.saturating_add(bytes.len() as u64);
                    self.chunks.push(chunk);
                }
            }
        }
        self.next = part.next;
    }
}

/// Moves the cursor forward over missing bytes; adjoining gaps become one.
fn skip(chunks: &mut Vec<Chunk>, next: &mut Cursor, to: u64) {
    let missing = to.saturating_sub(next.0);
    if missing == 0 {
        return;
    }
    if let Some(Chunk::Gap { bytes, .. }) = chunks.last_mut() {
        *bytes += missing;
    } else {
        chunks.push(Chunk::Gap { offset: next.0, bytes: missing });
    }
    next.0 = to;
}
