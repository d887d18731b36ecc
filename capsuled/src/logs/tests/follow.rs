//! The follower on real files: it must wake for each growth of its log and for nothing else.

use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::time::timeout;

use super::{SMALL, folder, reader, writer};
use crate::logs::{Cursor, LogDir, LogFollower, LogReader, LogWriter, Stream};

const SOON: Duration = Duration::from_secs(20);

fn follower(dir: &Arc<LogDir>) -> LogFollower {
    LogFollower::new(Arc::clone(dir), 1842, 1)
}

async fn grown(follower: &mut LogFollower) {
    timeout(SOON, follower.grown()).await.expect("nobody told of the growth");
}

/// Reads on to the end that the log has now.
fn drain(reader: &mut LogReader, mut cursor: Cursor) -> Cursor {
    loop {
        let batch = reader.read(cursor, 4096).unwrap();
        cursor = batch.next;
        if !batch.more {
            return cursor;
        }
    }
}

#[tokio::test]
async fn each_append_wakes_through_creation_and_switches() {
    let (_temp, dir) = folder();
    let mut follower = follower(&dir);
    grown(&mut follower).await;
    let (mut log, mut reader) = (writer(&dir, SMALL), reader(&dir));
    let mut cursor = Cursor(0);
    for count in 1..=60 {
        log.append(count, Stream::Out, &[b'x'; 100]);
        while cursor.0 < count * 100 {
            grown(&mut follower).await;
            cursor = drain(&mut reader, cursor);
        }
    }
}

#[tokio::test]
async fn nothing_written_means_no_event_at_all() {
    let (_temp, dir) = folder();
    let mut other = LogWriter::new(dir.handle().unwrap(), 1843, 1, SMALL);
    other.append(1, Stream::Out, b"first");
    let mut log = writer(&dir, SMALL);
    log.append(1, Stream::Out, b"mine");
    let mut follower = follower(&dir);
    grown(&mut follower).await;
    assert_eq!(follower.events().unwrap_err(), Errno::EAGAIN);
    other.append(2, Stream::Out, b"second");
    assert_eq!(follower.events().unwrap_err(), Errno::EAGAIN, "woken by another task");
    log.append(2, Stream::Out, b"mine");
    grown(&mut follower).await;
    assert_eq!(follower.events().unwrap_err(), Errno::EAGAIN);
}

#[tokio::test]
async fn other_shards_are_not_watched_once_there_is_a_log() {
    let (_temp, dir) = folder();
    let mut follower = follower(&dir);
    grown(&mut follower).await;
    writer(&dir, SMALL).append(1, Stream::Out, b"mine");
    grown(&mut follower).await;
    while follower.events().is_ok() {}
    LogWriter::new(dir.handle().unwrap(), 5000, 1, SMALL).append(1, Stream::Out, b"other");
    assert_eq!(follower.events().unwrap_err(), Errno::EAGAIN);
}

#[tokio::test]
async fn a_new_file_of_another_task_is_no_news() {
    let (_temp, dir) = folder();
    let mut follower = follower(&dir);
    grown(&mut follower).await;
    LogWriter::new(dir.handle().unwrap(), 1843, 1, SMALL).append(1, Stream::Out, b"other");
    let mut log = writer(&dir, SMALL);
    let waited = {
        let growth = follower.grown();
        tokio::pin!(growth);
        // The other task's file exists already, so only what is appended now may end the wait.
        timeout(Duration::from_millis(50), &mut growth).await
    };
    assert!(waited.is_err(), "told of another task's file");
    log.append(1, Stream::Out, b"mine");
    grown(&mut follower).await;
    assert_eq!(drain(&mut reader(&dir), Cursor(0)), Cursor(4));

    log.append(2, Stream::Out, b"more");
    LogWriter::new(dir.handle().unwrap(), 1844, 1, SMALL).append(1, Stream::Out, b"other");
    grown(&mut follower).await;
}

#[tokio::test]
async fn a_dropped_wait_loses_nothing() {
    let (_temp, dir) = folder();
    let mut follower = follower(&dir);
    let mut log = writer(&dir, SMALL);
    grown(&mut follower).await;
    let (mut reader, mut cursor) = (reader(&dir), Cursor(0));
    for count in 1..=30 {
        log.append(count, Stream::Out, &[b'x'; 300]);
        while cursor.0 < count * 300 {
            // Polled once and dropped, perhaps in the middle of the events.
            let told = tokio::select! {
                biased;
                () = follower.grown() => true,
                () = std::future::ready(()) => false,
            };
            if !told {
                grown(&mut follower).await;
            }
            cursor = drain(&mut reader, cursor);
        }
    }
}

#[tokio::test]
async fn the_shard_folder_may_come_and_go() {
    let (temp, dir) = folder();
    let mut follower = follower(&dir);
    grown(&mut follower).await;
    for _ in 0..20 {
        let mut other = LogWriter::new(dir.handle().unwrap(), 1843, 1, SMALL);
        other.append(1, Stream::Out, b"other");
        assert!(timeout(Duration::from_millis(5), follower.grown()).await.is_err());
        dir.remove(1843, 1).unwrap();
        assert!(!temp.path().join("logs/1").exists());
        assert!(timeout(Duration::from_millis(5), follower.grown()).await.is_err());
    }
    writer(&dir, SMALL).append(1, Stream::Out, b"mine");
    grown(&mut follower).await;
}

#[tokio::test]
async fn a_racing_writer_is_followed_to_its_last_byte() {
    for round in 0..60 {
        let (_temp, dir) = folder();
        let mut log = writer(&dir, SMALL);
        let writing = std::thread::spawn(move || {
            for count in 0..round {
                log.append(count, Stream::Out, &[b'y'; 150]);
            }
            log.append(round, Stream::Event, b"end");
        });
        let (mut follower, mut reader) = (follower(&dir), reader(&dir));
        let mut cursor = Cursor(0);
        while cursor.0 < round * 150 + 3 {
            grown(&mut follower).await;
            cursor = drain(&mut reader, cursor);
        }
        writing.join().unwrap();
    }
}

#[tokio::test]
async fn without_a_watch_it_is_looked_at_again_and_again() {
    let mut follower = LogFollower::blind();
    for _ in 0..3 {
        grown(&mut follower).await;
    }
}

#[tokio::test]
async fn a_folder_that_was_removed_ends_no_follower() {
    let (_temp, dir) = folder();
    std::fs::remove_dir_all(dir.path()).unwrap();
    let mut follower = follower(&dir);
    for _ in 0..2 {
        grown(&mut follower).await;
    }
}
