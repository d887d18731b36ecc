//! Claims beyond the slots: while attempts end quickly, the next ones are claimed before a slot is
//! free, so that a slot does not wait for a commit. Who carries claims out keeps to the slots.

use capsule_core::attempt::AttemptRecord;

use super::Book;

/// So many attempts in a row must have been quick.
const ROW: u32 = 32;
/// An attempt is quick up to this wall time, in microseconds.
const QUICK_US: u64 = 25_000;
/// Claims ahead for each slot, and at the most.
const EACH: u32 = 3;
const MOST: u32 = 24;

/// How quickly attempts with a slot end.
#[derive(Debug, Default)]
pub(super) struct Pace {
    row: u32,
}

impl Pace {
    /// How many claims may be taken beyond so many slots.
    pub(super) fn ahead(&self, slots: u32) -> u32 {
        if self.row < ROW { 0 } else { slots.saturating_mul(EACH).min(MOST) }
    }
}

impl Book {
    /// An attempt is over. One that was claimed ahead and put back shows that the others are slow.
    pub fn note_pace(&mut self, record: &AttemptRecord, had_slot: bool) {
        if !had_slot {
            return;
        }
        let wall = record.ended.zip(record.started).map(|(end, start)| end.since(start));
        let quick = wall.is_some_and(|wall| wall.as_micros() <= QUICK_US);
        self.pace.row = if quick { self.pace.row.saturating_add(1) } else { 0 };
    }

    /// So many are claimed that wait for a slot.
    pub const fn ahead(&self) -> u32 {
        self.live.slots.saturating_sub(self.slots)
    }
}

#[cfg(test)]
mod tests {
    use capsule_core::id::AttemptNumber;
    use capsule_core::time::Timestamp;

    use super::*;

    fn lasted(micros: i64) -> AttemptRecord {
        let mut record = AttemptRecord::claimed(AttemptNumber(1), Timestamp(0), 1);
        record.started = Some(Timestamp(5));
        record.ended = Some(Timestamp(5 + micros));
        record
    }

    #[test]
    fn only_a_row_of_quick_attempts_with_slots_lets_claims_run_ahead() {
        let mut book = Book::new(4);
        for _ in 0..ROW {
            book.note_pace(&lasted(1000), false);
        }
        for _ in 1..ROW {
            book.note_pace(&lasted(25_000), true);
        }
        assert_eq!(book.pace.ahead(4), 0);
        book.note_pace(&lasted(1000), true);
        assert_eq!((book.pace.ahead(4), book.pace.ahead(1), book.pace.ahead(100)), (12, 3, MOST));
        book.note_pace(&lasted(25_001), true);
        assert_eq!(book.pace.ahead(4), 0);
        for _ in 0..ROW {
            book.note_pace(&lasted(1), true);
        }
        let released = AttemptRecord { started: None, ..lasted(1) };
        book.note_pace(&released, true);
        assert_eq!(book.pace.ahead(4), 0, "one that never began");
    }
}
