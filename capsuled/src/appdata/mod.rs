//! What apps keep: sessions with their data and history, documents, schemas. One file beside the
//! queue.
//!
//! It must not know the wire, tasks or the engine. Invariant: an answer to a write comes after its
//! commit is on disk; one thread does all of it, so a commit carries everything that has come in.

mod copy;
mod documents;
mod group;
mod query;
mod schemas;
mod sessions;
mod state;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use redb::WriteTransaction;
use tokio::sync::oneshot;

pub use self::documents::{Find, Place};
pub use self::schemas::Scope;
pub use self::sessions::{Entry, Profile, Session, Summary};
pub use self::state::{Save, Saved, checksum};
use crate::clock::Clock;

/// The name of the file in the state directory.
pub const FILE: &str = "appdata.redb";
/// The longest document, in bytes of JSON.
pub const DOCUMENT_MAX: usize = 1 << 20;
/// How deep objects and lists of a document may lie in one another, the document being the first: what is
/// read again stops at 127.
pub const DEPTH_MAX: usize = 100;
/// The most documents of one insert.
pub const INSERT_MAX: usize = 10_000;
/// All documents of one answer, in bytes: what fits into a message of the SDK.
pub const ANSWER_MAX: usize = 15 << 20;
/// The longest `session.data`, in bytes of JSON.
pub const SESSION_DATA_MAX: usize = 1 << 20;
/// Entries kept of each session's history, newest.
pub const HISTORY_MAX: u64 = 1000;
/// The longest entry of a history, in bytes; the rest is cut off.
pub const ENTRY_MAX: usize = 256 << 10;
/// The longest name of an app, a collection, a document or a session, in bytes.
pub const NAME_MAX: usize = 256;
/// The size that the file must not pass: nothing is added to a larger one.
pub const FILE_MAX: u64 = 4 << 30;
/// Requests that may wait for the thread.
const WAITING_MAX: usize = 4096;

/// Why something asked of the app data is refused or failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// A filter, an update or a document makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Something with this name is there already.
    #[error("{0}")]
    Exists(String),
    /// It is not there.
    #[error("{0}")]
    Missing(String),
    /// A bound is passed.
    #[error("{0}")]
    Full(String),
    /// The file failed: nothing more is served until the daemon has restarted and checked it.
    #[error("the app data failed, restart the daemon: {0}")]
    Failed(String),
    /// The thread has more to do than it can take.
    #[error("the app data is busy: {0} requests wait")]
    Busy(usize),
    /// The daemon is about to end.
    #[error("the daemon is shutting down")]
    Gone,
}

/// A handle to the app data; clones are the same.
#[derive(Clone, Debug)]
pub struct AppData {
    requests: SyncSender<group::Message>,
    clock: Arc<dyn Clock>,
    path: Arc<PathBuf>,
}

impl AppData {
    /// Starts the thread over the file in `dir`. The file is made by the first request that needs
    /// it, so a daemon without such apps has none. The thread ends with the last handle.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(dir: &Path, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let path = dir.join(FILE);
        let (requests, inbox) = sync_channel(WAITING_MAX);
        let worker = group::Worker::new(path.clone(), inbox);
        std::thread::Builder::new().name("appdata".to_owned()).spawn(move || worker.run())?;
        Ok(Self { requests, clock, path: Arc::new(path) })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Changes something; answered when it is on disk. `work` writes nothing when it refuses.
    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, DataError> + Send + 'static,
    ) -> Result<T, DataError> {
        self.ask(true, work).await
    }

    /// Looks something up.
    async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, DataError> + Send + 'static,
    ) -> Result<T, DataError> {
        self.ask(false, work).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        writes: bool,
        work: impl FnOnce(&WriteTransaction) -> Result<T, DataError> + Send + 'static,
    ) -> Result<T, DataError> {
        let (tell, told) = oneshot::channel();
        let run = Box::new(move |transaction: Result<&WriteTransaction, DataError>| {
            let result = transaction.and_then(work);
            let failed = match &result {
                Err(error @ DataError::Failed(_)) => Some(error.clone()),
                Ok(_) | Err(_) => None,
            };
            let deliver: group::Deliver = Box::new(move |committed| {
                // Nobody waits any more.
                drop(tell.send(committed.and(result)));
            });
            (failed, deliver)
        });
        match self.requests.try_send(group::Message::Do(group::Request { writes, run })) {
            Ok(()) => told.await.map_err(|_| DataError::Gone)?,
            Err(TrySendError::Full(_)) => Err(DataError::Busy(WAITING_MAX)),
            Err(TrySendError::Disconnected(_)) => Err(DataError::Gone),
        }
    }
}

/// Turns an error of the database into ours.
fn failed(error: impl Into<redb::Error>) -> DataError {
    DataError::Failed(error.into().to_string())
}

/// Checks a name that becomes part of a key.
fn name(what: &str, text: &str) -> Result<(), DataError> {
    if text.len() > NAME_MAX {
        let message = format!("{what} has {} bytes, the limit is {NAME_MAX}", text.len());
        return Err(DataError::Invalid(message));
    }
    Ok(())
}
