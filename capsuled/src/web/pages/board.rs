//! The board: columns of tasks, the usual ones or those that an app asks for.

use askama::Template;
use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use capsule_proto::v1::{Filter, ListReply, ListRequest, Status};

use super::card::Card;
use super::{Page, html, query};
use crate::web::ask::Refusal;
use crate::web::guard::Visitor;
use crate::web::{Site, words};

/// Cards of a column; behind them stands how many more there are.
pub(in crate::web) const WINDOW: u32 = 50;

/// Which board.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub(in crate::web) struct Asked {
    /// Only tasks of this app.
    #[serde(default)]
    app: String,
    /// A page of the app.
    #[serde(default)]
    page: String,
    /// The number of the last change that the page shows.
    pub(in crate::web) seen: Option<u64>,
}

/// A board as it is asked for.
#[derive(Clone, Debug)]
pub(in crate::web) struct Plan {
    pub(in crate::web) title: String,
    /// What it says beside its title.
    note: String,
    /// Handlers of schedules, which stand on no page of an app.
    hidden: Vec<String>,
    pub(in crate::web) columns: Vec<ColumnPlan>,
}

/// A column as it is asked for.
#[derive(Clone, Debug)]
pub(in crate::web) struct ColumnPlan {
    label: String,
    /// `None` = no task stands in it.
    pub(in crate::web) filter: Option<Filter>,
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
    label: String,
    /// How many tasks it has, also those without a card.
    pub(in crate::web) total: u64,
    /// Newest first.
    pub(in crate::web) cards: Vec<Card>,
    /// All of it, as a list.
    href: String,
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
}

/// The boards of a page without what is around them.
#[derive(Debug, Template)]
#[template(path = "boards.html")]
pub(in crate::web) struct Boards<'a> {
    pub(in crate::web) boards: &'a [Board],
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
    let told: Vec<String> = columns.map(|it| format!("{} {}", it.count(), it.label.to_lowercase())).collect();
    told.join(", ")
}

/// Shows a page of an app, or the usual board.
pub(in crate::web) async fn show(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let seen = site.latest();
    let plans = plans(&site, &asked).await?;
    let title = if asked.page.is_empty() { "Board".to_owned() } else { words::line(&asked.page) };
    let mut page = Page::new(&site, &visitor, "board", title).await?;
    let address = query(&[("app", &asked.app), ("page", &asked.page)]);
    let own = format!("/?{address}");
    for place in &mut page.boards {
        place.current = place.href == own;
    }
    page.live = format!("/live/board?{}", query(&[("app", &asked.app), ("page", &asked.page), ("seen", &seen.to_string())]));
    let boards = load(&site, &plans, &visitor.mark).await?;
    html(&BoardPage { page, boards })
}

/// The boards of a page: those of an app, or the usual one.
pub(in crate::web) async fn plans(site: &Site, asked: &Asked) -> Result<Vec<Plan>, Refusal> {
    if asked.page.is_empty() {
        return Ok(vec![usual(&asked.app)]);
    }
    let pages = site.pages(&asked.app).await?;
    let page = pages.pages.iter().find(|page| page.name == asked.page).ok_or_else(|| {
        let text = format!("app {} has no page {:?}", pages.app, asked.page);
        Refusal::new(axum::http::StatusCode::NOT_FOUND, text).hint("capsule board --pages")
    })?;
    let mut plans = Vec::new();
    for widget in &page.widgets {
        let Some(board) = &widget.board else { continue };
        let within = |statuses: &[i32]| -> Vec<i32> {
            let wanted = |status: &&i32| board.statuses.is_empty() || board.statuses.contains(status);
            statuses.iter().filter(wanted).copied().collect()
        };
        let names = Some(board.task_name.clone()).filter(|name| !name.is_empty());
        let filter = Filter { app: pages.app.clone(), names: names.into_iter().collect(), ..Filter::default() };
        let column = |column: &capsule_proto::v1::Column| ColumnPlan {
            label: words::line(&column.label),
            filter: Some(within(&column.statuses))
                .filter(|statuses| !statuses.is_empty())
                .map(|statuses| Filter { statuses, ..filter.clone() }),
        };
        let ignored = board.ignored.join(", ");
        plans.push(Plan {
            title: words::line(&widget.title),
            note: if ignored.is_empty() { ignored } else { words::line(&format!("not filtered by {ignored}")) },
            hidden: pages.ticks.clone(),
            columns: board.columns.iter().map(column).collect(),
        });
    }
    Ok(plans)
}

fn usual(app: &str) -> Plan {
    let column = |label: &str, statuses: &[Status]| ColumnPlan {
        label: label.to_owned(),
        filter: Some(Filter {
            statuses: statuses.iter().map(|status| (*status).into()).collect(),
            app: app.to_owned(),
            ..Filter::default()
        }),
    };
    Plan {
        title: String::new(),
        note: String::new(),
        hidden: Vec::new(),
        columns: vec![
            column("Waiting", &[Status::Scheduled, Status::Retry]),
            column("Pending", &[Status::Pending]),
            column("Running", &[Status::Claimed, Status::Running]),
            column("Completed", &[Status::Completed]),
            column("Failed", &[Status::Failed, Status::Timeout, Status::Cancelled]),
        ],
    }
}

/// The boards with what stands in them now.
pub(in crate::web) async fn load(
    site: &Site,
    plans: &[Plan],
    mark: &str,
) -> Result<Vec<Board>, Refusal> {
    let now = site.now().0;
    let mut boards = Vec::with_capacity(plans.len());
    for (number, plan) in plans.iter().enumerate() {
        let mut columns = Vec::with_capacity(plan.columns.len());
        for (at, column) in plan.columns.iter().enumerate() {
            let reply = match column.filter.clone() {
                None => ListReply::default(),
                filter => {
                    let request = ListRequest { filter, limit: WINDOW, ..ListRequest::default() };
                    site.list(request).await?
                }
            };
            let cards = reply.tasks.iter().filter(|task| !plan.hidden.contains(&task.name));
            let prefix = format!("b{number}");
            columns.push(Column {
                key: format!("{prefix}c{at}"),
                label: column.label.clone(),
                total: reply.total,
                cards: cards.map(|task| Card::new(task, &prefix, mark, now)).collect(),
                href: column.filter.as_ref().map(list_of).unwrap_or_default(),
            });
        }
        let (title, note) = (plan.title.clone(), plan.note.clone());
        boards.push(Board { title, note, columns });
    }
    Ok(boards)
}

fn list_of(filter: &Filter) -> String {
    let named = |status: &i32| Status::try_from(*status).ok().map(words::status);
    let statuses: Vec<String> = filter.statuses.iter().filter_map(named).collect();
    let names = filter.names.join(",");
    let pairs = [("status", statuses.join(",")), ("task", names), ("app", filter.app.clone())];
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
    format!("/tasks?{}", query(&pairs))
}
