//! What the clients of the recorded daemon do, and what they note of it.

use std::path::{Path, PathBuf};

use capsule_proto::v1::tasks_client::TasksClient;
use capsule_proto::v1::{
    CancelRequest, Options, SubmitBatchRequest, SubmitRequest, TargetsRequest, WaitRequest,
};
use capsule_tests::power::{Recorder, mark};
use capsule_tests::{Home, Random, rpc};
use serde_json::{Value, json};
use tonic::transport::Channel;

/// Clients at once, so that their work is committed together.
const CLIENTS: u64 = 4;
/// What each of them does.
const OPERATIONS: u64 = 125;
/// Submits of one batch.
const BATCH: u64 = 8;

/// Lets the clients do their work.
pub(super) fn run(home: &Home, recorder: &Recorder, random: &mut Random) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut clients = tokio::task::JoinSet::new();
        for number in 0..CLIENTS {
            let (socket, records) = (home.socket(), recorder.path().to_path_buf());
            let random = Random(random.bits());
            clients.spawn(async move {
                let wire = rpc::connect(&socket).await.unwrap();
                let tasks = Vec::new();
                let me = Client { number, wire, records, random, tasks, submits: 0 };
                me.work().await;
            });
        }
        clients.join_all().await;
    });
}

struct Client {
    number: u64,
    wire: TasksClient<Channel>,
    records: PathBuf,
    random: Random,
    /// Its tasks that are there, and whether they are over.
    tasks: Vec<(u64, bool)>,
    submits: u64,
}

impl Client {
    async fn work(mut self) {
        for _ in 0..OPERATIONS {
            match self.random.below(10) {
                0..=3 => self.submit().await,
                4 => self.submit_batch().await,
                5 | 6 => self.cancel().await,
                7 | 8 => self.run().await,
                _ => self.remove().await,
            }
        }
    }

    fn note(&self, what: &Value) {
        mark(Path::new(&self.records), what.to_string().as_bytes());
    }

    /// The next submit, of a task that waits or does not, and how much it carries.
    fn next(&mut self, hold: bool) -> (SubmitRequest, String, String) {
        let name = format!("task-{}-{}", self.number, self.submits);
        self.submits += 1;
        // One in eight is too large for a record.
        let length = if self.random.one_in(8) { 5_000 } else { 0 } + self.random.below(800);
        let filler = format!("{name}.").repeat(usize::try_from(length).unwrap() / name.len() + 1);
        let options = Options { name: name.clone(), hold, ..Options::default() };
        self.note(&json!({ "asked": "submit", "name": name }));
        (rpc::script(&format!(": {filler}"), options), name, filler)
    }

    fn submitted(&mut self, id: u64, name: &str, filler: &str) {
        self.note(&json!({ "told": "submitted", "id": id, "name": name, "holds": filler }));
        self.tasks.push((id, false));
    }

    async fn submit(&mut self) {
        let (request, name, filler) = self.next(true);
        let task = self.wire.submit(request).await.unwrap().into_inner().task.unwrap();
        self.submitted(task.id, &name, &filler);
    }

    async fn submit_batch(&mut self) {
        let all: Vec<_> = (0..BATCH).map(|_| self.next(true)).collect();
        let submits = all.iter().map(|(request, ..)| request.clone()).collect();
        let reply = self.wire.submit_batch(SubmitBatchRequest { submits }).await.unwrap();
        for (result, (_, name, filler)) in reply.into_inner().results.iter().zip(&all) {
            assert_eq!(result.error, "");
            self.submitted(result.id, name, filler);
        }
    }

    async fn cancel(&mut self) {
        let Some(index) = self.tasks.iter().position(|(_, over)| !over) else { return };
        let id = self.tasks[index].0;
        self.note(&json!({ "asked": "cancel", "id": id }));
        let targets = rpc::targets([id]);
        let request = CancelRequest { targets, ..CancelRequest::default() };
        let reply = self.wire.cancel(request).await.unwrap().into_inner();
        assert_eq!(reply.results[0].outcome, "cancelled");
        self.note(&json!({ "told": "cancelled", "id": id }));
        self.tasks[index].1 = true;
    }

    async fn run(&mut self) {
        let (request, name, filler) = self.next(false);
        let task = self.wire.submit(request).await.unwrap().into_inner().task.unwrap();
        self.note(&json!({ "told": "submitted", "id": task.id, "name": name, "holds": filler }));
        let request = WaitRequest { targets: rpc::targets([task.id]), ..WaitRequest::default() };
        let mut ended = self.wire.wait(request).await.unwrap().into_inner();
        while ended.message().await.unwrap().is_some() {}
        self.note(&json!({ "told": "completed", "id": task.id }));
        self.tasks.push((task.id, true));
    }

    async fn remove(&mut self) {
        let Some(index) = self.tasks.iter().position(|(_, over)| *over) else { return };
        let id = self.tasks.swap_remove(index).0;
        self.note(&json!({ "asked": "remove", "id": id }));
        let request = TargetsRequest { targets: rpc::targets([id]), dry_run: false };
        let reply = self.wire.remove(request).await.unwrap().into_inner();
        assert_eq!(reply.results[0].outcome, "removed", "{reply:?}");
        self.note(&json!({ "told": "removed", "id": id }));
    }
}
