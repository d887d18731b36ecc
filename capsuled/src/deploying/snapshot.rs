//! A copy of a project that no edit changes any more, and digests of what it consists of.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// The most bytes of a snapshot: code and small data; large data belongs elsewhere.
pub(super) const BYTES_MAX: u64 = 64 << 20;
/// The most files of a snapshot.
pub(super) const FILES_MAX: u64 = 10_000;
/// How deep folders may lie.
const DEPTH_MAX: usize = 32;
/// Folders that are made again, belong to tools, or hold packages.
const SKIPPED: [&str; 13] = [
    ".git",
    ".hg",
    ".svn",
    ".venv",
    "__pycache__",
    "node_modules",
    ".env",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".tox",
    ".capsule",
    ".DS_Store",
];

/// Why no snapshot can be taken.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Reading or writing failed.
    #[error("copying {}", path.display())]
    Io {
        /// What was copied.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is too much in it.
    #[error("the project {} has more than {limit}; most of it lies in {}", dir.display(), largest)]
    TooLarge {
        /// The project.
        dir: PathBuf,
        /// What it has too much of.
        limit: String,
        /// The entry of the project with the most bytes so far.
        largest: String,
    },
}

/// What a snapshot consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Over all paths and contents.
    pub digest: String,
    /// How many files.
    pub files: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// Copies the project `from` to the new folder `to`, without what belongs to tools.
///
/// # Errors
/// It is too large, or something cannot be copied.
pub(super) fn take(from: &Path, to: &Path) -> Result<Taken, SnapshotError> {
    let mut copy =
        Copy { from, digest: Sha256::new(), taken: Taken::default(), largest: (0, String::new()) };
    make(to)?;
    for name in entries(from)? {
        let before = copy.taken.bytes;
        copy.entry(Path::new(&name), to, 0)?;
        let grown = copy.taken.bytes - before;
        if grown > copy.largest.0 {
            copy.largest = (grown, name.to_string_lossy().into_owned());
        }
    }
    // Its values go to the app's processes, but it is not copied.
    add_file(&mut copy.digest, &from.join(".env"));
    Ok(Taken { digest: hex(copy.digest), ..copy.taken })
}

/// The digest of what makes a project's code what it is, where it lies: for apps that follow it.
///
/// # Errors
/// A folder cannot be read.
pub(super) fn code(dir: &Path) -> Result<String, SnapshotError> {
    let mut digest = Sha256::new();
    let mut files = Vec::new();
    find_code(dir, 0, &mut files)?;
    files.sort();
    for file in files {
        digest.update(file.as_os_str().as_bytes());
        digest.update([0]);
        add_file(&mut digest, &file);
    }
    Ok(hex(digest))
}

fn find_code(dir: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), SnapshotError> {
    for name in entries(dir)? {
        let path = dir.join(&name);
        let Ok(about) = fs::symlink_metadata(&path) else { continue };
        if about.is_dir() && depth < DEPTH_MAX && !is_skipped(&path, &about) {
            find_code(&path, depth + 1, files)?;
        } else if about.is_file() && is_code(&path) && (files.len() as u64) < FILES_MAX {
            files.push(path);
        }
    }
    Ok(())
}

/// A change of it is a change of the app.
fn is_code(path: &Path) -> bool {
    let named = |name: &str| path.file_name().is_some_and(|file| file == name);
    let ends = |end: &str| path.extension().is_some_and(|found| found == end);
    ends("py") || ends("toml") || named(".env") || named("requirements.txt") || named("uv.lock")
}

fn add_file(digest: &mut Sha256, path: &Path) {
    if let Ok(bytes) = fs::read(path) {
        digest.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
        digest.update(&bytes);
    }
}

/// A short name for these texts, in their order.
pub(super) fn digest_of(texts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for text in texts {
        digest.update(text.as_bytes());
        digest.update([0]);
    }
    hex(digest)
}

