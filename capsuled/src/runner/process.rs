//! Processes that the keeper owns and that belong to no task: app hosts, introspection, pip.
//!
//! It must not know what they are for. Invariant: each process has one end, told once, also when
//! the keeper dies or the daemon is restarted; what nobody expects back is killed.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use uuid::Uuid;

use crate::jail::Plan;
use crate::keeper::wire::{self, Command, Item, Key, Report};
use crate::logs::{Chunk, LogDir, LogReader, Stream};
use crate::runner::link::Link;

/// The bit that tells such a key from a task's number.
pub const BIT: u64 = 1 << 63;
/// Lines of output that an end carries.
pub const TAIL_LINES: usize = 20;
/// Bytes of output that are looked at for them.
const TAIL_BYTES: usize = 16 << 10;

/// Starts processes and hears of their ends. Clones are the same.
#[derive(Clone, Debug)]
pub struct Processes {
    shared: Arc<Shared>,
}

/// One process. It goes on when this is dropped.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its key, also the number of its log (with attempt 1).
    pub key: u64,
    /// What it is, for people.
    pub what: Arc<str>,
    phase: watch::Receiver<Phase>,
    shared: Arc<Shared>,
}

/// How a process ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessEnd {
    /// Exit code; `None` when a signal ended it or nobody saw it end.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Nobody saw it end: its keeper is gone.
    pub lost: bool,
    /// The last lines that it wrote, of both streams, at most [`TAIL_LINES`].
    pub tail: Vec<String>,
}

/// Why a process cannot be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProcessError {
    /// The keeper could not start it.
    #[error("starting {what}: {message}")]
    CannotStart {
        /// What was to be started.
        what: String,
        /// What the keeper says.
        message: String,
        /// The machine had no room for it.
        transient: bool,
    },
    /// Nobody is there to start it any more.
    #[error("starting {what}: the daemon ends")]
    Ending {
        /// What was to be started.
        what: String,
    },
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    logs: Arc<LogDir>,
}

#[derive(Debug, Default)]
struct Inner {
    link: Option<Link>,
    last: u64,
    known: HashMap<u64, Known>,
    /// Output that former daemons left was looked at.
    swept: bool,
}

#[derive(Debug)]
struct Known {
    /// What to start; none of a process that a former daemon started.
    plan: Option<Plan>,
    phase: watch::Sender<Phase>,
}

#[derive(Clone, Debug)]
enum Phase {
    Asked,
    Runs(u32),
    Refused(wire::CannotStart),
    Ended(ProcessEnd),
}

impl Processes {
    /// None yet; `logs` is where the keeper writes what they say.
    pub fn new(logs: Arc<LogDir>) -> Self {
        Self { shared: Arc::new(Shared { inner: Mutex::default(), logs }) }
    }

    /// Starts a process and waits until it runs; waits for the keeper when that is not there.
    /// `what` names it in messages.
    ///
    /// # Errors
    /// The keeper cannot start it, or the daemon ends.
    pub async fn start(&self, plan: Plan, what: &str) -> Result<Process, ProcessError> {
        let mut process = self.begin(plan, what);
        process.runs().await?;
        Ok(process)
    }

    /// As [`Processes::start`], without the wait: whether it runs is told by [`Process::runs`].
    pub fn begin(&self, plan: Plan, what: &str) -> Process {
        let mut inner = self.shared.inner.lock();
        // Milliseconds since 1970, so that no number of a former daemon comes again.
        let now = u64::try_from(Uuid::now_v7().as_u128() >> 80).unwrap_or(0) & !BIT;
        inner.last = now.max(inner.last + 1);
        let key = inner.last | BIT;
        if let Some(link) = &inner.link {
            link.send(spawn(key, plan.clone()));
        }
        let (phase, told) = watch::channel(Phase::Asked);
        inner.known.insert(key, Known { plan: Some(plan), phase });
        self.handle(key, what, told)
    }

