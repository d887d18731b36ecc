//! Tests of the logs as a whole: the writer against the reader, on real files.

use std::sync::Arc;

use tempfile::TempDir;

use super::{Chunk, Cursor, LogCaps, LogDir, LogReader, LogWriter, Stream};

mod faults;
mod follow;
mod ledger;
mod model;
mod shared;

const SMALL: LogCaps = LogCaps { head: 600, tail: 2048 };

fn folder() -> (TempDir, Arc<LogDir>) {
    let temp = tempfile::tempdir().unwrap();
    let dir = Arc::new(LogDir::open(temp.path().join("logs")).unwrap());
    (temp, dir)
}

fn writer(dir: &LogDir, caps: LogCaps) -> LogWriter {
    LogWriter::new(dir.handle().unwrap(), 1842, 1, caps)
}

fn reader(dir: &Arc<LogDir>) -> LogReader {
    LogReader::open(Arc::clone(dir), 1842, 1)
}

/// Reads to the end, at most `limit` bytes at once.
fn read_from(reader: &mut LogReader, from: Cursor, limit: usize) -> Vec<Chunk> {
    let mut cursor = from;
    let mut chunks = Vec::new();
    for _ in 0..1_000_000 {
        let batch = reader.read(cursor, limit).unwrap();
        assert!(!batch.more || batch.next > cursor, "no progress at {cursor:?}");
        cursor = batch.next;
        chunks.extend(batch.chunks);
        if !batch.more {
            return chunks;
        }
    }
    panic!("reading does not end");
}

/// What each logical offset holds: a stream and a byte, or nothing in a gap.
fn unrolled(chunks: &[Chunk], from: Cursor) -> Vec<Option<(Stream, u8)>> {
    let mut bytes = Vec::new();
    for chunk in chunks {
        let next = from.0 + bytes.len() as u64;
        match chunk {
            Chunk::Gap { offset, bytes: missing } => {
                assert_eq!(*offset, next);
                bytes.extend((0..*missing).map(|_| None));
            }
            Chunk::Data { offset, stream, bytes: data, time_us: _ } => {
                assert_eq!(*offset, next);
                assert!(!data.is_empty());
                bytes.extend(data.iter().map(|byte| Some((*stream, *byte))));
            }
        }
    }
    bytes
}

fn text(chunks: &[Chunk]) -> Vec<u8> {
    unrolled(chunks, Cursor(0)).into_iter().flatten().map(|(_, byte)| byte).collect()
}

#[test]
fn nothing_is_created_before_the_first_byte() {
    let (temp, dir) = folder();
    let mut writer = writer(&dir, SMALL);
    writer.append(1, Stream::Out, b"");
    assert_eq!(writer.close(), super::LogSummary::default());
    assert_eq!(std::fs::read_dir(temp.path().join("logs")).unwrap().count(), 0);
    let mut reader = reader(&dir);
    assert_eq!(reader.read(Cursor(0), 10).unwrap(), super::Batch::default());
    assert_eq!(reader.size().unwrap(), super::LogSize::default());
    assert_eq!(reader.last_lines(5, &[Stream::Out]).unwrap(), Cursor(0));
}

#[test]
fn files_and_folders_are_private_and_counted() {
    use std::os::unix::fs::PermissionsExt;
    let (temp, dir) = folder();
    let mut log = writer(&dir, SMALL);
    log.append(7, Stream::Out, b"hello\n");
    log.append(8, Stream::Err, b"\x00\xff");
    let summary = log.close();
    assert_eq!((summary.bytes_out, summary.bytes_err, summary.dropped), (6, 2, 0));
    let mode = |name: &str| {
        let path = temp.path().join("logs").join(name);
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode(""), mode("1"), mode("1/1842.1.head")), (0o700, 0o700, 0o600));

    let out = |offset, bytes: &[u8]| {
        let stream = Stream::Out;
        Chunk::Data { offset, time_us: 7, stream, bytes: bytes.to_vec() }
    };
    let err = Chunk::Data { offset: 6, time_us: 8, stream: Stream::Err, bytes: vec![0, 0xff] };
    let batch = reader(&dir).read(Cursor(0), 100).unwrap();
    assert_eq!((batch.next, batch.more), (Cursor(8), false));
    assert_eq!(batch.chunks, [out(0, b"hello\n"), err]);
    let batch = reader(&dir).read(Cursor(2), 3).unwrap();
    assert_eq!((batch.next, batch.more), (Cursor(5), true));
    assert_eq!(batch.chunks, [out(2, b"llo")]);

    let logs = dir.list().unwrap();
    assert_eq!(logs.len(), 1);
    assert_eq!((logs[0].task, logs[0].attempt, logs[0].bytes), (1842, 1, 96 + 38 + 34));
    assert_eq!(dir.usage().unwrap(), logs[0].bytes);
    assert_eq!(reader(&dir).size().unwrap().stored, logs[0].bytes);

    dir.remove(1842, 2).unwrap();
    assert_eq!(dir.list().unwrap().len(), 1);
    dir.remove(1842, 1).unwrap();
    dir.remove(1842, 1).unwrap();
    assert_eq!(dir.usage().unwrap(), 0);
    assert!(!temp.path().join("logs/1").exists());
}

#[test]
fn a_ten_megabyte_line_survives() {
    let (_temp, dir) = folder();
    let line: Vec<u8> = (0..10_000_000_u32).map(|n| (n % 10) as u8).collect();
    let mut log = writer(&dir, LogCaps::default());
    log.append(1, Stream::Out, &line);
    log.append(2, Stream::Out, b"\nend\n");
    log.close();
    let mut reader = reader(&dir);
    let chunks = read_from(&mut reader, Cursor(0), 1 << 20);
    assert!(text(&chunks).starts_with(&line));
    assert_eq!(reader.last_lines(1, &[Stream::Out]).unwrap(), Cursor(10_000_001));
    assert_eq!(reader.last_lines(2, &[Stream::Out]).unwrap(), Cursor(0));
}