fn hex(digest: Sha256) -> String {
    let bytes = digest.finalize();
    bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// Whether an entry of this name and kind is left out.
fn is_skipped(path: &Path, about: &Metadata) -> bool {
    let Some(name) = path.file_name() else { return true };
    SKIPPED.iter().any(|skipped| name == *skipped)
        || path.extension().is_some_and(|end| end == "pyc")
        || (about.is_dir() && path.join("pyvenv.cfg").is_file())
}

struct Copy<'a> {
    from: &'a Path,
    digest: Sha256,
    taken: Taken,
    /// The entry of the project with the most bytes, and how many.
    largest: (u64, String),
}

impl Copy<'_> {
    fn entry(&mut self, name: &Path, to: &Path, depth: usize) -> Result<(), SnapshotError> {
        let from = self.from.join(name);
        let failed = |source| SnapshotError::Io { path: from.clone(), source };
        let about = fs::symlink_metadata(&from).map_err(failed)?;
        if is_skipped(&from, &about) || depth > DEPTH_MAX {
            return Ok(());
        }
        let target = to.join(name);
        if about.is_dir() {
            make(&target)?;
            for inner in entries(&from)? {
                self.entry(&name.join(inner), to, depth + 1)?;
            }
        } else if about.is_symlink() {
            let link = fs::read_link(&from).map_err(failed)?;
            self.count(name, 0)?;
            self.digest.update(link.as_os_str().as_bytes());
            std::os::unix::fs::symlink(&link, &target).map_err(failed)?;
        } else if about.is_file() {
            self.count(name, about.len())?;
            self.file(&from, &target, &about).map_err(failed)?;
        }
        Ok(())
    }

    fn count(&mut self, name: &Path, bytes: u64) -> Result<(), SnapshotError> {
        self.taken.files += 1;
        self.taken.bytes += bytes;
        let limit = if self.taken.files > FILES_MAX {
            format!("{FILES_MAX} files")
        } else if self.taken.bytes > BYTES_MAX {
            format!("{} MiB", BYTES_MAX >> 20)
        } else {
            self.digest.update(name.as_os_str().as_bytes());
            self.digest.update([0]);
            return Ok(());
        };
        let now =
            name.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned());
        let largest = if bytes > self.largest.0 || self.largest.1.is_empty() {
            now.unwrap_or_default()
        } else {
            self.largest.1.clone()
        };
        Err(SnapshotError::TooLarge { dir: self.from.to_owned(), limit, largest })
    }

    fn file(&mut self, from: &Path, to: &Path, about: &Metadata) -> io::Result<()> {
        let mut reader = File::open(from)?.take(BYTES_MAX);
        let mode = 0o600 | (about.permissions().mode() & 0o100);
        let mut writer = File::options().write(true).create_new(true).mode(mode).open(to)?;
        let mut buffer = vec![0; 64 << 10];
        self.digest.update([u8::from(mode & 0o100 != 0)]);
        self.digest.update(about.len().to_le_bytes());
        loop {
            let read = reader.read(&mut buffer)?;
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            self.digest.update(bytes);
            writer.write_all(bytes)?;
        }
        // Compiled files are held to it, and people compare it.
        writer.set_modified(about.modified()?)
    }
}

fn make(dir: &Path) -> Result<(), SnapshotError> {
    fs::create_dir(dir).map_err(|source| SnapshotError::Io { path: dir.to_owned(), source })
}

/// Names in a folder, sorted.
fn entries(dir: &Path) -> Result<Vec<std::ffi::OsString>, SnapshotError> {
    let failed = |source| SnapshotError::Io { path: dir.to_owned(), source };
    let listed = fs::read_dir(dir).map_err(failed)?;
    let mut names = listed
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(failed)?;
    names.sort();
    Ok(names)
}

/// Takes away the right to write below a folder.
pub(super) fn seal(dir: &Path) -> io::Result<()> {
    set_writable(dir, false)
}

