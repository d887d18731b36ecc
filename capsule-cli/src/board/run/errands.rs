//! What is asked of the daemon while the board goes on.

use std::pin::Pin;
use std::task::Poll;

use capsule_proto::v1::{ShowReply, TailEvent, WatchEvent, WhyReply};
use tonic::Streaming;

use crate::board::model::sheet::Sheet;
use crate::board::model::table::Rows;
use crate::client::Client;
use crate::error::CliError;

/// A question on its way.
pub(super) type Errand = Pin<Box<dyn Future<Output = Reply>>>;

/// What came back.
pub(super) enum Reply {
    /// A new stream of pictures.
    Watch(Result<(Client, Streaming<WatchEvent>), CliError>),
    /// What the open task is, and why it waits.
    Show(u64, Result<Box<(ShowReply, WhyReply)>, CliError>),
    /// Its log.
    Tail(u64, Result<Streaming<TailEvent>, CliError>),
    Table(Result<Rows, CliError>),
    /// The boards of the app.
    Sheets(Result<Vec<Sheet>, CliError>),
    /// What a deed did, in words.
    Done(Result<String, CliError>),
}

/// Questions on their way, in no order.
#[derive(Default)]
pub(super) struct Errands {
    all: Vec<Errand>,
}

impl Errands {
    pub(super) fn push(&mut self, errand: Errand) {
        self.all.push(errand);
    }

    /// The next reply; waits for ever when nothing is on its way.
    pub(super) async fn next(&mut self) -> Reply {
        std::future::poll_fn(|context| {
            for index in 0..self.all.len() {
                let Some(errand) = self.all.get_mut(index) else { break };
                if let Poll::Ready(reply) = errand.as_mut().poll(context) {
                    drop(self.all.swap_remove(index));
                    return Poll::Ready(reply);
                }
            }
            Poll::Pending
        })
        .await
    }
}
