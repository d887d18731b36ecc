//! Torn, damaged and foreign files, and a full disk.

use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{SMALL, folder, read_from, reader, text, unrolled, writer};
use crate::logs::{Chunk, Cursor, LogCaps, LogDir, LogError, LogReader, LogWriter, Stream};

fn head(temp: &Path) -> PathBuf {
    temp.join("logs/1/1842.1.head")
}

/// Three frames of 10, 20 and 30 bytes.
fn three_frames(dir: &LogDir) -> Vec<u8> {
    let mut log = writer(dir, SMALL);
    let bytes: Vec<u8> = (b'A'..).take(60).collect();
    log.append(1, Stream::Out, &bytes[..10]);
    log.append(2, Stream::Err, &bytes[10..30]);
    log.append(3, Stream::Out, &bytes[30..]);
    log.close();
    bytes
}

#[test]
fn a_file_cut_at_any_byte_gives_its_whole_frames_and_can_go_on() {
    let (first, second, third) = (96 + 42, 96 + 42 + 52, 96 + 42 + 52 + 62);
    for cut in 0..=third {
        let (temp, dir) = folder();
        let bytes = three_frames(&dir);
        let file = std::fs::File::options().write(true).open(head(temp.path())).unwrap();
        assert_eq!(file.metadata().unwrap().len(), third);
        file.set_len(cut).unwrap();
        let whole = match cut {
            cut if cut < first => 0,
            cut if cut < second => 10,
            cut if cut < third => 30,
            _ => 60,
        };
        let mut reader = reader(&dir);
        assert_eq!(text(&read_from(&mut reader, Cursor(0), 7)), &bytes[..whole], "cut at {cut}");
        assert_eq!(reader.size().unwrap().written, whole as u64);
        assert_eq!(reader.last_lines(1, &[Stream::Out]).unwrap(), Cursor(0));

        let mut log = writer(&dir, SMALL);
        log.append(4, Stream::Out, b"more");
        let summary = log.close();
        assert_eq!(summary.bytes_out + summary.bytes_err, whole as u64 + 4);
        let mut expected = bytes[..whole].to_vec();
        expected.extend(b"more");
        assert_eq!(text(&read_from(&mut reader, Cursor(0), 100)), expected, "cut at {cut}");
    }
}

#[test]
fn zeros_in_place_of_the_last_payload_are_a_torn_frame() {
    let (temp, dir) = folder();
    let bytes = three_frames(&dir);
    let file = std::fs::File::options().write(true).open(head(temp.path())).unwrap();
    file.write_all_at(&[0; 30], 96 + 42 + 52 + 32).unwrap();
    let mut reader = reader(&dir);
    assert_eq!(text(&read_from(&mut reader, Cursor(0), 100)), &bytes[..30]);

    let mut log = writer(&dir, SMALL);
    log.append(4, Stream::Out, b"more");
    log.close();
    let batch = reader.read(Cursor(30), 100).unwrap();
    let more = Chunk::Data { offset: 30, time_us: 4, stream: Stream::Out, bytes: b"more".to_vec() };
    assert_eq!((batch.chunks, batch.next), (vec![more], Cursor(34)));
}

#[test]
fn a_damaged_frame_is_a_gap_of_its_length() {
    let (temp, dir) = folder();
    let bytes = three_frames(&dir);
    let file = std::fs::File::options().write(true).open(head(temp.path())).unwrap();
    file.write_all_at(b"?", 96 + 42 + 32 + 5).unwrap();
    for limit in [1, 10, 11, 100] {
        let chunks = read_from(&mut reader(&dir), Cursor(0), limit);
        let seen = unrolled(&chunks, Cursor(0));
        assert!(seen[10..30].iter().all(Option::is_none), "limit {limit}");
        assert_eq!(text(&chunks), [&bytes[..10], &bytes[30..]].concat(), "limit {limit}");
    }
}

#[test]
fn a_newer_format_is_named() {
    let (temp, dir) = folder();
    three_frames(&dir);
    let file = std::fs::File::options().write(true).open(head(temp.path())).unwrap();
    file.write_all_at(&[9], 8).unwrap();
    let error = reader(&dir).read(Cursor(0), 10).unwrap_err();
    assert!(matches!(error, LogError::Newer { version: 9, .. }), "{error}");
}

#[test]
fn links_are_not_written_through() {
    let (temp, dir) = folder();
    let target = temp.path().join("target");
    std::fs::write(&target, "mine").unwrap();
    std::fs::create_dir(temp.path().join("logs/1")).unwrap();
    for hard in [false, true] {
        if hard {
            std::fs::hard_link(&target, head(temp.path())).unwrap();
        } else {
            symlink(&target, head(temp.path())).unwrap();
        }
        let mut log = writer(&dir, SMALL);
        log.append(1, Stream::Out, b"bytes");
        assert_eq!(log.close().dropped, 5);
        assert_eq!(std::fs::read(&target).unwrap(), b"mine");
        dir.remove(1842, 1).unwrap();
        std::fs::create_dir_all(temp.path().join("logs/1")).unwrap();
    }
}

