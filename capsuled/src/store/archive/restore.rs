//! From an archive to a state, beside the one that is there until it is complete.

use std::fs::{self, File, FileTimes, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::super::disk::{self, Disk};
use super::super::{
    Batch, Change, MAX_BATCH_BYTES, MAX_BATCH_CHANGES, SledStore, StateDir, Store as _, StoreError,
};
use super::{ArchiveError, Entry, Head, Node, NodeKind, Reader, Tail, place};

/// A state that was read from an archive and proven whole, not yet in its place. Dropped, it
/// leaves nothing.
#[derive(Debug)]
pub struct Restoring {
    state: StateDir,
    /// Its queue, to be changed before it is taken into use.
    pub store: SledStore,
    /// Whose state it was.
    pub head: Head,
    /// What it holds.
    pub tail: Tail,
}

/// Where a restored state and the one before it are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Where what was there is now, if anything was.
    pub aside: Option<PathBuf>,
}

impl Restoring {
    /// Reads the archive `path` to its end, into a folder inside `state`. The store gets a name of
    /// its own, so that no keeper of the old one serves it.
    ///
    /// # Errors
    /// The archive is damaged, or something cannot be written; what was there is untouched.
    pub fn read(path: &Path, state: &StateDir, now: Timestamp) -> Result<Self, ArchiveError> {
        place::finish(state.root(), &Disk)?;
        let partial = state.root().join(place::PARTIAL);
        place::clear(state.root())?;
        disk::make_folder(&Disk, &partial)?;
        let filled = fill(path, &partial, now);
        if filled.is_err() {
            place::clear(state.root())?;
        }
        let (store, head, tail) = filled?;
        Ok(Self { state: state.clone(), store, head, tail })
    }

    /// True when there is no state yet that this one would replace.
    pub fn is_first(&self) -> bool {
        place::is_bare(self.state.root())
    }

    /// Raises the sequence numbers: what changes from here on follows `high_water`.
    pub fn jump(&self, high_water: u64) -> Result<(), StoreError> {
        self.store.commit(&Batch { changes: Vec::new(), high_water })
    }

    /// Takes it into use and puts aside what was there. After a crash at any moment the next start
    /// has the one or the other.
    pub fn place(self, now: Timestamp) -> Result<Placed, StoreError> {
        let Self { state, store, .. } = self;
        store.close()?;
        drop(store);
        Ok(Placed { aside: place::place(&state, now, &Disk)? })
    }

    /// Removes it again.
    pub fn discard(self) -> Result<(), StoreError> {
        drop(self.store);
        place::clear(self.state.root())
    }
}

/// Makes the state in the empty folder `dir`.
fn fill(path: &Path, dir: &Path, now: Timestamp) -> Result<(SledStore, Head, Tail), ArchiveError> {
    let mut reader = Reader::open(path)?;
    let inner = StateDir::open(dir)?;
    let store = SledStore::open(&inner, now)?.store;
    let mut waiting = Waiting::default();
    let mut tree = Tree { dir, file: None, folders: Vec::new() };
    while let Some(entry) = reader.entry()? {
        match entry {
            Entry::Record(table, key, value) => {
                waiting.add(&store, Change { table, key, value })?;
            }
            Entry::Node(node) => tree.node(node)?,
            Entry::Bytes(bytes) => tree.bytes(&bytes)?,
        }
    }
    waiting.commit(&store, 0)?;
    tree.finish()?;
    let Some(tail) = reader.tail().cloned() else { return Err(reader.damaged("it has no end")) };
    waiting.commit(&store, tail.high_water)?;
    if store.sum() != tail.sum {
        return Err(reader.damaged("its records are not the ones of that commit"));
    }
    Ok((store, reader.head, tail))
}

/// Changes that are committed together.
#[derive(Debug, Default)]
struct Waiting {
    changes: Vec<Change>,
    bytes: usize,
}

impl Waiting {
    fn add(&mut self, store: &SledStore, change: Change) -> Result<(), StoreError> {
        let bytes = change.key.len() + change.value.as_ref().map_or(0, Vec::len);
        if self.bytes + bytes > MAX_BATCH_BYTES || self.changes.len() == MAX_BATCH_CHANGES {
            self.commit(store, 0)?;
        }
        self.bytes += bytes;
        self.changes.push(change);
        Ok(())
    }

    fn commit(&mut self, store: &SledStore, high_water: u64) -> Result<(), StoreError> {
        self.bytes = 0;
        store.commit(&Batch { changes: std::mem::take(&mut self.changes), high_water })
    }
}

/// The files that are being written.
struct Tree<'a> {
    dir: &'a Path,
    file: Option<(File, PathBuf, Permissions, SystemTime)>,
    /// Closed to writing only when all is in them.
    folders: Vec<(PathBuf, Permissions)>,
}

impl Tree<'_> {
    fn node(&mut self, node: Node) -> Result<(), StoreError> {
        self.close()?;
        let path = self.dir.join(&node.path);
        let failed = |source| StoreError::io("write", &path, source);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        match node.kind {
            NodeKind::Folder { mode } => {
                disk::make_folder(&Disk, &path)?;
                self.folders.push((path, Permissions::from_mode(mode)));
            }
            NodeKind::File { mode, changed, length: _ } => {
                let mut options = File::options();
                options.write(true).create_new(true).mode(0o600);
                let file = options.open(&path).map_err(failed)?;
                let changed = SystemTime::UNIX_EPOCH
                    + Duration::from_micros(u64::try_from(changed).unwrap_or(0));
                self.file = Some((file, path, Permissions::from_mode(mode), changed));
            }
            NodeKind::Link { to } => std::os::unix::fs::symlink(to, &path).map_err(failed)?,
        }
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let Some((file, path, ..)) = &mut self.file else { return Ok(()) };
        file.write_all(bytes).map_err(|source| StoreError::io("write", path, source))
    }

    fn close(&mut self) -> Result<(), StoreError> {
        let Some((file, path, mode, changed)) = self.file.take() else { return Ok(()) };
        file.set_permissions(mode)
            .and_then(|()| file.set_times(FileTimes::new().set_modified(changed)))
            .map_err(|source| StoreError::io("write", &path, source))
    }

    fn finish(mut self) -> Result<(), StoreError> {
        self.close()?;
        for (path, mode) in self.folders.into_iter().rev() {
            fs::set_permissions(&path, mode)
                .map_err(|source| StoreError::io("write", &path, source))?;
        }
        Ok(())
    }
}
