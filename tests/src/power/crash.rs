//! What a power cut leaves of a disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::disk::{Change, Disk, Last, Node, ROOT};
use super::image::{Content, Image, PAGE, Page};
use crate::Random;

/// What becomes of all that no sync covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All of it is lost.
    Lose,
    /// All of it is kept, as after `kill -9`.
    Keep,
    /// The last write is kept up to its `boundary`th multiple of `unit` bytes; what was written
    /// before it is kept or lost.
    Torn { unit: u64, boundary: u64, keep: bool },
    /// Any page and any change of a name is kept or not, as the seed says.
    Any { seed: u64 },
}

/// How generous a cut by a seed is.
#[derive(Clone, Copy, Debug)]
enum Style {
    None,
    Few,
    Coin,
    Most,
    All,
    /// Nothing after a moment, all before it: a file system that keeps the order.
    Until(u64),
    /// The version of a page that is on disk may be an older one.
    AnyVersion,
}

impl Style {
    fn choose(random: &mut Random, from: u64, to: u64) -> Self {
        match random.below(8) {
            0 => Self::None,
            1 => Self::Few,
            2 | 3 => Self::Coin,
            4 => Self::Most,
            5 => Self::All,
            6 => Self::Until(from + random.below(to - from + 1)),
            _ => Self::AnyVersion,
        }
    }

    fn keeps(self, random: &mut Random, at: u64) -> bool {
        match self {
            Self::None => false,
            Self::Few => random.one_in(8),
            Self::Coin | Self::AnyVersion => random.one_in(2),
            Self::Most => !random.one_in(8),
            Self::All => true,
            Self::Until(moment) => at <= moment,
        }
    }
}

impl Disk {
    /// At how many places inside of the last write, if that was the last record, a multiple of
    /// `unit` lies.
    pub fn boundaries(&self, unit: u64) -> u64 {
        self.last.as_ref().map_or(0, |last| last.end.div_ceil(unit) - last.offset / unit - 1)
    }

    /// What the disk holds after a power cut.
    ///
    /// # Panics
    /// There is no such boundary.
    pub fn cut(&self, cut: Cut) -> Image {
        let mut random = Random(0);
        let (mut names, mut contents) = (Style::None, Style::None);
        match cut {
            Cut::Lose | Cut::Torn { keep: false, .. } => {}
            Cut::Keep | Cut::Torn { keep: true, .. } => {
                (names, contents) = (Style::All, Style::All);
            }
            Cut::Any { seed } => {
                random = Random(seed);
                let times = self.nodes.iter().flat_map(|node| &node.changed).map(|(at, _)| *at);
                let times = times.chain(self.renamed.iter().map(|(at, _)| *at));
                let (from, to) =
                    times.fold((u64::MAX, 0), |(low, high), at| (low.min(at), high.max(at)));
                let from = from.min(to);
                names = Style::choose(&mut random, from, to);
                contents = Style::choose(&mut random, from, to);
            }
        }
        let mut folders: BTreeMap<usize, BTreeMap<String, usize>> = BTreeMap::new();
        for (index, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.folder) {
            folders.insert(index, node.durable_names.clone());
        }
        for (at, name) in &self.renamed {
            if names.keeps(&mut random, *at) {
                name.happen(&mut folders);
            }
        }
        let mut image = Image::default();
        let torn = match cut {
            Cut::Torn { unit, boundary, keep } => {
                let last = self.last.as_ref().unwrap();
                Some((last, (last.offset / unit + 1 + boundary) * unit, keep))
            }
            Cut::Lose | Cut::Keep | Cut::Any { .. } => None,
        };
        let mut visit = vec![(String::new(), ROOT)];
        while let Some((path, folder)) = visit.pop() {
            for (name, index) in &folders[&folder] {
                let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                let node = &self.nodes[*index];
                if node.folder {
                    image.entries.insert(path.clone(), None);
                    visit.push((path, *index));
                    continue;
                }
                let mut content = node.after(contents, &mut random);
                if let Some((last, end, keep)) = torn.filter(|(last, ..)| last.node == *index) {
                    last.tear(&mut content, end, keep);
                }
                image.entries.insert(path, Some(content));
            }
        }
        image
    }
}

impl Node {
    fn after(&self, style: Style, random: &mut Random) -> Content {
        if matches!(style, Style::All) {
            return self.latest.clone();
        }
        let mut content = self.durable.clone();
        // A page is one place on the disk: one of its versions is there.
        let mut pages: BTreeMap<u64, Vec<(u64, &Change)>> = BTreeMap::new();
        let mut sizes = Vec::new();
        for (at, change) in &self.changed {
            match change {
                Change::Page(index, _) => pages.entry(*index).or_default().push((*at, change)),
                Change::Size(_) => sizes.push((*at, change)),
            }
        }
        for versions in pages.values().chain([&sizes]) {
            if let Some(change) = chosen(versions, style, random) {
                content.change(change);
            }
        }
        content.trim();
        content
    }
}

fn chosen<'a>(
    versions: &[(u64, &'a Change)],
    style: Style,
    random: &mut Random,
) -> Option<&'a Change> {
    match style {
        Style::Until(moment) => {
            versions.iter().rev().find(|(at, _)| *at <= moment).map(|(_, change)| *change)
        }
        Style::AnyVersion => {
            let pick = random.index(versions.len() + 1);
            versions.get(pick).map(|(_, change)| *change)
        }
        Style::None | Style::Few | Style::Coin | Style::Most | Style::All => {
            let (at, change) = versions.last()?;
            style.keeps(random, *at).then_some(*change)
        }
    }
}

impl Content {
    /// Takes away what lies beyond the end.
    fn trim(&mut self) {
        let full = self.size / PAGE as u64;
        let within = usize::try_from(self.size % PAGE as u64).unwrap();
        let beyond = self.pages.split_off(&full);
        if let Some(page) = beyond.get(&full).filter(|_| within > 0) {
            let mut bytes = page.bytes.to_vec();
            bytes[within..].fill(0);
            // Another number only where something was taken away.
            let number = if bytes[..] == page.bytes[..] { page.number } else { !page.number };
            self.pages.insert(full, Page { number, bytes: Arc::from(bytes) });
        }
    }
}

impl Last {
    /// Undoes the part of this write that lies behind `end`, or does the part before it.
    fn tear(&self, content: &mut Content, end: u64, keep: bool) {
        let start_of = |index: u64| index * PAGE as u64;
        for (index, before, after) in &self.pages {
            let base = if keep { before.as_ref() } else { content.pages.get(index) };
            let mut bytes = base.map_or_else(|| vec![0; PAGE], |page| page.bytes.to_vec());
            let from = self.offset.max(start_of(*index)) - start_of(*index);
            let to = end.clamp(start_of(*index), start_of(*index + 1)) - start_of(*index);
            let (from, to) = (usize::try_from(from).unwrap(), usize::try_from(to).unwrap());
            if from < to {
                bytes[from..to].copy_from_slice(&after.bytes[from..to]);
            }
            // A number of its own for each place where it can be torn.
            let number = (1 << 63) | after.number << 13 | (to as u64) << 1 | u64::from(keep);
            content.pages.insert(*index, Page { number, bytes: Arc::from(bytes) });
        }
        let before = if keep { self.size_before } else { content.size };
        content.size = before.max(end);
    }
}
