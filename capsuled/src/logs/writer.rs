//! The writing side: frames into the head, then into two tail files in turn.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::geteuid;

use super::format::{
    FRAME_HEADER, FrameHeader, Opening, SEGMENT_HEADER, SegmentHeader, Totals, file_name,
    shard_name,
};
use super::segment::{Scan, WHOLE, opening};
use super::{LogCaps, LogSummary, Stream};

/// The longest payload of one frame, as much as a pipe gives in one read.
const FRAME_PAYLOAD: u64 = 64 << 10;
/// The smallest tail file.
const MIN_SEGMENT: u64 = 1 << 10;

/// Writes the log of one attempt. There must be only one per attempt at a time.
///
/// If files of the same attempt exist already, it goes on behind their last complete frame and
/// counts from there.
#[derive(Debug)]
pub struct LogWriter {
    dir: OwnedFd,
    task: u64,
    attempt: u32,
    head_cap: u64,
    segment_cap: u64,
    totals: Totals,
    last_time_us: u64,
    /// Bytes were dropped after the last frame, so no reader can see that gap yet.
    gap_at_end: bool,
    active: Option<Active>,
    front: Vec<u8>,
}

/// The file that takes the next frame.
#[derive(Debug)]
struct Active {
    file: File,
    generation: u64,
    /// Bytes of complete frames and their header; 0 when the file is new or emptied.
    length: u64,
    /// The file may be longer than `length`.
    torn: bool,
}

impl LogWriter {
    /// Prepares the log; creates nothing before the first append. `dir` is the logs folder.
    pub fn new(dir: OwnedFd, task: u64, attempt: u32, caps: LogCaps) -> Self {
        Self {
            dir,
            task,
            attempt,
            head_cap: caps.head,
            segment_cap: (caps.tail / 2).max(MIN_SEGMENT),
            totals: Totals::default(),
            last_time_us: 0,
            gap_at_end: false,
            active: None,
            front: Vec::with_capacity(SEGMENT_HEADER + FRAME_HEADER),
        }
    }

    /// Adds what was read from `stream` at `time_unix_us`. Up to 64 KiB take one `write`.
    ///
    /// Cannot fail: bytes that cannot be written are dropped and counted, and the next append tries
    /// again. Nothing is written for no bytes.
    pub fn append(&mut self, time_unix_us: u64, stream: Stream, bytes: &[u8]) {
        self.last_time_us = time_unix_us;
        for piece in bytes.chunks(self.frame_payload()) {
            let stored = self.store(time_unix_us, stream, piece);
            self.totals.add(stream, piece.len() as u64);
            if stored.is_err() {
                self.totals.dropped += piece.len() as u64;
            }
            self.gap_at_end = stored.is_err();
        }
    }

    /// Ends the log and says what went through it; of a log that was there before, only if
    /// something was appended.
    pub fn close(mut self) -> LogSummary {
        if self.gap_at_end {
            // An empty frame makes the gap visible; if even that does not fit, only the counters
            // know of it.
            drop(self.store(self.last_time_us, Stream::Note, &[]));
        }
        let Totals { out, err, event, note: _, dropped } = self.totals;
        LogSummary { bytes_out: out, bytes_err: err, bytes_event: event, dropped }
    }

    /// A frame takes at most a quarter of a segment, so that little room is lost at its end.
    fn frame_payload(&self) -> usize {
        let quarter = (self.segment_cap - SEGMENT_HEADER as u64) / 4 - FRAME_HEADER as u64;
        usize::try_from(quarter.min(FRAME_PAYLOAD)).expect("at most 64 Ki")
    }

    fn store(&mut self, time_us: u64, stream: Stream, payload: &[u8]) -> io::Result<()> {
        let frame = (FRAME_HEADER + payload.len()) as u64;
        if self.active.is_none() {
            self.active = self.resume()?;
        }
        let (next, full) = match &self.active {
            None if SEGMENT_HEADER as u64 + frame <= self.head_cap => (0, true),
            None => (1, true),
            Some(active) => {
                let header = if active.length == 0 { SEGMENT_HEADER as u64 } else { 0 };
                let cap = if active.generation == 0 { self.head_cap } else { self.segment_cap };
                (active.generation + 1, active.length + header + frame > cap)
            }
        };
        if full {
            self.active = Some(self.start(next)?);
        }
        let active = self.active.as_mut().expect("it was just set");
        active.mend()?;
        self.front.clear();
        if active.length == 0 {
            let header = SegmentHeader {
                task: self.task,
                attempt: self.attempt,
                generation: active.generation,
                totals: self.totals,
                length: u16::try_from(SEGMENT_HEADER).expect("96 fits"),
            };
            header.encode(&mut self.front);
        }
        FrameHeader::encode(&mut self.front, time_us, self.totals.offset(), stream, payload);
        active.write(&self.front, payload)
    }

    /// Opens and empties the file of a generation.
    fn start(&self, generation: u64) -> io::Result<Active> {
        let file = self.open(generation, true)?;
        Ok(Active { file, generation, length: 0, torn: true })
    }

