//! The board: columns of tasks, the usual ones or those that an app asks for.

use std::collections::{HashMap, HashSet};

use askama::Template;
use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use capsule_proto::query;
use capsule_proto::v1::watch_event::Event;
use capsule_proto::v1::{ColumnView, Filter, Status, TaskView, WatchEvent, WatchRequest, Window};
use tokio_stream::StreamExt as _;

use super::card::Card;
use super::{Page, address, html};
use crate::web::ask::Refusal;
use crate::web::guard::Visitor;
use crate::web::{Site, words};

/// Cards of a column; behind them stands how many more there are.
pub(crate) const WINDOW: u32 = 50;

/// Which board.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub(in crate::web) struct Asked {
    /// Only tasks of this app.
    #[serde(default)]
    app: String,
    /// A page of the app.
    #[serde(default)]
    page: String,
    /// What the tasks must be like, in the words of the filter language.
    #[serde(default)]
    q: String,
    /// The number of the last change that the page shows.
    pub(in crate::web) seen: Option<u64>,
}

/// A board as it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::web) struct Plan {
    title: String,
    /// What it says beside its title.
    note: String,
    filter: Filter,
    columns: Vec<ColumnPlan>,
}

/// A column as it is asked for.
#[derive(Clone, Debug, PartialEq)]
struct ColumnPlan {
    label: String,
    /// Without any no task stands in it.
    statuses: Vec<i32>,
}

impl Plan {
    /// What is watched for it: a window for each column that may have tasks.
    pub(in crate::web) fn watch(&self) -> WatchRequest {
        let columns = self.columns.iter().filter(|column| !column.statuses.is_empty());
        let window = |column: &ColumnPlan| Window {
            statuses: column.statuses.clone(),
            skip: 0,
            limit: WINDOW,
        };
        let (filter, windows) = (Some(self.filter.clone()), columns.map(window).collect());
        WatchRequest { filter, windows, ..WatchRequest::default() }
    }
}

/// What stands in the windows of a board, as the watch told.
#[derive(Clone, Debug, Default)]
pub(in crate::web) struct Picture {
    views: HashMap<u64, TaskView>,
    columns: Vec<ColumnView>,
    /// The last change that it shows.
    pub(in crate::web) seq: u64,
}

impl Picture {
    /// Takes what the watch tells; says whether the picture is whole again.
    pub(in crate::web) fn take(&mut self, told: WatchEvent) -> bool {
        match told.event {
            Some(Event::Task(view)) => drop(self.views.insert(view.id, view)),
            Some(Event::Columns(columns)) => {
                self.columns = columns.columns;
                let shown: HashSet<u64> =
                    self.columns.iter().flat_map(|column| column.ids.iter().copied()).collect();
                self.views.retain(|id, _| shown.contains(id));
                self.seq = told.seq;
                return true;
            }
            Some(
                Event::Removed(_)
                | Event::Ready(_)
                | Event::Reset(_)
                | Event::Schedule(_)
                | Event::Around(_),
            )
            | None => {}
        }
        false
    }
}

/// A board as it is.
#[derive(Clone, Debug)]
pub(in crate::web) struct Board {
    title: String,
    note: String,
    pub(in crate::web) columns: Vec<Column>,
}

/// A column as it is.
#[derive(Clone, Debug, Default)]
pub(in crate::web) struct Column {
    /// Begins the names of its elements.
    pub(in crate::web) key: String,
    pub(in crate::web) label: String,
    /// How many tasks it has, also those without a card.
    pub(in crate::web) total: u64,
    /// Newest first.
    pub(in crate::web) cards: Vec<Card>,
    /// All of it, as a list.
    pub(in crate::web) href: String,
}

impl Board {
    /// Whether the same columns stand in the same places.
    pub(in crate::web) fn is_like(&self, other: &Self) -> bool {
        let columns = |board: &Self| -> Vec<(String, String)> {
            let told = board.columns.iter().map(|it| (it.label.clone(), it.href.clone()));
            told.collect()
        };
        self.title == other.title && self.note == other.note && columns(self) == columns(other)
    }
}

impl Column {
    /// How many tasks it has, for people.
    pub(in crate::web) fn count(&self) -> String {
        words::count(self.total)
    }

