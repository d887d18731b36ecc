//! Attempts that stock runners (`python -m cpsl.runner`) carry: delivered to one of them, claimed
//! once, reported by the one that claimed. The SDK names no attempt, so the runner's token fences.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::time::Duration;

use capsule_core::id::{AttemptNumber, TaskId};
use capsule_proto::sdk;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};

use super::{Caller, Gateway};

/// How long a delivery waits to be claimed: a runner drops one that it does not want in silence.
const CLAIM: Duration = Duration::from_secs(5);

/// An attempt for a stock runner.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StockTask {
    /// Of which task.
    pub task: TaskId,
    /// Which attempt.
    pub attempt: AttemptNumber,
    /// The task's name in its app.
    pub name: String,
    /// Its arguments, a JSON object.
    pub kwargs: String,
    /// The chat session it is bound to; may be empty.
    pub session_id: String,
    /// In seconds, as the runner counts it; 0 = the definition's own.
    pub timeout: i32,
    /// It is the run of a schedule's handler, which no runner claims or reports.
    pub tick: bool,
}

/// A stock runner has begun or ceased to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Its token.
    pub token: String,
    /// It has begun.
    pub open: bool,
}

/// What a stock runner says of an attempt.
#[derive(Debug)]
pub struct StockReport {
    /// Of which task.
    pub task: TaskId,
    /// Which attempt.
    pub attempt: AttemptNumber,
    /// What happened.
    pub event: StockEvent,
}

/// What happened to a delivery.
#[derive(Debug)]
pub enum StockEvent {
    /// A runner has begun it.
    Claimed,
    /// The run of a schedule's handler was given to a runner: the last that is heard of it.
    Delivered,
    /// A runner still carries an attempt that was adopted.
    Alive,
    /// It is over.
    Ended {
        /// How.
        end: StockEnd,
        /// What the runner says of it; may be empty.
        error: String,
        /// In seconds, by the runner's clock.
        duration: f32,
        /// The runner had been told to stop it.
        told: bool,
        /// To be told when the verdict is durable; the runner waits for it. Dropped says the same.
        durable: oneshot::Sender<()>,
    },
    /// No runner took it in time: it never began.
    Unclaimed,
}

/// How an attempt of a stock runner ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StockEnd {
    /// It returned.
    Completed,
    /// It raised; another attempt may make it good.
    Retry,
    /// It raised what no retry makes good.
    Failed,
    /// It ran over its timeout.
    Timeout,
    /// It was cancelled through its heartbeat.
    Cancelled,
}

#[derive(Debug, Default)]
pub(super) struct Stock {
    runners: HashMap<String, Runner>,
    deliveries: HashMap<TaskId, Delivery>,
    streams: u64,
}

#[derive(Debug)]
struct Runner {
    caller: Caller,
    stream: Option<(u64, mpsc::UnboundedSender<Vec<u8>>)>,
}

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each happens by itself")]
struct Delivery {
    app: String,
    revision: u32,
    attempt: AttemptNumber,
    task: StockTask,
    /// The runner it was sent to.
    token: Option<String>,
    claimed: bool,
    /// A former daemon gave it away, and its runner has not been heard of it since.
    unheard: bool,
    /// It is to be stopped.
    over: bool,
    /// Its runner was told so.
    told: bool,
}

impl Gateway {
    /// A token for one stock runner of a revision.
    pub fn new_token(&self, app: &str, revision: u32) -> String {
        let token = random();
        self.adopt_token(&token, app, revision);
        token
    }

    /// Knows a token again, of a runner that outlived the daemon.
    pub fn adopt_token(&self, token: &str, app: &str, revision: u32) {
        let apps = self.engine().apps();
        let known = apps.get(app).and_then(|app| app.revisions.get(&revision));
        let python = known.and_then(|revision| revision.python.as_ref());
        let serve = python.is_some_and(|python| python.serve);
        let user_id = known.map(|revision| revision.by.clone()).unwrap_or_default();
        let app = app.to_owned();
        let caller = Caller { app, revision, user_id, serve, task: None };
        let runner = Runner { caller, stream: None };
        self.inner.stock.lock().runners.insert(token.to_owned(), runner);
    }

    /// Forgets a token: its runner is gone, and what it says is no longer believed.
    pub fn forget_token(&self, token: &str) {
        self.inner.stock.lock().runners.remove(token);
    }

