//! Which processes serve apps, for the daemon after this one: a file for each, by its key.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::dispatcher::plan::write_private;

/// What is kept of a host or a stock runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::dispatcher) struct Record {
    pub(in crate::dispatcher) app: String,
    pub(in crate::dispatcher) revision: u32,
    pub(in crate::dispatcher) token: String,
    /// When it was started, in µs since 1970.
    #[serde(default)]
    pub(in crate::dispatcher) launched_us: i64,
}

/// The folder of the files.
#[derive(Clone, Debug)]
pub(in crate::dispatcher) struct Registry(PathBuf);

impl Registry {
    pub(in crate::dispatcher) fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Notes one before it is started, so that none is ever unknown.
    pub(in crate::dispatcher) fn note(&self, key: u64, record: &Record) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let part = self.0.join(format!("{key}.part"));
        let bytes = serde_json::to_vec(record).map_err(io::Error::other)?;
        write_private(&part, &bytes)?;
        fs::rename(part, self.file(key))
    }

    pub(in crate::dispatcher) fn forget(&self, key: u64) {
        match fs::remove_file(self.file(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "the file of an app's process stays behind");
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// All that a former daemon has noted, newest first.
    pub(in crate::dispatcher) fn all(&self) -> Vec<(u64, Record)> {
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
