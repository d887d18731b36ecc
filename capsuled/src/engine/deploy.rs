//! Registers revisions of apps, and keeps tasks from starting that no longer fit theirs.

use std::ops::ControlFlow;

use capsule_core::id::TaskId;
use capsule_core::spec::Payload;
use capsule_core::task::Task;
use capsule_core::time::Timestamp;
use minicbor::{Decode, Encode};

use super::group::Group;
use super::records::encode;
use super::request::Request;
use super::{Engine, EngineError};
use crate::apps::{Apps, Parsed, Revision, parse};
use crate::store::{Change, KeyRange, SideKind, Store, Table};
use crate::work::Work;

/// The most apps.
pub const APPS_MAX: usize = 1000;

/// A piece of a manifest's text: well within a record.
const PIECE: usize = 3 << 10;

impl Engine {
    /// Registers a revision of an app and puts it in force; gives its number.
    ///
    /// # Errors
    /// The engine is busy or gone.
    pub async fn deploy(&self, app: String, revision: Revision) -> Result<u32, EngineError> {
        let revision = Box::new(revision);
        self.ask(|reply| Request::Deploy { app, revision, reply }).await
    }

    /// Puts a kept revision in force again.
    ///
    /// # Errors
    /// The engine is busy or gone.
    pub async fn rollback(&self, app: String, revision: u32) -> Result<(), EngineError> {
        self.ask(|reply| Request::Rollback { app, revision, reply }).await
    }

    /// Forgets an app and its definitions; its tasks stay.
    ///
    /// # Errors
    /// The engine is busy or gone.
    pub async fn remove_app(&self, app: String) -> Result<(), EngineError> {
        self.ask(|reply| Request::RemoveApp { app, reply }).await
    }
}

/// What is stored of an app under its name.
#[derive(Encode, Decode)]
#[cbor(map)]
struct AppRecord {
    #[n(0)]
    current: u32,
}

/// What is stored of a revision, besides the pieces of its manifest.
#[derive(Encode, Decode)]
#[cbor(map)]
struct RevisionRecord {
    #[n(0)]
    deployed: Timestamp,
    #[n(1)]
    by: String,
    #[n(2)]
    uid: u32,
    #[n(3)]
    dir: String,
    #[n(4)]
    pieces: u16,
}

fn revision_key(app: &str, revision: u32) -> Vec<u8> {
    let mut key = app.as_bytes().to_vec();
    key.push(0);
    key.extend(revision.to_be_bytes());
    key
}

fn piece_key(app: &str, revision: u32, piece: u16) -> Vec<u8> {
    let mut key = revision_key(app, revision);
    key.extend(piece.to_be_bytes());
    key
}

/// Reads all apps. A manifest that this version cannot read any more is left out with a warning:
/// its tasks wait, nothing is lost.
pub(super) fn load(store: &dyn Store) -> Result<Apps, EngineError> {
    let mut heads: Vec<(String, AppRecord)> = Vec::new();
    store.scan(Table::App, KeyRange::ALL, &mut |key, value| {
        if let (false, Ok(name)) = (key.contains(&0), std::str::from_utf8(key))
            && let Ok(record) = minicbor::decode(value)
        {
            heads.push((name.to_owned(), record));
        }
        ControlFlow::Continue(())
    })?;
    let mut apps = Apps::default();
    for (name, head) in heads {
        let from = revision_key(&name, 0);
        let to = revision_key(&name, u32::MAX);
        let mut found: Vec<(u32, RevisionRecord)> = Vec::new();
        store.scan(Table::App, KeyRange::between(&from, &to), &mut |key, value| {
            let tail = key.get(name.len() + 1..).unwrap_or_default();
            if let (Ok(number), Ok(record)) = (tail.try_into(), minicbor::decode(value)) {
                found.push((u32::from_be_bytes(number), record));
            }
            ControlFlow::Continue(())
        })?;
        for (number, record) in found {
            let mut manifest = Vec::new();
            for piece in 0..record.pieces {
                manifest.extend(
                    store.get(Table::App, &piece_key(&name, number, piece))?.unwrap_or_default(),
                );
            }
            let manifest = String::from_utf8_lossy(&manifest).into_owned();
            match parse(&manifest) {
                Ok(Parsed { app: _, definitions, schedules, python }) => {
                    let RevisionRecord { deployed, by, uid, dir, .. } = record;
                    let revision = Revision {
                        number,
                        deployed,
                        by,
                        uid,
                        dir,
                        manifest,
                        python,
                        schedules,
                        definitions,
                    };
                    apps.put(&name, revision);
                }
                Err(error) => {
                    tracing::warn!(app = name, revision = number, %error, "a revision is left out");
                }
            }
        }
        apps.set_current(&name, head.current);
    }
    Ok(apps)
}

