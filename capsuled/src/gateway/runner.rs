//! `RunnerService`, and the part of `TaskService` that only stock runners use.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use capsule_core::id::TaskId;
use capsule_proto::sdk;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

use super::stock::{StockEnd, StockEvent};
use super::{Answer, Attached, Caller, Gateway, answer, read};

/// How long a report of an end waits to be durable; the runner asks again after that.
const DURABLE: Duration = Duration::from_secs(10);
/// The field of a message within a `RecvResponse`, length-delimited.
const MESSAGE_TAG: u8 = 0x0a;

impl Gateway {
    pub(super) async fn runner_call(&self, caller: &Caller, name: &str, body: &[u8]) -> Answer {
        match name {
            "SubmitResult" => answer(&self.submit_result(caller, read(body)?).await?),
            "Register" => answer(&sdk::RegisterResponse { ok: true }),
            "KeepAlive" => answer(&sdk::KeepAliveResponse { ok: true }),
            // Never with an update: the runner would install another SDK.
            "Heartbeat" => {
                answer(&sdk::HeartbeatResponse { ok: true, update: None, keep_warm_seconds: 0 })
            }
            _ => Ok(None),
        }
    }

    /// What only the runner with this token may ask; `None` = it is for everybody.
    pub(super) async fn stock_call(&self, token: &str, name: &str, body: &[u8]) -> Answer {
        match name {
            "ClaimTask" => {
                let asked: sdk::ClaimTaskRequest = read(body)?;
                answer(&sdk::ClaimTaskResponse { ok: self.claim(token, &asked.task_id) })
            }
            "CompleteTask" => {
                self.complete(token, read(body)?).await?;
                // Also when it comes too late: the runner would only say it again.
                answer(&sdk::CompleteTaskResponse { ok: true })
            }
            "TaskHeartbeat" => {
                let asked: sdk::TaskHeartbeatRequest = read(body)?;
                let cancelled = self.is_over(token, &asked.task_id)?;
                answer(&sdk::TaskHeartbeatResponse { ok: true, cancelled })
            }
            _ => Ok(None),
        }
    }

    fn claim(&self, token: &str, task: &str) -> bool {
        let Ok(task) = task.parse::<TaskId>() else { return false };
        let claimed = self.inner.stock.lock().claim(token, task);
        if let Some(attempt) = claimed {
            self.report(task, attempt, StockEvent::Claimed);
        }
        claimed.is_some()
    }

    async fn complete(&self, token: &str, said: sdk::CompleteTaskRequest) -> Result<(), Status> {
        let end = match said.status() {
            sdk::TaskStatus::Completed => StockEnd::Completed,
            sdk::TaskStatus::Retry => StockEnd::Retry,
            sdk::TaskStatus::Failed => StockEnd::Failed,
            sdk::TaskStatus::Timeout => StockEnd::Timeout,
            sdk::TaskStatus::Cancelled => StockEnd::Cancelled,
            sdk::TaskStatus::Unspecified
            | sdk::TaskStatus::Pending
            | sdk::TaskStatus::Claimed
            | sdk::TaskStatus::Running
            | sdk::TaskStatus::Scheduled => {
                return Err(Status::invalid_argument("this status is no end of a task"));
            }
        };
        let Ok(task) = said.task_id.parse::<TaskId>() else { return Ok(()) };
        let Some((attempt, stopped)) = self.inner.stock.lock().take(token, task) else {
            return Ok(());
        };
        let (durable, told) = oneshot::channel();
        let duration = said.duration_seconds;
        let event = StockEvent::Ended { end, error: said.error, duration, told: stopped, durable };
        self.report(task, attempt, event);
        // An end that is not durable in time is found again with the runner's inventory.
        drop(tokio::time::timeout(DURABLE, told).await);
        Ok(())
    }

    /// Whether the runner should stop an attempt: it was cancelled, or is no longer the live one.
    fn is_over(&self, token: &str, task: &str) -> Result<bool, Status> {
        let Ok(task) = task.parse::<TaskId>() else { return Ok(true) };
        let Some((attempt, over, first)) = self.inner.stock.lock().asked(token, task) else {
            return Ok(true);
        };
        if first {
            self.report(task, attempt, StockEvent::Alive);
        }
        let found = self.engine().task(task).map_err(|error| super::engine_failed(&error))?;
        let Some(found) = found else { return Ok(true) };
        let live = found.state.lease().is_some_and(|lease| lease.attempt == attempt);
        let over = over || !live || found.state.cancel().is_some();
        if over {
            self.inner.stock.lock().tell(task, attempt);
        }
        Ok(over)
    }

    /// Everything for one stock runner, until it goes, the daemon ends, or it opens another one.
    pub(super) fn receive(&self, token: &str, ending: CancellationToken) -> Result<Recv, Status> {
        let (tasks, from_tasks) = mpsc::unbounded_channel();
        let (messages, from_chat) = mpsc::unbounded_channel();
        let unknown = || Status::unauthenticated("this token is not known any more");
        let caller = self.inner.stock.lock().caller(token).ok_or_else(unknown)?;
        let number = self.inner.stock.lock().open(token, tasks).ok_or_else(unknown)?;
        self.listens(token, true);
        let ticks = self.inner.stock.lock().send_waiting();
        self.delivered(ticks);
        Ok(Recv {
            tasks: from_tasks,
            messages: from_chat,
            ending: Box::pin(ending.cancelled_owned()),
            _attached: self.attach(&caller.app, caller.revision, messages),
            open: Open { gateway: self.clone(), token: token.to_owned(), number },
        })
    }
}

/// What a stock runner receives: encoded `RecvResponse`s.
pub(super) struct Recv {
    tasks: mpsc::UnboundedReceiver<Vec<u8>>,
    messages: mpsc::UnboundedReceiver<Vec<u8>>,
    ending: Pin<Box<WaitForCancellationFutureOwned>>,
    _attached: Attached,
    open: Open,
}

/// An open stream; dropped = its runner listens no more.
struct Open {
    gateway: Gateway,
    token: String,
    number: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        let (closed, ticks) = {
            let mut stock = self.gateway.inner.stock.lock();
            let closed = stock.close(&self.token, self.number);
            (closed, stock.send_waiting())
        };
        self.gateway.delivered(ticks);
        if closed {
            self.gateway.listens(&self.token, false);
        }
    }
}

impl Stream for Recv {
    type Item = Result<Vec<u8>, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ending.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Status::unavailable("the daemon ends"))));
        }
        if let Poll::Ready(message) = self.messages.poll_recv(cx)
            && let Some(message) = message
        {
            return Poll::Ready(Some(Ok(in_response(&message))));
        }
        // Closed when the runner has opened another stream or its token is forgotten.
        self.tasks.poll_recv(cx).map(|task| task.map(Ok))
    }
}

impl std::fmt::Debug for Recv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recv").field("stream", &self.open.number).finish_non_exhaustive()
    }
}

/// An encoded message as the payload of a `RecvResponse`.
fn in_response(message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![MESSAGE_TAG];
    prost::encoding::encode_varint(message.len() as u64, &mut bytes);
    bytes.extend_from_slice(message);
    bytes
}
