//! Sessions: who speaks with an app, what was said, what the app noted.

use minicbor::{Decode, Encode};
use redb::{ReadableTable as _, TableDefinition, WriteTransaction};

use super::{AppData, DataError, ENTRY_MAX, HISTORY_MAX, failed, name};
use crate::text::bounded;

pub(super) const SESSIONS: TableDefinition<'_, (&str, &str), &[u8]> =
    TableDefinition::new("sessions");
pub(super) const HISTORY: TableDefinition<'_, (&str, &str, u64), &[u8]> =
    TableDefinition::new("history");

/// Bytes of the last message in a summary.
const LAST_MAX: usize = 120;

/// Who speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Profile {
    /// `chat`.
    #[n(0)]
    pub channel: String,
    /// The person.
    #[n(1)]
    pub user: String,
    /// Their mail address; may be empty.
    #[n(2)]
    pub email: String,
    /// `org:ORG`, or the person.
    #[n(3)]
    pub owner: String,
    /// The organisation; may be empty.
    #[n(4)]
    pub org: String,
}

/// One session. Fields are numbered for the disk: never reuse a number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Session {
    /// Who speaks.
    #[n(0)]
    pub profile: Profile,
    /// `session.data`, JSON.
    #[n(1)]
    pub(super) data: String,
    /// Counts the changes of the data.
    #[n(2)]
    pub(super) revision: i64,
    /// Of the data; empty before the first change.
    #[n(3)]
    pub(super) checksum: String,
    /// The name of the last save.
    #[n(4)]
    pub(super) nonce: String,
    /// When it began, in microseconds.
    #[n(5)]
    pub created: i64,
    /// When anything last happened in it, in microseconds.
    #[n(6)]
    pub updated: i64,
    /// Entries of its history so far, also those that are no longer kept.
    #[n(7)]
    pub entries: u64,
    /// The beginning of the last text.
    #[n(8)]
    pub last: String,
}

/// One entry of a session's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Entry {
    /// `user`, `app`, `block` or `system`.
    #[n(0)]
    pub sender: String,
    /// What was said; of a block its JSON.
    #[n(1)]
    pub text: String,
    /// When, in microseconds.
    #[n(2)]
    pub at: i64,
}

/// A session in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its id.
    pub id: String,
    /// What is known of it.
    pub session: Session,
}

impl AppData {
    /// A session as it stands, with its newest `count` entries, oldest first.
    ///
    /// # Errors
    /// The file failed.
    pub async fn session(
        &self,
        app: &str,
        id: &str,
        count: usize,
    ) -> Result<Option<(Session, Vec<Entry>)>, DataError> {
        let (app, id) = (app.to_owned(), id.to_owned());
        self.look(move |transaction| {
            let table = transaction.open_table(SESSIONS).map_err(failed)?;
            let Some(bytes) = table.get((app.as_str(), id.as_str())).map_err(failed)? else {
                return Ok(None);
            };
            let session = decode(bytes.value())?;
            Ok(Some((session, history(transaction, &app, &id, u64::MAX, count)?)))
        })
        .await
    }

    /// Makes a session, or takes a known one up again as this person.
    ///
    /// # Errors
    /// A name is too long, or the file failed.
    pub async fn begin(&self, app: &str, id: &str, profile: Profile) -> Result<Session, DataError> {
        let (app, id, now) = (app.to_owned(), id.to_owned(), self.clock.now().0);
        for (what, text) in [("the app", &app), ("the session", &id), ("the user", &profile.user)] {
            name(what, text)?;
        }
        self.change(move |transaction| {
            let mut table = transaction.open_table(SESSIONS).map_err(failed)?;
            let key = (app.as_str(), id.as_str());
            let known = match table.get(key).map_err(failed)? {
                Some(bytes) => Some(decode::<Session>(bytes.value())?),
                None => None,
            };
            if let Some(known) = known.as_ref().filter(|known| known.profile == profile) {
                return Ok(known.clone());
            }
            let new = Session { created: now, updated: now, ..Session::default() };
            let session = Session { profile, ..known.unwrap_or(new) };
            table.insert(key, encode(&session).as_slice()).map_err(failed)?;
            Ok(session)
        })
        .await
    }

