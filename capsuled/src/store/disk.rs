//! Files and folders that stay after a power cut. A test counts and fails the syncs here.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::StoreError;

/// What the name of a file ends with until its contents are whole.
pub(super) const TEMPORARY: &str = ".tmp";

/// The one way in which the store asks the disk to keep what was written.
pub(super) trait DiskSync: Send + Sync + Debug {
    /// Waits until the contents of `file` are on disk, with the metadata needed to read them.
    fn contents(&self, file: &File, path: &Path) -> io::Result<()>;

    /// Waits until contents and all metadata of a file or folder are on disk.
    fn all(&self, file: &File, path: &Path) -> io::Result<()>;
}

/// The real disk.
#[derive(Debug)]
pub(super) struct Disk;

impl DiskSync for Disk {
    fn contents(&self, file: &File, _path: &Path) -> io::Result<()> {
        file.sync_data()
    }

    fn all(&self, file: &File, _path: &Path) -> io::Result<()> {
        file.sync_all()
    }
}

/// Syncs a file or folder by its path.
pub(super) fn sync_path(sync: &dyn DiskSync, path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|file| sync.all(&file, path))
        .map_err(|source| StoreError::io("sync", path, source))
}

/// Syncs every file and folder under `dir`, then `dir`.
pub(super) fn sync_tree(sync: &dyn DiskSync, dir: &Path) -> Result<(), StoreError> {
    for entry in entries(dir)? {
        let kind = entry.file_type().map_err(|source| StoreError::io("read", dir, source))?;
        if kind.is_dir() {
            sync_tree(sync, &entry.path())?;
        } else if kind.is_file() {
            sync_path(sync, &entry.path())?;
        }
    }
    sync_path(sync, dir)
}

/// Puts `bytes` at `path` whole: after a crash the file holds what it held before, or all of this.
pub(super) fn write_whole(
    sync: &dyn DiskSync,
    path: &Path,
    parts: &[&[u8]],
) -> Result<(), StoreError> {
    let temporary = temporary(path);
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&temporary)?;
        parts.iter().try_for_each(|part| file.write_all(part))?;
        sync.all(&file, &temporary)
    };
    write().map_err(|source| StoreError::io("write", &temporary, source))?;
    fs::rename(&temporary, path).map_err(|source| StoreError::io("replace", path, source))?;
    sync_path(sync, folder(path))
}

/// Creates a folder that only its owner can enter, and makes its name durable.
pub(super) fn make_folder(sync: &dyn DiskSync, path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::DirBuilderExt as _;

    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => sync_path(sync, folder(path)),
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(StoreError::io("create folder", path, source)),
    }
}

/// The entries of a folder; none when it does not exist.
pub(super) fn entries(dir: &Path) -> Result<Vec<fs::DirEntry>, StoreError> {
    let listed = match fs::read_dir(dir) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.and_then(Iterator::collect),
    };
    listed.map_err(|source| StoreError::io("list", dir, source))
}

/// Bytes of all files under `dir`. Files that vanish meanwhile count nothing.
pub(super) fn size(dir: &Path) -> Result<u64, StoreError> {
    let mut bytes = 0;
    for entry in entries(dir)? {
        match entry.metadata() {
            Ok(about) if about.is_dir() => bytes += size(&entry.path())?,
            Ok(about) => bytes += about.len(),
            Err(source) if source.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(StoreError::io("measure", &entry.path(), source)),
        }
    }
    Ok(bytes)
}

/// Copies a folder with all its files.
pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::create_dir(to).map_err(|source| StoreError::io("create folder", to, source))?;
    for entry in entries(from)? {
        let (old, new) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(|source| StoreError::io("read", &old, source))?;
        if kind.is_dir() {
            copy_tree(&old, &new)?;
        } else if kind.is_file() {
            fs::copy(&old, &new).map_err(|source| StoreError::io("copy", &old, source))?;
        }
    }
    Ok(())
}

/// Removes a folder with all its files, if it is there.
pub(super) fn remove_tree(dir: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", dir, source))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The name under which a file is written before it takes its place.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY);
    name.into()
}

/// Removes a file, if it is there.
pub(super) fn remove_file(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", path, source))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The folder that a file is in.
pub(super) fn folder(path: &Path) -> &Path {
    let folder = path.parent().unwrap_or(Path::new("/"));
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}
