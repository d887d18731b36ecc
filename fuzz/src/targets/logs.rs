//! The files of an attempt's log, as a reader of another version finds them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use capsuled::logs::{Cursor, LogDir, LogReader, Stream};

use super::{disk, number, piece};

/// Length of a segment's header, and where its checksum lies.
const SEGMENT: (usize, usize) = (96, 92);
/// Length of a frame's header, and where its checksum lies.
const FRAME: (usize, usize) = (32, 28);

/// One byte of flags, then head, `t0` and `t1`, two of them with their lengths. With the first flag the
/// files get the numbers and checksums that they should have.
pub fn logs(data: &[u8]) {
    let Some((flags, mut rest)) = data.split_first() else { return };
    let dir = disk::scratch().join("logs");
    let shard = dir.join("0");
    fs::create_dir_all(&shard).unwrap();
    for (name, last) in [("1.1.head", false), ("1.1.t0", false), ("1.1.t1", true)] {
        let length = if last { usize::MAX } else { number(&mut rest) };
        write(&shard.join(name), piece(&mut rest, length), flags & 1 == 1);
    }
    let mut reader = LogReader::open(Arc::new(LogDir::open(&dir).unwrap()), 1, 1);
    let limit = if flags & 2 == 2 { 7 } else { 1 << 20 };
    let from = if flags & 4 == 4 { Cursor(u64::MAX - 3) } else { Cursor(0) };
    read_all(&mut reader, from, limit);
    drop(reader.size());
    let streams = [Stream::Out, Stream::Err, Stream::Event, Stream::Note];
    for lines in [0, 1, 3, u64::MAX] {
        drop(reader.last_lines(lines, &streams));
    }
    drop(reader.last_line(Stream::Event, 4096));
}

/// Reads on until there is no more: nothing changes, so each read gets further or is the last.
fn read_all(reader: &mut LogReader, mut cursor: Cursor, limit: usize) {
    for _ in 0..256 {
        let Ok(batch) = reader.read(cursor, limit) else { return };
        assert!(batch.next >= cursor, "reading went back from {cursor:?} to {:?}", batch.next);
        if !batch.more {
            return;
        }
        assert!(batch.next > cursor, "there is more behind {cursor:?}, and no way to it");
        cursor = batch.next;
    }
}

fn write(path: &Path, data: &[u8], mended: bool) {
    if data.is_empty() {
        drop(fs::remove_file(path));
        return;
    }
    let mut bytes = data.to_vec();
    if mended {
        mend(&mut bytes);
    }
    fs::write(path, bytes).unwrap();
}

/// Puts in the numbers of the attempt and every checksum.
fn mend(bytes: &mut [u8]) {
    let Some((header, mut rest)) = bytes.split_at_mut_checked(SEGMENT.0) else { return };
    header[..8].copy_from_slice(b"CAPSLOG\n");
    header[16..28].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    let crc = crc32fast::hash(&header[..SEGMENT.1]);
    header[SEGMENT.1..].copy_from_slice(&crc.to_le_bytes());
    while let Some((frame, behind)) = rest.split_at_mut_checked(FRAME.0) {
        let length = u32::from_le_bytes(frame[4..8].try_into().unwrap());
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(behind.len());
        let (payload, behind) = behind.split_at_mut(length);
        let mut crc = crc32fast::Hasher::new();
        crc.update(&frame[..FRAME.1]);
        crc.update(payload);
        frame[FRAME.1..].copy_from_slice(&crc.finalize().to_le_bytes());
        rest = behind;
    }
}
