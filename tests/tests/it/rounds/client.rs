//! One client: it asks for this and that until the daemon is gone, and holds what it finds after
//! a crash against what it was told before.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use capsule_proto::v1::Status::{Claimed, Running};
use capsule_proto::v1::daemon_client::DaemonClient;
use capsule_proto::v1::schedules_client::SchedulesClient;
use capsule_proto::v1::tasks_client::TasksClient;
use capsule_proto::v1::{Filter, ListQueuesRequest, ListRequest, SetQueueRequest, TaskView};
use capsule_tests::rpc;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::model::{Known, is_over};
use super::plan::{Plan, Random};

/// The daemon is gone, and what was asked last was not answered.
#[derive(Debug)]
pub(super) struct Away;

impl From<Status> for Away {
    /// # Panics
    /// It is an answer.
    fn from(status: Status) -> Self {
        let dying = [Code::Unavailable, Code::Unknown, Code::Cancelled, Code::Internal];
        assert!(dying.contains(&status.code()), "{status:?}");
        Self
    }
}

pub(super) type Asked = Result<(), Away>;

/// A client and all that it was told.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) name: String,
    pub(super) random: Random,
    pub(super) socket: PathBuf,
    /// Where its tasks leave their notes.
    pub(super) folder: PathBuf,
    pub(super) known: BTreeMap<u64, Known>,
    /// Idempotency keys, what they were submitted with, and the task that they stand for.
    pub(super) keys: Vec<(Plan, Option<u64>)>,
    /// Whether its queue is paused; none = the last change was not answered.
    pub(super) paused: Option<bool>,
    /// Tasks of schedules that it triggered.
    pub(super) triggered: Vec<u64>,
    /// How often each thing was asked for and answered.
    pub(super) done: BTreeMap<&'static str, u64>,
}

/// What one connection asks.
#[derive(Debug)]
pub(super) struct Calls {
    pub(super) tasks: TasksClient<Channel>,
    pub(super) daemon: DaemonClient<Channel>,
    pub(super) schedules: SchedulesClient<Channel>,
}

impl Client {
    pub(super) fn new(number: usize, seed: u64, socket: PathBuf, folder: PathBuf) -> Self {
        Self {
            name: format!("c{number}"),
            random: Random(seed),
            socket,
            folder,
            known: BTreeMap::new(),
            keys: Vec::new(),
            paused: Some(false),
            triggered: Vec::new(),
            done: BTreeMap::new(),
        }
    }

    /// Its queue.
    pub(super) fn queue(&self) -> String {
        format!("queue-{}", self.name)
    }

    /// The label of all its tasks, and what else is said.
    pub(super) fn labels(&self, group: Option<u64>) -> HashMap<String, String> {
        let mut labels = HashMap::from([("client".to_owned(), self.name.clone())]);
        labels.extend(group.map(|group| ("group".to_owned(), group.to_string())));
        labels
    }

    pub(super) fn filter(&self, group: Option<u64>) -> Filter {
        Filter { labels: self.labels(group), ..Filter::default() }
    }

    /// Looks and asks until the daemon is gone; `over` says that it never came.
    pub(super) async fn work(mut self, over: Arc<AtomicBool>) -> Self {
        let Some(mut calls) = self.connect(&over).await else { return self };
        if self.look(&mut calls).await.is_ok() {
            while self.ask(&mut calls).await.is_ok() {
                tokio::time::sleep(self.random.millis(8)).await;
            }
        }
        self
    }

    pub(super) async fn connect(&self, over: &AtomicBool) -> Option<Calls> {
        while !over.load(Ordering::Relaxed) {
            if let Ok(channel) = rpc::channel(&self.socket).await {
                return Some(Calls {
                    tasks: TasksClient::new(channel.clone()).max_decoding_message_size(64 << 20),
                    daemon: DaemonClient::new(channel.clone()),
                    schedules: SchedulesClient::new(channel),
                });
            }
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
        None
    }

    /// Holds all that it was told against what is there.
    pub(super) async fn look(&mut self, calls: &mut Calls) -> Asked {
        self.look_at_queue(calls).await?;
        let views = self.list(calls).await?;
        for (id, known) in &mut self.known {
            known.compare(*id, views.get(id));
            let waits = known.queued && known.seen.is_some_and(|seen| !is_over(seen.status));
            let live = |view: &TaskView| matches!(view.status(), Claimed | Running);
            let claimed = views.get(id).is_some_and(live);
            let frozen = waits && !claimed && self.paused == Some(true);
            known.frozen = views.get(id).filter(|_| frozen).map(|view| view.attempt);
        }
        self.count("look");
        Ok(())
    }

    async fn look_at_queue(&mut self, calls: &mut Calls) -> Asked {
        let queues = calls.daemon.list_queues(ListQueuesRequest {}).await?.into_inner().queues;
        let name = self.queue();
        let found = queues.iter().find(|queue| queue.name == name);
        let paused = found.is_some_and(|queue| queue.paused);
        if let Some(said) = self.paused {
            assert_eq!(paused, said, "the pause of {name} is undone");
        }
        self.paused = Some(paused);
        Ok(())
    }

    /// All its tasks.
    pub(super) async fn list(&self, calls: &mut Calls) -> Result<BTreeMap<u64, TaskView>, Away> {
        let filter = Some(self.filter(None));
        let request = ListRequest { filter, limit: 10_000, ..ListRequest::default() };
        let reply = calls.tasks.list(request).await?.into_inner();
        assert_eq!(reply.next_before, None, "more tasks than this test looks at");
        let total = reply.tasks.len();
        let views: BTreeMap<_, _> = reply.tasks.into_iter().map(|task| (task.id, task)).collect();
        assert_eq!(views.len(), total, "an id stands for one task");
        Ok(views)
    }

    /// Pauses its queue, or lets it go on.
    pub(super) async fn pause(&mut self, calls: &mut Calls, paused: bool) -> Asked {
        let request = SetQueueRequest {
            name: self.queue(),
            paused: Some(paused),
            ..SetQueueRequest::default()
        };
        self.paused = None;
        self.known.values_mut().for_each(|known| known.frozen = None);
        calls.daemon.set_queue(request).await?;
        self.paused = Some(paused);
        self.count(if paused { "pause" } else { "resume" });
        Ok(())
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }
}