/// Removes a folder, also one that was sealed.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    if fs::symlink_metadata(dir).is_err() {
        return Ok(());
    }
    set_writable(dir, true)?;
    fs::remove_dir_all(dir)
}

fn set_writable(path: &Path, writable: bool) -> io::Result<()> {
    let about = fs::symlink_metadata(path)?;
    if about.is_symlink() {
        return Ok(());
    }
    let mode = about.permissions().mode() & 0o777;
    let change = |mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    if writable {
        change(mode | 0o200)?;
    }
    if about.is_dir() {
        for entry in fs::read_dir(path)? {
            set_writable(&entry?.path(), writable)?;
        }
    }
    if writable { Ok(()) } else { change(mode & !0o222) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["pkg", ".git", "__pycache__", "env", "node_modules"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        for (path, text) in [
            ("app.py", "app = 1\n"),
            ("pkg/__init__.py", ""),
            ("pkg/data.csv", "a,b\n"),
            (".env", "KEY=secret\n"),
            (".git/HEAD", "x"),
            ("__pycache__/app.pyc", "x"),
            ("env/pyvenv.cfg", ""),
            ("node_modules/big", "x"),
        ] {
            fs::write(dir.path().join(path), text).unwrap();
        }
        std::os::unix::fs::symlink("app.py", dir.path().join("link.py")).unwrap();
        dir
    }

    #[test]
    fn the_project_is_copied_without_what_belongs_to_tools() {
        let (project, state) = (project(), tempfile::tempdir().unwrap());
        let to = state.path().join("copy");
        let taken = take(project.path(), &to).unwrap();
        assert_eq!(taken.files, 4);
        assert_eq!(entries(&to).unwrap(), ["app.py", "link.py", "pkg"]);
        assert_eq!(fs::read_to_string(to.join("pkg/data.csv")).unwrap(), "a,b\n");
        seal(&to).unwrap();
        assert_eq!(fs::metadata(to.join("app.py")).unwrap().permissions().mode() & 0o222, 0);
        assert_eq!(fs::metadata(to.join("pkg")).unwrap().permissions().mode() & 0o222, 0);
        remove(&to).unwrap();
        assert!(!to.exists() && project.path().join("app.py").exists());
    }

    #[test]
    fn the_digest_follows_contents_names_and_environment_and_nothing_else() {
        let (project, state) = (project(), tempfile::tempdir().unwrap());
        let mut count = 0;
        let mut digest = || {
            count += 1;
            take(project.path(), &state.path().join(count.to_string())).unwrap().digest
        };
        let first = digest();
        fs::write(project.path().join(".git/HEAD"), "y").unwrap();
        fs::write(project.path().join("app.py"), "app = 1\n").unwrap();
        assert_eq!(digest(), first);
        fs::write(project.path().join(".env"), "KEY=other\n").unwrap();
        let second = digest();
        assert_ne!(second, first);
        fs::rename(project.path().join("pkg/data.csv"), project.path().join("pkg/date.csv"))
            .unwrap();
        assert_ne!(digest(), second);
    }

    #[test]
    fn code_is_what_a_served_app_follows() {
        let project = project();
        let before = code(project.path()).unwrap();
        fs::write(project.path().join("pkg/data.csv"), "c\n").unwrap();
        assert_eq!(code(project.path()).unwrap(), before);
        fs::write(project.path().join("pkg/__init__.py"), "x = 1\n").unwrap();
        assert_ne!(code(project.path()).unwrap(), before);
    }

    #[test]
    fn too_much_is_refused_by_name() {
        let (project, state) = (project(), tempfile::tempdir().unwrap());
        fs::create_dir(project.path().join("data")).unwrap();
        let big = File::create(project.path().join("data/big.bin")).unwrap();
        big.set_len(BYTES_MAX + 1).unwrap();
        let refused = take(project.path(), &state.path().join("copy")).unwrap_err().to_string();
        assert!(refused.contains("64 MiB") && refused.ends_with("in data"), "{refused}");
    }
}
