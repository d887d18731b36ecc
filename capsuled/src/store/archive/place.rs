//! Putting a restored state in the place of what is there: all of it or nothing, after a crash too.
//!
//! The restored parts are complete and durable in a folder before anything moves. That folder's
//! name tells how far it is: [`READY`]: the old parts go aside, [`PLACING`]: the new ones go in.
//! A start that finds either goes on with it before it looks at anything else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::super::disk::{self, DiskSync};
use super::super::{StateDir, StoreError};

/// Everything of a state that a restore replaces. What is not named here stays: the lock and the
/// reserve, backups, secrets, environments and what apps wrote into folders of their own.
const PARTS: [&str; 10] = [
    "MANIFEST",
    "high-water",
    "queue",
    "side",
    "logs",
    "work",
    "apps",
    "appdata.redb",
    "hosts",
    "runners",
];

/// Where a state is restored to; worthless until it is complete.
pub(super) const PARTIAL: &str = "restore.partial";

const READY: &str = "restore.ready";
const PLACING: &str = "restore.placing";

/// The file in the restored state that names the folder for what was there.
const ASIDE: &str = "aside";

/// Whether anything of a state is there that a restore would replace.
pub(super) fn is_bare(root: &Path) -> bool {
    PARTS.iter().all(|part| !is_there(&root.join(part)))
}

/// Removes what a restore that was cut short has left; folders in it may be closed to writing.
pub(super) fn clear(root: &Path) -> Result<(), StoreError> {
    fn unseal(dir: &Path) -> Result<(), StoreError> {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
            .map_err(|source| StoreError::io("open", dir, source))?;
        for entry in disk::entries(dir)? {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                unseal(&entry.path())?;
            }
        }
        Ok(())
    }
    let partial = root.join(PARTIAL);
    if is_there(&partial) {
        unseal(&partial)?;
    }
    disk::remove_tree(&partial)
}

/// Takes the complete state in [`PARTIAL`] into use. What was there goes into a folder named by
/// `now`, which is returned if there was anything.
pub(super) fn place(
    state: &StateDir,
    now: Timestamp,
    sync: &dyn DiskSync,
) -> Result<Option<PathBuf>, StoreError> {
    let root = state.root();
    let aside = (!is_bare(root)).then(|| free_name(root, now));
    let partial = root.join(PARTIAL);
    for entry in disk::entries(&partial)? {
        if !PARTS.iter().any(|part| entry.file_name() == *part) {
            let path = entry.path();
            if path.is_dir() { disk::remove_tree(&path)? } else { disk::remove_file(&path)? }
        }
    }
    let name = aside.as_deref().and_then(Path::file_name).unwrap_or_default();
    disk::write_whole(sync, &partial.join(ASIDE), &[name.as_encoded_bytes()])?;
    disk::sync_tree(sync, &partial)?;
    rename(&partial, &root.join(READY), sync)?;
    finish(root, sync)?;
    Ok(aside)
}

/// Goes on with what a crash has interrupted; nothing, as a rule.
pub(in crate::store) fn finish(root: &Path, sync: &dyn DiskSync) -> Result<(), StoreError> {
    let (ready, placing) = (root.join(READY), root.join(PLACING));
    if is_there(&ready) {
        let path = ready.join(ASIDE);
        let name =
            fs::read_to_string(&path).map_err(|source| StoreError::io("read", &path, source))?;
        if !name.is_empty() {
            let aside = root.join(name);
            disk::make_folder(sync, &aside)?;
            move_parts(root, &aside, sync)?;
        }
        rename(&ready, &placing, sync)?;
    }
    if is_there(&placing) {
        move_parts(&placing, root, sync)?;
        disk::remove_tree(&placing)?;
        disk::sync_path(sync, root)?;
    }
    Ok(())
}

/// Moves every part that is in `from`; none of them can be in `to`.
fn move_parts(from: &Path, to: &Path, sync: &dyn DiskSync) -> Result<(), StoreError> {
    for part in PARTS {
        let (old, new) = (from.join(part), to.join(part));
        if is_there(&old) {
            fs::rename(&old, &new).map_err(|source| StoreError::io("rename", &old, source))?;
        }
    }
    disk::sync_path(sync, to)?;
    disk::sync_path(sync, from)
}

fn rename(from: &Path, to: &Path, sync: &dyn DiskSync) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(|source| StoreError::io("rename", from, source))?;
    disk::sync_path(sync, disk::folder(to))
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn free_name(root: &Path, now: Timestamp) -> PathBuf {
    let name = format!("replaced-{}", now.strftime("%Y%m%dT%H%M%SZ"));
    let mut path = root.join(&name);
    let mut next = 2;
    while is_there(&path) {
        path = root.join(format!("{name}-{next}"));
        next += 1;
    }
    path
}
