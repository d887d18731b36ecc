//! Lists, schedules, queues and locks: drawn anew after a change, told when they read differently.

use axum::Extension;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use tokio::time::{Duration, Instant, sleep};

use super::{Gone, Page, part, seen};
use crate::web::Site;
use crate::web::ask::Refusal;
use crate::web::guard::Visitor;
use crate::web::pages::{digest, list, queues, schedules};

/// The shortest time between two drawings: the first change is told at once.
const PAUSE: Duration = Duration::from_millis(250);
/// One part in so many of the time may go into the drawings of a page.
const SHARE: u32 = 10;

/// Which page, and how it was loaded.
#[derive(Clone, Debug, serde::Deserialize)]
pub(in crate::web) struct Asked {
    of: String,
    id: Option<u64>,
    /// Times are told from here, so that only changes make a difference.
    now: i64,
    #[serde(default)]
    seen: String,
    #[serde(flatten)]
    list: list::Asked,
}

/// The stream of a page.
pub(in crate::web) async fn place(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let known = seen(&headers).unwrap_or(&asked.seen).to_owned();
    // What cannot be shown is refused here, not in a stream that ends at once.
    shown(&site, &visitor, &asked).await?;
    let (page, response) = Page::open();
    tokio::spawn(async move {
        let ending = site.api.ending.clone();
        ending.run_until_cancelled(follow(site, visitor, asked, known, page)).await;
    });
    Ok(response)
}

/// Draws after each change until the page is gone.
async fn follow(
    site: Site,
    visitor: Visitor,
    asked: Asked,
    mut known: String,
    page: Page,
) -> Result<(), Gone> {
    let feed = site.api.engine.feed();
    let (mut cursor, mut around) = (feed.cursor(), feed.around());
    loop {
        let began = Instant::now();
        let markup = shown(&site, &visitor, &asked).await.map_err(|_| Gone)?;
        let now = digest(&markup);
        if now != known {
            page.say(now.clone(), &part("shown", "innerMorph", &markup)).await?;
            known = now;
        }
        let pause = PAUSE.max(began.elapsed() * SHARE);
        let changed = async {
            sleep(pause).await;
            tokio::select! {
                news = feed.next(&mut cursor) => news.is_ok(),
                _ = around.changed() => true,
            }
        };
        let kept_up = tokio::select! {
            kept_up = changed => kept_up,
            () = page.gone() => return Err(Gone),
        };
        if !kept_up {
            cursor = feed.cursor();
        }
    }
}

/// What a page shows and may change.
async fn shown(site: &Site, visitor: &Visitor, asked: &Asked) -> Result<String, Refusal> {
    match (asked.of.as_str(), asked.id) {
        ("tasks", _) => list::shown(site, visitor, &asked.list, asked.now).await,
        ("schedules", _) => schedules::all(site, visitor, asked.now).await,
        ("schedule", Some(id)) => Ok(schedules::fires(site, visitor, id, asked.now).await?.1),
        ("queues", _) => queues::queues(site, visitor).await,
        ("locks", _) => queues::held(site, asked.now).await,
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "there is no such page")),
    }
}
