//! A daemon with another clock than ours, by libfaketime.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The library that turns a program's clock. `None` where it is not installed, which is said out
/// loud; the caller returns.
pub fn faketime() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let roots = folders.map(|folder| folder.path()).chain([PathBuf::from("/usr/lib")]);
    let mut files = roots.map(|root| root.join("faketime/libfaketimeMT.so.1"));
    let found = files.find(|file| file.exists());
    if found.is_none() {
        eprintln!("SKIPPED: libfaketime is not installed; on Debian: apt install faketime");
    }
    found
}

/// Turns the clock of a call, and of all that it starts, by so many seconds.
pub(crate) fn turn(command: &mut Command, library: &std::path::Path, seconds: i64) {
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME", format!("{seconds:+}s"))
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("DONT_FAKE_MONOTONIC", "1");
}
