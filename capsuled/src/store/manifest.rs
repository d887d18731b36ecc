//! The MANIFEST: what a store must hold at the least, kept outside its database.
//!
//! A power cut can leave a database that opens without error and lacks its newest part, or
//! everything. The MANIFEST knows better, so that is refused.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use jiff::Timestamp;
use uuid::Uuid;

use super::StoreError;
use super::disk::{self, DiskSync};

/// The newest format of a state directory this version knows.
pub(super) const FORMAT: u32 = 1;

/// Its name in the state directory.
pub(super) const NAME: &str = "MANIFEST";

const TITLE: &str = "capsule store";

/// How far the store's creation went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing was ever acknowledged; whatever is there may be removed and made again.
    Creating,
    /// The database exists.
    Ready,
}

/// The id of the store in `dir`, without opening it; `None` when none is made yet.
///
/// # Errors
/// The MANIFEST cannot be read, or is damaged.
pub fn store_id(dir: &Path) -> Result<Option<Uuid>, StoreError> {
    let manifest = Manifest::read(dir)?.filter(|manifest| manifest.stage == Stage::Ready);
    Ok(manifest.map(|manifest| manifest.uuid))
}

/// The last change that is known to have been made durable in the store in `dir`, without opening
/// it; `None` when that cannot be told.
pub fn store_reached(dir: &Path) -> Option<u64> {
    Some(Manifest::read(dir).ok()??.low_bound)
}

/// The contents of the MANIFEST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) stage: Stage,
    pub(super) uuid: Uuid,
    pub(super) created: Timestamp,
    /// This change, and all before it, are durable in the database.
    pub(super) low_bound: u64,
}

impl Manifest {
    /// The MANIFEST of a store that is about to be made.
    pub(super) fn new(created: Timestamp) -> Self {
        Self { stage: Stage::Creating, uuid: Uuid::now_v7(), created, low_bound: 0 }
    }

    /// Reads the MANIFEST of `dir`, with the low bound raised to the [`Mark`]; `None` when there is
    /// none.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = dir.join(NAME);
        let text = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::io("read", &path, source)),
        };
        let damaged = || StoreError::Damaged {
            dir: dir.to_path_buf(),
            what: "the checksum of its MANIFEST does not fit".to_owned(),
        };
        let body = checked(&text).ok_or_else(damaged)?;
        let format =
            field(body, "format").and_then(|text| text.parse().ok()).ok_or_else(damaged)?;
        if format > FORMAT {
            let dir = dir.to_path_buf();
            return Err(StoreError::Newer { dir, what: "store", found: format, known: FORMAT });
        }
        let mut manifest = Self::parse(body).ok_or_else(damaged)?;
        let noted = Mark::read(dir, manifest.uuid).unwrap_or(0);
        manifest.low_bound = manifest.low_bound.max(noted);
        Ok(Some(manifest))
    }

    /// Puts this MANIFEST in the place of the one in `dir`, durably.
    pub(super) fn write(&self, dir: &Path, sync: &dyn DiskSync) -> Result<(), StoreError> {
        disk::write_whole(sync, &dir.join(NAME), &[self.text().as_bytes()])
    }

    fn text(&self) -> String {
        let stage = match self.stage {
            Stage::Creating => "creating",
            Stage::Ready => "ready",
        };
        let mut text = format!(
            "{TITLE}\nformat {FORMAT}\nuuid {}\ncreated {}\nstage {stage}\nlow-bound {}\n",
            self.uuid, self.created, self.low_bound
        );
        let crc = crc32fast::hash(text.as_bytes());
        writeln!(text, "crc {crc:08x}").expect("a String takes every write");
        text
    }

    fn parse(body: &str) -> Option<Self> {
        let stage = match field(body, "stage")? {
            "creating" => Stage::Creating,
            "ready" => Stage::Ready,
            _ => return None,
        };
        Some(Self {
            stage,
            uuid: field(body, "uuid")?.parse().ok()?,
            created: field(body, "created")?.parse().ok()?,
            low_bound: field(body, "low-bound")?.parse().ok()?,
        })
    }
}

/// The last durable change, noted after every commit without a sync of its own.
///
/// It survives a killed process, so a rollback shows even between two MANIFESTs. After a power cut
/// it may be old, which is why it is a second witness and not the first.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    uuid: Uuid,
}

impl Mark {
    /// The name of its file in the state directory.
    pub(super) const NAME: &str = "high-water";

