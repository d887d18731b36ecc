//! One thing done with all tasks of a list: what it would be is shown, and that is what is done.

use askama::Template;
use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use capsule_proto::query;
use capsule_proto::v1::{
    ActionReply, CancelRequest, Filter, ListRequest, RetryRequest, Status, Targets, TargetsRequest,
};

use super::super::{Page, address, html};
use super::Asked;
use crate::web::ask::Refusal;
use crate::web::guard::{Fields, Visitor};
use crate::web::{Site, act, words};

/// Tasks that are taken together, at the most: what a person has an eye on.
pub(crate) const BULK_MAX: usize = 500;
/// Tasks that are named before.
const NAMED: usize = 20;
/// Refusals that are told after.
const TOLD: usize = 20;

/// What may be done with many, and the statuses of tasks that it means.
const VERBS: [(&str, &[Status]); 3] = [
    (
        "cancel",
        &[Status::Scheduled, Status::Pending, Status::Claimed, Status::Running, Status::Retry],
    ),
    ("retry", &[Status::Failed, Status::Timeout, Status::Cancelled]),
    ("remove", &[Status::Completed, Status::Failed, Status::Timeout, Status::Cancelled]),
];

#[derive(Debug, Template)]
#[template(path = "each.html")]
struct Each {
    page: Page,
    verb: act::Verb,
    /// The filter as it was typed.
    q: String,
    /// Back to the list.
    back: String,
    count: usize,
    /// Of so many that it could be done with.
    of: String,
    cut: bool,
    named: Vec<(u64, String, String)>,
    more: usize,
    ids: String,
}

#[derive(Debug, Template)]
#[template(path = "done.html")]
struct Done {
    page: Page,
    /// Who refused, and why.
    refused: Vec<(String, String)>,
    more: usize,
    back: String,
}

/// What is offered for a list, and where it is asked about.
pub(super) fn offered(q: &str) -> Vec<(&'static str, String)> {
    let verbs = VERBS.iter().filter_map(|(word, _)| act::verb(word));
    verbs
        .map(|verb| (verb.label, format!("/tasks/each/{}?{}", verb.word, address(&[("q", q)]))))
        .collect()
}

/// Asks, with the names of those that it would be done with.
pub(in crate::web) async fn ask(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
    Path(word): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let (verb, statuses) = verb(&word)?;
    let mut filter = site.filter(&asked.q)?;
    let fits =
        Filter { statuses: statuses.iter().map(|it| (*it).into()).collect(), ..Filter::default() };
    query::narrow(&mut filter, &fits);
    let limit = u32::try_from(BULK_MAX).unwrap_or(u32::MAX);
    let request = ListRequest { filter: Some(filter), limit, ..ListRequest::default() };
    let reply = site.list(request).await?;
    let count = reply.tasks.len();
    let heading = match count {
        1 => format!("{} 1 task?", verb.label),
        _ => format!("{} {count} tasks?", verb.label),
    };
    let page = Page::new(&site, &visitor, "tasks", heading).await?;
    let named = reply.tasks.iter().take(NAMED);
    let ids: Vec<String> = reply.tasks.iter().map(|task| task.id.to_string()).collect();
    html(&Each {
        page,
        verb,
        back: back(&asked.q),
        q: asked.q,
        count,
        of: words::count(reply.total),
        cut: reply.total > count as u64,
        named: named
            .map(|task| (task.id, words::title(task), words::status(task.status())))
            .collect(),
        more: count.saturating_sub(NAMED),
        ids: ids.join(" "),
    })
}

/// Does it with those that were meant.
pub(in crate::web) async fn act(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
    Extension(fields): Extension<Fields>,
    Path(word): Path<String>,
) -> Result<Response, Refusal> {
    let (verb, _) = verb(&word)?;
    let ids: Vec<String> = fields.get("ids").split_whitespace().map(str::to_owned).collect();
    if ids.is_empty() || ids.len() > BULK_MAX {
        return Err(Refusal::of_a_form(format!("between 1 and {BULK_MAX} tasks at once")));
    }
    // One that was removed since would have all of them refused.
    let (ids, gone): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| site.is_there(id));
    let any = !ids.is_empty();
    let targets = Some(Targets { ids, ..Targets::default() });
    let reply = match verb.word {
        _ if !any => ActionReply::default(),
        "cancel" => {
            let reason = "from the web board".to_owned();
            site.cancel(CancelRequest { targets, reason, ..CancelRequest::default() }).await?
        }
        "remove" => site.remove(TargetsRequest { targets, dry_run: false }).await?,
        _ => site.retry(RetryRequest { targets, ..RetryRequest::default() }).await?,
    };
    let (mut done, mut refused) = (0, Vec::new());
    for result in reply.results {
        if result.exit == 0 {
            done += 1;
        } else {
            refused.push((result.id.to_string(), words::line(&result.text)));
        }
    }
    refused.extend(gone.into_iter().map(|id| (words::line(&id), "it is gone".to_owned())));
    let heading = format!("{}: {done} done", verb.label);
    let page = Page::new(&site, &visitor, "tasks", heading).await?;
    let more = refused.len().saturating_sub(TOLD);
    let refused = refused.into_iter().take(TOLD).collect();
    html(&Done { page, refused, more, back: back(fields.get("q")) })
}

fn verb(word: &str) -> Result<(act::Verb, &'static [Status]), Refusal> {
    let found = VERBS.iter().find(|(known, _)| *known == word);
    let found = found.and_then(|(word, statuses)| Some((act::verb(word)?, *statuses)));
    found.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "there is no such page"))
}

fn back(q: &str) -> String {
    format!("/tasks?{}", address(&[("q", q)]))
}
