//! Every task in short, by id: dense where ids are dense, small where few are left.
//!
//! It must not know what an entry means. Invariant: a page has an entry for each of its bits, in
//! the order of their ids, and no page is empty.

mod entry;
mod texts;

use std::collections::BTreeMap;
use std::iter::FusedIterator;

use capsule_core::id::TaskId;

pub use self::entry::Entry;
pub(super) use self::entry::alarm;
pub(super) use self::texts::Marks;
pub use self::texts::{Text, Texts};

/// So many ids share a page: one bit of a word each.
const PAGE: u64 = 64;

/// All entries by the ids of their tasks.
#[derive(Debug, Default)]
pub struct Entries {
    pages: BTreeMap<u64, Page>,
    len: usize,
}

/// Those of `PAGE` ids in a row that are there. An entry lies at the number of bits below its own.
#[derive(Debug, Default)]
struct Page {
    present: u64,
    entries: Vec<Entry>,
}

impl Entries {
    /// The task of this id.
    pub fn get(&self, id: &TaskId) -> Option<&Entry> {
        let (number, bit) = place(*id);
        let page = self.pages.get(&number)?;
        page.entries.get(page.index(bit)?)
    }

    /// Whether the task is there.
    pub fn contains_key(&self, id: &TaskId) -> bool {
        self.get(id).is_some()
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (TaskId, &Entry)> {
        self.pages.iter().flat_map(|(number, page)| page.iter(*number))
    }

    /// All ids, oldest first.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = TaskId> {
        self.iter().map(|(id, _)| id)
    }

    /// All of them without their ids, which is quicker.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.pages.values().flat_map(|page| &page.entries)
    }

    /// Those with lower ids than this, newest first.
    pub fn below(&self, end: TaskId) -> impl Iterator<Item = (TaskId, &Entry)> {
        let (last, _) = place(end);
        let pages = self.pages.range(..=last).rev();
        pages
            .flat_map(|(number, page)| page.iter(*number).rev())
            .skip_while(move |(id, _)| *id >= end)
    }

    /// How many are wanted, and the ids of the first `most` of them below `end`, newest first.
    pub(super) fn sift(
        &self,
        wanted: impl Fn(&Entry) -> bool,
        end: TaskId,
        most: usize,
    ) -> (u64, Vec<TaskId>) {
        let (mut total, mut found) = (0, Vec::new());
        for (number, page) in self.pages.iter().rev() {
            for (index, entry) in page.entries.iter().enumerate().rev() {
                if !wanted(entry) {
                    continue;
                }
                total += 1;
                if found.len() < most
                    && let Some(id) = page.id(*number, index).filter(|id| *id < end)
                {
                    found.push(id);
                }
            }
        }
        (total, found)
    }

    /// Puts an entry in; the former one comes out.
    pub(super) fn insert(&mut self, id: TaskId, entry: Entry) -> Option<Entry> {
        let (number, bit) = place(id);
        let former = self.pages.entry(number).or_default().insert(bit, entry);
        self.len += usize::from(former.is_none());
        former
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, id: TaskId) -> Option<Entry> {
        let (number, bit) = place(id);
        let page = self.pages.get_mut(&number)?;
        let former = page.remove(bit)?;
        if page.present == 0 {
            self.pages.remove(&number);
        }
        self.len -= 1;
        Some(former)
    }

    /// For how many entries there is room in memory.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.pages.values().map(|page| page.entries.capacity()).sum()
    }
}

