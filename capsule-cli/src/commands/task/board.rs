//! `board`: tasks in columns, live; once as text or JSON; the pages of an app.

use capsule_proto::v1::PageView;
use clap::Args;
use serde_json::json;

use crate::args::filter::FilterArgs;
use crate::board::{self, Wanted};
use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::ui::Listing;
use crate::ui::table::{Cell, Table};

/// Show tasks in columns, live
///
/// Keys move, open, filter, cancel and retry; ? lists them. q leaves the board; the tasks go on.
/// With --app the columns are those of the app's own board. Off a terminal it is printed once.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  capsule board --filter 'task:sync* age:<1h'\n  capsule board --once\n  capsule board --page Tasks\n  capsule board --json=boards | jq '.boards[].columns[] | {label, total}'"
)]
pub(crate) struct BoardArgs {
    /// Print the board once, as text
    #[arg(long)]
    once: bool,
    /// Show this page of the app
    #[arg(long, value_name = "NAME")]
    page: Option<String>,
    /// List the pages of the app
    #[arg(long, conflicts_with = "page")]
    pages: bool,
    /// Draw with signs that every terminal has
    #[arg(long)]
    ascii: bool,
    /// Only look: no key changes anything
    #[arg(long)]
    readonly: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

impl BoardArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        if self.pages {
            return list(context).await;
        }
        let wanted = Wanted {
            filter: self.filter.message(context.app()),
            page: self.page.clone(),
            once: self.once,
            ascii: self.ascii,
            readonly: self.readonly,
        };
        Box::pin(board::show(context, wanted)).await
    }
}

/// Lists the pages.
async fn list(context: &Context) -> Result<Exit, CliError> {
    let client = context.client().await?;
    let pages = board::pages(&client, context.app()).await?.pages;
    let boards = |page: &PageView| -> Vec<String> {
        let boards = page.widgets.iter().filter(|widget| widget.board.is_some());
        boards.map(|widget| widget.title.clone()).collect()
    };
    let mut table = Table::new(vec!["PAGE", "ICON", "BOARDS"]);
    for page in &pages {
        table.push(vec![
            Cell::new(&page.name),
            Cell::new(&page.icon),
            Cell::new(boards(page).join(", ")),
        ]);
    }
    let shape = |page: &PageView| {
        json!({
            "page": page.name,
            "icon": page.icon,
            "order": page.order,
            "boards": boards(page),
        })
    };
    let ids = pages.iter().map(|page| page.name.clone()).collect();
    context.ui.listing(Listing { table, json: pages.iter().map(shape).collect(), ids })?;
    Ok(Exit::Done)
}
