//! Reading an archive: every entry checked, and at the end that none is missing.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::super::record::{self, Sum};
use super::super::{MAX_RECORD, Table};
use super::{
    ArchiveError, Entry, FORMAT, Head, MAGIC, Node, NodeKind, PATH_MAX, PIECE, Tail, checksum, kind,
};

/// The longest body of an entry.
const BODY_MAX: usize = PIECE + 2 * PATH_MAX + MAX_RECORD;

/// An archive that is being read. What was read before an error counts for nothing.
#[derive(Debug)]
pub struct Reader {
    from: BufReader<File>,
    digest: Sha256,
    path: PathBuf,
    /// Whose state it is.
    pub head: Head,
    /// Bytes that the file named last still has.
    left: u64,
    seen: Tail,
    tail: Option<Tail>,
}

/// What a check of an archive found: it is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Whose state it is.
    pub head: Head,
    /// What it holds.
    pub tail: Tail,
}

/// Reads an archive to its end and compares all sums. `each` is shown the records as they are in
/// the end, in no order.
///
/// # Errors
/// It is damaged in any way, or cannot be read.
pub fn check(path: &Path) -> Result<Checked, ArchiveError> {
    let mut reader = Reader::open(path)?;
    // Of each record its hash as last told: what the sum is of.
    let mut last: HashMap<Vec<u8>, u64> = HashMap::new();
    while let Some(entry) = reader.entry()? {
        if let Entry::Record(table, key, value) = entry {
            let key = record::disk_key(table, &key);
            match value {
                Some(value) => {
                    let mut one = Sum::default();
                    one.add(&record::encode(&key, &value));
                    last.insert(key, one.hash);
                }
                None => {
                    last.remove(&key);
                }
            }
        }
    }
    let sum = last.values().fold(0, |sum: u64, hash| sum.wrapping_add(*hash));
    let task = |key: &&Vec<u8>| key.first() == Some(&Table::Task.prefix());
    let tasks = last.keys().filter(task).count() as u64;
    let tail = reader.tail.clone().unwrap_or_default();
    if tail.sum != (last.len() as u64, sum) || tail.tasks != tasks {
        return Err(reader.damaged("its records are not the ones of that commit"));
    }
    Ok(Checked { head: reader.head, tail })
}

/// What an archive says of itself, without reading all of it.
///
/// # Errors
/// It has no whole beginning or no whole end.
pub fn peek(path: &Path) -> Result<Checked, ArchiveError> {
    use std::os::unix::fs::FileExt as _;

    let reader = Reader::open(path)?;
    let failed = |source| ArchiveError::Io { doing: "read", path: path.to_owned(), source };
    let mut end = [0; HEADER + TAIL];
    let file = reader.from.get_ref();
    let length = file.metadata().map_err(failed)?.len();
    let at = length.checked_sub(end.len() as u64);
    let at = at.ok_or_else(|| reader.damaged("its end is missing"))?;
    file.read_exact_at(&mut end, at).map_err(failed)?;
    let tail =
        Header::split(&end).filter(|(header, body)| header.fits(body) && header.kind == kind::TAIL);
    let tail = tail.and_then(|(_, body)| tail_of(body));
    let (tail, _) = tail.ok_or_else(|| reader.damaged("its end is missing"))?;
    Ok(Checked { head: reader.head, tail })
}

/// Bytes in front of each body.
const HEADER: usize = 9;

/// Bytes of the tail's body.
const TAIL: usize = 6 * 8 + 32;

struct Header {
    kind: u8,
    length: u32,
    crc: u32,
}

impl Header {
    fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (&kind, rest) = bytes.split_first()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (crc, rest) = rest.split_first_chunk()?;
        let (length, crc) = (u32::from_le_bytes(*length), u32::from_le_bytes(*crc));
        Some((Self { kind, length, crc }, rest))
    }

    fn fits(&self, body: &[u8]) -> bool {
        checksum(self.kind, self.length, body) == self.crc
    }
}

