//! The model of a disk: what it surely holds, and what it was given since.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::image::{Content, PAGE, Page};
use super::recorder::Op;

/// A disk that records are played to, one by one.
#[derive(Debug)]
pub struct Disk {
    pub(super) nodes: Vec<Node>,
    /// Changes of names that no sync covers yet, with the time of each.
    pub(super) renamed: Vec<(u64, Name)>,
    /// What was written by the last record, if it was a write.
    pub(super) last: Option<Last>,
    /// The node that an inode number stands for at present.
    inodes: HashMap<u64, usize>,
    waiting: HashMap<u64, (usize, u64)>,
    /// Paths whose syncs it takes no notice of.
    deaf: Option<fn(&str) -> bool>,
    now: u64,
    pages: u64,
}

/// The root of the recording.
pub(super) const ROOT: usize = 0;

/// A file or folder, whatever its names are.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) folder: bool,
    made_as: String,
    pub(super) durable: Content,
    pub(super) latest: Content,
    /// What was changed in it and no sync covers yet, with the time of each.
    pub(super) changed: Vec<(u64, Change)>,
    pub(super) durable_names: BTreeMap<String, usize>,
    pub(super) latest_names: BTreeMap<String, usize>,
}

/// A change in a file. A page that is none is zero from now on.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Page(u64, Option<Page>),
    Size(u64),
}

/// A place for a name.
pub(super) type Slot = (usize, String);

/// A change of names; a rename is one.
#[derive(Clone, Debug)]
pub(super) enum Name {
    Put { at: Slot, node: usize },
    Move { from: Slot, to: Slot, node: usize },
    Drop { at: Slot },
}

/// The last write: its pages before and after it.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) node: usize,
    pub(super) offset: u64,
    pub(super) end: u64,
    pub(super) size_before: u64,
    pub(super) pages: Vec<(u64, Option<Page>, Page)>,
}

impl Disk {
    /// An empty disk.
    pub fn new() -> Self {
        Self {
            nodes: vec![Node { folder: true, ..Node::default() }],
            renamed: Vec::new(),
            last: None,
            inodes: HashMap::new(),
            waiting: HashMap::new(),
            deaf: None,
            now: 0,
            pages: 0,
        }
    }

    /// An empty disk that takes no notice of syncs of what was made under certain paths: what no
    /// test of durability may survive.
    pub fn deaf_to(paths: fn(&str) -> bool) -> Self {
        Self { deaf: Some(paths), ..Self::new() }
    }

    /// True when a power cut could lose something.
    pub fn is_unsettled(&self) -> bool {
        !self.renamed.is_empty() || self.nodes.iter().any(|node| !node.changed.is_empty())
    }

    /// Plays one record.
    ///
    /// # Panics
    /// It does not fit to those before it.
    pub fn play(&mut self, op: &Op) {
        self.now += 1;
        self.last = None;
        match op {
            Op::Create { file, path } => self.make(*file, path, false),
            Op::Folder { folder, path } => self.make(*folder, path, true),
            Op::Write { file, offset, bytes } => self.write(*file, *offset, bytes),
            Op::Size { file, size } => self.resize(*file, *size),
            Op::Sync { token, what } => {
                let node = self.inodes.get(what).copied().unwrap_or(ROOT);
                self.waiting.insert(*token, (node, self.now));
            }
            Op::Synced { token } => {
                let (node, asked) = self.waiting.remove(token).unwrap();
                if !self.deaf.is_some_and(|deaf| deaf(&self.nodes[node].made_as)) {
                    self.keep(node, asked);
                }
            }
            Op::Rename { from, to } => {
                let (from, to) = (self.slot(from), self.slot(to));
                let node = self.nodes[from.0].latest_names.remove(&from.1).unwrap();
                self.nodes[to.0].latest_names.insert(to.1.clone(), node);
                self.renamed.push((self.now, Name::Move { from, to, node }));
            }
            Op::Remove { path } => {
                let at = self.slot(path);
                self.nodes[at.0].latest_names.remove(&at.1).unwrap();
                self.renamed.push((self.now, Name::Drop { at }));
            }
            Op::Mark(_) => {}
        }
    }

    fn make(&mut self, inode: u64, path: &str, folder: bool) {
        let node = self.nodes.len();
        self.nodes.push(Node { folder, made_as: path.to_owned(), ..Node::default() });
        self.inodes.insert(inode, node);
        let at = self.slot(path);
        self.nodes[at.0].latest_names.insert(at.1.clone(), node);
        self.renamed.push((self.now, Name::Put { at, node }));
    }

