//! Places where a test has a process die between two steps, as `kill -9` would have it at the worst
//! moment. Debug builds only: a release build neither has the places nor reads a variable.
//!
//! `CAPSULE_FAIL_AT=after-flush:17` kills the process at its 17th pass of that place. With
//! `CAPSULE_FAIL_ONCE=FILE` only if it can rename FILE to `FILE.PID`: of all processes that inherit
//! the variables, one dies. It must know nothing of what it interrupts.

#[cfg(debug_assertions)]
use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

/// How long a process stands at a place before it dies there.
#[cfg(debug_assertions)]
const LINGER: std::time::Duration = std::time::Duration::from_millis(30);

/// Dies here, if that was asked for.
#[cfg(debug_assertions)]
pub(crate) fn pass(place: &'static str) {
    static ASKED: OnceLock<Option<Asked>> = OnceLock::new();
    if let Some(asked) = ASKED.get_or_init(Asked::read)
        && asked.place == place
        && asked.left.fetch_sub(1, Ordering::Relaxed) == 1
        && asked.is_the_one()
    {
        // Whatever other threads say too early gets out.
        std::thread::park_timeout(LINGER);
        // Nothing is unwound, flushed or told.
        let _unsent =
            nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub(crate) const fn pass(_: &'static str) {}

#[cfg(debug_assertions)]
struct Asked {
    place: String,
    left: AtomicU64,
    once: Option<std::path::PathBuf>,
}

#[cfg(debug_assertions)]
impl Asked {
    fn read() -> Option<Self> {
        let text = std::env::var("CAPSULE_FAIL_AT").ok()?;
        let once = std::env::var_os("CAPSULE_FAIL_ONCE").map(Into::into);
        let (place, at) = text.split_once(':')?;
        let left = AtomicU64::new(at.parse().ok()?);
        Some(Self { place: place.to_owned(), left, once })
    }

    fn is_the_one(&self) -> bool {
        self.once.as_ref().is_none_or(|once| {
            let mut taken = once.clone().into_os_string();
            taken.push(format!(".{}", std::process::id()));
            std::fs::rename(once, taken).is_ok()
        })
    }
}
