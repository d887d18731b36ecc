//! What a group commits, cut into what the store takes at once.

use crate::store::{Batch, Change, MAX_BATCH_BYTES};

/// Cuts changes into batches of `most` changes and of the store's bound of bytes: single ones, and
/// units that are not torn.
pub(super) fn cut(
    single: Vec<Change>,
    units: Vec<Vec<Change>>,
    high_water: u64,
    most: usize,
) -> Vec<Batch> {
    let mut cut = Cut { full: Vec::new(), last: Vec::new(), bytes: 0, most };
    for change in single {
        cut.room_for(size(&change), 1);
        cut.last.push(change);
    }
    for unit in units {
        cut.room_for(unit.iter().map(size).sum(), unit.len());
        cut.last.extend(unit);
    }
    let Cut { mut full, last, .. } = cut;
    full.push(last);
    full.retain(|changes| !changes.is_empty());
    full.into_iter().map(|changes| Batch { changes, high_water }).collect()
}

/// Batches in the making.
struct Cut {
    full: Vec<Vec<Change>>,
    last: Vec<Change>,
    bytes: usize,
    most: usize,
}

impl Cut {
    /// Begins another batch when this one has no room for so much more.
    fn room_for(&mut self, bytes: usize, changes: usize) {
        if self.bytes + bytes > MAX_BATCH_BYTES || self.last.len() + changes > self.most {
            self.full.push(std::mem::take(&mut self.last));
            self.bytes = 0;
        }
        self.bytes += bytes;
    }
}

fn size(change: &Change) -> usize {
    change.key.len() + change.value.as_ref().map_or(0, Vec::len) + OVERHEAD
}

/// What the store adds to each record: table byte, version, checksum; generously.
const OVERHEAD: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MAX_BATCH_CHANGES, Table};

    #[test]
    fn batches_keep_their_bounds_and_tear_no_unit() {
        let change = |key: usize| Change::put(Table::Task, key.to_be_bytes(), vec![0; 3000]);
        let single: Vec<Change> = (0..170).map(change).collect();
        let unit = |from| (from..from + 3).map(change).collect::<Vec<_>>();
        let units: Vec<Vec<Change>> = (0..200).map(|number| unit(1000 + 3 * number)).collect();
        let batches = cut(single.clone(), units.clone(), 9, MAX_BATCH_CHANGES);
        let sizes = batches.iter().map(|batch| batch.changes.iter().map(size).sum::<usize>());
        assert!(sizes.into_iter().all(|bytes| bytes <= MAX_BATCH_BYTES));
        let all: Vec<&Change> = batches.iter().flat_map(|batch| &batch.changes).collect();
        assert_eq!(all, single.iter().chain(units.iter().flatten()).collect::<Vec<_>>());
        for unit in &units {
            let holds = |batch: &&Batch| unit.iter().any(|change| batch.changes.contains(change));
            assert_eq!(batches.iter().filter(holds).count(), 1);
        }
        let many: Vec<Change> =
            (0..5000).map(|key| Change::delete(Table::Tick, key.to_string())).collect();
        let many = cut(many, Vec::new(), 1, MAX_BATCH_CHANGES);
        let lengths: Vec<usize> = many.iter().map(|batch| batch.changes.len()).collect();
        assert_eq!(lengths, [MAX_BATCH_CHANGES, 5000 - MAX_BATCH_CHANGES]);
        assert!(cut(Vec::new(), Vec::new(), 1, MAX_BATCH_CHANGES).is_empty());
    }
}
