//! A task on a board, or as a row of a list.

use askama::Template;
use capsule_proto::v1::{Status, TaskView};

use crate::web::guard::Visitor;
use crate::web::words::{self, Moment};

/// A task in a column.
#[derive(Clone, Debug, PartialEq, Template)]
#[template(path = "card.html")]
pub(in crate::web) struct Card {
    /// Of its element: no other element of the page has it.
    pub(in crate::web) key: String,
    pub(in crate::web) id: u64,
    /// The number of its last change.
    pub(in crate::web) seq: u64,
    title: String,
    status: String,
    sign: &'static str,
    note: String,
    owner: String,
    tries: String,
    at: Moment,
    /// Since when it runs.
    since: Option<Moment>,
    /// How long it took.
    took: Option<String>,
    progress: Option<Progress>,
    retry: bool,
    cancel: bool,
    mark: String,
}

/// How far a task is.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::web) struct Progress {
    /// Of how much; `None` = nobody knows.
    pub(in crate::web) total: Option<f64>,
    pub(in crate::web) done: f64,
    pub(in crate::web) text: String,
}

/// How far a task says it is, as a bar can show it.
pub(in crate::web) fn progress(task: &TaskView) -> Option<Progress> {
    let told = task.progress.as_ref()?;
    let total = told.total.filter(|total| total.is_finite() && *total > 0.0);
    let done =
        if told.done.is_finite() { told.done.clamp(0.0, total.unwrap_or(f64::MAX)) } else { 0.0 };
    let number = match total {
        Some(total) => format!("{:.0} %", 100.0 * done / total),
        None => format!("{done}"),
    };
    let text = format!("{number} {}", words::line(&told.text));
    Some(Progress { total, done, text: text.trim_end().to_owned() })
}

impl Card {
    /// Whether both say the same, but for how long ago it was.
    pub(in crate::web) fn reads_like(&self, other: &Self) -> bool {
        self.seq == other.seq && self.note == other.note && self.progress == other.progress
    }

    /// The card of a task on a board; `board` begins the names of its elements.
    pub(in crate::web) fn new(
        task: &TaskView,
        board: &str,
        visitor: &Visitor,
        now_us: i64,
    ) -> Self {
        let status = task.status();
        let live = words::runs(status);
        let started = task.started_us.filter(|_| live);
        let ended = task.started_us.zip(task.ended_us);
        Self {
            key: format!("{board}-{}", task.id),
            id: task.id,
            seq: task.seq,
            title: words::title(task),
            status: words::status(status),
            sign: words::sign(status),
            note: words::note(task),
            owner: words::line(&task.owner),
            tries: if task.attempt > 1 { words::tries(task) } else { String::new() },
            at: words::moment(task.ended_us.or(task.due_us).unwrap_or(task.created_us), now_us),
            since: started.map(|started| words::moment(started, now_us)),
            took: ended.map(|(from, to)| words::span(from.abs_diff(to) / 1000)),
            progress: progress(task).filter(|_| live),
            retry: visitor.acts && words::ended(status) && status != Status::Completed,
            cancel: visitor.acts && !words::ended(status) && !task.cancelling,
            mark: visitor.mark.clone(),
        }
    }
}