    /// Gives an attempt to a stock runner of this revision. Exactly one report of `Unclaimed`,
    /// `Claimed` or, of a tick, `Delivered` follows, unless it is forgotten before.
    pub fn deliver_stock(&self, app: &str, revision: u32, task: StockTask) {
        let (id, attempt) = (task.task, task.attempt);
        let app = app.to_owned();
        let delivery = Delivery { app, revision, attempt, task, ..Delivery::default() };
        let ticks = {
            let mut stock = self.inner.stock.lock();
            stock.deliveries.insert(id, delivery);
            stock.send_waiting()
        };
        self.delivered(ticks);
        let gateway = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(CLAIM).await;
            gateway.give_up(id, attempt);
        });
    }

    /// Knows an attempt again that a runner of this revision had claimed before the daemon
    /// restarted: whichever of them reports it first is believed.
    pub fn adopt_stock(&self, app: &str, revision: u32, task: TaskId, attempt: AttemptNumber) {
        let stock_task = StockTask { task, attempt, ..StockTask::default() };
        let delivery = Delivery {
            app: app.to_owned(),
            revision,
            attempt,
            task: stock_task,
            claimed: true,
            unheard: true,
            ..Delivery::default()
        };
        self.inner.stock.lock().deliveries.insert(task, delivery);
    }

    /// Has an attempt stopped: its runner is told when it asks next.
    pub fn stop_stock(&self, task: TaskId, attempt: AttemptNumber) {
        let mut stock = self.inner.stock.lock();
        if let Some(delivery) = stock.deliveries.get_mut(&task).filter(|it| it.attempt == attempt) {
            delivery.over = true;
        }
    }

    /// Forgets an attempt: what is still said of it is late. True: no runner had begun it, and
    /// none will.
    pub fn forget_stock(&self, task: TaskId, attempt: AttemptNumber) -> bool {
        let mut stock = self.inner.stock.lock();
        if stock.deliveries.get(&task).is_none_or(|delivery| delivery.attempt != attempt) {
            return false;
        }
        stock.deliveries.remove(&task).is_some_and(|delivery| !delivery.claimed)
    }

    fn give_up(&self, task: TaskId, attempt: AttemptNumber) {
        let mut stock = self.inner.stock.lock();
        let open = |delivery: &Delivery| delivery.attempt == attempt && !delivery.claimed;
        if stock.deliveries.get(&task).is_some_and(open) {
            stock.deliveries.remove(&task);
            self.report(task, attempt, StockEvent::Unclaimed);
        }
    }

    /// These runs of handlers are with their runner.
    pub(super) fn delivered(&self, ticks: Vec<(TaskId, AttemptNumber)>) {
        for (task, attempt) in ticks {
            self.report(task, attempt, StockEvent::Delivered);
        }
    }

    /// A runner has begun or ceased to listen.
    pub(super) fn listens(&self, token: &str, open: bool) {
        // Nobody is told when the daemon ends.
        drop(self.inner.streams.send(Listening { token: token.to_owned(), open }));
    }

    pub(super) fn report(&self, task: TaskId, attempt: AttemptNumber, event: StockEvent) {
        // Nobody takes reports when the daemon ends; the attempts are found again by the next one.
        drop(self.inner.reports.send(StockReport { task, attempt, event }));
    }
}

impl Stock {
    /// Who has this token.
    pub(super) fn caller(&self, token: &str) -> Option<Caller> {
        self.runners.get(token).map(|runner| runner.caller.clone())
    }

    /// A runner listens from now on; the number names the stream.
    pub(super) fn open(&mut self, token: &str, to: mpsc::UnboundedSender<Vec<u8>>) -> Option<u64> {
        self.streams += 1;
        let number = self.streams;
        self.runners.get_mut(token)?.stream = Some((number, to));
        Some(number)
    }

    /// A stream is closed; what was sent on it and not claimed can go to another runner. False: its
    /// runner has opened another one.
    pub(super) fn close(&mut self, token: &str, number: u64) -> bool {
        let Some(runner) = self.runners.get_mut(token) else { return false };
        if runner.stream.as_ref().is_none_or(|(open, _)| *open != number) {
            return false;
        }
        runner.stream = None;
        for delivery in self.deliveries.values_mut() {
            if !delivery.claimed && delivery.token.as_deref() == Some(token) {
                delivery.token = None;
            }
        }
        true
    }