impl Reader {
    /// Opens an archive and reads its head.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let failed = |source| ArchiveError::Io { doing: "read", path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let head = Head {
            store: uuid::Uuid::nil(),
            taken: jiff::Timestamp::UNIX_EPOCH,
            version: String::new(),
        };
        let mut reader = Self {
            from: BufReader::with_capacity(PIECE, file),
            digest: Sha256::new(),
            path: path.to_owned(),
            head,
            left: 0,
            seen: Tail::default(),
            tail: None,
        };
        let mut magic = [0; MAGIC.len()];
        reader.exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(reader.damaged("it does not begin like an archive of capsule"));
        }
        reader.digest.update(magic);
        let (kind, body) = reader.body()?;
        let text = String::from_utf8(body).unwrap_or_default();
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let format: Option<u32> = field("format").and_then(|text| text.parse().ok());
        let head = || {
            Some(Head {
                store: field("store")?.parse().ok()?,
                taken: field("taken")?.parse().ok()?,
                version: field("version")?.to_owned(),
            })
        };
        match (kind, format, head()) {
            (kind::HEAD, Some(found), _) if found > FORMAT => {
                Err(ArchiveError::Newer { path: path.to_owned(), found })
            }
            (kind::HEAD, Some(_), Some(head)) => Ok(Self { head, ..reader }),
            (_, _, _) => Err(reader.damaged("its head is missing")),
        }
    }

    /// The next entry; `None` when the end is reached and all that was read is proven whole.
    pub fn entry(&mut self) -> Result<Option<Entry>, ArchiveError> {
        if self.tail.is_some() {
            return Ok(None);
        }
        let before = self.digest.clone();
        let (kind, body) = self.body()?;
        let whole = self.left == 0 || kind == kind::BYTES;
        if !whole {
            return Err(self.damaged("a file in it is shorter than it was"));
        }
        if kind == kind::TAIL {
            self.end(&body, &before.finalize())?;
            return Ok(None);
        }
        let entry = decode(kind, &body).ok_or_else(|| self.damaged("an entry makes no sense"))?;
        match &entry {
            Entry::Bytes(bytes) => {
                let left = self.left.checked_sub(bytes.len() as u64);
                self.left = left.ok_or_else(|| self.damaged("a file in it is too long"))?;
            }
            Entry::Node(Node { kind: NodeKind::File { length, .. }, .. }) => {
                self.left = *length;
                self.seen.files += 1;
                self.seen.bytes += *length;
            }
            Entry::Node(Node { kind: NodeKind::Link { .. }, .. }) => self.seen.files += 1,
            Entry::Node(_) | Entry::Record(..) => {}
        }
        Ok(Some(entry))
    }

    /// What the end told; known once [`Reader::entry`] gave `None`.
    pub fn tail(&self) -> Option<&Tail> {
        self.tail.as_ref()
    }

    fn end(&mut self, body: &[u8], digest: &[u8]) -> Result<(), ArchiveError> {
        let (tail, told) = tail_of(body).ok_or_else(|| self.damaged("its end makes no sense"))?;
        if told != digest {
            return Err(self.damaged("its SHA-256 does not fit"));
        }
        if (tail.files, tail.bytes) != (self.seen.files, self.seen.bytes) {
            return Err(self.damaged("files are missing in it"));
        }
        let mut more = [0];
        let read = self.from.read(&mut more);
        let path = self.path.clone();
        if read.map_err(|source| ArchiveError::Io { doing: "read", path, source })? > 0 {
            return Err(self.damaged("something follows its end"));
        }
        self.tail = Some(tail);
        Ok(())
    }

    /// The kind and the body of the next entry.
    fn body(&mut self) -> Result<(u8, Vec<u8>), ArchiveError> {
        let mut bytes = [0; HEADER];
        self.exact(&mut bytes)?;
        let header = Header::split(&bytes).map(|(header, _)| header);
        let header = header.filter(|header| header.length as usize <= BODY_MAX);
        let header = header.ok_or_else(|| self.damaged("an entry is too long"))?;
        let mut body = vec![0; header.length as usize];
        self.exact(&mut body)?;
        if !header.fits(&body) {
            return Err(self.damaged("the checksum of an entry does not fit"));
        }
        self.digest.update(bytes);
        self.digest.update(&body);
        Ok((header.kind, body))
    }

    fn exact(&mut self, bytes: &mut [u8]) -> Result<(), ArchiveError> {
        match self.from.read_exact(bytes) {
            Ok(()) => Ok(()),
            Err(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.damaged("it ends too early"))
            }
            Err(source) => Err(ArchiveError::Io { doing: "read", path: self.path.clone(), source }),
        }
    }

    pub(super) fn damaged(&self, what: &str) -> ArchiveError {
        ArchiveError::Damaged { path: self.path.clone(), what: what.to_owned() }
    }
}

/// The tail, and the SHA-256 that it tells.
fn tail_of(body: &[u8]) -> Option<(Tail, &[u8])> {
    let (numbers, digest) = body.split_at_checked(TAIL - 32)?;
    let mut numbers = numbers
        .chunks_exact(8)
        .filter_map(|number| Some(u64::from_le_bytes(number.try_into().ok()?)));
    let mut number = || numbers.next();
    let tail = Tail {
        high_water: number()?,
        sum: (number()?, number()?),
        tasks: number()?,
        files: number()?,
        bytes: number()?,
    };
    (digest.len() == 32).then_some((tail, digest))
}

fn decode(kind: u8, body: &[u8]) -> Option<Entry> {
    let node = |path, kind| Some(Entry::Node(Node { path: inside(path)?, kind }));
    match kind {
        kind::PUT | kind::DELETE => {
            let (prefix, rest) = body.split_first()?;
            let (key, value) = sized(rest)?;
            let value = (kind == kind::PUT).then(|| value.to_vec());
            Some(Entry::Record(Table::from_prefix(*prefix)?, key.to_vec(), value))
        }
        kind::FOLDER => {
            let (mode, path) = body.split_first_chunk()?;
            node(path, NodeKind::Folder { mode: u32::from_le_bytes(*mode) })
        }
        kind::FILE => {
            let (mode, rest) = body.split_first_chunk()?;
            let (changed, rest) = rest.split_first_chunk()?;
            let (length, path) = rest.split_first_chunk()?;
            let mode = u32::from_le_bytes(*mode);
            let changed = i64::from_le_bytes(*changed);
            node(path, NodeKind::File { mode, changed, length: u64::from_le_bytes(*length) })
        }
        kind::LINK => {
            let (to, path) = sized(body)?;
            node(path, NodeKind::Link { to: PathBuf::from(OsStr::from_bytes(to)) })
        }
        kind::BYTES => Some(Entry::Bytes(body.to_vec())),
        _ => None,
    }
}

/// Bytes with their length in front, and what follows.
fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u16::from_le_bytes(*length).into())
}

/// A path that leads nowhere but below the state directory.
fn inside(bytes: &[u8]) -> Option<PathBuf> {
    let path = PathBuf::from(OsStr::from_bytes(bytes));
    let plain = |part| matches!(part, Component::Normal(_));
    let good = !bytes.is_empty() && bytes.len() <= PATH_MAX && !bytes.contains(&0);
    (good && path.components().all(plain)).then_some(path)
}
