//! The files and folders of one moment.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

/// Bytes that a disk keeps or loses together.
pub(super) const PAGE: usize = 4096;

/// One version of a page. Its number tells it from all others without a look at its bytes.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) number: u64,
    pub(super) bytes: Arc<[u8]>,
}

/// What is in a file. A page that is missing is all zero.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) size: u64,
    pub(super) pages: BTreeMap<u64, Page>,
}

/// What a disk holds at one moment: paths, in order, and what is there; `None` for a folder.
#[derive(Clone, Debug, Default)]
pub struct Image {
    pub(super) entries: BTreeMap<String, Option<Content>>,
}

impl Image {
    /// Tells it from others; the same for the same.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (path, content) in &self.entries {
            path.hash(&mut hasher);
            if let Some(content) = content {
                content.size.hash(&mut hasher);
                for (index, page) in &content.pages {
                    (index, page.number).hash(&mut hasher);
                }
            }
        }
        hasher.finish()
    }

    /// Makes these files and folders in `place`, which is empty.
    ///
    /// # Panics
    /// They cannot be written.
    pub fn put(&self, place: &Path) {
        for (path, content) in &self.entries {
            let path = place.join(path);
            let Some(content) = content else {
                fs::create_dir(&path).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
                continue;
            };
            let file = File::create(&path).unwrap();
            for (index, page) in &content.pages {
                file.write_all_at(&page.bytes, index * PAGE as u64).unwrap();
            }
            file.set_len(content.size).unwrap();
        }
    }

    /// The paths below `place` that are not byte for byte what is here, but for those that start
    /// with one of `aside`.
    ///
    /// # Panics
    /// They cannot be read.
    pub fn differences(&self, place: &Path, aside: &[&str]) -> Vec<String> {
        let mut real = BTreeMap::new();
        gather(place, "", &mut real);
        let counts = |path: &&String| !aside.iter().any(|aside| path.starts_with(aside));
        let mut wrong: Vec<String> = real
            .keys()
            .chain(self.entries.keys())
            .filter(|path| real.contains_key(*path) != self.entries.contains_key(*path))
            .filter(counts)
            .cloned()
            .collect();
        for (path, content) in self.entries.iter().filter(|(path, _)| counts(path)) {
            let same = match (content, real.get(path)) {
                (Some(content), Some(Some(bytes))) => content.equals(bytes),
                (None, Some(None)) | (_, None) => true,
                (Some(_), Some(None)) | (None, Some(Some(_))) => false,
            };
            if !same {
                wrong.push(path.clone());
            }
        }
        wrong
    }
}

impl Content {
    fn equals(&self, bytes: &[u8]) -> bool {
        let mut whole = vec![0; usize::try_from(self.size).unwrap()];
        for (index, page) in &self.pages {
            let at = usize::try_from(*index).unwrap() * PAGE;
            let end = whole.len().min(at + PAGE);
            if at < end {
                whole[at..end].copy_from_slice(&page.bytes[..end - at]);
            }
        }
        whole == bytes
    }
}

fn gather(place: &Path, prefix: &str, found: &mut BTreeMap<String, Option<Vec<u8>>>) {
    for entry in fs::read_dir(place).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{prefix}{}", entry.file_name().display());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            gather(&entry.path(), &format!("{path}/"), found);
            found.insert(path, None);
        } else if kind.is_file() {
            found.insert(path, Some(fs::read(entry.path()).unwrap()));
        }
    }
}

impl Image {
    /// What is in `place` now.
    ///
    /// # Panics
    /// It cannot be read.
    pub fn of(place: &Path) -> Self {
        let mut real = BTreeMap::new();
        gather(place, "", &mut real);
        let mut number = 0;
        let mut page = |(index, bytes): (usize, &[u8])| {
            if bytes.iter().all(|byte| *byte == 0) {
                return None;
            }
            number += 1;
            let mut whole = bytes.to_vec();
            whole.resize(PAGE, 0);
            Some((index as u64, Page { number, bytes: Arc::from(whole) }))
        };
        let mut content = |bytes: Vec<u8>| Content {
            size: bytes.len() as u64,
            pages: bytes.chunks(PAGE).enumerate().filter_map(&mut page).collect(),
        };
        let entries = real.into_iter();
        Self { entries: entries.map(|(path, bytes)| (path, bytes.map(&mut content))).collect() }
    }

    /// Its files: path, size, and the numbers of the pages that are not all zero.
    pub fn files(&self) -> Vec<(String, u64, Vec<u64>)> {
        let files = self.entries.iter().filter_map(|(path, content)| {
            let content = content.as_ref()?;
            Some((path.clone(), content.size, content.pages.keys().copied().collect()))
        });
        files.collect()
    }
}
