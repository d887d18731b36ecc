//! Apps: what is deployed, what can be submitted, what each revision changed.

use askama::Template;
use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use capsule_proto::v1::{AppView, Definition};

use super::{Page, address, html};
use crate::web::Site;
use crate::web::ask::Refusal;
use crate::web::guard::Visitor;
use crate::web::words::{self, Moment};

#[derive(Debug, Template)]
#[template(path = "apps.html")]
struct AppsPage {
    page: Page,
    rows: Vec<App>,
}

#[derive(Debug, Template)]
#[template(path = "app.html")]
struct AppPage {
    page: Page,
    it: App,
    tasks: Vec<Task>,
    revisions: Vec<Revision>,
}

#[derive(Clone, Debug)]
struct App {
    name: String,
    href: String,
    revision: u32,
    dir: String,
    deployed: Moment,
    by: String,
    tasks: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) name: String,
    pub(super) help: String,
    pub(super) href: String,
    pub(super) app: String,
    details: String,
}

#[derive(Clone, Debug)]
struct Revision {
    number: u32,
    current: bool,
    deployed: Moment,
    by: String,
    diff: Vec<String>,
}

/// Shows all apps.
pub(in crate::web) async fn show(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Response, Refusal> {
    let page = Page::new(&site, &visitor, "apps", "Apps").await?;
    let now = site.now().0;
    let rows = site.apps().await?.iter().map(|it| app(it, now)).collect();
    html(&AppsPage { page, rows })
}

/// Shows an app.
pub(in crate::web) async fn one(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let shown = site.app(&name).await?;
    let now = site.now().0;
    let page = Page::new(&site, &visitor, "apps", words::line(&name)).await?;
    let revisions = shown.revisions.iter().map(|it| Revision {
        number: it.revision,
        current: it.current,
        deployed: words::moment(it.deployed_us, now),
        by: words::line(&it.deployed_by),
        diff: it.diff.iter().map(|line| words::line(line)).collect(),
    });
    let it = app(&shown.app.unwrap_or_default(), now);
    let tasks = shown.definitions.iter().map(task).collect();
    html(&AppPage { page, it, tasks, revisions: revisions.collect() })
}

fn app(view: &AppView, now: i64) -> App {
    // A name goes into the path as one part.
    let part = address(&[("n", &view.name)]);
    App {
        name: words::line(&view.name),
        href: format!("/apps/{}", part.trim_start_matches("n=")),
        revision: view.revision,
        dir: words::line(&view.dir),
        deployed: words::moment(view.deployed_us, now),
        by: words::line(&view.deployed_by),
        tasks: view.tasks,
    }
}

/// A definition as a line.
pub(super) fn task(definition: &Definition) -> Task {
    let mut details = vec![definition.runner.clone()];
    if definition.retries > 0 {
        details.push(format!("retries {} {}", definition.retries, definition.backoff));
    }
    details.extend(definition.timeout_ms.map(|ms| format!("timeout {}", words::span(ms))));
    if !definition.lock.is_empty() {
        details.push(format!("lock {}", definition.lock));
    }
    details.push(format!("queue {}", definition.queue));
    let pairs = [("app", definition.app.as_str()), ("task", definition.name.as_str())];
    Task {
        name: words::line(&definition.name),
        help: words::line(&definition.help),
        href: format!("/submit?{}", address(&pairs)),
        app: words::line(&definition.app),
        details: words::line(&details.join(" · ")),
    }
}
