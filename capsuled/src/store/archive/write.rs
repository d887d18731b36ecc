//! Writing an archive: under a name of its own until it is whole and on disk.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest as _, Sha256};

use super::super::{Copied, CopyOf, StoreError, Table, disk};
use super::{ArchiveError, FORMAT, Head, MAGIC, PIECE, Tail, checksum, kind};

/// An archive that is being written. Dropped before [`Writer::finish`], it leaves nothing.
#[derive(Debug)]
pub struct Writer<'a> {
    out: BufWriter<File>,
    digest: Sha256,
    path: PathBuf,
    temporary: PathBuf,
    tail: Tail,
    done: bool,
    stop: &'a AtomicBool,
}

impl<'a> Writer<'a> {
    /// Begins the archive `path`, for its owner only. Nothing is there until it is finished; a
    /// file of that name is refused. All fails with [`StoreError::Stopped`] soon after `stop`.
    pub fn begin(path: &Path, head: &Head, stop: &'a AtomicBool) -> Result<Self, ArchiveError> {
        let failed = |source| ArchiveError::Io { doing: "write", path: path.to_owned(), source };
        if fs::symlink_metadata(path).is_ok() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        let temporary = disk::temporary(path);
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.custom_flags(libc::O_NOFOLLOW).open(&temporary).map_err(failed)?;
        let mut writer = Self {
            out: BufWriter::with_capacity(PIECE, file),
            digest: Sha256::new(),
            path: path.to_owned(),
            temporary,
            tail: Tail::default(),
            done: false,
            stop,
        };
        writer.raw(MAGIC)?;
        let Head { store, taken, version } = head;
        let text = format!("format {FORMAT}\nstore {store}\ntaken {taken}\nversion {version}\n");
        writer.entry(kind::HEAD, &[text.as_bytes()])?;
        Ok(writer)
    }

    /// Adds a record, or that an earlier one is gone.
    pub fn record(&mut self, copied: Copied<'_>) -> Result<(), ArchiveError> {
        let Copied { table, key, value } = copied;
        let length = u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes();
        let table = [table.prefix()];
        match value {
            Some(value) => self.entry(kind::PUT, &[&table, &length, key, value]),
            None => self.entry(kind::DELETE, &[&table, &length, key]),
        }
    }

    /// The records are complete, and what this commit left.
    pub fn records_are_of(&mut self, of: &CopyOf) {
        self.tail.high_water = of.high_water;
        self.tail.sum = of.sum;
        self.tail.tasks = of.records.get(&Table::Task).copied().unwrap_or(0);
    }

    /// Adds what lies at `from`, with all below it, under the name `to`. What vanishes meanwhile
    /// is left out, and files that are half written, and what is neither folder, file nor link.
    pub fn tree(&mut self, from: &Path, to: &Path) -> Result<(), ArchiveError> {
        if to.as_os_str().as_encoded_bytes().ends_with(disk::TEMPORARY.as_bytes()) {
            return Ok(());
        }
        let failed = |source| ArchiveError::Io { doing: "read", path: from.to_owned(), source };
        let about = match fs::symlink_metadata(from) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
            about => about.map_err(failed)?,
        };
        let mode = about.permissions().mode() & 0o777;
        if about.is_dir() {
            self.node(kind::FOLDER, &[&mode.to_le_bytes()], to)?;
            let mut names: Vec<_> =
                disk::entries(from)?.iter().map(fs::DirEntry::file_name).collect();
            names.sort();
            return names.iter().try_for_each(|name| self.tree(&from.join(name), &to.join(name)));
        }
        if about.is_symlink() {
            let target = fs::read_link(from).map_err(failed)?;
            let target = target.as_os_str().as_bytes();
            let length = u16::try_from(target.len()).unwrap_or(u16::MAX).to_le_bytes();
            self.tail.files += 1;
            return self.node(kind::LINK, &[&length, target], to);
        }
        if about.is_file() { self.file(from, to, &about) } else { Ok(()) }
    }

    /// Of a file that grows meanwhile, what was there at first; one that shrinks is refused.
    fn file(&mut self, from: &Path, to: &Path, about: &Metadata) -> Result<(), ArchiveError> {
        let failed = |source| ArchiveError::Io { doing: "read", path: from.to_owned(), source };
        let file = match File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(from) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file.map_err(failed)?,
        };
        let mode = about.permissions().mode() & 0o777;
        let changed = about.mtime().saturating_mul(1_000_000) + about.mtime_nsec() / 1000;
        let parts: [&[u8]; 3] =
            [&mode.to_le_bytes(), &changed.to_le_bytes(), &about.len().to_le_bytes()];
        self.node(kind::FILE, &parts, to)?;
        let mut left = about.len();
        let mut piece = Vec::new();
        while left > 0 {
            piece.clear();
            let most = left.min(PIECE as u64);
            let read = (&file).take(most).read_to_end(&mut piece).map_err(failed)?;
            if read == 0 {
                return Err(failed(io::ErrorKind::UnexpectedEof.into()));
            }
            left -= read as u64;
            self.entry(kind::BYTES, &[&piece])?;
        }
        self.tail.files += 1;
        self.tail.bytes += about.len();
        Ok(())
    }

    fn node(&mut self, kind: u8, parts: &[&[u8]], to: &Path) -> Result<(), ArchiveError> {
        let parts: Vec<&[u8]> = parts.iter().copied().chain([to.as_os_str().as_bytes()]).collect();
        self.entry(kind, &parts)
    }

    /// Ends the archive, makes it durable and gives it its name.
    pub fn finish(mut self) -> Result<Tail, ArchiveError> {
        let digest = self.digest.clone().finalize();
        let Tail { high_water, sum: (count, hash), tasks, files, bytes } = self.tail;
        let numbers = [high_water, count, hash, tasks, files, bytes].map(u64::to_le_bytes);
        self.entry(kind::TAIL, &[numbers.as_flattened(), &digest])?;
        let failed =
            |doing, path: &Path, source| ArchiveError::Io { doing, path: path.to_owned(), source };
        self.out.flush().map_err(|source| failed("write", &self.temporary, source))?;
        let synced = self.out.get_ref().sync_all();
        synced.map_err(|source| failed("sync", &self.temporary, source))?;
        let named = fs::rename(&self.temporary, &self.path);
        named.map_err(|source| failed("rename", &self.temporary, source))?;
        self.done = true;
        disk::sync_path(&disk::Disk, disk::folder(&self.path))?;
        Ok(self.tail.clone())
    }

    fn entry(&mut self, kind: u8, parts: &[&[u8]]) -> Result<(), ArchiveError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(StoreError::Stopped.into());
        }
        let body = parts.concat();
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let crc = checksum(kind, length, &body);
        let mut head = [kind].to_vec();
        head.extend_from_slice(&length.to_le_bytes());
        head.extend_from_slice(&crc.to_le_bytes());
        self.raw(&head)?;
        self.raw(&body)
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.digest.update(bytes);
        let path = &self.temporary;
        self.out.write_all(bytes).map_err(|source| ArchiveError::Io {
            doing: "write",
            path: path.clone(),
            source,
        })
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if !self.done
            && let Err(error) = disk::remove_file(&self.temporary)
        {
            tracing::debug!(%error, "removing half an archive");
        }
    }
}
