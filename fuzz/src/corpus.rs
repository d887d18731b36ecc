//! The kept inputs: `fuzz/corpus/TARGET/`, one a file. Those that once found something stay there.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of a target's kept inputs.
pub fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// The kept inputs of a target by name, in order.
pub fn kept(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut kept: Vec<(String, Vec<u8>)> = fs::read_dir(folder(target))
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap())
        })
        .collect();
    kept.sort();
    kept
}
