//! One daemon per state directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::StoreError;

/// Its name in the state directory.
pub(super) const NAME: &str = "capsuled.lock";

/// The lock on a state directory, held until dropped. The kernel lets go of it when the process
/// dies, so a lock file that stays behind means nothing.
#[derive(Debug)]
pub(super) struct Lock {
    _held: File,
}

impl Lock {
    /// Takes the lock of `dir`, and writes our process id into it.
    pub(super) fn take(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(NAME);
        let failed = |source| StoreError::io("lock", &path, source);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(failed)?;
        let mut patience = PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    let by = holder(&mut file);
                    if patience == 0 || !by.is_some_and(is_ending) {
                        return Err(StoreError::Locked { dir: dir.to_path_buf(), by });
                    }
                    patience -= 1;
                    wait_a_moment();
                }
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(failed)?;
        Ok(Self { _held: file })
    }
}

/// How often a process that is ending is given another moment: 2 s in all.
const PATIENCE: u32 = 200;

fn wait_a_moment() {
    let moment = nix::poll::PollTimeout::from(10u8);
    // Without descriptors it only waits; woken early, the loop just looks sooner.
    let _woken = nix::poll::poll(&mut [], moment);
}

/// Whether a process is gone or on its way: a killed daemon gives its lock back only when the
/// kernel has taken its memory apart (`PF_EXITING` in the flags of proc(5)'s `stat`).
fn is_ending(pid: u32) -> bool {
    const EXITING: u64 = 4;
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let mut fields = fields.split_whitespace();
    let state = fields.next().unwrap_or("X");
    let flags: u64 = fields.nth(5).and_then(|flags| flags.parse().ok()).unwrap_or(0);
    matches!(state, "Z" | "X") || flags & EXITING != 0
}

fn holder(file: &mut File) -> Option<u32> {
    file.rewind().ok()?;
    let mut text = String::new();
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_learns_the_process_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        let refused = Lock::take(dir.path()).unwrap_err();
        let StoreError::Locked { by, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(by, Some(std::process::id()));
        drop(first);
        Lock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("victim");
        std::fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, dir.path().join(NAME)).unwrap();
        assert!(matches!(Lock::take(dir.path()), Err(StoreError::Io { .. })));
        assert_eq!(std::fs::read(&target).unwrap(), b"precious");
    }
}