#[test]
fn files_belong_to_the_owner_of_the_folder() {
    let (temp, dir) = folder();
    let logs = temp.path().join("logs");
    if std::os::unix::fs::chown(&logs, Some(12_345), Some(12_345)).is_err() {
        eprintln!("SKIPPED files_belong_to_the_owner_of_the_folder: only root may give files away");
        return;
    }
    three_frames(&dir);
    for path in [logs.join("1"), head(temp.path())] {
        let found = std::fs::metadata(path).unwrap();
        assert_eq!((found.uid(), found.gid()), (12_345, 12_345));
    }
}

/// A small file system of its own.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir(&at).unwrap();
        let options = format!("size={size},mode=0700");
        run(&["mount", "-t", "tmpfs", "-o", &options, "capsule-test", at.to_str()?])
            .then_some(Self(at))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        run(&["umount", "-l", self.0.to_str().unwrap()]);
    }
}

#[expect(clippy::disallowed_methods, reason = "the test mounts a file system, no attempt starts")]
fn run(command: &[&str]) -> bool {
    let output = std::process::Command::new(command[0]).args(&command[1..]).output();
    output.is_ok_and(|output| output.status.success())
}

#[test]
fn a_full_disk_drops_and_counts_and_goes_on() {
    let temp = tempfile::tempdir().unwrap();
    let Some(disk) = Tmpfs::mount(temp.path().join("disk"), "512k") else {
        eprintln!("SKIPPED a_full_disk_drops_and_counts_and_goes_on: cannot mount a tmpfs here");
        return;
    };
    let ballast = disk.0.join("ballast");
    std::fs::write(&ballast, vec![1; 200 << 10]).unwrap();
    let dir = Arc::new(LogDir::open(disk.0.join("logs")).unwrap());
    let mut log = writer(&dir, LogCaps { head: 100 << 10, tail: 4 << 20 });
    let mut reader = reader(&dir);
    let mut offset = 0;
    let mut append = |log: &mut LogWriter, count: usize| {
        for _ in 0..count {
            let bytes: Vec<u8> = (offset..offset + 3000).map(byte_at).collect();
            log.append(offset, Stream::Out, &bytes);
            offset += 3000;
        }
        offset
    };

    let full = append(&mut log, 200);
    let kept = whole_prefix(&mut reader);
    assert!((200 << 10..400 << 10).contains(&kept), "kept {kept} of {full}");

    std::fs::remove_file(&ballast).unwrap();
    let end = append(&mut log, 20);
    let seen = unrolled(&read_from(&mut reader, Cursor(0), 10_000), Cursor(0));
    let missing = seen.iter().filter(|byte| byte.is_none()).count() as u64;
    assert_eq!((seen.len() as u64, missing), (end, full - kept));
    for (at, byte) in (0..).zip(&seen) {
        assert!(byte.is_none_or(|(_, byte)| byte == byte_at(at)), "wrong byte at {at}");
    }

    let end = append(&mut log, 400);
    let stored = reader.size().unwrap().written;
    assert!(stored < end);
    let summary = log.close();
    assert_eq!(summary.bytes_out, end);
    assert_eq!(summary.dropped, missing + end - stored);
}

#[test]
fn a_gap_at_the_end_is_visible_once_there_is_room_for_its_mark() {
    let temp = tempfile::tempdir().unwrap();
    let Some(disk) = Tmpfs::mount(temp.path().join("disk"), "64k") else {
        eprintln!("SKIPPED a_gap_at_the_end_is_visible: cannot mount a tmpfs here");
        return;
    };
    let dir = Arc::new(LogDir::open(disk.0.join("logs")).unwrap());
    let mut log = writer(&dir, LogCaps::default());
    log.append(1, Stream::Out, b"first\n");
    log.append(2, Stream::Err, &vec![7; 64 << 10]);
    let size = reader(&dir).size().unwrap();
    assert_eq!((size.written, size.stored), (6, 96 + 32 + 6), "half a frame was left");
    assert_eq!(log.close().dropped, 64 << 10);
    let chunks = read_from(&mut reader(&dir), Cursor(0), 100);
    assert_eq!(chunks.last(), Some(&Chunk::Gap { offset: 6, bytes: 64 << 10 }));
    assert_eq!(text(&chunks), b"first\n");
    assert_eq!(reader(&dir).last_lines(1, &[Stream::Out]).unwrap(), Cursor(0));
}

fn byte_at(offset: u64) -> u8 {
    (offset % 251) as u8
}

/// Reads a log that has no gap yet; how long it is.
fn whole_prefix(reader: &mut LogReader) -> u64 {
    let seen = unrolled(&read_from(reader, Cursor(0), 10_000), Cursor(0));
    assert!(seen.iter().all(Option::is_some));
    seen.len() as u64
}
