//! Sockets of the daemon: where they lie, and bound so that only their owner gets in.

use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::sys::stat::{Mode, umask};
use nix::unistd::geteuid;
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

/// Refuses a path that no Unix socket can have.
pub(crate) fn check_path(path: &Path) -> anyhow::Result<()> {
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

/// Where the daemon listens.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// For `capsule`.
    pub(crate) clients: PathBuf,
    /// For stock runners.
    pub(crate) runners: PathBuf,
    /// For app hosts.
    pub(crate) hosts: PathBuf,
}

/// The same, listening.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// For `capsule`.
    pub(crate) clients: UnixListener,
    /// For stock runners.
    pub(crate) runners: UnixListener,
    /// For app hosts.
    pub(crate) hosts: UnixListener,
}

impl Sockets {
    /// The places of a daemon's sockets; each fits a socket's address.
    pub(crate) fn new(
        clients: PathBuf,
        runners: PathBuf,
        runtime_dir: &Path,
        store: uuid::Uuid,
    ) -> anyhow::Result<Self> {
        let hosts = hosts_socket(runtime_dir, store);
        for path in [&clients, &runners, &hosts] {
            check_path(path)?;
        }
        Ok(Self { clients, runners, hosts })
    }

    /// Listens on all of them.
    pub(crate) fn listen(&self) -> anyhow::Result<Listeners> {
        let Self { clients, runners, hosts } = self;
        let clients = listen(clients)?;
        Ok(Listeners { clients, runners: listen(runners)?, hosts: listen(hosts)? })
    }

    /// Left behind they would only be found stale.
    pub(crate) fn remove(&self) {
        for path in [&self.clients, &self.runners, &self.hosts] {
            drop(std::fs::remove_file(path));
        }
    }
}

/// Where app hosts speak to the daemon of this store.
fn hosts_socket(runtime_dir: &Path, store: uuid::Uuid) -> PathBuf {
    let name = store.simple().to_string();
    // The end of the id: two stores made in the same minute begin alike.
    let tail = name.get(24..).unwrap_or_default();
    runtime_dir.join(format!("hosts-{tail}.sock"))
}
