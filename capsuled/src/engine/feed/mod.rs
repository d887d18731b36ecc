//! The live feed: what changed, by number, for everyone who watches.
//!
//! A bounded ring in memory. A reader that is too far behind, or comes from before a restart, is
//! told so and starts again from a snapshot. Nothing polls: readers sleep until a commit.

pub(in crate::engine) mod post;

use std::collections::VecDeque;

use capsule_core::id::{Seq, TaskId};
use capsule_core::task::Status;
use capsule_core::time::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;

/// Changes kept for readers that lag: 64 k, about 2 MiB.
pub const RING: usize = 1 << 16;

/// One committed change of one task, or of a schedule: no task has a schedule's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Its number.
    pub seq: Seq,
    /// Which task.
    pub task: TaskId,
    /// Where that stands now; `None` = it was removed, or it is a schedule.
    pub status: Option<Status>,
    /// When it was committed.
    pub at: Timestamp,
}

/// The ring and its readers.
#[derive(Debug)]
pub struct Feed {
    ring: Mutex<Ring>,
    latest: watch::Sender<Seq>,
    /// Rises with each change of what is no task: settings of queues, apps.
    around: watch::Sender<u64>,
}

#[derive(Debug)]
struct Ring {
    changes: VecDeque<Changed>,
    /// Every change behind this one is in the ring.
    floor: Seq,
}

/// A place in the feed.
#[derive(Debug)]
pub struct Cursor {
    behind: Seq,
    latest: watch::Receiver<Seq>,
}

/// The reader fell out of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagged;

impl Feed {
    /// A feed whose next change comes after `latest`.
    pub fn new(latest: Seq) -> Self {
        let ring = Ring { changes: VecDeque::new(), floor: latest };
        Self {
            ring: Mutex::new(ring),
            latest: watch::channel(latest).0,
            around: watch::channel(0).0,
        }
    }

    /// The number of the last change.
    pub fn latest(&self) -> Seq {
        *self.latest.borrow()
    }

    /// A cursor behind which everything is new.
    pub fn cursor(&self) -> Cursor {
        let latest = self.latest.subscribe();
        let behind = *latest.borrow();
        Cursor { behind, latest }
    }

    /// A cursor behind a change that the reader has seen.
    pub fn cursor_behind(&self, seen: Seq) -> Cursor {
        Cursor { behind: seen, ..self.cursor() }
    }

    /// Lets readers see committed changes, in order.
    pub fn publish(&self, changes: &[Changed]) {
        let Some(last) = changes.last() else { return };
        {
            let mut ring = self.ring.lock();
            ring.changes.extend(changes);
            let over = ring.changes.len().saturating_sub(RING);
            let dropped = ring.changes.drain(..over).next_back();
            ring.floor = dropped.map_or(ring.floor, |dropped| dropped.seq);
        }
        self.latest.send_replace(last.seq);
    }

    /// Wakes whoever waits for a change around the tasks: the settings of a queue, an app.
    pub fn publish_around(&self) {
        self.around.send_modify(|count| *count += 1);
    }

    /// Tells of changes around the tasks from now on.
    pub fn around(&self) -> watch::Receiver<u64> {
        self.around.subscribe()
    }

    /// Waits for changes behind the cursor and moves it on.
    ///
    /// # Errors
    /// [`Lagged`] when some of them are no longer, or never were, in the ring.
    pub async fn next(&self, cursor: &mut Cursor) -> Result<Vec<Changed>, Lagged> {
        if cursor.behind > self.latest() {
            return Err(Lagged);
        }
        // The sender lives as long as the feed, so waiting does not fail.
        drop(cursor.latest.wait_for(|latest| *latest > cursor.behind).await);
        let ring = self.ring.lock();
        if cursor.behind < ring.floor {
            return Err(Lagged);
        }
        let from = ring.changes.partition_point(|change| change.seq <= cursor.behind);
        let news: Vec<Changed> = ring.changes.range(from..).copied().collect();
        if let Some(last) = news.last() {
            cursor.behind = last.seq;
        }
        Ok(news)
    }
}