    fn slot(&self, path: &str) -> Slot {
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut at = ROOT;
        for folder in folders.split('/').filter(|folder| !folder.is_empty()) {
            at = self.nodes[at].latest_names[folder];
        }
        (at, name.to_owned())
    }

    fn write(&mut self, inode: u64, offset: u64, bytes: &[u8]) {
        let Some(&index) = self.inodes.get(&inode) else { return };
        let (now, node) = (self.now, &mut self.nodes[index]);
        let size_before = node.latest.size;
        let mut pages = Vec::new();
        let mut rest = bytes;
        let mut at = offset;
        while !rest.is_empty() {
            let within = usize::try_from(at % PAGE as u64).unwrap();
            let (part, after) = rest.split_at(rest.len().min(PAGE - within));
            let number = at / PAGE as u64;
            let old = node.latest.pages.get(&number).cloned();
            let mut whole = old.as_ref().map_or_else(|| vec![0; PAGE], |old| old.bytes.to_vec());
            whole[within..within + part.len()].copy_from_slice(part);
            self.pages += 1;
            let new = Page { number: self.pages, bytes: Arc::from(whole) };
            node.latest.pages.insert(number, new.clone());
            node.changed.push((now, Change::Page(number, Some(new.clone()))));
            pages.push((number, old, new));
            at += part.len() as u64;
            rest = after;
        }
        if at > size_before {
            node.latest.size = at;
            node.changed.push((now, Change::Size(at)));
        }
        self.last = Some(Last { node: index, offset, end: at, size_before, pages });
    }

    fn resize(&mut self, inode: u64, size: u64) {
        let Some(&index) = self.inodes.get(&inode) else { return };
        let (now, node) = (self.now, &mut self.nodes[index]);
        let cut = node.latest.pages.split_off(&(size / PAGE as u64));
        for (number, page) in cut {
            let within = usize::try_from(size.saturating_sub(number * PAGE as u64)).unwrap();
            let left = (within > 0).then(|| {
                let mut whole = page.bytes.to_vec();
                whole[within.min(PAGE)..].fill(0);
                self.pages += 1;
                Page { number: self.pages, bytes: Arc::from(whole) }
            });
            if let Some(left) = &left {
                node.latest.pages.insert(number, left.clone());
            }
            node.changed.push((now, Change::Page(number, left)));
        }
        node.latest.size = size;
        node.changed.push((now, Change::Size(size)));
    }

    /// What a file or folder was given up to `asked` is on disk.
    fn keep(&mut self, index: usize, asked: u64) {
        let node = &mut self.nodes[index];
        let after = node.changed.partition_point(|(at, _)| *at <= asked);
        for (_, change) in node.changed.drain(..after) {
            node.durable.change(&change);
        }
        if !node.folder {
            return;
        }
        for (at, name) in std::mem::take(&mut self.renamed) {
            if at <= asked && name.is_in(index) {
                name.happen(self.nodes.as_mut_slice());
            } else {
                self.renamed.push((at, name));
            }
        }
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

impl Content {
    pub(super) fn change(&mut self, change: &Change) {
        match change {
            Change::Page(index, Some(page)) => drop(self.pages.insert(*index, page.clone())),
            Change::Page(index, None) => drop(self.pages.remove(index)),
            Change::Size(size) => self.size = *size,
        }
    }
}

/// Where names are changed.
pub(super) trait Folders {
    fn names(&mut self, folder: usize) -> &mut BTreeMap<String, usize>;
}

impl Folders for [Node] {
    fn names(&mut self, folder: usize) -> &mut BTreeMap<String, usize> {
        &mut self[folder].durable_names
    }
}

impl Folders for BTreeMap<usize, BTreeMap<String, usize>> {
    fn names(&mut self, folder: usize) -> &mut BTreeMap<String, usize> {
        self.entry(folder).or_default()
    }
}

impl Name {
    fn is_in(&self, folder: usize) -> bool {
        match self {
            Self::Put { at, .. } | Self::Drop { at } => at.0 == folder,
            Self::Move { from, to, .. } => from.0 == folder || to.0 == folder,
        }
    }

    /// Carries it out.
    pub(super) fn happen<F: Folders + ?Sized>(&self, folders: &mut F) {
        match self {
            Self::Put { at, node } => drop(folders.names(at.0).insert(at.1.clone(), *node)),
            Self::Drop { at } => drop(folders.names(at.0).remove(&at.1)),
            Self::Move { from, to, node } => {
                // After a cut the old name may stand for another file by now.
                if folders.names(from.0).get(&from.1) == Some(node) {
                    folders.names(from.0).remove(&from.1);
                }
                folders.names(to.0).insert(to.1.clone(), *node);
            }
        }
    }
}
