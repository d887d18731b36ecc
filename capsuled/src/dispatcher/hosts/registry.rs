//! Which hosts there are, for the daemon after this one: a file for each, by its key.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::dispatcher::plan::write_private;

/// What is kept of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) app: String,
    pub(super) revision: u32,
    pub(super) token: String,
    /// When it was started, in µs since 1970.
    #[serde(default)]
    pub(super) launched_us: i64,
}

/// The folder of the files.
#[derive(Clone, Debug)]
pub(super) struct Registry(PathBuf);

impl Registry {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Notes a host before it is started, so that none is ever unknown.
    pub(super) fn note(&self, key: u64, record: &Record) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let part = self.0.join(format!("{key}.part"));
        let bytes = serde_json::to_vec(record).map_err(io::Error::other)?;
        write_private(&part, &bytes)?;
        fs::rename(part, self.file(key))
    }

    pub(super) fn forget(&self, key: u64) {
        match fs::remove_file(self.file(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "a host's file stays behind");
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// All hosts that a former daemon has noted, newest first.
    pub(super) fn all(&self) -> Vec<(u64, Record)> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let mut found: Vec<_> = entries.filter_map(|entry| read(&entry.path())).collect();
        found.sort_by_key(|(key, _)| std::cmp::Reverse(*key));
        found
    }

    fn file(&self, key: u64) -> PathBuf {
        self.0.join(format!("{key}.json"))
    }
}

fn read(path: &Path) -> Option<(u64, Record)> {
    let key = path.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok()?;
    Some((key, serde_json::from_slice(&fs::read(path).ok()?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_found_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::new(dir.path().join("hosts"));
        assert_eq!(registry.all(), []);
        let record =
            |revision| Record { app: "leads".into(), revision, token: "t".into(), launched_us: 5 };
        registry.note(7, &record(1)).unwrap();
        registry.note(9, &record(2)).unwrap();
        fs::write(dir.path().join("hosts/8.json"), "{half").unwrap();
        assert_eq!(registry.all(), [(9, record(2)), (7, record(1))]);
        registry.forget(9);
        registry.forget(9);
        assert_eq!(registry.all(), [(7, record(1))]);
    }
}