    /// Goes on with the newest existing file of this attempt, if there is one.
    fn resume(&mut self) -> io::Result<Option<Active>> {
        let mut newest: Option<(File, SegmentHeader)> = None;
        for generation in 0..=2 {
            let file = match self.open(generation, false) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let Opening::Segment(header) = opening(&file)? else { continue };
            let newer = newest.as_ref().is_none_or(|(_, old)| header.generation > old.generation);
            if newer && (header.task, header.attempt) == (self.task, self.attempt) {
                newest = Some((file, header));
            }
        }
        let Some((file, header)) = newest else { return Ok(None) };
        let before = self.totals;
        self.totals = header.totals;
        let mut scan = Scan::new(&file, u64::from(header.length), header.totals.offset(), WHOLE)?;
        while let Some(frame) = scan.peek()? {
            if scan.payload(&frame)?.is_none() {
                break;
            }
            // A jump is a gap of dropped bytes; which stream they belonged to is not known.
            let gap = frame.offset - scan.offset;
            self.totals.out += gap;
            self.totals.dropped += gap;
            self.totals.add(frame.stream, u64::from(frame.length));
            scan.pass(&frame);
        }
        let length = scan.at;
        // Bytes dropped before the files could be looked at are the gap before the next frame.
        self.totals.out += before.out;
        self.totals.err += before.err;
        self.totals.event += before.event;
        self.totals.note += before.note;
        self.totals.dropped += before.dropped;
        Ok(Some(Active { file, generation: header.generation, length, torn: true }))
    }

    /// Opens a file of this log, and creates it if that is asked for.
    fn open(&self, generation: u64, create: bool) -> io::Result<File> {
        let name = file_name(self.task, self.attempt, generation);
        let flags = OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let new = flags | OFlag::O_CREAT | OFlag::O_EXCL;
        let mut tries = 0;
        loop {
            let shard = self.shard(create)?;
            match openat(&shard, name.as_str(), flags, Mode::empty()) {
                Err(Errno::ENOENT) if create => {}
                opened => return self.ours(File::from(opened?)),
            }
            match openat(&shard, name.as_str(), new, Mode::from_bits_truncate(0o600)) {
                // The daemon removes an empty shard folder; it may do so between our two calls.
                Err(Errno::ENOENT | Errno::EEXIST) if tries < 8 => tries += 1,
                opened => {
                    let file = File::from(opened?);
                    self.give_to_owner(&file)?;
                    return Ok(file);
                }
            }
        }
    }

    /// Refuses what a privileged keeper must not be lured into writing to.
    fn ours(&self, file: File) -> io::Result<File> {
        let (dir, found) = (fstat(&self.dir)?, file.metadata()?);
        let owned = found.uid() == dir.st_uid || found.uid() == geteuid().as_raw();
        if found.is_file() && found.nlink() == 1 && owned {
            Ok(file)
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }

    fn shard(&self, create: bool) -> io::Result<OwnedFd> {
        let name = shard_name(self.task);
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.dir, name.as_str(), flags, Mode::empty()) {
            Err(Errno::ENOENT) if create => {}
            opened => return Ok(opened?),
        }
        match mkdirat(&self.dir, name.as_str(), Mode::from_bits_truncate(0o700)) {
            Ok(()) => {
                let shard = openat(&self.dir, name.as_str(), flags, Mode::empty())?;
                self.give_to_owner(&shard)?;
                Ok(shard)
            }
            Err(Errno::EEXIST) => Ok(openat(&self.dir, name.as_str(), flags, Mode::empty())?),
            Err(error) => Err(error.into()),
        }
    }

    /// A privileged keeper writes for a daemon without privileges. Only for what was just created.
    fn give_to_owner(&self, made: &impl AsFd) -> io::Result<()> {
        let (owner, now) = (fstat(&self.dir)?, fstat(made)?);
        if (owner.st_uid, owner.st_gid) == (now.st_uid, now.st_gid) {
            return Ok(());
        }
        match std::os::unix::fs::fchown(made.as_fd(), Some(owner.st_uid), Some(owner.st_gid)) {
            // Not privileged: then keeper and daemon are the same user, and the group may differ.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            given => given,
        }
    }
}

impl Active {
    /// Cuts off what a failed write left behind. Possible on a full disk.
    fn mend(&mut self) -> io::Result<()> {
        if self.torn && self.file.metadata()?.size() != self.length {
            self.file.set_len(self.length)?;
        }
        self.torn = false;
        Ok(())
    }

    fn write(&mut self, front: &[u8], payload: &[u8]) -> io::Result<()> {
        let size = front.len() + payload.len();
        let slices = [IoSlice::new(front), IoSlice::new(payload)];
        let written = loop {
            match self.file.write_vectored(&slices) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => break written,
            }
        };
        if written.as_ref().is_ok_and(|written| *written == size) {
            self.length += size as u64;
            return Ok(());
        }
        self.torn = true;
        // At once, or a reader sees half a frame until the next append; that one tries again.
        drop(self.mend());
        Err(written.err().unwrap_or_else(|| io::ErrorKind::StorageFull.into()))
    }
}