    /// A process that a former daemon started and that is wanted back. Ask before the first
    /// session with the keeper: what nobody asked for is killed then.
    pub fn expect(&self, key: u64, what: &str) -> Process {
        let (phase, told) = watch::channel(Phase::Asked);
        self.shared.inner.lock().known.insert(key, Known { plan: None, phase });
        self.handle(key, what, told)
    }

    fn handle(&self, key: u64, what: &str, phase: watch::Receiver<Phase>) -> Process {
        Process { key, what: what.into(), phase, shared: Arc::clone(&self.shared) }
    }

    /// A session with the keeper is open, and it has these processes.
    pub fn connected(&self, link: Link, items: &[Item]) {
        let mut inner = self.shared.inner.lock();
        let mut gone = Vec::new();
        for (key, known) in &inner.known {
            let item = items.iter().find(|item| item.key.task == *key);
            match (item, &known.plan) {
                (Some(item), _) if item.ended.is_none() => {
                    known.phase.send_replace(Phase::Runs(pid_of(item.pid)));
                }
                (Some(_), _) => {}
                (None, Some(plan)) if matches!(*known.phase.borrow(), Phase::Asked) => {
                    link.send(spawn(*key, plan.clone()));
                }
                (None, _) => gone.push(*key),
            }
        }
        let lost = ProcessEnd { lost: true, ..ProcessEnd::default() };
        for known in gone.into_iter().filter_map(|key| inner.known.remove(&key)) {
            known.phase.send_replace(Phase::Ended(lost.clone()));
        }
        for item in items.iter().filter(|item| !inner.known.contains_key(&item.key.task)) {
            tracing::info!(key = item.key.task, "a process that nobody wants back is killed");
            let why = wire::StopWhy::Drain.into();
            link.send(Command::Cancel(wire::Cancel { key: item.key, grace_ms: 0, why }));
        }
        inner.link = Some(link);
        if !std::mem::replace(&mut inner.swept, true) {
            self.sweep(&inner.known, items);
        }
        drop(inner);
        for ended in items.iter().filter_map(|item| item.ended.as_ref()) {
            self.ended(ended);
        }
    }

    /// Removes the output of processes of former daemons that are no more.
    fn sweep(&self, known: &HashMap<u64, Known>, items: &[Item]) {
        let logs = &self.shared.logs;
        let swept = logs.visit_from(BIT, |log| {
            let key = log.task;
            if !known.contains_key(&key) && !items.iter().any(|item| item.key.task == key) {
                drop(logs.remove(key, log.attempt));
            }
            ControlFlow::Continue(())
        });
        if let Err(error) = swept {
            tracing::warn!(%error, "the output of former processes stays behind");
        }
    }

    /// The session with the keeper is over; processes live on with the keeper.
    pub fn disconnected(&self) {
        self.shared.inner.lock().link = None;
    }

    /// A report of the keeper, whose key has [`BIT`].
    pub fn hear(&self, report: &Report) {
        match report {
            Report::Started(started) => {
                if let Some(known) = self.shared.inner.lock().known.get(&started.key.task) {
                    known.phase.send_replace(Phase::Runs(pid_of(started.pid)));
                }
            }
            Report::CannotStart(refused) => {
                if let Some(known) = self.shared.inner.lock().known.remove(&refused.key.task) {
                    known.phase.send_replace(Phase::Refused(refused.clone()));
                }
            }
            Report::Ended(ended) => self.ended(ended),
            Report::Gone(_)
            | Report::NoSuch(_)
            | Report::Welcome(_)
            | Report::Refused(_)
            | Report::Inventory(_) => {}
        }
    }

