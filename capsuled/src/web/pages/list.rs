//! Tasks as a table, newest first, by the same filter as `capsule list`.

use askama::Template;
use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use capsule_proto::query::WORDS;
use capsule_proto::v1::{ListReply, ListRequest, TaskView};

use super::{Page, address, html};
use crate::web::ask::Refusal;
use crate::web::guard::Visitor;
use crate::web::words::{self, Moment};
use crate::web::{Site, act};

/// Rows of a page.
const ROWS: u32 = 100;

/// Which tasks.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub(in crate::web) struct Asked {
    /// In the words of the filter language.
    #[serde(default)]
    q: String,
    /// Only tasks before this one: the next page.
    before: Option<u64>,
}

#[derive(Debug, Template)]
#[template(path = "list.html")]
struct ListPage {
    page: Page,
    q: String,
    error: String,
    total: String,
    rows: Vec<Row>,
    /// Where the next page is; empty = this is the last.
    next: String,
    words: &'static [(&'static str, &'static str, &'static str)],
}

/// A task in a table.
#[derive(Clone, Debug)]
struct Row {
    id: u64,
    title: String,
    status: String,
    sign: &'static str,
    app: String,
    owner: String,
    tries: String,
    created: Moment,
    took: String,
    note: String,
    verbs: Vec<act::Verb>,
}

/// Shows a page of the list.
pub(in crate::web) async fn show(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let page = Page::new(&site, &visitor, "tasks", "Tasks").await?;
    let (reply, error) = match found(&site, &asked).await {
        Ok(reply) => (reply, String::new()),
        Err(refusal) if refusal.is_of_a_form() => (ListReply::default(), refusal.text().to_owned()),
        Err(refusal) => return Err(refusal),
    };
    let before = reply.next_before.map(|id| id.to_string()).unwrap_or_default();
    let pairs = [("q", asked.q.as_str()), ("before", before.as_str())];
    let next = if before.is_empty() { before } else { format!("/tasks?{}", address(&pairs)) };
    let now = site.now().0;
    let rows = reply.tasks.iter().map(|task| row(task, now)).collect();
    let total = words::count(reply.total);
    html(&ListPage { page, q: asked.q, error, total, rows, next, words: &WORDS })
}

async fn found(site: &Site, asked: &Asked) -> Result<ListReply, Refusal> {
    let filter = Some(site.filter(&asked.q)?);
    site.list(ListRequest { filter, limit: ROWS, before: asked.before, ..ListRequest::default() })
        .await
}

fn row(task: &TaskView, now: i64) -> Row {
    let until = task.ended_us.unwrap_or(now);
    let took = task.started_us.map(|from| words::span(from.abs_diff(until) / 1000));
    Row {
        id: task.id,
        title: words::title(task),
        status: words::status(task.status()),
        sign: words::sign(task.status()),
        app: words::line(&task.app),
        owner: words::line(&task.owner),
        tries: words::tries(task),
        created: words::moment(task.created_us, now),
        took: took.unwrap_or_default(),
        note: words::note(task),
        verbs: act::verbs(task)
            .into_iter()
            .filter(|verb| ["cancel", "retry"].contains(&verb.word))
            .collect(),
    }
}
