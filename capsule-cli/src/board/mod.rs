//! `capsule board`: tasks in columns on a terminal, live.
//!
//! `model/` is what is shown, as plain data; `view/` draws it; `run/` brings keys and what the
//! daemon tells to the model; `once.rs` draws it once, as text or JSON. Invariant: only `run/` does
//! I/O, and only `view/` knows of cells.

mod model;
mod once;
mod run;
mod view;

use capsule_proto::v1::{Filter, PagesReply, PagesRequest};

use self::model::Board;
use self::model::sheet::Sheet;
use self::view::Look;
use crate::client::Client;
use crate::commands::Context;
use crate::error::{CliError, Exit};

/// What the board is asked for.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) filter: Filter,
    /// A page of the app; none = the app's first board, or all tasks.
    pub(crate) page: Option<String>,
    pub(crate) once: bool,
    pub(crate) ascii: bool,
    pub(crate) readonly: bool,
}

/// Shows the board until it is left; once, off a terminal.
pub(crate) async fn show(context: &Context, wanted: Wanted) -> Result<Exit, CliError> {
    let client = context.client().await?;
    let (pages, sheets) = asked(context, &client, wanted.page.as_deref()).await?;
    let look = Look::new(&context.ui, wanted.ascii);
    let ui = &context.ui;
    if wanted.once || !ui.tty || ui.is_json() {
        let page = pages.as_ref().zip(wanted.page.as_deref());
        let page = page.and_then(|(pages, name)| find(pages, name));
        return once::show(&client, (sheets, wanted.filter), page, &look).await;
    }
    let mut board = Board::new(sheets, wanted.filter, (80, 24));
    board.readonly = wanted.readonly;
    run::run(context, client, board, look, wanted.page).await
}

/// The pages of the app that is asked about, if one is, and the boards to turn to.
async fn asked(
    context: &Context,
    client: &Client,
    page: Option<&str>,
) -> Result<(Option<PagesReply>, Vec<Sheet>), CliError> {
    let pages = match (page, context.app()) {
        (None, None) => None,
        (Some(_), app) => Some(pages(client, app).await?),
        (None, app) => pages(client, app).await.ok(),
    };
    let sheets = sheets(pages.as_ref(), page)?;
    Ok((pages, sheets))
}

/// The pages of an app; without a name, of the only app.
pub(crate) async fn pages(client: &Client, app: Option<&str>) -> Result<PagesReply, CliError> {
    let app = app.unwrap_or_default().to_owned();
    client.answer(client.apps().pages(PagesRequest { app })).await
}

/// The page of this name, however it is written.
fn find<'a>(pages: &'a PagesReply, name: &str) -> Option<&'a capsule_proto::v1::PageView> {
    let exact = pages.pages.iter().find(|page| page.name == name);
    exact.or_else(|| pages.pages.iter().find(|page| page.name.eq_ignore_ascii_case(name)))
}

/// The boards to turn to, the one asked for first.
fn sheets(pages: Option<&PagesReply>, name: Option<&str>) -> Result<Vec<Sheet>, CliError> {
    let Some(pages) = pages else { return Ok(vec![Sheet::all()]) };
    let mut sheets = Sheet::of_pages(pages);
    if let Some(name) = name {
        let Some(page) = find(pages, name) else {
            let names: Vec<&str> = pages.pages.iter().map(|page| page.name.as_str()).collect();
            let has = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let message = format!("app {} has no page {name:?}; it has {has}", pages.app);
            return Err(
                CliError::new(Exit::Missing, "not_found", message).hint("capsule board --pages")
            );
        };
        let at = sheets.iter().position(|sheet| sheet.page == page.name);
        let Some(at) = at else {
            let message = format!("the page {} has no board", page.name);
            return Err(
                CliError::new(Exit::Missing, "not_found", message).hint("capsule board --pages")
            );
        };
        sheets.rotate_left(at);
    }
    sheets.push(Sheet::all());
    Ok(sheets)
}
