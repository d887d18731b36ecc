//! What a filter asks of a task that only its record tells: a text in its name or arguments.

use capsule_core::id::TaskId;
use capsule_core::task::Task;
use capsule_proto::v1;

use crate::engine::{self, Engine};
use crate::rpc::status::Refused;

/// The part of a filter that the book cannot answer. Empty fields ask for nothing.
#[derive(Clone, Debug, Default)]
pub(in crate::rpc) struct Search {
    text: String,
    schedule: String,
}

impl Search {
    /// That part of a filter.
    pub(in crate::rpc) fn of(filter: Option<&v1::Filter>) -> Self {
        filter.map_or_else(Self::default, |filter| Self {
            text: filter.text.clone(),
            schedule: filter.schedule.clone(),
        })
    }

    /// Whether nothing is asked for.
    pub(in crate::rpc) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.schedule.is_empty()
    }

    /// Whether a task as it is shown is meant.
    pub(in crate::rpc) fn finds(&self, task: &v1::TaskView) -> bool {
        let texts = [&task.name, &task.display_name, &task.summary];
        (self.schedule.is_empty() || task.schedule == self.schedule)
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
            if task.is_some_and(|task| self.means(&task)) {
                kept.push(id);
            }
        }
        Ok(kept)
    }

    fn means(&self, task: &Task) -> bool {
        // No task comes of a schedule: there are none.
        let spec = &task.spec;
        let texts = [&spec.name, &spec.display_name, &spec.summary];
        self.schedule.is_empty() && texts.iter().any(|text| text.contains(&self.text))
    }
}