    /// What it says of tasks without a card; empty when there are none.
    pub(in crate::web) fn more(&self) -> String {
        match self.total.saturating_sub(self.cards.len() as u64) {
            0 => String::new(),
            more => format!("and {} more", words::count(more)),
        }
    }
}

#[derive(Debug, Template)]
#[template(path = "board.html")]
struct BoardPage {
    page: Page,
    boards: Vec<Board>,
    /// The filter as it was typed.
    q: String,
    /// What the form of the filter keeps.
    hidden: [(&'static str, String); 2],
    /// What of the filter makes no sense.
    error: String,
}

/// The boards of a page without what is around them.
#[derive(Debug, Template)]
#[template(path = "boards.html")]
pub(in crate::web) struct Boards<'a> {
    pub(in crate::web) boards: &'a [Board],
}

/// What stands for boards that are no more.
#[derive(Debug, Template)]
#[template(path = "lost.html")]
pub(in crate::web) struct Lost<'a> {
    pub(in crate::web) why: &'a str,
}

impl BoardPage {
    fn parts(&self) -> Boards<'_> {
        Boards { boards: &self.boards }
    }

    fn summary(&self) -> String {
        summary(&self.boards)
    }
}

/// All boards in a line, for who cannot see them.
pub(in crate::web) fn summary(boards: &[Board]) -> String {
    let columns = boards.iter().flat_map(|board| &board.columns);
    let told: Vec<String> =
        columns.map(|it| format!("{} {}", it.count(), it.label.to_lowercase())).collect();
    told.join(", ")
}

/// Shows a page of an app, or the usual board.
pub(in crate::web) async fn show(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let mut page = around(&site, &visitor, &asked).await?;
    let hidden = [("app", asked.app.clone()), ("page", asked.page.clone())];
    let (boards, error) = match plans(&site, &asked).await {
        Ok(plans) => {
            let pictures = pictures(&site, &plans).await?;
            let seen = seen(&pictures).to_string();
            let pairs =
                [("app", &asked.app), ("page", &asked.page), ("q", &asked.q), ("seen", &seen)];
            page.live =
                format!("/live/board?{}", address(&pairs.map(|(name, it)| (name, it.as_str()))));
            (draw(&plans, &pictures, &visitor, site.now().0), String::new())
        }
        Err(refusal) if refusal.is_of_a_form() => (Vec::new(), refusal.text().to_owned()),
        Err(refusal) => return Err(refusal),
    };
    html(&BoardPage { page, boards, q: asked.q, hidden, error })
}

/// What is around a board.
pub(in crate::web) async fn around(
    site: &Site,
    visitor: &Visitor,
    asked: &Asked,
) -> Result<Page, Refusal> {
    let title = if asked.page.is_empty() { "Board".to_owned() } else { words::line(&asked.page) };
    let mut page = Page::new(site, visitor, "board", title).await?;
    let own = format!("/?{}", address(&[("app", &asked.app), ("page", &asked.page)]));
    for place in &mut page.boards {
        place.current = place.href == own;
    }
    Ok(page)
}

/// The boards of a page: those of an app, or the usual one.
pub(in crate::web) async fn plans(site: &Site, asked: &Asked) -> Result<Vec<Plan>, Refusal> {
    let narrower = site.filter(&asked.q)?;
    if asked.page.is_empty() {
        let filter = Filter { app: asked.app.clone(), ..Filter::default() };
        return Ok(vec![usual(filter, &narrower)]);
    }
    let pages = site.pages(&asked.app).await?;
    let page = pages.pages.iter().find(|page| page.name == asked.page).ok_or_else(|| {
        let text = format!("app {} has no page {:?}", pages.app, asked.page);
        Refusal::new(axum::http::StatusCode::NOT_FOUND, text).hint("capsule board --pages")
    })?;
    let mut plans = Vec::new();
    for widget in &page.widgets {
        let Some(board) = &widget.board else { continue };
        let wanted = |status: &&i32| board.statuses.is_empty() || board.statuses.contains(status);
        let column = |column: &capsule_proto::v1::Column| ColumnPlan {
            label: words::line(&column.label),
            statuses: column.statuses.iter().filter(wanted).copied().collect(),
        };
        let named = Some(board.task_name.clone()).filter(|name| !name.is_empty());
        let mut filter = Filter {
            app: pages.app.clone(),
            names: named.into_iter().collect(),
            statuses: board.statuses.clone(),
            except_names: pages.ticks.clone(),
            ..Filter::default()
        };
        query::narrow(&mut filter, &narrower);
        let ignored = board.ignored.join(", ");
        let note = if ignored.is_empty() { ignored } else { format!("not filtered by {ignored}") };
        plans.push(Plan {
            title: words::line(&widget.title),
            note: words::line(&note),
            filter,
            columns: board.columns.iter().map(column).collect(),
        });
    }
    Ok(plans)
}

