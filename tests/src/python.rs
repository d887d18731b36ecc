//! The real SDK from the package index, in an environment that `scripts/needs.sh test` has made.

use std::path::{Path, PathBuf};

/// The interpreter of the environment with the SDK in it. `None` where it could not be had, which
/// is said out loud; the caller returns.
pub fn sdk() -> Option<PathBuf> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let python = target.join("sdk/bin/python");
    if python.exists() {
        return Some(python);
    }
    eprintln!("SKIPPED: {} is not there; make it: scripts/needs.sh sdk", python.display());
    None
}

/// The project's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}
