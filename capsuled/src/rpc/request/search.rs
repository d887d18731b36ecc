//! What a filter asks of a task that only its record tells: a text in its name or arguments, and the
//! schedule that made it.

use capsule_core::id::{ScheduleId, TaskId};
use capsule_core::task::Task;
use capsule_proto::v1;

use crate::engine::{self, Engine};
use crate::rpc::convert;
use crate::rpc::status::Refused;

/// The part of a filter that the book cannot answer. Empty fields ask for nothing.
#[derive(Clone, Debug, Default)]
pub(in crate::rpc) struct Search {
    text: String,
    /// `NAME` or `APP/NAME`.
    schedule: String,
}

impl Search {
    /// That part of a filter.
    pub(in crate::rpc) fn of(engine: &Engine, filter: Option<&v1::Filter>) -> Self {
        let Some(v1::Filter { text, schedule, .. }) = filter else { return Self::default() };
        let id = schedule.parse().ok().map(ScheduleId);
        let by_id = id.and_then(|id| engine.schedule(id));
        let named = by_id.map(|it| format!("{}/{}", it.app, it.label()));
        Self { text: text.clone(), schedule: named.unwrap_or_else(|| schedule.clone()) }
    }

    /// Whether nothing is asked for.
    pub(in crate::rpc) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.schedule.is_empty()
    }

    /// Whether a task as it is shown is meant.
    pub(in crate::rpc) fn finds(&self, task: &v1::TaskView) -> bool {
        let texts = [&task.name, &task.display_name, &task.summary];
        self.is_schedule(&task.app, &task.schedule)
            && texts.iter().any(|text| text.contains(&self.text))
    }

    /// Those of the tasks that are meant, in the same order. Reads their records, so it costs
    /// nothing only when nothing is asked for.
    pub(in crate::rpc) fn keep(
        &self,
        engine: &Engine,
        ids: Vec<TaskId>,
    ) -> Result<Vec<TaskId>, Refused> {
        if self.is_empty() {
            return Ok(ids);
        }
        let mut kept = Vec::new();
        for id in ids {
            let task = engine::task(engine.store(), id)?;
            if task.is_some_and(|task| self.means(engine, &task)) {
                kept.push(id);
            }
        }
        Ok(kept)
    }

    fn means(&self, engine: &Engine, task: &Task) -> bool {
        let spec = &task.spec;
        let texts = [&spec.name, &spec.display_name, &spec.summary];
        let schedule = if self.schedule.is_empty() {
            String::new()
        } else {
            convert::schedule(&engine.book(), task)
        };
        self.is_schedule(&spec.app, &schedule) && texts.iter().any(|text| text.contains(&self.text))
    }

    /// Whether the schedule asked for is the one that made a task; it has no name if none did.
    fn is_schedule(&self, app: &str, name: &str) -> bool {
        let wanted = self.schedule.as_str();
        wanted.is_empty()
            || !name.is_empty()
                && match wanted.strip_suffix(name).and_then(|rest| rest.strip_suffix('/')) {
                    Some(of) => of == app,
                    None => wanted == name,
                }
    }
}
