//! Watches the state directory's disk. Below a floor of free space nothing new starts or is
//! accepted, while cancels and verdicts still find room. While it is read-only nothing is changed at
//! all: what people ask is refused, what the keeper says waits, and reads go on.

use std::path::PathBuf;
use std::time::Duration;

use capsule_core::time::{Span, Timestamp};
use nix::errno::Errno;
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use super::EngineError;
use super::group::Group;
use super::request::{Acted, Refusal, Reply, Request, SubmitError};

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
    read_only: Option<String>,
}

impl Disk {
    pub(super) const fn new(dir: PathBuf) -> Self {
        Self { dir, looked: None, full: None, read_only: None }
    }

    /// Looks, if it is time to, and says why nothing new may start.
    pub(super) fn look(&mut self, now: Timestamp) -> Option<&str> {
        // Before each commit, because a commit that fails ends the daemon.
        let read_only = access(&self.dir, AccessFlags::W_OK) == Err(Errno::EROFS);
        self.read_only = read_only.then(|| {
            format!("the file system of {} is read-only: nothing is changed", self.dir.display())
        });
        if read_only {
            return self.read_only.as_deref();
        }
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

    /// Nothing new may start.
    pub(super) const fn is_full(&self) -> bool {
        self.full.is_some() || self.read_only.is_some()
    }

    /// Nothing may be committed; why.
    pub(super) fn read_only(&self) -> Option<&str> {
        self.read_only.as_deref()
    }
}

impl Group<'_> {
    /// Answers what can be answered without a change, and holds back what has to wait: the keeper's
    /// reports, and the rare requests that have no way to say no. Gives back who asked for the end.
    pub(super) fn take_read_only(
        &mut self,
        requests: Vec<Request>,
        why: &str,
        held: &mut Vec<Request>,
    ) -> Result<Option<Reply<()>>, EngineError> {
        let mut close = None;
        for request in requests {
            match request {
                Request::Submit { submits, reply } => {
                    let refused = |_| Err(SubmitError::Degraded(why.to_owned()));
                    self.answer(reply, submits.iter().map(refused).collect());
                }
                Request::Act { tasks, reply, .. } | Request::Remove { tasks, reply } => {
                    let refuse = |id| {
                        let before = self.load(id)?;
                        Ok(Acted { id, before, result: Err(Refusal::ReadOnly) })
                    };
                    let acted: Result<Vec<Acted>, EngineError> =
                        tasks.into_iter().map(refuse).collect();
                    self.answer(reply, acted?);
                }
                Request::Close { reply } => close = Some(reply),
                other @ (Request::Started { .. }
                | Request::Report { .. }
                | Request::Refresh { .. }
                | Request::Gone { .. }
                | Request::KeeperUp { .. }
                | Request::KeeperDown
                | Request::SetQueue { .. }
                | Request::Drain { .. }
                | Request::StopAll { .. }
                | Request::Degraded { .. }
                | Request::ClockSet
                | Request::Deploy { .. }
                | Request::Rollback { .. }
                | Request::RemoveApp { .. }
                | Request::Schedule(_)) => held.push(other),
            }
        }
        Ok(close)
    }
}
