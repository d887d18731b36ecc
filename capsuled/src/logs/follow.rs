//! Waiting for a log to grow, without a timer and without waking for other tasks' output. Only where
//! the system has no watch left (a user may have few) is a log looked at from time to time.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::net::unix::pipe::Receiver;

use super::format::{file_name, shard_name};
use super::{LogDir, LogError};

/// How often a log is looked at that cannot be watched.
const EACH: Duration = Duration::from_millis(250);

/// Waits for the log of one attempt to grow. The files need not exist yet.
#[derive(Debug)]
pub struct LogFollower {
    /// None where nothing can be watched.
    watcher: Option<Watcher>,
    looked: bool,
}

impl LogFollower {
    /// Starts watching. Must be called within a tokio runtime.
    pub fn new(dir: Arc<LogDir>, task: u64, attempt: u32) -> Self {
        let watcher = Watcher::new(dir, task, attempt);
        let watcher = watcher.inspect_err(tell).ok();
        Self { watcher, looked: false }
    }

    /// Returns when the log may have grown since the last call returned; the first call returns at
    /// once. Read until [`Batch::more`](super::Batch::more) is false, then call it again. It waits
    /// for ever when the attempt is over: know that from elsewhere.
    ///
    /// Cancel safe: nothing is lost when the future is dropped.
    pub async fn grown(&mut self) {
        if let Some(watcher) = &mut self.watcher {
            match watcher.grown().await {
                Ok(()) => return,
                Err(error) => tell(&error),
            }
            self.watcher = None;
        }
        if std::mem::replace(&mut self.looked, true) {
            tokio::time::sleep(EACH).await;
        }
    }

    /// The events that wait now, read past the runtime.
    #[cfg(test)]
    pub(super) fn events(&self) -> nix::Result<Vec<InotifyEvent>> {
        self.watcher.as_ref().unwrap().inotify.read_events()
    }

    /// A follower where no watch was left.
    #[cfg(test)]
    pub(super) fn blind() -> Self {
        Self { watcher: None, looked: false }
    }
}

fn tell(error: &LogError) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "a log cannot be watched, so it is looked at from time to time"
    );
}

/// The watches of one follower.
#[derive(Debug)]
struct Watcher {
    dir: Arc<LogDir>,
    shard_name: String,
    /// Head, `t0`, `t1`.
    names: [OsString; 3],
    inotify: Inotify,
    /// A duplicate of the inotify descriptor, which tells the runtime when there are events. No
    /// pipe, but the one type that takes a descriptor over without `unsafe`.
    ready: Receiver,
    /// The logs folder, while the shard folder is missing.
    root: Option<WatchDescriptor>,
    /// The shard folder, while a file is missing.
    shard: Option<WatchDescriptor>,
    files: [Option<WatchDescriptor>; 3],
    /// Something grew that `grown` has not told yet.
    news: bool,
}

impl Watcher {
    fn new(dir: Arc<LogDir>, task: u64, attempt: u32) -> Result<Self, LogError> {
        let failed = || LogError::io("watching", format!("{task}.{attempt}"));
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .map_err(|error| failed()(error.into()))?;
        let ready = inotify.as_fd().try_clone_to_owned().map_err(failed())?;
        let mut follower = Self {
            dir,
            shard_name: shard_name(task),
            names: [0, 1, 2].map(|generation| file_name(task, attempt, generation).into()),
            inotify,
            ready: Receiver::from_owned_fd_unchecked(ready).map_err(failed())?,
            root: None,
            shard: None,
            files: [None, None, None],
            news: true,
        };
        follower.arm()?;
        Ok(follower)
    }

    /// As [`LogFollower::grown`].
    async fn grown(&mut self) -> Result<(), LogError> {
        while !self.news {
            let failed = || LogError::io("watching", self.shard_name.clone());
            self.ready.readable().await.map_err(failed())?;
            match self.ready.try_io(|| self.inotify.read_events().map_err(io::Error::from)) {
                Ok(events) => self.take(&events)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed()(error)),
            }
        }
        self.news = false;
        Ok(())
    }

    fn take(&mut self, events: &[InotifyEvent]) -> Result<(), LogError> {
        let mut moved = false;
        for event in events {
            let of_file = self.files.contains(&Some(event.wd));
            let overflow = event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
            self.news |= of_file || overflow;
            moved |= !of_file;
            if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                moved = true;
                let watches = self.files.iter_mut().chain([&mut self.root, &mut self.shard]);
                for watch in watches.filter(|watch| **watch == Some(event.wd)) {
                    *watch = None;
                }
            }
        }
        if moved { self.arm() } else { Ok(()) }
    }

    /// Watches each file that exists, and the folder in which the next one will appear. A folder is
    /// always watched before it is searched, so nothing can appear unseen in between.
    fn arm(&mut self) -> Result<(), LogError> {
        let inside = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        let inside = inside | AddWatchFlags::IN_ONLYDIR | AddWatchFlags::IN_DONT_FOLLOW;
        let path = self.dir.path().join(&self.shard_name);
        loop {
            let missing = self.files.iter().any(Option::is_none);
            if missing && self.shard.is_none() {
                self.shard = self.watch(&path, inside | AddWatchFlags::IN_DELETE_SELF)?;
            }
            if self.shard.is_some() || !missing {
                break;
            }
            if self.root.is_some() {
                return Ok(());
            }
            let root = self.dir.path();
            self.root = self.watch(root, inside)?;
            if self.root.is_none() {
                let gone = io::ErrorKind::NotFound.into();
                return Err(LogError::io("watching", root.display().to_string())(gone));
            }
        }
        self.unwatch_root();
        self.arm_files(&path)
    }

    fn arm_files(&mut self, shard: &std::path::Path) -> Result<(), LogError> {
        let inside = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_DONT_FOLLOW;
        for index in 0..self.names.len() {
            let known = self.files.get(index).is_some_and(Option::is_some);
            let Some(name) = self.names.get(index).filter(|_| !known) else { continue };
            let watch = self.watch(&shard.join(name), inside | AddWatchFlags::IN_DELETE_SELF)?;
            self.news |= watch.is_some();
            if let Some(slot) = self.files.get_mut(index) {
                *slot = watch;
            }
        }
        if self.files.iter().all(Option::is_some)
            && let Some(shard) = self.shard.take()
        {
            self.unwatch(shard);
        }
        Ok(())
    }

    fn unwatch_root(&mut self) {
        if let Some(root) = self.root.take() {
            self.unwatch(root);
        }
    }

    fn unwatch(&self, watch: WatchDescriptor) {
        // Fails only if the folder is gone, and the watch with it.
        self.inotify.rm_watch(watch).ok();
    }

    /// Watches a path; `None` if there is nothing.
    fn watch(
        &self,
        path: &std::path::Path,
        events: AddWatchFlags,
    ) -> Result<Option<WatchDescriptor>, LogError> {
        match self.inotify.add_watch(path, events) {
            Ok(watch) => Ok(Some(watch)),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(LogError::io("watching", path.display().to_string())(error.into())),
        }
    }
}
