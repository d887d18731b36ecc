//! The Python host's files: carried in the program, written out where an interpreter can read them.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// All of them, by name.
const FILES: [(&str, &str); 10] = [
    ("__main__.py", include_str!("../../host/__main__.py")),
    ("attempt.py", include_str!("../../host/attempt.py")),
    ("describe.py", include_str!("../../host/describe.py")),
    ("entry.py", include_str!("../../host/entry.py")),
    ("host.py", include_str!("../../host/host.py")),
    ("link.py", include_str!("../../host/link.py")),
    ("output.py", include_str!("../../host/output.py")),
    ("sdk.py", include_str!("../../host/sdk.py")),
    ("source.py", include_str!("../../host/source.py")),
    ("trace.py", include_str!("../../host/trace.py")),
];

/// Writes the files into `folder/DIGEST` (0700) unless they are there already; gives that folder.
/// Older versions stay beside it, for the hosts that run from them.
///
/// # Errors
/// The folder cannot be written.
pub fn write_out(folder: &Path) -> io::Result<PathBuf> {
    let whole = folder.join(digest());
    if is_whole(&whole) {
        return Ok(whole);
    }
    let part = folder.join(format!("{}.part", digest()));
    for old in [&part, &whole] {
        match fs::remove_dir_all(old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&part)?;
    for (name, text) in FILES {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(part.join(name))?;
        file.write_all(text.as_bytes())?;
    }
    fs::rename(&part, &whole)?;
    Ok(whole)
}

fn is_whole(folder: &Path) -> bool {
    let same = |(name, text): &(&str, &str)| {
        fs::read(folder.join(name)).is_ok_and(|found| found == text.as_bytes())
    };
    FILES.iter().all(same)
}

/// Names what the files say; no defence against anybody, so a checksum is enough.
fn digest() -> String {
    let mut sums = [crc32fast::Hasher::new(), crc32fast::Hasher::new_with_initial(1)];
    for (name, text) in FILES {
        for sum in &mut sums {
            sum.update(name.as_bytes());
            sum.update(&[0]);
            sum.update(text.as_bytes());
        }
    }
    let [first, second] = sums.map(crc32fast::Hasher::finalize);
    format!("{first:08x}{second:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_written_once_and_mended() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("host");
        let written = write_out(&folder).unwrap();
        assert!(written.join("__main__.py").is_file());
        let mark = written.join("kept");
        fs::write(&mark, "").unwrap();
        assert_eq!(write_out(&folder).unwrap(), written);
        assert!(mark.exists(), "a whole folder is left alone");
        fs::write(written.join("host.py"), "half").unwrap();
        assert_eq!(write_out(&folder).unwrap(), written);
        assert!(is_whole(&written) && !mark.exists());
    }

    #[test]
    fn every_file_of_the_host_is_carried() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("host");
        let names = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.file_name());
        let mut names: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
        names.retain(|name| Path::new(name).extension().is_some_and(|kind| kind == "py"));
        names.sort();
        assert_eq!(names, FILES.map(|(name, _)| name));
    }
}