    /// Sends what waits to the runner of its revision that has the least; gives the ticks among it,
    /// which are forgotten.
    pub(super) fn send_waiting(&mut self) -> Vec<(TaskId, AttemptNumber)> {
        let mut ticks = Vec::new();
        let waiting = self.deliveries.iter().filter(|(_, d)| d.token.is_none() && !d.claimed);
        let mut waiting: Vec<TaskId> = waiting.map(|(id, _)| *id).collect();
        waiting.sort_unstable();
        for id in waiting {
            let Some(delivery) = self.deliveries.get(&id) else { continue };
            let fits = |runner: &Runner| {
                runner.caller.app == delivery.app && runner.caller.revision == delivery.revision
            };
            let load = |token: &str| {
                self.deliveries.values().filter(|d| d.token.as_deref() == Some(token)).count()
            };
            let chosen = self
                .runners
                .iter()
                .filter(|(_, runner)| runner.stream.is_some() && fits(runner))
                .min_by_key(|(token, _)| load(token));
            let Some((token, runner)) = chosen else { continue };
            let message = wire(delivery, runner.caller.serve).encode_to_vec();
            let sent = runner.stream.as_ref().is_some_and(|(_, to)| to.send(message).is_ok());
            let token = sent.then(|| token.clone());
            if sent && delivery.task.tick {
                ticks.push((id, delivery.attempt));
                self.deliveries.remove(&id);
            } else if let Some(delivery) = self.deliveries.get_mut(&id) {
                delivery.token = token;
            }
        }
        ticks
    }

    /// Gives the attempt to the runner it was sent to, once.
    pub(super) fn claim(&mut self, token: &str, task: TaskId) -> Option<AttemptNumber> {
        let delivery = self.deliveries.get_mut(&task)?;
        if delivery.claimed || delivery.token.as_deref() != Some(token) {
            return None;
        }
        delivery.claimed = true;
        Some(delivery.attempt)
    }

    /// The runner with this token asks about an attempt: what it carries, whether that is to be
    /// stopped, and whether it is the first that is heard of an adopted one.
    pub(super) fn asked(
        &mut self,
        token: &str,
        task: TaskId,
    ) -> Option<(AttemptNumber, bool, bool)> {
        let attempt = self.carried(token, task)?;
        let delivery = self.deliveries.get_mut(&task)?;
        Some((attempt, delivery.over, std::mem::take(&mut delivery.unheard)))
    }

    /// The runner of this attempt is told to stop it.
    pub(super) fn tell(&mut self, task: TaskId, attempt: AttemptNumber) {
        if let Some(delivery) = self.deliveries.get_mut(&task).filter(|it| it.attempt == attempt) {
            delivery.told = true;
        }
    }

    /// The attempt that this runner carries.
    fn carried(&self, token: &str, task: TaskId) -> Option<AttemptNumber> {
        let delivery = self.deliveries.get(&task).filter(|delivery| delivery.claimed)?;
        let caller = &self.runners.get(token)?.caller;
        let own = match &delivery.token {
            Some(of) => of == token,
            None => caller.app == delivery.app && caller.revision == delivery.revision,
        };
        own.then_some(delivery.attempt)
    }

    /// Takes the attempt from the runner that carries it: it is over. Also whether the runner had
    /// been told to stop it.
    pub(super) fn take(&mut self, token: &str, task: TaskId) -> Option<(AttemptNumber, bool)> {
        let attempt = self.carried(token, task)?;
        let delivery = self.deliveries.remove(&task)?;
        Some((attempt, delivery.told))
    }
}

fn wire(delivery: &Delivery, serve: bool) -> sdk::RecvResponse {
    let kind = if serve { 's' } else { 'r' };
    let task = &delivery.task;
    if task.tick {
        let tick = sdk::ScheduleDelivery { schedule_name: task.name.clone() };
        return sdk::RecvResponse { payload: Some(sdk::recv_response::Payload::Schedule(tick)) };
    }
    let wire = sdk::TaskDelivery {
        task_id: task.task.to_string(),
        task_name: task.name.clone(),
        session_id: task.session_id.clone(),
        kwargs_json: task.kwargs.clone().into_bytes(),
        attempt: i32::try_from(task.attempt.0).unwrap_or(i32::MAX),
        timeout: task.timeout,
        version_id: format!("{kind}{}", delivery.revision),
    };
    sdk::RecvResponse { payload: Some(sdk::recv_response::Payload::Task(wire)) }
}

/// 256 random bits as text.
fn random() -> String {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .expect("every Linux has a source of random bytes");
    let mut text = String::with_capacity(64);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to memory does not fail");
    }
    text
}