impl<'a> IntoIterator for &'a Entries {
    type Item = (TaskId, &'a Entry);
    type IntoIter = Box<dyn Iterator<Item = Self::Item> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

/// The page of an id, and its bit there.
const fn place(id: TaskId) -> (u64, u64) {
    (id.0 / PAGE, 1 << (id.0 % PAGE))
}

impl Page {
    fn index(&self, bit: u64) -> Option<usize> {
        (self.present & bit != 0).then(|| self.below(bit))
    }

    const fn below(&self, bit: u64) -> usize {
        (self.present & (bit - 1)).count_ones() as usize
    }

    fn id(&self, number: u64, index: usize) -> Option<TaskId> {
        let offset =
            if self.present == u64::MAX { index as u64 } else { Bits(self.present).nth(index)? };
        Some(TaskId(number * PAGE + offset))
    }

    fn iter(&self, number: u64) -> impl DoubleEndedIterator<Item = (TaskId, &Entry)> {
        let ids = Bits(self.present).map(move |offset| TaskId(number * PAGE + offset));
        ids.zip(&self.entries)
    }

    fn insert(&mut self, bit: u64, entry: Entry) -> Option<Entry> {
        let index = self.below(bit);
        if self.present & bit != 0 {
            return self.entries.get_mut(index).map(|former| std::mem::replace(former, entry));
        }
        self.entries.insert(index, entry);
        self.present |= bit;
        None
    }

    fn remove(&mut self, bit: u64) -> Option<Entry> {
        let former = self.entries.remove(self.index(bit)?);
        self.present &= !bit;
        if self.entries.len() * 4 <= self.entries.capacity() {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        Some(former)
    }
}

/// The numbers of the bits of a word, from both ends.
#[derive(Clone, Debug)]
struct Bits(u64);

impl Iterator for Bits {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let lowest = (self.0 != 0).then(|| self.0.trailing_zeros())?;
        self.0 &= self.0 - 1;
        Some(lowest.into())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = self.0.count_ones() as usize;
        (count, Some(count))
    }
}

impl DoubleEndedIterator for Bits {
    fn next_back(&mut self) -> Option<u64> {
        let highest = self.0.checked_ilog2()?;
        self.0 &= !(1 << highest);
        Some(highest.into())
    }
}

impl ExactSizeIterator for Bits {}
impl FusedIterator for Bits {}

#[cfg(test)]
mod tests {
    use capsule_core::time::Timestamp;
    use proptest::prelude::*;

    use crate::book::Symbol;

    use super::*;

    fn entry(at: i64) -> Entry {
        Entry {
            status: capsule_core::task::Status::Pending,
            priority: 0,
            hold: false,
            dependencies: 0,
            app: Symbol(0),
            name: Symbol(0),
            owner: Symbol(0),
            queue: Symbol(0),
            lock: None,
            labels: None,
            created: Timestamp(0),
            at: Timestamp(at),
        }
    }

    proptest! {
        /// The model: an ordered map.
        #[test]
        fn entries_agree_with_an_ordered_map(
            steps in prop::collection::vec((any::<bool>(), 0u64..300), 0..600),
            end in 0u64..320,
            most in 0usize..20,
        ) {
            let (mut entries, mut model) = (Entries::default(), BTreeMap::new());
            for (at, (put, id)) in (0i64..).zip(steps) {
                let id = TaskId(id);
                let former = if put {
                    (entries.insert(id, entry(at)), model.insert(id, entry(at)))
                } else {
                    (entries.remove(id), model.remove(&id))
                };
                prop_assert_eq!(former.0, former.1);
                prop_assert_eq!(entries.get(&id), model.get(&id));
            }
            prop_assert_eq!((entries.len(), entries.is_empty()), (model.len(), model.is_empty()));
            prop_assert!(entries.room() <= 4 * model.len(), "{} for {}", entries.room(), model.len());
            prop_assert!(entries.iter().eq(model.iter().map(|(id, entry)| (*id, entry))));
            prop_assert!(entries.iter().rev().eq(model.iter().rev().map(|(id, e)| (*id, e))));
            prop_assert!(entries.keys().eq(model.keys().copied()));
            prop_assert!(entries.values().rev().eq(model.values().rev()));
            let end = TaskId(end);
            let below = model.range(..end).rev();
            prop_assert!(entries.below(end).eq(below.clone().map(|(id, entry)| (*id, entry))));
            let even = |entry: &Entry| entry.at.0 % 2 == 0;
            let page: Vec<TaskId> =
                below.filter(|(_, entry)| even(entry)).map(|(id, _)| *id).take(most).collect();
            let total = model.values().filter(|entry| even(entry)).count() as u64;
            prop_assert_eq!(entries.sift(even, end, most), (total, page));
        }
    }
}
