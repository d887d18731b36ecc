//! Texts that entries share or have alone, kept once and only as long as an entry has them.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

/// A text by number, for as long as it is kept. Two equal texts have one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(NonZeroU32);

/// Texts with how often each is kept. A number is used again once nobody keeps its text, so the
/// room is that of the most different texts at one time.
#[derive(Debug, Default)]
pub struct Texts {
    by_text: HashMap<Arc<str>, Text>,
    kept: Vec<Option<Kept>>,
    free: Vec<Text>,
}

#[derive(Debug)]
struct Kept {
    text: Arc<str>,
    times: u32,
    marks: Marks,
}

/// What parts a text has, roughly: it can only have what has no other marks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::book) struct Marks(u32);

impl Marks {
    /// Those of one part.
    pub(in crate::book) fn of(part: &str) -> Self {
        // FNV-1a, of which the upper bits are the better ones.
        let hash = part
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Self(1 << (hash.wrapping_mul(0x9e37_79b1) >> 27))
    }

    /// These and those.
    #[must_use]
    pub(in crate::book) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The marks of a text: of each line, and of what stands before `=` there.
    fn of_lines(text: &str) -> Self {
        text.lines().fold(Self::default(), |marks, line| {
            let start = line.split_once('=').map_or(line, |(start, _)| start);
            marks.and(Self::of(line)).and(Self::of(start))
        })
    }
}

impl Text {
    fn after(count: usize) -> Self {
        let number = u32::try_from(count).ok().and_then(|count| NonZeroU32::MIN.checked_add(count));
        Self(number.expect("memory is full long before there are as many texts"))
    }

    /// Where it lies among all of its kind, from 0.
    pub const fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

impl Texts {
    /// The number of a text, kept once more.
    pub(in crate::book) fn keep(&mut self, text: &str) -> Text {
        if let Some(number) = self.find(text) {
            if let Some(Some(kept)) = self.kept.get_mut(number.index()) {
                kept.times += 1;
            }
            return number;
        }
        let text: Arc<str> = text.into();
        let marks = Marks::of_lines(&text);
        let kept = Some(Kept { text: Arc::clone(&text), times: 1, marks });
        let number = self.free.pop().unwrap_or_else(|| Text::after(self.kept.len()));
        match self.kept.get_mut(number.index()) {
            Some(free) => *free = kept,
            None => self.kept.push(kept),
        }
        self.by_text.insert(text, number);
        number
    }

    /// Keeps a text once less.
    pub(in crate::book) fn release(&mut self, number: Text) {
        let Some(place) = self.kept.get_mut(number.index()) else { return };
        let Some(kept) = place else { return };
        kept.times -= 1;
        if kept.times == 0 {
            self.by_text.remove(&kept.text);
            *place = None;
            self.free.push(number);
        }
    }

    /// The number of a text that is kept.
    pub fn find(&self, text: &str) -> Option<Text> {
        self.by_text.get(text).copied()
    }

    /// The text behind a number.
    pub fn text(&self, number: Text) -> &str {
        self.kept.get(number.index()).and_then(Option::as_ref).map_or("", |kept| &kept.text)
    }

    /// By the index of each number, whether its text is meant. `is_meant` is only asked of those
    /// with all these marks.
    pub(in crate::book) fn which(
        &self,
        marks: Marks,
        is_meant: impl Fn(&str) -> bool,
    ) -> Vec<bool> {
        let kept = self.kept.iter().map(Option::as_ref);
        kept.map(|kept| {
            kept.is_some_and(|it| marks.and(it.marks) == it.marks && is_meant(&it.text))
        })
        .collect()
    }

    /// How many numbers there are, used or free.
    #[cfg(test)]
    pub(in crate::book) const fn numbers(&self) -> usize {
        self.kept.len()
    }

    /// Whether nothing is kept.
    #[cfg(test)]
    pub(in crate::book) fn is_empty(&self) -> bool {
        self.by_text.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_one_number_until_nobody_keeps_it() {
        let mut texts = Texts::default();
        let (a, b) = (texts.keep("a"), texts.keep("b"));
        assert_eq!((texts.keep("a"), texts.find("b")), (a, Some(b)));
        assert_eq!((texts.text(a), texts.text(b)), ("a", "b"));
        texts.release(a);
        assert_eq!(texts.find("a"), Some(a), "it was kept twice");
        texts.release(a);
        assert_eq!((texts.find("a"), texts.text(a)), (None, ""));
        assert_eq!(texts.which(Marks::default(), |_| true), [false, true]);
        assert_eq!(texts.keep("c"), a, "a free number is used again");
        assert_eq!(texts.text(a), "c");
        texts.release(a);
        texts.release(b);
        assert!(texts.is_empty());
        assert_eq!(texts.numbers(), 2);
    }

    #[test]
    fn only_texts_with_the_marks_are_looked_at() {
        let mut texts = Texts::default();
        for n in 0..1000 {
            texts.keep(&format!("order={n}\nteam=a"));
        }
        let looked = std::cell::Cell::new(0);
        let marks = Marks::of("order").and(Marks::of("order=7"));
        let found = texts.which(marks, |text| {
            looked.set(looked.get() + 1);
            text.starts_with("order=7\n")
        });
        assert_eq!(found.iter().position(|is| *is), Some(7));
        assert!(looked.get() < 300, "{} of 1000", looked.get());
        let none = texts.which(Marks::of("order").and(Marks::of("team")), |_| true);
        assert_eq!(none, [true; 1000]);
    }
}
