//! A copy of everything, as one commit left it, while changes go on.

use std::path::Path;

use redb::{
    Database, Key, ReadTransaction, ReadableTable as _, TableDefinition, TableError, TableHandle,
    Value, WriteTransaction,
};
use tokio::sync::oneshot;

use super::documents::DOCUMENTS;
use super::group::Message;
use super::schemas::SCHEMAS;
use super::sessions::{HISTORY, SESSIONS};
use super::{AppData, DataError, failed};

impl AppData {
    /// Writes a copy to the new file `to`; nothing, and false, when no app has kept anything yet.
    /// Blocks until it is done; others are served meanwhile.
    ///
    /// # Errors
    /// Something cannot be read or written.
    pub fn copy(&self, to: &Path) -> Result<bool, DataError> {
        let (tell, told) = oneshot::channel();
        // Waits for room: a copy must not fail because many ask.
        self.requests.send(Message::Read(tell)).map_err(|_| DataError::Gone)?;
        let Some(from) = told.blocking_recv().map_err(|_| DataError::Gone)?? else {
            return Ok(false);
        };
        let database = Database::create(to).map_err(failed)?;
        let transaction = database.begin_write().map_err(failed)?;
        all(&from, &transaction).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(true)
    }
}

fn all(from: &ReadTransaction, to: &WriteTransaction) -> Result<(), redb::Error> {
    let copied = [
        table(from, to, SESSIONS)?,
        table(from, to, HISTORY)?,
        table(from, to, DOCUMENTS)?,
        table(from, to, SCHEMAS)?,
    ];
    let unknown = from.list_tables()?.find(|table| !copied.iter().any(|name| name == table.name()));
    match unknown {
        Some(table) => Err(redb::Error::Corrupted(format!("unknown table {}", table.name()))),
        None => Ok(()),
    }
}

/// Copies one table and gives its name.
fn table<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    to: &WriteTransaction,
    definition: TableDefinition<'static, K, V>,
) -> Result<String, redb::Error> {
    let source = match from.open_table(definition) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(definition.name().to_owned()),
        source => source?,
    };
    let mut target = to.open_table(definition)?;
    for row in source.iter()? {
        let (key, value) = row?;
        target.insert(key.value(), value.value())?;
    }
    Ok(definition.name().to_owned())
}