impl Group<'_> {
    /// Registers a revision under the next number.
    pub(super) fn deploy(&mut self, app: &str, mut revision: Revision) -> Result<u32, EngineError> {
        let number = self.book.apps.get(app).map_or(1, crate::apps::App::next_number);
        revision.number = number;
        let bytes = revision.manifest.as_bytes();
        let pieces = bytes.chunks(PIECE).count();
        let record = RevisionRecord {
            deployed: revision.deployed,
            by: revision.by.clone(),
            uid: revision.uid,
            dir: revision.dir.clone(),
            pieces: u16::try_from(pieces).unwrap_or(u16::MAX),
        };
        self.write(Change::put(Table::App, revision_key(app, number), encode(&record)));
        for (piece, bytes) in (0u16..).zip(bytes.chunks(PIECE)) {
            self.write(Change::put(Table::App, piece_key(app, number, piece), bytes));
        }
        self.book.apps.put(app, revision);
        for old in self.book.apps.trim(app) {
            self.forget_revision(app, old);
        }
        self.put_in_force(app, number)?;
        Ok(number)
    }

    /// Puts a revision in force.
    pub(super) fn put_in_force(&mut self, app: &str, number: u32) -> Result<(), EngineError> {
        self.book.apps.set_current(app, number);
        self.write(Change::put(Table::App, app.as_bytes(), encode(&AppRecord { current: number })));
        self.book.definitions_changed(app);
        self.apps_changed = true;
        self.register_schedules(app)
    }

    /// Forgets an app.
    pub(super) fn remove_app(&mut self, app: &str) -> Result<(), EngineError> {
        let Some(removed) = self.book.apps.remove(app) else { return Ok(()) };
        for number in removed.revisions.keys() {
            self.forget_revision(app, *number);
        }
        self.write(Change::delete(Table::App, app.as_bytes()));
        self.book.definitions_changed(app);
        self.apps_changed = true;
        self.register_schedules(app)
    }

    fn forget_revision(&mut self, app: &str, number: u32) {
        let key = revision_key(app, number);
        let mut pieces = Vec::new();
        let mut until = key.clone();
        until.extend([u8::MAX; 3]);
        let found =
            self.shared.store.scan(Table::App, KeyRange::between(&key, &until), &mut |key, _| {
                pieces.push(key.to_vec());
                ControlFlow::Continue(())
            });
        if let Err(error) = found {
            tracing::warn!(app, revision = number, %error, "an old revision stays behind");
        }
        for key in pieces {
            self.write(Change::delete(Table::App, key));
        }
    }

    /// The revision that a call runs on, or why it cannot run on the one in force.
    pub(super) fn fit(&self, task: &Task) -> Result<Result<u32, String>, EngineError> {
        let spec = &task.spec;
        if spec.app.is_empty() {
            return Ok(Ok(0));
        }
        let changed = |to: Option<u32>| match to {
            Some(to) => format!("definition changed (r{}→r{to})", spec.revision),
            None => format!("definition changed (r{}, app {} is removed)", spec.revision, spec.app),
        };
        let Some(app) = self.book.apps.get(&spec.app) else { return Ok(Err(changed(None))) };
        let current = app.current;
        let Some(definition) = self.book.apps.definition(&spec.app, &spec.name) else {
            let why = format!("{}: task {} is gone", changed(Some(current)), spec.name);
            return Ok(Err(why));
        };
        if current == spec.revision {
            return Ok(Ok(current));
        }
        let bytes = match &spec.payload {
            Payload::Inline(bytes) => bytes.clone(),
            Payload::Side { .. } => self.payload(task.id)?,
        };
        let arguments = match Work::decode(&bytes) {
            Some(Work::Call(call)) => serde_json::from_str(&call.arguments).unwrap_or_default(),
            Some(Work::Program(_)) | None => serde_json::Map::new(),
        };
        Ok(match definition.refit(&arguments) {
            Ok(()) => Ok(current),
            Err(error) => Err(format!("{}: {error}", changed(Some(current)))),
        })
    }

    pub(super) fn payload(&self, id: TaskId) -> Result<Vec<u8>, EngineError> {
        let bytes = self.shared.side.read(SideKind::Payload, id.0, super::PAYLOAD_MAX)?;
        Ok(bytes.unwrap_or_default())
    }
}
