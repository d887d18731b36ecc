//! Taking one backup.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;

use super::{BackupError, FOLDER, Sources};
use crate::appdata;
use crate::store::archive::{ArchiveError, Head, Reader, Tail, Writer};
use crate::store::{Copied, StoreError};

/// A backup that is whole and on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// When it was asked for.
    pub taken: Timestamp,
    /// What it holds.
    pub tail: Tail,
}

/// Writes a backup to `path`, reads it again and compares. On the way it has other names.
///
/// # Errors
/// Something cannot be read or written, or `stop` was set; there is no file then.
pub fn take(
    sources: &Sources,
    path: &Path,
    taken: Timestamp,
    stop: &AtomicBool,
) -> Result<Made, BackupError> {
    let failed = |source| ArchiveError::Io { doing: "write", path: path.to_owned(), source };
    if path.parent().is_some_and(|folder| folder == sources.root.join(FOLDER)) {
        let folder = sources.root.join(FOLDER);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
        fs::File::open(&sources.root).and_then(|root| root.sync_all()).map_err(failed)?;
    }
    if fs::symlink_metadata(path).is_ok() {
        return Err(BackupError::Exists(path.to_owned()));
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let head = Head { store: sources.store, taken, version };
    let mut writer = Writer::begin(path, &head, stop)?;
    // Files that the records name stay until they are copied too.
    let hold = sources.side.hold();
    records(sources, &mut writer, stop)?;
    writer.tree(&sources.side.folder(), Path::new("side"))?;
    drop(hold);
    app_data(sources, &mut writer, path)?;
    // After the records: a revision's folder is there before its record.
    writer.tree(&sources.root.join("apps"), Path::new("apps"))?;
    let tail = writer.finish()?;
    if let Err(error) = read_again(path) {
        fs::remove_file(path).map_err(failed)?;
        return Err(error.into());
    }
    let bytes = fs::metadata(path).map_err(failed)?.len();
    Ok(Made { path: path.to_owned(), bytes, taken, tail })
}

fn records(
    sources: &Sources,
    writer: &mut Writer<'_>,
    stop: &AtomicBool,
) -> Result<(), ArchiveError> {
    let mut broken = None;
    let copied = sources.records.copy(stop, &mut |record: Copied<'_>| {
        writer.record(record).map_err(|error| {
            broken = Some(error);
            StoreError::Stopped
        })
    });
    match (copied, broken) {
        (_, Some(error)) => Err(error),
        (Err(error), None) => Err(error.into()),
        (Ok(of), None) => {
            writer.records_are_of(&of);
            Ok(())
        }
    }
}

/// A copy of its own, because the file itself changes meanwhile.
fn app_data(sources: &Sources, writer: &mut Writer<'_>, path: &Path) -> Result<(), BackupError> {
    let copy = path.with_extension("appdata.tmp");
    remove(&copy)?;
    let copied = sources.data.copy(&copy);
    let told = match copied {
        Ok(true) => writer.tree(&copy, Path::new(appdata::FILE)).map_err(BackupError::from),
        Ok(false) => Ok(()),
        Err(error) => Err(error.into()),
    };
    remove(&copy)?;
    told
}

fn remove(path: &Path) -> Result<(), ArchiveError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ArchiveError::Io { doing: "remove", path: path.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether all of it can be read and every checksum fits.
fn read_again(path: &Path) -> Result<(), ArchiveError> {
    let mut reader = Reader::open(path)?;
    while reader.entry()?.is_some() {}
    Ok(())
}
