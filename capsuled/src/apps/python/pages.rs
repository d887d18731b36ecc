//! What a page shows: the boards in its tree, and the names of everything else.

use capsule_core::task::Status;
use serde_json::{Map, Value};

use super::Page;

/// How often a board is drawn anew unless it says otherwise, in milliseconds.
const REFRESH_MS: u32 = 5000;
/// Widgets that only hold others.
const HOLDERS: [&str; 3] = ["page", "row", "column"];
/// How deep widgets may lie.
const DEPTH_MAX: usize = 32;

/// A widget of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Widget {
    /// As the SDK names it.
    pub kind: String,
    /// Its title, label or text.
    pub title: String,
    /// Of a board of tasks.
    pub board: Option<TaskBoard>,
}

/// A board of tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskBoard {
    /// The filter as JSON; empty = none.
    pub filter: String,
    /// Labels with their statuses; every status stands in one.
    pub columns: Vec<(String, Vec<Status>)>,
    /// How often it is drawn anew.
    pub refresh_ms: u32,
    /// Of the filter: the task; empty = all.
    pub task_name: String,
    /// Of the filter: statuses; empty = all.
    pub statuses: Vec<Status>,
    /// Of the filter: what finds nothing here.
    pub ignored: Vec<String>,
}

impl Page {
    /// Its widgets from top to bottom, without those that only hold others.
    pub fn widgets(&self) -> Vec<Widget> {
        let mut found = Vec::new();
        collect(&self.tree, 0, &mut found);
        found
    }
}

fn collect(node: &Value, depth: usize, found: &mut Vec<Widget>) {
    let Value::Object(node) = node else { return };
    let kind = text(node, &["type"]);
    if !kind.is_empty() && !HOLDERS.contains(&kind.as_str()) {
        let board = (kind == "task_board").then(|| board(node));
        found.push(Widget { title: text(node, &["title", "label", "text", "name"]), kind, board });
    }
    let inner = ["children", "items"].iter().filter_map(|name| node.get(*name)?.as_array());
    for child in inner.flatten().filter(|_| depth < DEPTH_MAX) {
        collect(child, depth + 1, found);
    }
}

fn text(node: &Map<String, Value>, names: &[&str]) -> String {
    let found = names.iter().find_map(|name| node.get(*name)?.as_str());
    found.unwrap_or_default().to_owned()
}

fn board(node: &Map<String, Value>) -> TaskBoard {
    let refresh = node.get("refresh_ms").and_then(Value::as_u64);
    let mut board = TaskBoard {
        filter: String::new(),
        columns: columns(node.get("columns")),
        refresh_ms: refresh.and_then(|ms| u32::try_from(ms).ok()).unwrap_or(REFRESH_MS),
        task_name: String::new(),
        statuses: Vec::new(),
        ignored: Vec::new(),
    };
    let Some(Value::Object(filter)) = node.get("filter").filter(|filter| !filter.is_null()) else {
        return board;
    };
    board.filter = Value::Object(filter.clone()).to_string();
    for (name, value) in filter {
        match name.as_str() {
            "task_name" | "task" | "name" => board.task_name = texts(value).concat(),
            "status" | "statuses" => board.statuses = statuses(value),
            _ => board.ignored.push(name.clone()),
        }
    }
    board
}

/// The columns asked for, or the usual ones; behind them one for all other statuses.
fn columns(asked: Option<&Value>) -> Vec<(String, Vec<Status>)> {
    let asked = asked.and_then(Value::as_array).filter(|columns| !columns.is_empty());
    let mut columns: Vec<(String, Vec<Status>)> = match asked {
        Some(asked) => asked
            .iter()
            .filter_map(Value::as_object)
            .map(|column| {
                let listed = column.get("statuses").map(statuses).unwrap_or_default();
                (text(column, &["label"]), listed)
            })
            .collect(),
        None => usual(),
    };
    let known: Vec<Status> =
        columns.iter().flat_map(|(_, statuses)| statuses.iter().copied()).collect();
    let rest: Vec<Status> =
        Status::ALL.into_iter().filter(|status| !known.contains(status)).collect();
    if !rest.is_empty() {
        columns.push(("Other".to_owned(), rest));
    }
    columns
}

fn usual() -> Vec<(String, Vec<Status>)> {
    let column = |label: &str, statuses: &[Status]| (label.to_owned(), statuses.to_vec());
    vec![
        column("Pending", &[Status::Pending, Status::Scheduled, Status::Retry, Status::Claimed]),
        column("Running", &[Status::Running]),
        column("Completed", &[Status::Completed]),
        column("Failed", &[Status::Failed, Status::Cancelled, Status::Timeout]),
    ]
}

fn statuses(value: &Value) -> Vec<Status> {
    let named = |word: &String| {
        Status::ALL.into_iter().find(|status| word.eq_ignore_ascii_case(status.word()))
    };
    texts(value).iter().filter_map(named).collect()
}

/// A text, several divided by commas, or a list of texts.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => text.split(',').map(|word| word.trim().to_owned()).collect(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page(tree: Value) -> Page {
        Page { name: "Tasks".to_owned(), tree, ..Page::default() }
    }

    #[test]
    fn a_plain_board_has_the_usual_columns() {
        let tree = json!({"type": "page", "children": [
            {"type": "text", "text": "Hello"},
            {"type": "row", "children": [{"type": "task_board", "title": "Background work"}]},
        ]});
        let widgets = page(tree).widgets();
        let names: Vec<(&str, &str)> =
            widgets.iter().map(|it| (it.kind.as_str(), it.title.as_str())).collect();
        assert_eq!(names, [("text", "Hello"), ("task_board", "Background work")]);
        let board = widgets[1].board.as_ref().unwrap();
        let labels: Vec<&str> = board.columns.iter().map(|(label, _)| label.as_str()).collect();
        assert_eq!(labels, ["Pending", "Running", "Completed", "Failed"]);
        assert_eq!(board.refresh_ms, 5000);
    }

    #[test]
    fn what_no_column_has_is_under_other() {
        let tree = json!({"type": "task_board", "refresh_ms": 200,
            "filter": {"task_name": "sync", "status": "failed,TIMEOUT", "session_id": "s"},
            "columns": [{"label": "Now", "statuses": ["running"]}]});
        let board = page(tree).widgets().remove(0).board.unwrap();
        assert_eq!(board.columns[0], ("Now".to_owned(), vec![Status::Running]));
        assert_eq!(board.columns[1].0, "Other");
        assert_eq!(board.columns[1].1.len(), Status::ALL.len() - 1);
        assert_eq!((board.task_name.as_str(), board.refresh_ms), ("sync", 200));
        assert_eq!(board.statuses, [Status::Failed, Status::Timeout]);
        assert_eq!(board.ignored, ["session_id"]);
    }
}