    /// Adds an entry to a session's history; the oldest over the bound goes. Gives its number.
    ///
    /// # Errors
    /// There is no such session, or the file failed.
    pub async fn say(
        &self,
        app: &str,
        id: &str,
        sender: &str,
        text: &str,
    ) -> Result<u64, DataError> {
        let (app, id, now) = (app.to_owned(), id.to_owned(), self.clock.now().0);
        let (sender, text) = (sender.to_owned(), bounded(text, ENTRY_MAX));
        self.change(move |transaction| {
            let number = change(transaction, &app, &id, |session| {
                session.entries += 1;
                session.updated = now;
                if sender != "block" {
                    session.last = bounded(&text, LAST_MAX);
                }
                Ok(session.entries)
            })?;
            let entry = Entry { sender, text, at: now };
            let mut table = transaction.open_table(HISTORY).map_err(failed)?;
            let key = |number| (app.as_str(), id.as_str(), number);
            table.insert(key(number), encode(&entry).as_slice()).map_err(failed)?;
            if let Some(old) = number.checked_sub(HISTORY_MAX) {
                table.remove(key(old)).map_err(failed)?;
            }
            Ok(number)
        })
        .await
    }

    /// Entries before a number, the newest `count` of them, oldest first.
    ///
    /// # Errors
    /// The file failed.
    pub async fn history(
        &self,
        app: &str,
        id: &str,
        before: u64,
        count: usize,
    ) -> Result<Vec<Entry>, DataError> {
        let (app, id) = (app.to_owned(), id.to_owned());
        self.look(move |transaction| history(transaction, &app, &id, before, count)).await
    }

    /// The sessions of a person with an app, the last used first. An empty user means everybody.
    ///
    /// # Errors
    /// The file failed.
    pub async fn sessions(
        &self,
        app: &str,
        user: &str,
        most: usize,
    ) -> Result<Vec<Summary>, DataError> {
        let (app, user) = (app.to_owned(), user.to_owned());
        self.look(move |transaction| {
            let table = transaction.open_table(SESSIONS).map_err(failed)?;
            let mut found = Vec::new();
            for row in table.range((app.as_str(), "")..).map_err(failed)? {
                let (key, bytes) = row.map_err(failed)?;
                let (of, id) = key.value();
                if of != app {
                    break;
                }
                let session: Session = decode(bytes.value())?;
                if user.is_empty() || session.profile.user == user {
                    found.push(Summary { id: id.to_owned(), session });
                }
            }
            found.sort_by_key(|summary| std::cmp::Reverse(summary.session.updated));
            found.truncate(most);
            Ok(found)
        })
        .await
    }
}

/// Changes a session; nothing is written when `edit` refuses or changes nothing.
pub(super) fn change<T>(
    transaction: &WriteTransaction,
    app: &str,
    id: &str,
    edit: impl FnOnce(&mut Session) -> Result<T, DataError>,
) -> Result<T, DataError> {
    let mut table = transaction.open_table(SESSIONS).map_err(failed)?;
    let before: Session = match table.get((app, id)).map_err(failed)? {
        Some(bytes) => decode(bytes.value())?,
        None => return Err(DataError::Missing(format!("there is no session {id:?}"))),
    };
    let mut session = before.clone();
    let given = edit(&mut session)?;
    if session != before {
        table.insert((app, id), encode(&session).as_slice()).map_err(failed)?;
    }
    Ok(given)
}

fn history(
    transaction: &WriteTransaction,
    app: &str,
    id: &str,
    before: u64,
    count: usize,
) -> Result<Vec<Entry>, DataError> {
    let table = transaction.open_table(HISTORY).map_err(failed)?;
    let mut found = Vec::new();
    for row in table.range((app, id, 0)..(app, id, before)).map_err(failed)?.rev().take(count) {
        let (_, bytes) = row.map_err(failed)?;
        found.push(decode(bytes.value())?);
    }
    found.reverse();
    Ok(found)
}

fn encode<T: Encode<()>>(record: &T) -> Vec<u8> {
    minicbor::to_vec(record).expect("writing to memory does not fail")
}

fn decode<T: for<'a> Decode<'a, ()>>(bytes: &[u8]) -> Result<T, DataError> {
    minicbor::decode(bytes)
        .map_err(|error| DataError::Failed(format!("reading a session: {error}")))
}
