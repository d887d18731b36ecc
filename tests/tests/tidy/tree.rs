//! The project's files, as tests want to read them.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the project.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its path from the root of the project, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// The lines that ship: with their numbers, without comments and without the tests at the end.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = || self.text.lines().enumerate();
        let end = lines()
            .zip(lines().skip(1))
            .find(|((_, first), (_, second))| {
                first.trim() == "#[cfg(test)]" && second.trim() == "mod tests {"
            })
            .map_or(usize::MAX, |((at, _), _)| at);
        self.text
            .lines()
            .enumerate()
            .take_while(move |(at, _)| *at < end)
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(at, line)| (at + 1, line))
    }

    /// Lines of shipped code that contain one of `words`, as `path:line: text`.
    pub(crate) fn naming(&self, words: &[&str]) -> Vec<String> {
        self.code()
            .filter(|(_, line)| words.iter().any(|word| line.contains(word)))
            .map(|(at, line)| format!("{}:{at}: {}", self.path, line.trim()))
            .collect()
    }

    pub(crate) fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }
}

/// The root of the project.
pub(crate) fn root() -> PathBuf {
    let members = Path::new(env!("CARGO_MANIFEST_DIR"));
    members.parent().expect("this crate lies in a folder of the project").to_owned()
}

/// The text of a file, named from the root.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("reading {path}: {error}"))
}

/// All files that are the project's own, without what is built.
pub(crate) fn files() -> Vec<Source> {
    let mut found = Vec::new();
    walk(&root(), "", &mut found);
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn walk(dir: &Path, prefix: &str, found: &mut Vec<Source>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{prefix}{name}");
        if ["target", ".git", "__pycache__", ".capsule"].contains(&name.as_str())
            || name.starts_with("mutants.out")
        {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), &format!("{path}/"), found);
        } else if let Ok(text) = fs::read_to_string(entry.path()) {
            found.push(Source { path, text });
        }
    }
}

/// All Rust files of shipped code: neither tests nor benchmarks nor fuzz targets.
pub(crate) fn shipped() -> Vec<Source> {
    let mut sources = rust();
    sources.retain(|source| {
        let test = source
            .path
            .split('/')
            .any(|part| ["tests", "tests.rs", "benches", "fuzz"].contains(&part));
        !test && !source.path.ends_with("/conformance.rs")
    });
    sources
}

/// All Rust files.
pub(crate) fn rust() -> Vec<Source> {
    let mut sources = files();
    sources.retain(|source| Path::new(&source.path).extension().is_some_and(|end| end == "rs"));
    sources
}

/// Fails with the list, when there is one.
pub(crate) fn none(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}\n  {}", found.join("\n  "));
}