    /// The change noted for store `uuid`; `None` when there is no note, or it is torn.
    fn read(dir: &Path, uuid: Uuid) -> Option<u64> {
        let bytes = fs::read(dir.join(Self::NAME)).ok()?;
        let (body, crc) = bytes.split_last_chunk()?;
        let (of, change) = body.split_last_chunk()?;
        let known = of == uuid.as_bytes() && u32::from_le_bytes(*crc) == crc32fast::hash(body);
        known.then_some(u64::from_le_bytes(*change))
    }

    /// Opens the note of store `uuid`, to be written from here on.
    pub(super) fn open(dir: &Path, uuid: Uuid) -> Result<Self, StoreError> {
        let path = dir.join(Self::NAME);
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(|source| StoreError::io("open", &path, source))?;
        Ok(Self { file, uuid })
    }

    /// Notes a change that is durable. An old note only makes the next start less sharp-eyed, so a
    /// failure is no reason to stop.
    pub(super) fn note(&self, high_water: u64) {
        let mut bytes = self.uuid.as_bytes().to_vec();
        bytes.extend_from_slice(&high_water.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        if let Err(error) = self.file.write_all_at(&bytes, 0) {
            tracing::debug!(%error, "noting the high-water mark");
        }
    }
}

/// The text before the last line, when that line holds its checksum. Every format keeps this.
fn checked(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let (_, crc) = text.rsplit_once("\ncrc ")?;
    let body = text.get(..text.len() - crc.len() - "crc ".len())?;
    let sum = u32::from_str_radix(crc, 16).ok()?;
    (sum == crc32fast::hash(body.as_bytes()) && body.starts_with(TITLE)).then_some(body)
}

fn field<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
}

#[cfg(test)]
mod tests {
    use super::super::disk::Disk;
    use super::*;

    fn sample() -> Manifest {
        let created = "2026-11-23T08:00:00Z".parse().unwrap();
        Manifest { stage: Stage::Ready, low_bound: 1842, ..Manifest::new(created) }
    }

    #[test]
    fn reads_back_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap(), None);
        sample_in(dir.path());
        assert_eq!(Manifest::read(dir.path()).unwrap().unwrap().low_bound, 1842);
    }

    fn sample_in(dir: &Path) -> Vec<u8> {
        sample().write(dir, &Disk).unwrap();
        fs::read(dir.join(NAME)).unwrap()
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let whole = sample_in(dir.path());
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                fs::write(dir.path().join(NAME), &flipped).unwrap();
                let read = Manifest::read(dir.path());
                let same_crc = at >= whole.len() - 9 && read.is_ok();
                assert!(
                    same_crc && read.as_ref().unwrap().as_ref() == Some(&parse(&whole))
                        || matches!(read, Err(StoreError::Damaged { .. })),
                    "bit {bit} of byte {at}: {read:?}"
                );
            }
            fs::write(dir.path().join(NAME), &whole[..at]).unwrap();
            assert!(
                matches!(Manifest::read(dir.path()), Err(StoreError::Damaged { .. })),
                "cut at {at}"
            );
        }
    }

    fn parse(bytes: &[u8]) -> Manifest {
        Manifest::parse(checked(bytes).unwrap()).unwrap()
    }

    #[test]
    fn a_mark_is_read_back_only_whole_and_for_its_store() {
        let dir = tempfile::tempdir().unwrap();
        let uuid = Uuid::now_v7();
        assert_eq!(Mark::read(dir.path(), uuid), None);
        let mark = Mark::open(dir.path(), uuid).unwrap();
        assert_eq!(Mark::read(dir.path(), uuid), None);
        mark.note(u64::MAX);
        mark.note(1842);
        assert_eq!(Mark::read(dir.path(), uuid), Some(1842));
        assert_eq!(Mark::read(dir.path(), Uuid::nil()), None);
        let path = dir.path().join(Mark::NAME);
        let mut bytes = fs::read(&path).unwrap();
        bytes[20] ^= 4;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(Mark::read(dir.path(), uuid), None);
    }

    #[test]
    fn a_newer_format_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let body = sample().text().replace("format 1", "format 7");
        let body = &body[..body.rfind("crc").unwrap()];
        let text = format!("{body}crc {:08x}\n", crc32fast::hash(body.as_bytes()));
        fs::write(dir.path().join(NAME), text).unwrap();
        let refused = Manifest::read(dir.path()).unwrap_err();
        assert!(matches!(refused, StoreError::Newer { found: 7, known: 1, .. }), "{refused:?}");
    }
}
