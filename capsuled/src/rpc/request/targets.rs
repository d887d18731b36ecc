//! Which tasks a request means: ids as people type them, or a filter.

use capsule_core::id::{ScheduleId, TaskId, Uuid};
use capsule_core::task::{Status, Task};
use capsule_proto::v1;

use super::peer::Peer;
use super::search::Search;
use crate::book::Filter;
use crate::engine::{self, Engine};
use crate::rpc::convert;
use crate::rpc::status::Refused;

/// Digits that a UUID suffix must have.
const SUFFIX_MIN: usize = 6;

/// The task that one id names.
pub(in crate::rpc) fn one(engine: &Engine, text: &str, peer: &Peer) -> Result<TaskId, Refused> {
    let plain = text.strip_prefix('#').unwrap_or(text);
    if let Ok(id) = plain.parse::<TaskId>() {
        // The end of a UUID may be nothing but digits; a number that is or was a task comes first.
        let digits = plain.len() >= SUFFIX_MIN;
        return known(engine, id).or_else(|unknown| {
            let uuid = if digits && never(engine, id) { by_uuid(engine, plain).ok() } else { None };
            uuid.ok_or(unknown)
        });
    }
    match plain {
        "@last" => {
            let filter = Filter { owner: peer.name.clone(), ..Filter::default() };
            newest(engine, &filter, "you have submitted no task yet")
        }
        "@failed" => {
            let statuses = vec![Status::Failed, Status::Timeout];
            newest(engine, &Filter { statuses, ..Filter::default() }, "no task has failed")
        }
        _ => by_uuid(engine, plain),
    }
}

/// All tasks that the targets name. With ids, in their order; with a filter, newest first.
pub(in crate::rpc) fn all(
    engine: &Engine,
    targets: Option<v1::Targets>,
    peer: &Peer,
) -> Result<Vec<TaskId>, Refused> {
    let targets = targets.unwrap_or_default();
    if !targets.ids.is_empty() {
        return targets.ids.iter().map(|text| one(engine, text, peer)).collect();
    }
    let search = Search::of(engine, targets.filter.as_ref());
    let filter = convert::filter(targets.filter);
    if filter.is_empty() && search.is_empty() && !targets.all {
        return Err(Refused::invalid("no task is named").hint("capsule list"));
    }
    let ids = engine.book().newest(&filter, None).collect();
    search.keep(engine, ids)
}

/// The record of a task that one id names.
pub(in crate::rpc) fn load(engine: &Engine, text: &str, peer: &Peer) -> Result<Task, Refused> {
    let id = one(engine, text, peer)?;
    engine.task(id)?.ok_or_else(|| missing(engine, id))
}

fn known(engine: &Engine, id: TaskId) -> Result<TaskId, Refused> {
    if engine.book().entries.contains_key(&id) { Ok(id) } else { Err(missing(engine, id)) }
}

/// Whether nothing ever had this number.
fn never(engine: &Engine, id: TaskId) -> bool {
    id > engine.book().last_id || id == TaskId(0)
}

fn missing(engine: &Engine, id: TaskId) -> Refused {
    match engine::tombstone(engine.store(), id) {
        Ok(Some(stone)) => {
            let day = jiff::Timestamp::from_microsecond(stone.removed.0)
                .map_or_else(|_| "some day".to_owned(), |at| at.strftime("%Y-%m-%d").to_string());
            Refused::not_found(format!("task {id} is {}, pruned on {day}", stone.status))
                .hint("capsule list")
        }
        Ok(None) if never(engine, id) => {
            Refused::not_found(format!("there is no task {id}")).hint("capsule list")
        }
        Ok(None) if engine.schedule(ScheduleId(id.0)).is_some() => {
            Refused::not_found(format!("{id} is no task but a schedule"))
                .hint(format!("capsule schedule history {id}"))
        }
        Ok(None) => {
            let kept = "its trace is no longer kept";
            Refused::not_found(format!("task {id} was removed or pruned ({kept})"))
                .hint("capsule list")
        }
        Err(error) => error.into(),
    }
}

fn newest(engine: &Engine, filter: &Filter, none: &str) -> Result<TaskId, Refused> {
    engine
        .book()
        .newest(filter, None)
        .next()
        .ok_or_else(|| Refused::not_found(none).hint("capsule list"))
}

fn by_uuid(engine: &Engine, text: &str) -> Result<TaskId, Refused> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    if digits.len() < SUFFIX_MIN || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let message = format!("{text:?} is no task id: a number, a UUID or its last 6 digits");
        return Err(Refused::invalid(message).hint("capsule help ids"));
    }
    let wanted = digits.to_ascii_lowercase();
    let matches = |uuid: Uuid| uuid.to_string().replace('-', "").ends_with(&wanted);
    let ids: Vec<TaskId> = engine.book().entries.keys().rev().collect();
    let mut found = None;
    for id in ids {
        if let Some(task) = engine.task(id)?
            && matches(task.uuid)
            && let Some(other) = found.replace(id)
        {
            let message = format!("{text} fits {id} and {other}, give more digits");
            return Err(Refused::invalid(message).hint("capsule help ids"));
        }
    }
    found.ok_or_else(|| Refused::not_found(format!("there is no task {text}")).hint("capsule list"))
}
