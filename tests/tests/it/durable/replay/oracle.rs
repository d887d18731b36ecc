//! What must be found in a store, by what its clients were told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use capsule_core::spec::Payload;
use capsule_core::task::{Status, Task};
use capsule_tests::power::Witness;
use capsuled::store::{SideFiles, SideKind, SledStore, StateDir, Table};
use serde_json::Value;

const MOST: usize = 1 << 20;

/// How far something went that was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wish {
    #[default]
    Not,
    Asked,
    Told,
}

/// A task whose submit was acknowledged.
#[derive(Clone, Debug, Default)]
struct Known {
    name: String,
    /// What its payload has in it.
    holds: String,
    cancel: Wish,
    remove: Wish,
    completed: bool,
}

/// All that the clients know at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    tasks: BTreeMap<u64, Known>,
    /// Names of all tasks that were ever asked for.
    names: BTreeSet<String>,
}

impl Witness for Expected {
    fn hear(&mut self, mark: &[u8]) {
        let mark: Value = serde_json::from_slice(mark).unwrap();
        let text = |field: &str| mark[field].as_str().unwrap_or_default().to_owned();
        let id = mark["id"].as_u64().unwrap_or_default();
        match (text("asked").as_str(), text("told").as_str()) {
            ("submit", _) => drop(self.names.insert(text("name"))),
            (_, "submitted") => {
                let known = Known { name: text("name"), holds: text("holds"), ..Known::default() };
                self.tasks.insert(id, known);
            }
            ("cancel", _) => self.of(id).cancel = Wish::Asked,
            (_, "cancelled") => self.of(id).cancel = Wish::Told,
            (_, "completed") => self.of(id).completed = true,
            ("remove", _) => self.of(id).remove = Wish::Asked,
            (_, "removed") => self.of(id).remove = Wish::Told,
            other => panic!("a mark that nobody makes: {other:?}"),
        }
    }

    fn judge(&self, dir: &Path) -> Result<(), String> {
        let dir = &dir.join("capsule");
        if self.tasks.is_empty() && !dir.exists() {
            return Ok(());
        }
        let state = StateDir::open(dir).map_err(|error| format!("LOCKED OUT: {error}"))?;
        let mut tasks: BTreeMap<u64, Task> = BTreeMap::new();
        let mut stones = BTreeSet::new();
        let mut visit = |table: Table, key: &[u8], value: &[u8]| {
            let id = || u64::from_be_bytes(key.try_into().unwrap());
            if table == Table::Task {
                tasks.insert(id(), minicbor::decode(value).unwrap());
            } else if table == Table::Tombstone {
                stones.insert(id());
            }
        };
        let _opened = SledStore::open_and_visit(&state, jiff::Timestamp::UNIX_EPOCH, &mut visit)
            .map_err(|error| format!("REFUSED: {error}"))?;
        let side = SideFiles::new(&state);
        for (id, task) in &tasks {
            if !self.names.contains(&task.spec.name) {
                return Err(format!("nobody ever asked for {id}, {}", task.spec.name));
            }
        }
        for (id, known) in &self.tasks {
            let there = tasks.get(id);
            known
                .judge(there, stones.contains(id), &|| side.read(SideKind::Payload, *id, MOST))
                .map_err(|wrong| format!("task {id}: {wrong}: {known:?} is {there:?}"))?;
        }
        Ok(())
    }
}

impl Expected {
    fn of(&mut self, id: u64) -> &mut Known {
        self.tasks.get_mut(&id).unwrap()
    }

    /// The ids of the tasks that must be there.
    pub(super) fn ids(&self) -> impl Iterator<Item = u64> {
        let kept = self.tasks.iter().filter(|(_, known)| known.remove == Wish::Not);
        kept.map(|(id, _)| *id)
    }
}

type Read<'a> = &'a dyn Fn() -> Result<Option<Vec<u8>>, capsuled::store::StoreError>;

impl Known {
    fn judge(&self, there: Option<&Task>, stone: bool, read: Read<'_>) -> Result<(), String> {
        let Some(task) = there else {
            return match self.remove {
                Wish::Not => Err("LOST".to_owned()),
                Wish::Asked | Wish::Told if stone => Ok(()),
                Wish::Asked | Wish::Told => Err("removed without a trace".to_owned()),
            };
        };
        if self.remove == Wish::Told {
            return Err("LOST a removal".to_owned());
        }
        if task.spec.name != self.name {
            return Err("is another task".to_owned());
        }
        let status = task.status();
        if self.completed && status != Status::Completed {
            return Err("LOST its end".to_owned());
        }
        if self.cancel == Wish::Told && status != Status::Cancelled {
            return Err("LOST its cancel".to_owned());
        }
        if self.cancel == Wish::Not && status == Status::Cancelled {
            return Err("nobody cancelled it".to_owned());
        }
        let payload = match &task.spec.payload {
            Payload::Inline(bytes) => bytes.clone(),
            side @ Payload::Side { .. } => read()
                .map_err(|error| error.to_string())?
                .ok_or_else(|| format!("LOST its payload: {side:?}"))?,
        };
        if String::from_utf8_lossy(&payload).contains(&self.holds) {
            Ok(())
        } else {
            Err("its payload is another".to_owned())
        }
    }
}
