//! Submits on a stream: each is answered as soon as it is on disk, in the order in which they came.
//! Whoever keeps many unanswered pays no call for each of them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use capsule_proto::v1;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use crate::rpc::Api;
use crate::rpc::request::peer::Peer;
use crate::rpc::request::submit;
use crate::rpc::status::Refused;

pub(in crate::rpc) type SubmitStream =
    Pin<Box<dyn Stream<Item = Result<v1::SubmitResult, Status>> + Send>>;

/// Submits asked of the engine at once.
const TOGETHER: usize = 64;
/// Groups of them that wait for the disk; the next are read when one is answered.
const GROUPS: usize = 4;

type Results = Result<Vec<v1::SubmitResult>, Refused>;

/// The answers to a stream of submits.
struct Submits {
    api: Api,
    peer: Peer,
    requests: Streaming<v1::SubmitRequest>,
    /// What the requests ended with, and that they have.
    end: Option<Result<(), Status>>,
    /// Groups on their way, oldest first; all but the first have been asked.
    asked: VecDeque<Pin<Box<dyn Future<Output = Results> + Send>>>,
    /// Answers that have not been taken.
    answers: VecDeque<v1::SubmitResult>,
}

/// Answers each submit of a stream; a bad one does not end it.
pub(in crate::rpc) fn submits(
    api: &Api,
    peer: Peer,
    requests: Streaming<v1::SubmitRequest>,
) -> SubmitStream {
    let (asked, answers) = (VecDeque::new(), VecDeque::new());
    Box::pin(Submits { api: api.clone(), peer, requests, end: None, asked, answers })
}

impl Submits {
    /// Takes what has come, up to the bounds, and asks the engine.
    fn take_in(&mut self, context: &mut Context<'_>) {
        while self.end.is_none() && self.asked.len() < GROUPS {
            let mut rows = Vec::new();
            while rows.len() < TOGETHER && self.end.is_none() {
                match Pin::new(&mut self.requests).poll_next(context) {
                    Poll::Ready(Some(Ok(row))) => rows.push(row),
                    Poll::Ready(Some(Err(status))) => self.end = Some(Err(status)),
                    Poll::Ready(None) => self.end = Some(Ok(())),
                    Poll::Pending => break,
                }
            }
            if rows.is_empty() {
                return;
            }
            let (api, peer) = (self.api.clone(), self.peer.clone());
            let mut group: Pin<Box<dyn Future<Output = Results> + Send>> =
                Box::pin(async move { submit::each(&api.engine, &peer, rows).await });
            // Only now is it asked; the first is polled again for its answer.
            match group.as_mut().poll(context) {
                Poll::Ready(results) => self.asked.push_back(Box::pin(std::future::ready(results))),
                Poll::Pending => self.asked.push_back(group),
            }
        }
    }
}

impl Stream for Submits {
    type Item = Result<v1::SubmitResult, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return Poll::Ready(Some(Ok(answer)));
            }
            self.take_in(context);
            let Some(first) = self.asked.front_mut() else {
                return match self.end.take() {
                    Some(Err(status)) => {
                        self.end = Some(Ok(()));
                        Poll::Ready(Some(Err(status)))
                    }
                    Some(Ok(())) => {
                        self.end = Some(Ok(()));
                        Poll::Ready(None)
                    }
                    None => Poll::Pending,
                };
            };
            let results = ready!(first.as_mut().poll(context));
            self.asked.pop_front();
            match results {
                Ok(answers) => self.answers.extend(answers),
                Err(refused) => {
                    self.end = Some(Ok(()));
                    self.asked.clear();
                    return Poll::Ready(Some(Err(refused.into())));
                }
            }
        }
    }
}
