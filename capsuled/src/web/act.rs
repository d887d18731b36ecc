//! What forms do: each asks the handler that the command asks.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Redirect, Response};
use capsule_proto::v1::{self, Status, TaskView};

use super::ask::Refusal;
use super::guard::{Fields, Visitor};
use super::{Site, words};

/// How long a browser remembers its theme, in seconds.
const YEAR: u32 = 365 * 24 * 3600;

/// Something that may be done with a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verb {
    /// In addresses.
    pub(super) word: &'static str,
    /// On buttons.
    pub(super) label: &'static str,
    /// It is asked about before it is done.
    pub(super) asks: bool,
}

const fn named(word: &'static str, label: &'static str, asks: bool) -> Verb {
    Verb { word, label, asks }
}

const VERBS: [Verb; 7] = [
    named("cancel", "Cancel", true),
    named("retry", "Retry", false),
    named("again", "Run again", false),
    named("promote", "Start now", false),
    named("hold", "Hold", false),
    named("release", "Release", false),
    named("remove", "Remove", true),
];

/// The verb of this name.
pub(super) fn verb(word: &str) -> Option<Verb> {
    VERBS.into_iter().find(|verb| verb.word == word)
}

/// What is offered for a task; what may be done is decided when it is asked for.
pub(super) fn verbs(task: &TaskView, visitor: &Visitor) -> Vec<Verb> {
    if !visitor.acts {
        return Vec::new();
    }
    let ended = words::ended(task.status());
    let waits = matches!(task.status(), Status::Scheduled | Status::Pending | Status::Retry);
    let delayed = matches!(task.status(), Status::Scheduled | Status::Retry);
    let offered = |verb: &Verb| match verb.word {
        "cancel" => !ended && !task.cancelling,
        "retry" => ended && task.status() != Status::Completed,
        "again" | "remove" => ended,
        "promote" => delayed && !task.hold,
        "hold" => waits && !task.hold,
        "release" => task.hold && !ended,
        _ => false,
    };
    VERBS.into_iter().filter(offered).collect()
}

/// Does it.
pub(super) async fn on_task(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
    Extension(fields): Extension<Fields>,
    Path((id, word)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let unknown = || Refusal::new(StatusCode::NOT_FOUND, format!("nothing is called {word:?}"));
    let verb = verb(&word).ok_or_else(unknown)?;
    let targets = Some(v1::Targets { ids: vec![id.clone()], ..v1::Targets::default() });
    let hold = |hold| v1::EditRequest {
        targets: targets.clone(),
        hold: Some(hold),
        ..v1::EditRequest::default()
    };
    let reply = match verb.word {
        "cancel" => {
            let grace_ms = (fields.get("at-once") == "yes").then_some(0);
            let reason = "from the web board".to_owned();
            site.cancel(v1::CancelRequest { targets, reason, grace_ms, dry_run: false }).await?
        }
        "hold" => site.edit(hold(true)).await?,
        "release" => site.edit(hold(false)).await?,
        "promote" => site.promote(v1::TargetsRequest { targets, dry_run: false }).await?,
        "remove" => site.remove(v1::TargetsRequest { targets, dry_run: false }).await?,
        _ => {
            let as_new = verb.word == "again";
            site.retry(v1::RetryRequest { targets, as_new, ..v1::RetryRequest::default() }).await?
        }
    };
    let result = reply.results.into_iter().next().unwrap_or_default();
    if result.exit != 0 {
        return Err(Refusal::new(StatusCode::CONFLICT, format!("{} {}", result.id, result.text)));
    }
    let gone = verb.word == "remove";
    let next = if gone { "/".to_owned() } else { format!("/tasks/{}", result.id) };
    Ok(done(&visitor, &next))
}

/// What follows a form: the next page, or nothing where a script asked and the page is live.
pub(super) fn done(visitor: &Visitor, next: &str) -> Response {
    if visitor.scripted {
        return StatusCode::NO_CONTENT.into_response();
    }
    Redirect::to(next).into_response()
}

/// Remembers the theme.
pub(super) async fn theme(
    Extension(fields): Extension<Fields>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let theme = match fields.get("theme") {
        "light" => "light",
        "dark" => "dark",
        _ => "system",
    };
    let cookie =
        format!("capsule-theme={theme}; Path=/; HttpOnly; SameSite=Strict; Max-Age={YEAR}");
    let cookie = HeaderValue::try_from(cookie).map_err(|_| Refusal::internal())?;
    // Back to the page that it was chosen on; only its path, so never to another site.
    let referer = headers.get("referer").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let path = referer.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
    let back = path.map_or_else(
        || "/".to_owned(),
        |(_, path)| format!("/{}", path.trim_start_matches(['/', '\\'])),
    );
    let mut response = Redirect::to(&back).into_response();
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}