fn usual(mut filter: Filter, narrower: &Filter) -> Plan {
    query::narrow(&mut filter, narrower);
    let column = |label: &str, statuses: &[Status]| ColumnPlan {
        label: label.to_owned(),
        statuses: statuses.iter().map(|status| (*status).into()).collect(),
    };
    let columns = vec![
        column("Waiting", &[Status::Scheduled, Status::Retry]),
        column("Pending", &[Status::Pending]),
        column("Running", &[Status::Claimed, Status::Running]),
        column("Completed", &[Status::Completed]),
        column("Failed", &[Status::Failed, Status::Timeout, Status::Cancelled]),
    ];
    Plan { title: String::new(), note: String::new(), filter, columns }
}

/// What stands on the boards now.
async fn pictures(site: &Site, plans: &[Plan]) -> Result<Vec<Picture>, Refusal> {
    let mut pictures = Vec::with_capacity(plans.len());
    for plan in plans {
        let (mut stream, mut picture) = (site.watch(plan.watch()).await?, Picture::default());
        while let Some(told) = stream.next().await {
            if picture.take(told?) {
                break;
            }
        }
        pictures.push(picture);
    }
    Ok(pictures)
}

/// The change up to which all of them are whole.
pub(in crate::web) fn seen(pictures: &[Picture]) -> u64 {
    pictures.iter().map(|picture| picture.seq).min().unwrap_or_default()
}

/// The boards with their cards.
pub(in crate::web) fn draw(
    plans: &[Plan],
    pictures: &[Picture],
    visitor: &Visitor,
    now: i64,
) -> Vec<Board> {
    let boards = plans.iter().zip(pictures).enumerate();
    let board = |(number, (plan, picture)): (usize, (&Plan, &Picture))| {
        let mut told = picture.columns.iter();
        let prefix = format!("b{number}");
        let column = |(at, asked): (usize, &ColumnPlan)| {
            let stands = if asked.statuses.is_empty() { None } else { told.next() };
            let ids = stands.iter().flat_map(|column| &column.ids);
            let views = ids.filter_map(|id| picture.views.get(id));
            Column {
                key: format!("{prefix}c{at}"),
                label: asked.label.clone(),
                total: stands.map_or(0, |column| column.total),
                cards: views.map(|task| Card::new(task, &prefix, visitor, now)).collect(),
                href: stands.map(|_| list_of(&plan.filter, &asked.statuses)).unwrap_or_default(),
            }
        };
        let columns = plan.columns.iter().enumerate().map(column).collect();
        Board { title: plan.title.clone(), note: plan.note.clone(), columns }
    };
    boards.map(board).collect()
}

/// A column as a list.
fn list_of(filter: &Filter, statuses: &[i32]) -> String {
    let named = |status: &i32| Status::try_from(*status).ok().map(words::status);
    let statuses: Vec<String> = statuses.iter().filter_map(named).collect();
    let quoted = |name: &str, value: &str| {
        if value.is_empty() { String::new() } else { format!("{name}:\"{value}\" ") }
    };
    let asked = [
        ("state", statuses.join(",")),
        ("app", filter.app.clone()),
        ("task", filter.names.join(",")),
        ("-task", filter.except_names.join(",")),
    ];
    let text: String = asked.iter().map(|(name, value)| quoted(name, value)).collect();
    format!("/tasks?{}", address(&[("q", text.trim_end())]))
}
