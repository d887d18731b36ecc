//! `board --page` and `board --pages`: the pages of an app.

use capsule_proto::v1::{Filter, PageView, PagesReply, PagesRequest, TaskView};
use serde_json::json;

use super::board::{TASKS, Tasks, redraw, snapshot, watch};
use crate::client::Client;
use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::ui::live::page;
use crate::ui::table::{Cell, Table};
use crate::ui::{Listing, Ui};

/// Draws a page with every change, or once.
pub(super) async fn show(context: &Context, name: &str, once: bool) -> Result<Exit, CliError> {
    let client = context.client().await?;
    let pages = fetch(context, &client).await?;
    let page = find(&pages, name)?;
    let filter = Filter { app: pages.app.clone(), ..Filter::default() };
    let mut stream = watch(&client, filter, TASKS).await?;
    if once || !context.ui.tty || context.ui.is_json() {
        let tasks = snapshot(&client, &mut stream).await?;
        let shown = visible(&pages, &tasks);
        let ui = &context.ui;
        if ui.is_json() {
            ui.value(&page::json(page, &shown))?;
        } else {
            ui.block(&page::render(ui, page, &shown, None))?;
        }
        return Ok(Exit::Done);
    }
    let draw = |ui: &Ui, tasks: &Tasks, rows: Option<usize>| {
        page::render(ui, page, &visible(&pages, tasks), rows)
    };
    redraw(context, &client, stream, draw).await
}

/// Lists the pages.
pub(super) async fn list(context: &Context) -> Result<Exit, CliError> {
    let client = context.client().await?;
    let pages = fetch(context, &client).await?;
    let boards = |page: &PageView| -> Vec<String> {
        let boards = page.widgets.iter().filter(|widget| widget.board.is_some());
        boards.map(|widget| widget.title.clone()).collect()
    };
    let mut table = Table::new(vec!["PAGE", "ICON", "BOARDS"]);
    for page in &pages.pages {
        table.push(vec![
            Cell::new(&page.name),
            Cell::new(&page.icon),
            Cell::new(boards(page).join(", ")),
        ]);
    }
    let shape = |page: &PageView| json!({"page": page.name, "icon": page.icon, "order": page.order, "boards": boards(page)});
    let ids = pages.pages.iter().map(|page| page.name.clone()).collect();
    context.ui.listing(Listing { table, json: pages.pages.iter().map(shape).collect(), ids })?;
    Ok(Exit::Done)
}

async fn fetch(context: &Context, client: &Client) -> Result<PagesReply, CliError> {
    let app = context.app().unwrap_or_default().to_owned();
    client.answer(client.apps().pages(PagesRequest { app })).await
}

fn find<'a>(pages: &'a PagesReply, name: &str) -> Result<&'a PageView, CliError> {
    let exact = pages.pages.iter().find(|page| page.name == name);
    let found =
        exact.or_else(|| pages.pages.iter().find(|page| page.name.eq_ignore_ascii_case(name)));
    found.ok_or_else(|| {
        let names: Vec<&str> = pages.pages.iter().map(|page| page.name.as_str()).collect();
        let has = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let message = format!("app {} has no page {name:?}; it has {has}", pages.app);
        CliError::new(Exit::Missing, "not_found", message).hint("capsule board --pages")
    })
}

/// Tasks of the app without the handlers of its schedules, newest first.
fn visible<'a>(pages: &PagesReply, tasks: &'a Tasks) -> Vec<&'a TaskView> {
    tasks.newest().filter(|task| !pages.ticks.contains(&task.name)).collect()
}
