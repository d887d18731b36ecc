//! `lock`: who holds what, and who waits for it.

use capsule_proto::v1::{ListLocksRequest, LockView};
use clap::Subcommand;

use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::ui::table::{Cell, Table};
use crate::ui::{Listing, Ui, shape};

/// Show who holds a lock and who waits for it
#[derive(Debug, Subcommand)]
pub(crate) enum LockVerb {
    /// Show all locks that are held or waited for
    #[command(visible_alias = "ls")]
    List,
    /// Show one lock
    Show {
        /// The lock, as `list` and `show` print it
        #[arg(value_name = "LOCK")]
        key: String,
    },
}

impl LockVerb {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let client = context.client().await?;
        let key = match self {
            Self::List => String::new(),
            Self::Show { key } => key.clone(),
        };
        let request = ListLocksRequest { key: key.clone() };
        let reply = client.answer(client.daemon().list_locks(request)).await?;
        if reply.locks.is_empty() && !key.is_empty() {
            let message = format!("nobody holds or waits for the lock {key}");
            return Err(CliError::new(Exit::Missing, "not_found", message)
                .hint("all locks    capsule lock list"));
        }
        context.ui.listing(listing(&context.ui, &reply.locks))?;
        Ok(Exit::Done)
    }
}

pub(crate) fn listing(ui: &Ui, locks: &[LockView]) -> Listing {
    let mut table = Table::new(vec!["LOCK", "APP", "HOLDER", "TASK", "SINCE", "WAITING"]);
    for lock in locks {
        let waiters: Vec<String> = lock.waiters.iter().map(u64::to_string).collect();
        table.push(vec![
            Cell::new(&lock.key),
            Cell::new(&lock.app),
            Cell::new(lock.holder.map_or("-".to_owned(), |id| id.to_string())),
            Cell::new(&lock.holder_name),
            Cell::new(lock.since_us.map_or("-".to_owned(), |us| ui.times.told(us))),
            Cell::new(waiters.join(" ")),
        ]);
    }
    let json = locks.iter().map(shape::lock).collect();
    let ids = locks.iter().map(|lock| lock.key.clone()).collect();
    Listing { table, json, ids }
}
