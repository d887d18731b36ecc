//! The web board: pages for a browser on this machine, of the same daemon and by the same rules.
//!
//! It is one more client of `capsule.v1`, in the same process: it calls the handlers of `rpc` and shows
//! what they answer, so it decides nothing that the command would decide otherwise. It must not name
//! the engine's commands, the store or the keeper. Invariant: no page comes without a session, no
//! change but by a form of one of its own pages, and nothing that a task wrote is ever markup.

mod act;
mod ask;
mod assets;
mod entrance;
mod guard;
mod live;
mod pages;
mod serve;
mod words;

pub(crate) use self::entrance::KEPT as BROWSERS_MAX;
pub use self::entrance::{Asked, Entrance, Link, WebArgs, WebAt, WebError};
pub(crate) use self::guard::FORM_MAX;
pub(crate) use self::pages::board::WINDOW;
pub(crate) use self::pages::list::bulk::BULK_MAX;
pub(crate) use self::serve::{CONNECTIONS_MAX, serve};
use crate::rpc::Api;

/// What every page is made of; clones are the same.
#[derive(Clone, Debug)]
struct Site {
    api: Api,
    entrance: Entrance,
}
