//! The thread: takes all that waits, does it in one transaction, commits, answers.

use std::path::PathBuf;
use std::sync::mpsc::Receiver;

use redb::{Database, ReadTransaction, ReadableDatabase as _, WriteTransaction};
use tokio::sync::oneshot;

use super::{DataError, FILE_MAX, failed};

/// Requests of one commit at the most.
const GROUP_MAX: usize = 256;
/// What the database may keep in memory, in bytes.
const CACHE: usize = 16 << 20;

/// Tells whoever waits, once it is known whether the commit is on disk.
pub(super) type Deliver = Box<dyn FnOnce(Result<(), DataError>) + Send>;
/// Does the work of one request; an error of the database comes back besides.
pub(super) type Run =
    Box<dyn FnOnce(Result<&WriteTransaction, DataError>) -> (Option<DataError>, Deliver) + Send>;

/// One thing asked.
pub(super) struct Request {
    pub(super) writes: bool,
    pub(super) run: Run,
}

/// What comes to the thread.
pub(super) enum Message {
    /// Something to do in the transaction of its group.
    Do(Request),
    /// A look at all that is committed, for as long as it is held; nothing when there is no file.
    Read(oneshot::Sender<Result<Option<ReadTransaction>, DataError>>),
}

/// The thread's own state.
pub(super) struct Worker {
    path: PathBuf,
    inbox: Receiver<Message>,
    database: Option<Database>,
    /// A failed write or fsync may have left pages in memory that are not on disk, so the file is
    /// not touched again.
    broken: Option<DataError>,
}

impl Worker {
    pub(super) fn new(path: PathBuf, inbox: Receiver<Message>) -> Self {
        Self { path, inbox, database: None, broken: None }
    }

    pub(super) fn run(mut self) {
        while let Ok(first) = self.inbox.recv() {
            let (mut group, mut readers) = (Vec::new(), Vec::new());
            let more = self.inbox.try_iter().take(GROUP_MAX - 1);
            for message in std::iter::once(first).chain(more) {
                match message {
                    Message::Do(request) => group.push(request),
                    Message::Read(reply) => readers.push(reply),
                }
            }
            if !group.is_empty() {
                self.serve(group);
            }
            for reply in readers {
                // Nobody waits any more.
                drop(reply.send(self.read()));
            }
        }
    }

    fn read(&mut self) -> Result<Option<ReadTransaction>, DataError> {
        if self.database.is_none() && !self.path.exists() {
            return Ok(None);
        }
        self.database()?.begin_read().map(Some).map_err(failed)
    }

    fn serve(&mut self, group: Vec<Request>) {
        let writes = group.iter().any(|request| request.writes);
        let transaction = match self.begin(writes) {
            Ok(transaction) => transaction,
            Err(error) => return refuse(group, &error),
        };
        let mut broken = None;
        let mut answers = Vec::with_capacity(group.len());
        for request in group {
            let (failed, deliver) = match &broken {
                None => (request.run)(Ok(&transaction)),
                Some(error) => (request.run)(Err(DataError::clone(error))),
            };
            broken = broken.or(failed);
            answers.push(deliver);
        }
        let outcome = match broken {
            Some(error) => Err(error),
            None if writes => transaction.commit().map_err(failed),
            None => transaction.abort().map_err(failed),
        };
        if let Err(error) = &outcome {
            tracing::error!(%error, path = %self.path.display(), "app data");
            self.broken = Some(error.clone());
            self.database = None;
        }
        for deliver in answers {
            deliver(outcome.clone());
        }
    }

    fn begin(&mut self, writes: bool) -> Result<WriteTransaction, DataError> {
        self.database()?;
        let size = std::fs::metadata(&self.path).map_or(0, |about| about.len());
        if writes && size > FILE_MAX {
            let message = format!("the app data has {size} bytes, the limit is {FILE_MAX}");
            return Err(DataError::Full(message));
        }
        self.database()?.begin_write().map_err(failed)
    }

    /// The open database.
    fn database(&mut self) -> Result<&Database, DataError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        if self.database.is_none() {
            match open(&self.path) {
                Ok(database) => self.database = Some(database),
                Err(error) => {
                    tracing::error!(%error, path = %self.path.display(), "opening the app data");
                    return Err(error);
                }
            }
        }
        self.database.as_ref().ok_or(DataError::Gone)
    }
}

/// Opens the file, makes it when it is not there; its folder is durable too.
fn open(path: &std::path::Path) -> Result<Database, DataError> {
    let said = |what: &str, error: &dyn std::error::Error| {
        DataError::Failed(format!("{what} {}: {error}", path.display()))
    };
    let new = !path.exists();
    let database = Database::builder()
        .set_cache_size(CACHE)
        .create(path)
        .map_err(|error| said("opening", &error))?;
    if new {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .map_err(|error| said("closing to others", &error))?;
        let folder = path.parent().unwrap_or(path);
        std::fs::File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| said("writing the folder of", &error))?;
    }
    Ok(database)
}

fn refuse(group: Vec<Request>, error: &DataError) {
    for request in group {
        let (_, deliver) = (request.run)(Err(error.clone()));
        deliver(Err(error.clone()));
    }
}
