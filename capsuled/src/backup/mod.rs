//! Backups: the whole state in one file, taken while the daemon runs.
//!
//! Owns what belongs into one, where they lie and what they are called. It must not know the wire
//! or how records are kept. Invariant: a file that has its name is whole and on disk, and every
//! task that was acknowledged before it was asked for is in it.
//!
//! Left out: secrets, because backups travel; logs, working folders and environments, because they
//! can be large and are not needed to go on; what apps wrote into folders of their own.

mod take;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use uuid::Uuid;

pub use self::take::{Made, take};
use crate::appdata::{AppData, DataError};
use crate::store::archive::{ArchiveError, Checked, peek};
use crate::store::{LiveCopy, SideFiles};

/// The folder of backups in the state directory.
pub const FOLDER: &str = "backups";

/// What the name of a backup's file ends with.
pub const ENDING: &str = "capsule";

/// The longest name of a backup, in bytes.
const NAME_MAX: usize = 100;

/// What is left out of every backup, for people.
pub const LEFT_OUT: [&str; 2] = ["secrets", "logs"];

/// Where everything is that belongs into a backup; clones are the same.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The state directory.
    pub root: PathBuf,
    /// The store's own name.
    pub store: Uuid,
    /// The records.
    pub records: Arc<dyn LiveCopy>,
    /// Payloads and results too big for a record.
    pub side: SideFiles,
    /// What apps keep.
    pub data: AppData,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The name cannot be a file's.
    #[error(
        "{0:?} cannot be the name of a backup: at most {NAME_MAX} of a-z A-Z 0-9 . _ -, or an \
         absolute path"
    )]
    Name(String),
    /// There is a file of that name.
    #[error("there is a backup {} already", .0.display())]
    Exists(PathBuf),
    /// One is being made.
    #[error("another backup is being made")]
    Busy,
    /// Reading or writing failed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The app data failed.
    #[error("copying the app data")]
    Data(#[from] DataError),
    /// There is no thread for it.
    #[error("no thread can be started for the backup")]
    Thread(#[source] std::io::Error),
    /// The daemon is about to end.
    #[error("the daemon is shutting down")]
    Ending,
}

/// One backup in the folder.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// What it says of itself, or why it cannot be one.
    pub about: Result<Checked, ArchiveError>,
}

/// Makes backups, one at a time, each on a thread of its own; clones are the same.
#[derive(Clone, Debug)]
pub struct Backups {
    sources: Arc<Sources>,
    stop: Arc<AtomicBool>,
    running: Arc<Mutex<Option<Running>>>,
}

/// The thread that makes a backup, and whether it has said how that went.
#[derive(Debug)]
struct Running {
    thread: JoinHandle<()>,
    told: Arc<AtomicBool>,
}

impl Backups {
    /// Of this state.
    pub fn new(sources: Sources) -> Self {
        Self { sources: Arc::new(sources), stop: Arc::default(), running: Arc::default() }
    }

    /// Makes a backup: under a name in the folder of backups, or at a path. `None` is named by the
    /// time.
    ///
    /// # Errors
    /// The name is bad or taken, another is being made, or the disk is full.
    pub async fn create(&self, name: Option<&str>, now: Timestamp) -> Result<Made, BackupError> {
        let path = path_of(&self.sources.root, name, now)?;
        let (tell, told) = oneshot::channel();
        {
            let mut running = self.running.lock();
            let ended = |Running { thread, told }: &Running| {
                told.load(Ordering::Relaxed) || thread.is_finished()
            };
            if running.as_ref().is_some_and(|running| !ended(running)) {
                return Err(BackupError::Busy);
            }
            let (sources, stop) = (Arc::clone(&self.sources), Arc::clone(&self.stop));
            let said = Arc::new(AtomicBool::new(false));
            let saying = Arc::clone(&said);
            let work = move || {
                let made = take(&sources, &path, now, &stop);
                // Before it is told, so that whoever hears it may ask for the next at once.
                saying.store(true, Ordering::Relaxed);
                // Whoever asked may be gone: the backup is made all the same.
                drop(tell.send(made));
            };
            let thread = Builder::new().name("backup".to_owned()).spawn(work);
            *running = Some(Running { thread: thread.map_err(BackupError::Thread)?, told: said });
        }
        told.await.map_err(|_| BackupError::Ending)?
    }

    /// Stops the one that is being made, and makes no more.
    pub fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(running) = self.running.lock().take()
            && running.thread.join().is_err()
        {
            tracing::error!("a backup panicked");
        }
    }
}

/// Where the backup of that name is or will be.
///
/// # Errors
/// The name cannot be a file's.
pub fn path_of(root: &Path, name: Option<&str>, now: Timestamp) -> Result<PathBuf, BackupError> {
    let by_time = || now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let name = name.filter(|name| !name.is_empty()).map_or_else(by_time, str::to_owned);
    if name.starts_with('/') {
        return Ok(PathBuf::from(name));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.len() > NAME_MAX || name.starts_with('.') || !name.chars().all(plain) {
        return Err(BackupError::Name(name));
    }
    let stem = name.strip_suffix(&format!(".{ENDING}")).unwrap_or(&name);
    Ok(root.join(FOLDER).join(format!("{stem}.{ENDING}")))
}

/// The backups in the folder, the newest first.
///
/// # Errors
/// The folder cannot be read.
pub fn list(root: &Path) -> Result<Vec<Listed>, std::io::Error> {
    let mut found = Vec::new();
    let folder = match std::fs::read_dir(root.join(FOLDER)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        folder => folder?,
    };
    for entry in folder {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        if let Some(name) = stem.filter(|_| path.extension().is_some_and(|end| end == ENDING)) {
            let bytes = std::fs::metadata(&path).map_or(0, |about| about.len());
            found.push(Listed { name: name.to_owned(), bytes, about: peek(&path) });
        }
    }
    let taken = |listed: &Listed| listed.about.as_ref().ok().map(|about| about.head.taken);
    found.sort_by(|a, b| (taken(b), &a.name).cmp(&(taken(a), &b.name)));
    Ok(found)
}
