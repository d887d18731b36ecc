//! A daemon with another clock than ours, by libfaketime.

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// What our own clock shows, in seconds since 1970.
///
/// # Panics
/// It shows a time before that.
pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// Variables that turn the clock of a program, and of all that it starts, by so many seconds. `None`
/// where the library for it is not installed, which is said out loud; the caller returns.
pub fn turned(seconds: i64) -> Option<Vec<(&'static str, String)>> {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let roots = folders.map(|folder| folder.path()).chain([PathBuf::from("/usr/lib")]);
    let mut files = roots.map(|root| root.join("faketime/libfaketimeMT.so.1"));
    let Some(library) = files.find(|file| file.exists()) else {
        eprintln!("SKIPPED: libfaketime is not installed; on Debian: apt install faketime");
        return None;
    };
    Some(vec![
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME", format!("{seconds:+}s")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ])
}
