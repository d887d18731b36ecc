//! Keeps the database's panics and errors inside the store.

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Once;
use std::thread;

use super::super::StoreError;

/// What the threads of the database's own pool are called.
const POOL_THREAD: &str = "sled-io-";

/// How the database's error begins when its file is locked.
const LOCKED: &str = "could not acquire lock";

/// What the database's reads fail with when the file is not what it wrote.
const UNREADABLE: [io::ErrorKind; 3] =
    [io::ErrorKind::UnexpectedEof, io::ErrorKind::InvalidData, io::ErrorKind::InvalidInput];

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Why a call of the database gave no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// It panicked, as it does on many kinds of damage.
    Panicked(String),
    /// It returned an error.
    Failed(::sled::Error),
}

impl Fault {
    /// The error for the store at `root`, whose database at `queue` failed while `doing` something.
    pub(super) fn into_error(self, root: &Path, queue: &Path, doing: &'static str) -> StoreError {
        let damaged = |what: String| StoreError::Damaged { dir: root.to_path_buf(), what };
        match self {
            Self::Panicked(said) => {
                tracing::debug!(doing, said, "the database panicked");
                damaged(format!("its database could not go on (while it had to {doing} the queue)"))
            }
            Self::Failed(::sled::Error::Io(source)) => {
                if UNREADABLE.contains(&source.kind()) {
                    damaged(format!("its database file cannot be read ({source})"))
                } else if source.to_string().starts_with(LOCKED) {
                    StoreError::Locked { dir: root.to_path_buf(), by: None }
                } else {
                    StoreError::io(doing, queue, source)
                }
            }
            Self::Failed(
                other @ (::sled::Error::Corruption { .. }
                | ::sled::Error::CollectionNotFound(_)
                | ::sled::Error::Unsupported(_)
                | ::sled::Error::ReportableBug(_)),
            ) => {
                tracing::debug!(doing, error = %other, "the database failed");
                damaged("its database reports corruption".to_owned())
            }
        }
    }
}

/// While it lives, threads that this thread starts may have their timeouts delayed by minutes.
///
/// The database's pool lives as long as the process, and each of its seven threads asks once a
/// second whether there is work; it is told of work anyway. A thread inherits this from the one
/// that starts it, so the pool must be started inside.
#[derive(Debug)]
pub(super) struct DrowsyPool;

/// Ten minutes, in nanoseconds.
const DROWSY: u64 = 600_000_000_000;

thread_local! {
    static IN_DROWSY_POOL: Cell<bool> = const { Cell::new(false) };
}

/// Zero stands for the thread's own default. Should it fail, the daemon only wakes more often.
fn set_slack(nanoseconds: u64) {
    nix::sys::prctl::set_timerslack(nanoseconds).ok();
}

impl DrowsyPool {
    pub(super) fn begin() -> Self {
        IN_DROWSY_POOL.set(true);
        set_slack(DROWSY);
        Self
    }
}

impl Drop for DrowsyPool {
    fn drop(&mut self) {
        IN_DROWSY_POOL.set(false);
        set_slack(0);
    }
}

/// While it lives, this thread's own timeouts are exact, inside a [`DrowsyPool`] too: otherwise a
/// wait of a millisecond could last as long as the pool may sleep.
#[derive(Debug)]
pub(super) struct Awake;

impl Awake {
    pub(super) fn begin() -> Self {
        set_slack(0);
        Self
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        set_slack(if IN_DROWSY_POOL.get() { DROWSY } else { 0 });
    }
}

/// Runs one call of the database; a panic in it becomes a [`Fault`] and prints nothing.
pub(super) fn guarded<T>(call: impl FnOnce() -> ::sled::Result<T>) -> Result<T, Fault> {
    quiet_panics();
    let outer = GUARDED.replace(true);
    let ended = panic::catch_unwind(AssertUnwindSafe(call));
    GUARDED.set(outer);
    match ended {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Fault::Failed(error)),
        Err(said) => Err(Fault::Panicked(text(said.as_ref()))),
    }
}

/// Puts a hook before the present one that passes over guarded calls and the database's threads.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let next = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let pool = thread::current().name().is_some_and(|name| name.starts_with(POOL_THREAD));
            if !pool && !GUARDED.get() {
                next(info);
            }
        }));
    });
}

fn text(said: &(dyn Any + Send)) -> String {
    let plain = said.downcast_ref::<&str>().map(|text| (*text).to_owned());
    plain.or_else(|| said.downcast_ref::<String>().cloned()).unwrap_or_default()
}
