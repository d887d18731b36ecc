//! Watches the free space of the state directory's disk: below a floor nothing new starts or is
//! accepted, while cancels and verdicts still find room.

use std::path::PathBuf;
use std::time::Duration;

use capsule_core::time::{Span, Timestamp};
use nix::sys::statvfs::statvfs;

/// Free space that is always left, unless the whole disk is small.
pub const FLOOR: u64 = 64 << 20;
/// On a small disk the floor is this part of it.
const FLOOR_PART: u64 = 10;
/// While commits come, the disk is looked at this often.
const LOOK: Span = Span::from_secs(1);
/// While the floor holds things up, somebody has to look again.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// The disk and when it was last looked at.
#[derive(Debug)]
pub(super) struct Disk {
    dir: PathBuf,
    looked: Option<Timestamp>,
    full: Option<String>,
}

impl Disk {
    pub(super) const fn new(dir: PathBuf) -> Self {
        Self { dir, looked: None, full: None }
    }

    /// Looks, if it is time to, and says why nothing new may start.
    pub(super) fn look(&mut self, now: Timestamp) -> Option<&str> {
        let recent = self.looked.is_some_and(|at| at <= now && now.since(at) < LOOK);
        if !recent {
            self.looked = Some(now);
            self.full = statvfs(&self.dir).ok().and_then(|found| {
                let free = found.blocks_available().saturating_mul(found.fragment_size());
                let all = found.blocks().saturating_mul(found.fragment_size());
                let floor = FLOOR.min(all / FLOOR_PART);
                (free < floor).then(|| {
                    let (free, floor) = (free >> 20, floor >> 20);
                    format!(
                        "the disk of {} is almost full ({free} MiB free, {floor} MiB are kept)",
                        self.dir.display()
                    )
                })
            });
        }
        self.full.as_deref()
    }

    pub(super) const fn is_full(&self) -> bool {
        self.full.is_some()
    }
}