    fn ended(&self, ended: &wire::Ended) {
        let key = ended.key.task;
        let known = {
            let mut inner = self.shared.inner.lock();
            if let Some(link) = &inner.link {
                link.send(Command::Ack(ended.key));
            }
            inner.known.remove(&key)
        };
        let Some(known) = known else {
            // Nobody will ask what it said.
            drop(self.shared.logs.remove(key, 1));
            return;
        };
        let end = ProcessEnd {
            exit_code: ended.exit_code,
            signal: ended.signal,
            lost: false,
            tail: tail(&self.shared.logs, key),
        };
        known.phase.send_replace(Phase::Ended(end));
    }
}

impl Process {
    /// Waits until it runs; gives its pid.
    ///
    /// # Errors
    /// The keeper cannot start it, or the daemon ends.
    pub async fn runs(&mut self) -> Result<u32, ProcessError> {
        let what = || self.what.to_string();
        let ending = || ProcessError::Ending { what: what() };
        let asked = |phase: &Phase| !matches!(phase, Phase::Asked);
        let phase = self.phase.wait_for(asked).await.map_err(|_| ending())?.clone();
        match phase {
            Phase::Runs(pid) => Ok(pid),
            Phase::Refused(refused) => Err(ProcessError::CannotStart {
                what: what(),
                message: refused.message,
                transient: refused.transient,
            }),
            Phase::Ended(_) | Phase::Asked => Ok(0),
        }
    }

    /// Its pid while it runs.
    pub fn pid(&self) -> Option<u32> {
        match &*self.phase.borrow() {
            Phase::Runs(pid) => Some(*pid),
            Phase::Asked | Phase::Refused(_) | Phase::Ended(_) => None,
        }
    }

    /// Waits for its end. One that was refused, or whose daemon ends, counts as lost.
    pub async fn ended(&mut self) -> ProcessEnd {
        let over = |phase: &Phase| matches!(phase, Phase::Ended(_) | Phase::Refused(_));
        match self.phase.wait_for(over).await.as_deref() {
            Ok(Phase::Ended(end)) => end.clone(),
            Ok(Phase::Refused(refused)) => ProcessEnd {
                lost: true,
                tail: vec![refused.message.clone()],
                ..ProcessEnd::default()
            },
            Ok(Phase::Asked | Phase::Runs(_)) | Err(_) => {
                ProcessEnd { lost: true, ..ProcessEnd::default() }
            }
        }
    }

    /// Asks it to end: SIGTERM, and after `grace` SIGKILL to its whole tree. Zero kills at once.
    pub fn stop(&self, grace: Duration) {
        if let Some(link) = &self.shared.inner.lock().link {
            let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
            let why = wire::StopWhy::Cancel.into();
            link.send(Command::Cancel(wire::Cancel { key: wire_key(self.key), grace_ms, why }));
        }
    }

    /// Removes what it wrote, which otherwise stays.
    pub fn forget_output(&self) {
        if let Err(error) = self.shared.logs.remove(self.key, 1) {
            tracing::warn!(what = %self.what, %error, "the output of a process stays behind");
        }
    }
}

fn wire_key(key: u64) -> Key {
    Key { task: key, attempt: 1 }
}

fn spawn(key: u64, plan: Plan) -> Command {
    Command::Spawn(wire::Spawn { key: wire_key(key), plan })
}

fn pid_of(pid: i32) -> u32 {
    u32::try_from(pid).unwrap_or(0)
}

/// The last lines of output.
fn tail(logs: &Arc<LogDir>, key: u64) -> Vec<String> {
    let mut reader = LogReader::open(Arc::clone(logs), key, 1);
    let lines = u64::try_from(TAIL_LINES).unwrap_or(0);
    let from = reader.last_lines(lines, &[Stream::Out, Stream::Err]);
    let Ok(batch) = from.and_then(|from| reader.read(from, TAIL_BYTES)) else { return Vec::new() };
    let mut said = Vec::new();
    for chunk in batch.chunks {
        if let Chunk::Data { stream: Stream::Out | Stream::Err, bytes, .. } = chunk {
            said.extend(bytes);
        }
    }
    String::from_utf8_lossy(&said).lines().map(str::to_owned).collect()
}
