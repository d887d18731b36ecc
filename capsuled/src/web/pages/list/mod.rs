//! Tasks as a table, newest first, by the same filter as `capsule list`.

pub(in crate::web) mod bulk;

use askama::Template;
use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use capsule_proto::query::WORDS;
use capsule_proto::v1::{ListReply, ListRequest, TaskView};

use super::{Page, address, html, part};
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
    shown: String,
    words: &'static [(&'static str, &'static str, &'static str)],
}

/// What changes of a list.
#[derive(Debug, Template)]
#[template(path = "rows.html")]
struct Found<'a> {
    visitor: &'a Visitor,
    total: String,
    rows: Vec<Row>,
    /// What may be done with all of them: its name and where it is asked about.
    bulk: Vec<(&'static str, String)>,
    /// Where the next page is; empty = this is the last.
    next: String,
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
    /// Since when it runs.
    since: Option<Moment>,
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
    let mut page = Page::new(&site, &visitor, "tasks", "Tasks").await?;
    let now = site.now().0;
    let (shown, error) = match shown(&site, &visitor, &asked, now).await {
        Ok(shown) => {
            let before = asked.before.map(|id| id.to_string()).unwrap_or_default();
            page.follow(&[("of", "tasks"), ("q", &asked.q), ("before", &before)], &shown, now);
            (shown, String::new())
        }
        Err(refusal) if refusal.is_of_a_form() => (String::new(), refusal.text().to_owned()),
        Err(refusal) => return Err(refusal),
    };
    html(&ListPage { page, q: asked.q, error, shown, words: &WORDS })
}

/// What changes of it.
pub(in crate::web) async fn shown(
    site: &Site,
    visitor: &Visitor,
    asked: &Asked,
    now: i64,
) -> Result<String, Refusal> {
    let reply = found(site, asked).await?;
    let before = reply.next_before.map(|id| id.to_string()).unwrap_or_default();
    let pairs = [("q", asked.q.as_str()), ("before", before.as_str())];
    let next = if before.is_empty() { before } else { format!("/tasks?{}", address(&pairs)) };
    part(&Found {
        visitor,
        total: words::count(reply.total),
        rows: reply.tasks.iter().map(|task| row(task, visitor, now)).collect(),
        bulk: if visitor.acts && reply.total > 0 { bulk::offered(&asked.q) } else { Vec::new() },
        next,
    })
}

async fn found(site: &Site, asked: &Asked) -> Result<ListReply, Refusal> {
    let filter = Some(site.filter(&asked.q)?);
    site.list(ListRequest { filter, limit: ROWS, before: asked.before, ..ListRequest::default() })
        .await
}

fn row(task: &TaskView, visitor: &Visitor, now: i64) -> Row {
    let took = task.started_us.zip(task.ended_us);
    let live = words::runs(task.status());
    Row {
        id: task.id,
        title: words::title(task),
        status: words::status(task.status()),
        sign: words::sign(task.status()),
        app: words::line(&task.app),
        owner: words::line(&task.owner),
        tries: words::tries(task),
        created: words::moment(task.created_us, now),
        since: task.started_us.filter(|_| live).map(|at| words::moment(at, now)),
        took: took.map(|(from, to)| words::span(from.abs_diff(to) / 1000)).unwrap_or_default(),
        note: words::note(task),
        verbs: act::verbs(task, visitor)
            .into_iter()
            .filter(|verb| ["cancel", "retry"].contains(&verb.word))
            .collect(),
    }
}
