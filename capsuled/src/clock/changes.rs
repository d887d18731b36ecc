//! Hears of it when somebody sets the machine's clock, and when it wakes from a sleep.

use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::read;
use tokio::io::unix::AsyncFd;

/// An instant that does not come: the timer is there only to be cancelled by the kernel.
const NEVER: TimeSpec = TimeSpec::new(i32::MAX as i64 * 4, 0);

/// Tells each change of the machine's clock until the one who is told has gone (`false`).
pub async fn watch(mut tell: impl FnMut() -> bool) {
    let watching = async {
        let mut changes = ClockChanges::new()?;
        loop {
            changes.next().await?;
            tracing::info!("the clock of the machine was set, or it has slept");
            if !tell() {
                return Ok::<_, io::Error>(());
            }
        }
    };
    if let Err(error) = watching.await {
        tracing::warn!(%error, "changes of the clock are not heard of");
    }
}

/// The changes of the machine's clock. Costs nothing while there are none.
#[derive(Debug)]
struct ClockChanges {
    timer: AsyncFd<OwnedFd>,
}

impl ClockChanges {
    /// Listens from now on.
    fn new() -> io::Result<Self> {
        Self::until(NEVER)
    }

    /// As if the clock had been set at this instant, too.
    fn until(at: TimeSpec) -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_REALTIME, flags)?;
        let how = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        timer.set(Expiration::OneShot(at), how)?;
        #[expect(
            deprecated,
            reason = "an owned descriptor stays the same; the other one is unsafe"
        )]
        let timer = AsyncFd::new(OwnedFd::from(timer))?;
        Ok(Self { timer })
    }

    /// Waits for the next change.
    async fn next(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.timer.readable().await?;
            // A cancelled timer is one that can be read.
            match read(ready.get_inner(), &mut [0; 8]) {
                Ok(_) | Err(Errno::ECANCELED) => return Ok(()),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use capsule_core::time::Timestamp;

    use super::super::{Clock as _, SystemClock};
    use super::*;

    #[tokio::test]
    async fn nothing_is_heard_while_the_clock_goes_on() {
        let mut changes = ClockChanges::new().unwrap();
        let heard = tokio::time::timeout(Duration::from_millis(50), changes.next()).await;
        assert!(heard.is_err(), "{heard:?}");
    }

    /// What the kernel tells by the timer is heard: here that its instant has come.
    #[tokio::test]
    async fn what_the_timer_tells_is_heard_once() {
        let Timestamp(now) = SystemClock.now();
        let mut changes = ClockChanges::until(TimeSpec::new(now / 1_000_000 - 5, 0)).unwrap();
        tokio::time::timeout(Duration::from_secs(10), changes.next()).await.unwrap().unwrap();
        let again = tokio::time::timeout(Duration::from_millis(20), changes.next()).await;
        assert!(again.is_err(), "{again:?}");
    }

    /// Sets the machine's clock to what it says, which is a change to the kernel.
    #[tokio::test]
    async fn a_clock_that_is_set_is_heard() {
        if std::env::var_os("CAPSULE_TEST_SET_CLOCK").is_none() {
            eprintln!("SKIPPED: it sets the machine's clock; CAPSULE_TEST_SET_CLOCK=1 allows that");
            return;
        }
        let mut changes = ClockChanges::new().unwrap();
        let clock = nix::time::ClockId::CLOCK_REALTIME;
        if let Err(error) = nix::time::clock_settime(clock, clock.now().unwrap()) {
            eprintln!("SKIPPED: the clock cannot be set: {error}");
            return;
        }
        tokio::time::timeout(Duration::from_secs(10), changes.next()).await.unwrap().unwrap();
    }
}
