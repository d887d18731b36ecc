//! A writer and readers at the same time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{folder, reader, writer};
use crate::logs::{Chunk, Cursor, LogCaps, LogWriter, Stream};

const TINY: LogCaps = LogCaps { head: 700, tail: 8192 };

/// The byte and the stream at an offset, so that a reader can check any part of the log.
#[expect(clippy::cast_possible_truncation, reason = "only the low bits matter")]
fn byte_at(offset: u64) -> u8 {
    if offset % 37 == 36 { b'\n' } else { (offset.wrapping_mul(0x9e37_79b9) >> 13) as u8 | 0x80 }
}

fn append(log: &mut LogWriter, from: u64, length: u64) -> u64 {
    let bytes: Vec<u8> = (from..from + length).map(byte_at).collect();
    let stream = if length.is_multiple_of(2) { Stream::Out } else { Stream::Err };
    log.append(from, stream, &bytes);
    from + length
}

/// Checks the chunks; how many bytes they show and skip.
fn check(chunks: &[Chunk], mut at: u64) -> (u64, u64) {
    let (mut shown, mut skipped) = (0, 0);
    for chunk in chunks {
        match chunk {
            Chunk::Gap { offset, bytes } => {
                assert_eq!(*offset, at);
                skipped += bytes;
                at += bytes;
            }
            Chunk::Data { offset, bytes, .. } => {
                assert_eq!(*offset, at);
                for (offset, byte) in (at..).zip(bytes) {
                    assert_eq!(*byte, byte_at(offset), "at {offset}");
                }
                shown += bytes.len() as u64;
                at += bytes.len() as u64;
            }
        }
    }
    (shown, skipped)
}

/// Payload that a tail file of `TINY` holds at least, with frames of 60 to 142 bytes.
const SEGMENT_HOLDS: u64 = 2400;
const LONGEST: u64 = 142;

/// Bytes may be missing only if at least the whole next tail file was written after them.
fn check_gaps(chunks: &[Chunk], written: u64) {
    for chunk in chunks {
        if let Chunk::Gap { offset, bytes } = chunk {
            let end = offset + bytes;
            let begun = written + LONGEST;
            assert!(begun >= end + SEGMENT_HOLDS, "{offset}..{end} missing at {written}");
        }
    }
}

#[test]
fn a_reader_beside_a_fast_writer_sees_only_true_bytes_and_all_of_the_end() {
    let (_temp, dir) = folder();
    let total = 6_000_000;
    let (done, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let deadline = Instant::now() + Duration::from_secs(120);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut log = writer(&dir, TINY);
            let mut at = 0;
            while at < total {
                at = append(&mut log, at, 60 + at % 83);
                written.store(at, Ordering::Release);
            }
            assert_eq!(log.close().dropped, 0);
            done.store(true, Ordering::Release);
        });
        for limit in [1000, 100_000] {
            let (dir, done, written) = (&dir, &done, &written);
            scope.spawn(move || {
                let mut reader = reader(dir);
                let (mut cursor, mut shown) = (Cursor(0), 0);
                loop {
                    assert!(Instant::now() < deadline, "stuck at {cursor:?}");
                    let ended = done.load(Ordering::Acquire);
                    let batch = reader.read(cursor, limit).unwrap();
                    check_gaps(&batch.chunks, written.load(Ordering::Acquire));
                    let (new, gone) = check(&batch.chunks, cursor.0);
                    assert_eq!(batch.next.0, cursor.0 + new + gone);
                    (cursor, shown) = (batch.next, shown + new);
                    if ended && !batch.more {
                        break;
                    }
                }
                assert_eq!(cursor.0, written.load(Ordering::Acquire));
                assert!(shown > SEGMENT_HOLDS, "{shown}");
            });
        }
    });
}

#[test]
fn last_lines_and_size_beside_a_fast_writer_stay_true() {
    let (_temp, dir) = folder();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut log = writer(&dir, TINY);
            let mut at = 0;
            while at < 2_000_000 {
                at = append(&mut log, at, 1 + at % 301);
            }
            done.store(true, Ordering::Release);
        });
        let mut reader = reader(&dir);
        let mut newest = 0;
        while !done.load(Ordering::Acquire) {
            let start = reader.last_lines(3, &[Stream::Out, Stream::Err]).unwrap();
            let size = reader.size().unwrap();
            assert!(start.0 <= size.written, "{start:?} {size:?}");
            assert!(size.written >= newest, "{size:?} after {newest}");
            assert!(size.stored <= TINY.head + TINY.tail);
            newest = size.written;
            let batch = reader.read(start, 500).unwrap();
            check(&batch.chunks, start.0);
        }
        let start = reader.last_lines(3, &[Stream::Out, Stream::Err]).unwrap();
        assert_eq!(byte_at(start.0 - 1), b'\n');
    });
}
