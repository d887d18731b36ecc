//! Columns of collections that apps have described, opaque here.

use redb::{ReadableTable as _, TableDefinition};

use super::{AppData, DataError, failed, name};

pub(super) const SCHEMAS: TableDefinition<'_, (&str, &str, &str), &[u8]> =
    TableDefinition::new("schemas");

/// For whom a schema holds: a word, and an id where the word needs one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The app, or its own name for what runs under `serve`.
    pub app: String,
    /// `app`, `session:ID`, `user:ID`, `owner:ID`.
    pub whose: String,
}

impl AppData {
    /// The bytes of one schema.
    ///
    /// # Errors
    /// The file failed.
    pub async fn schema(&self, scope: Scope, of: String) -> Result<Option<Vec<u8>>, DataError> {
        self.look(move |transaction| {
            let table = transaction.open_table(SCHEMAS).map_err(failed)?;
            let found = table.get((&*scope.app, &*scope.whose, &*of)).map_err(failed)?;
            Ok(found.map(|bytes| bytes.value().to_vec()))
        })
        .await
    }

    /// The bytes of all schemas of a scope, by name.
    ///
    /// # Errors
    /// The file failed.
    pub async fn schemas(&self, scope: Scope) -> Result<Vec<Vec<u8>>, DataError> {
        self.look(move |transaction| {
            let table = transaction.open_table(SCHEMAS).map_err(failed)?;
            let mut found = Vec::new();
            for row in table.range((&*scope.app, &*scope.whose, "")..).map_err(failed)? {
                let (key, bytes) = row.map_err(failed)?;
                let (app, whose, _) = key.value();
                if app != scope.app || whose != scope.whose {
                    break;
                }
                found.push(bytes.value().to_vec());
            }
            Ok(found)
        })
        .await
    }

    /// Writes a schema, in the place of an older one.
    ///
    /// # Errors
    /// A name is too long, or the file failed.
    pub async fn put_schema(
        &self,
        scope: Scope,
        of: String,
        bytes: Vec<u8>,
    ) -> Result<(), DataError> {
        for (what, text) in [("the app", &scope.app), ("the scope", &scope.whose), ("it", &of)] {
            name(what, text)?;
        }
        self.change(move |transaction| {
            let mut table = transaction.open_table(SCHEMAS).map_err(failed)?;
            let key = (&*scope.app, &*scope.whose, &*of);
            table.insert(key, bytes.as_slice()).map_err(failed)?;
            Ok(())
        })
        .await
    }
}
