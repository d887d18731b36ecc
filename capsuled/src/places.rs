//! Where sockets and folders are, made and checked so that nobody else gets in.

use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{User, geteuid};
use tokio::net::UnixListener;

/// The longest path that a Unix socket takes (unix(7): 108 bytes with the ending zero).
const SOCKET_PATH_MAX: usize = 107;

/// Binds the socket for its owner only. A stale one is replaced; one that answers, or something
/// that is no socket of ours, is left alone.
pub(crate) fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("looking at {}", path.display())),
        Ok(found) if !found.file_type().is_socket() => {
            bail!("{} exists and is not a socket; name another with --socket", path.display())
        }
        Ok(found) if found.uid() != geteuid().as_raw() => {
            bail!(
                "{} is a socket of uid {}; name another with --socket",
                path.display(),
                found.uid()
            )
        }
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => bail!("another daemon serves {}; see it with capsule status", path.display()),
            Err(_) => std::fs::remove_file(path)
                .with_context(|| format!("removing the stale socket {}", path.display()))?,
        },
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(path);
    umask(before);
    bound.with_context(|| format!("binding the socket {}", path.display()))
}

pub(crate) fn check_socket_path(path: &Path) -> anyhow::Result<()> {
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_MAX {
        bail!(
            "the socket path {} has {length} bytes, a Unix socket takes {SOCKET_PATH_MAX}; name a shorter one with --socket",
            path.display()
        );
    }
    Ok(())
}

/// The short folder for sockets: `$XDG_RUNTIME_DIR/capsule`, else `/tmp/capsule-UID`.
pub(crate) fn runtime_dir() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| Path::new(dir).is_absolute()) {
        Some(dir) => PathBuf::from(dir).join("capsule"),
        None => PathBuf::from(format!("/tmp/capsule-{}", geteuid())),
    }
}

/// Where app hosts speak to the daemon of this store.
pub(crate) fn hosts_socket(runtime_dir: &Path, store: uuid::Uuid) -> PathBuf {
    let name = store.simple().to_string();
    // The end of the id: two stores made in the same minute begin alike.
    let tail = name.get(24..).unwrap_or_default();
    runtime_dir.join(format!("hosts-{tail}.sock"))
}

/// Makes a folder for its owner only, or checks that it is one.
pub(crate) fn make_private(dir: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("making the runtime folder {}", dir.display()))?;
    let found = std::fs::symlink_metadata(dir)?;
    if !found.is_dir() || found.uid() != geteuid().as_raw() || found.mode() & 0o077 != 0 {
        bail!("the runtime folder {} must be a folder of ours with mode 0700", dir.display());
    }
    Ok(())
}

pub(crate) fn default_state_dir() -> anyhow::Result<PathBuf> {
    if let Some(dir) = std::env::var_os("XDG_STATE_HOME").filter(|dir| Path::new(dir).is_absolute())
    {
        return Ok(PathBuf::from(dir).join("capsule"));
    }
    let home = std::env::var_os("HOME")
        .map(PathBuf::from)
        .or_else(|| User::from_uid(geteuid()).ok().flatten().map(|user| user.dir))
        .context("no home folder is known; name one with --state-dir")?;
    Ok(home.join(".local/state/capsule"))
}
