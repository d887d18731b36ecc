//! All logs together keep below their bound, and nothing stays that belongs to nothing.

use std::time::{Duration, Instant};

use super::{LogCaps, LogDir, LogWriter, Stream, folder};
use crate::logs::Standing;

const KIB: u64 = 1 << 10;

/// A log of so many bytes of payload.
fn write(dir: &LogDir, task: u64, attempt: u32, bytes: u64) {
    let mut log = LogWriter::new(dir.handle().unwrap(), task, attempt, LogCaps::default());
    log.append(1, Stream::Out, &vec![b'x'; usize::try_from(bytes).unwrap()]);
    log.close();
}

/// The attempts that have a log.
fn there(dir: &LogDir) -> Vec<(u64, u32)> {
    dir.list().unwrap().into_iter().map(|log| (log.task, log.attempt)).collect()
}

#[expect(clippy::disallowed_methods, reason = "a condition with a deadline")]
fn wait_for(dir: &LogDir, wanted: &[(u64, u32)]) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while there(dir) != wanted {
        assert!(Instant::now() < deadline, "{:?}, not {wanted:?}", there(dir));
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn the_logs_that_ended_first_go_first() {
    let (_temp, dir) = folder();
    // The last one that is looked at in the beginning: behind it the order is that of the ends.
    write(&dir, 999, 1, KIB);
    let standing = |task, _| if task == 999 { Standing::Gone } else { Standing::Ended };
    let ledger = dir.keep_below(100 * KIB, standing).unwrap();
    wait_for(&dir, &[]);
    for task in [5, 3, 4] {
        write(&dir, task, 1, 30 * KIB);
        dir.ended(task, 1, 30 * KIB);
    }
    // The fourth is one too much; a task with another attempt loses only the first.
    write(&dir, 5, 2, 30 * KIB);
    dir.ended(5, 2, 30 * KIB);
    wait_for(&dir, &[(3, 1), (4, 1), (5, 2)]);
    // What is forgotten makes room.
    dir.forget(4, 1..=1);
    wait_for(&dir, &[(3, 1), (5, 2)]);
    write(&dir, 6, 1, 30 * KIB);
    dir.ended(6, 1, 30 * KIB);
    write(&dir, 7, 1, 30 * KIB);
    dir.ended(7, 1, 30 * KIB);
    wait_for(&dir, &[(5, 2), (6, 1), (7, 1)]);
    let (used, most) = dir.tally().unwrap();
    assert!((90 * KIB..=100 * KIB).contains(&used) && most == 100 * KIB, "{used} of {most}");
    assert!(used.abs_diff(dir.usage().unwrap()) < KIB);
    drop(ledger);
}

#[test]
fn a_start_counts_what_is_there_and_spares_what_runs() {
    let (_temp, dir) = folder();
    for task in 1..=6 {
        write(&dir, task, 1, 30 * KIB);
    }
    let standing = |task, _| match task {
        1 | 2 => Standing::Live,
        3 => Standing::Gone,
        _ => Standing::Ended,
    };
    let ledger = dir.keep_below(70 * KIB, standing).unwrap();
    // All were written within a second or two: which of the ended ones goes is by their number.
    wait_for(&dir, &[(1, 1), (2, 1), (5, 1), (6, 1)]);
    drop(ledger);
    let left = there(&dir);
    // Without a bound nothing goes, and a thread that ended is not waited for.
    drop(dir.keep_below(u64::MAX, |_, _| Standing::Ended).unwrap());
    assert_eq!(there(&dir), left);
}

#[test]
fn without_a_ledger_a_log_goes_at_once() {
    let (_temp, dir) = folder();
    write(&dir, 1, 1, KIB);
    write(&dir, 1, 2, KIB);
    dir.ended(1, 1, KIB);
    assert_eq!(dir.tally(), None);
    assert!(dir.bytes(1, 1).unwrap() > KIB);
    assert_eq!(dir.bytes(1, 3).unwrap(), 0);
    dir.forget(1, 1..=2);
    assert_eq!(there(&dir), []);
}
