//! A stock runner's side of the socket, played with the SDK's own client of the services.

use std::path::Path;
use std::time::Duration;

use capsule_core::command::Command;
use capsule_core::id::Uuid;
use capsule_proto::sdk;
use capsule_proto::sdk::recv_response::Payload;
use capsule_proto::sdk::runner_service_client::RunnerServiceClient;
use capsule_proto::sdk::session_service_client::SessionServiceClient;
use capsule_proto::sdk::task_service_client::TaskServiceClient;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use super::*;
use crate::book::Keeper;
use crate::engine::NewTask;

struct Served {
    bench: Bench,
    channel: Channel,
    ending: CancellationToken,
    serving: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Served {
    async fn new() -> Self {
        let bench = Bench::new().await;
        let path = socket_path(bench.dir.path(), uuid::Uuid::nil());
        let listener = UnixListener::bind(&path).unwrap();
        let ending = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, bench.gateway.clone(), ending.clone()));
        let channel = connect(&path).await;
        Self { bench, channel, ending, serving }
    }

    async fn end(self) {
        self.ending.cancel();
        drop(self.channel);
        tokio::time::timeout(Duration::from_secs(5), self.serving).await.unwrap().unwrap().unwrap();
    }
}

async fn connect(path: &Path) -> Channel {
    Endpoint::from_shared(format!("unix://{}", path.display())).unwrap().connect().await.unwrap()
}

fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// A task whose first attempt is claimed by the engine.
async fn claimed(bench: &Bench) -> (TaskId, AttemptNumber) {
    let request = sdk::SubmitTaskRequest {
        task_name: "sync_leads".to_owned(),
        kwargs_json: br#"{"owner_id":"acme"}"#.to_vec(),
        ..Default::default()
    };
    let (work, spec) = bench.gateway.called(&caller(), &request).unwrap();
    let new = NewTask { spec, payload: work.encode(), parent: None, dry_run: false };
    let keeper = Keeper { instance: Uuid([1; 16]), pid: 1, attribution: "cgroup".to_owned() };
    bench.gateway.engine().keeper_up(keeper, Vec::new()).await.unwrap();
    let submitted = bench.gateway.engine().submit(vec![new]).await.unwrap().pop().unwrap();
    let id = submitted.unwrap().task.id;
    let mut feed = bench.gateway.engine().feed().cursor();
    loop {
        let task = bench.gateway.engine().task(id).unwrap().unwrap();
        if let Some(lease) = task.state.lease() {
            return (id, lease.attempt);
        }
        bench.gateway.engine().feed().next(&mut feed).await.unwrap();
    }
}

fn stock(task: TaskId, attempt: AttemptNumber) -> StockTask {
    let (name, kwargs) = ("sync_leads".to_owned(), r#"{"owner_id":"acme"}"#.to_owned());
    StockTask { task, attempt, name, kwargs, ..StockTask::default() }
}

#[tokio::test]
async fn only_a_known_token_is_served() {
    let served = Served::new().await;
    let mut runner = RunnerServiceClient::new(served.channel.clone());
    let refused = runner.register(Request::new(sdk::RegisterRequest::default())).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    let token = served.bench.gateway.new_token("leads", 1);
    assert_ne!(token, served.bench.gateway.new_token("leads", 1));
    let reply = runner.register(with(&token, sdk::RegisterRequest::default())).await.unwrap();
    assert!(reply.into_inner().ok);
    let beat = runner.heartbeat(with(&token, sdk::HeartbeatRequest::default())).await.unwrap();
    assert_eq!(beat.into_inner().update, None);
    let mut sessions = SessionServiceClient::new(served.channel.clone());
    let asked = sdk::GetUserIntegrationsRequest::default();
    let none = sessions.get_user_integrations(with(&token, asked)).await.unwrap();
    assert!(none.into_inner().integrations.is_empty());
    served.bench.gateway.forget_token(&token);
    let refused = runner.register(with(&token, sdk::RegisterRequest::default())).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    served.end().await;
}

#[tokio::test]
async fn an_attempt_is_delivered_claimed_once_and_reported_by_its_runner() {
    let mut served = Served::new().await;
    let (task, attempt) = claimed(&served.bench).await;
    let gateway = served.bench.gateway.clone();
    let (token, other) = (gateway.new_token("leads", 1), gateway.new_token("leads", 1));
    let mut runner = RunnerServiceClient::new(served.channel.clone());
    let mut tasks = TaskServiceClient::new(served.channel.clone());
    gateway.deliver_stock("leads", 1, stock(task, attempt));
    let mut stream =
        runner.recv(with(&token, sdk::RecvRequest::default())).await.unwrap().into_inner();
    let Some(Payload::Task(delivery)) = stream.message().await.unwrap().unwrap().payload else {
        panic!("something else was delivered");
    };
    assert_eq!((delivery.task_id.clone(), delivery.attempt), (task.to_string(), 1));
    assert_eq!(delivery.version_id, "r1");
    let claim = sdk::ClaimTaskRequest { task_id: delivery.task_id.clone(), ..Default::default() };
    for (token, ok) in [(&other, false), (&token, true), (&token, false)] {
        let reply = tasks.claim_task(with(token, claim.clone())).await.unwrap();
        assert_eq!(reply.into_inner().ok, ok);
    }
    let report = served.bench.wanted.reports.recv().await.unwrap();
    assert!(matches!(report.event, StockEvent::Claimed));
    let beat = sdk::TaskHeartbeatRequest { task_id: task.to_string(), ..Default::default() };
    let reply = tasks.task_heartbeat(with(&token, beat.clone())).await.unwrap();
    assert!(!reply.into_inner().cancelled);
    let cancel = Command::Cancel { reason: String::new(), grace: None };
    gateway.engine().act(vec![task], cancel).await.unwrap();
    let reply = tasks.task_heartbeat(with(&token, beat)).await.unwrap();
    assert!(reply.into_inner().cancelled);
    let done = sdk::CompleteTaskRequest {
        task_id: task.to_string(),
        status: sdk::TaskStatus::Retry.into(),
        error: "ValueError: no".to_owned(),
        ..Default::default()
    };
    // One who has not claimed it is answered and not believed.
    assert!(tasks.complete_task(with(&other, done.clone())).await.unwrap().into_inner().ok);
    assert!(served.bench.wanted.reports.try_recv().is_err());
    let mut again = tasks.clone();
    let (one, two) = (with(&token, done.clone()), with(&token, done));
    let telling = tokio::spawn(async move { again.complete_task(one).await });
    let event = served.bench.wanted.reports.recv().await.unwrap().event;
    let StockEvent::Ended { end: StockEnd::Retry, error, durable, .. } = event else {
        panic!("{event:?}");
    };
    assert_eq!(error, "ValueError: no");
    assert!(!telling.is_finished(), "not before it is durable");
    durable.send(()).unwrap();
    assert!(telling.await.unwrap().unwrap().into_inner().ok);
    assert!(tasks.complete_task(two).await.unwrap().into_inner().ok, "too late, and ignored");
    assert!(served.bench.wanted.reports.try_recv().is_err());
    served.end().await;
}

#[tokio::test]
async fn what_nobody_claims_comes_back() {
    let mut bench = Bench::new().await;
    bench.gateway.deliver_stock("leads", 1, stock(TaskId(5), AttemptNumber(2)));
    let report = bench.wanted.reports.recv().await.unwrap();
    assert_eq!((report.task, report.attempt), (TaskId(5), AttemptNumber(2)));
    assert!(matches!(report.event, StockEvent::Unclaimed));
}

#[tokio::test]
async fn a_message_reaches_a_stock_runner() {
    let served = Served::new().await;
    let gateway = served.bench.gateway.clone();
    let token = gateway.new_token("leads", 1);
    let mut runner = RunnerServiceClient::new(served.channel.clone());
    let mut stream =
        runner.recv(with(&token, sdk::RecvRequest::default())).await.unwrap().into_inner();
    let opening = Opening { app: "leads".to_owned(), user: "ann".to_owned(), ..Opening::default() };
    let mut chat = gateway.open_chat(opening).await.unwrap();
    let request = gateway.say("leads", &chat.id, &"long ".repeat(100)).await.unwrap();
    let Some(Payload::Message(message)) = stream.message().await.unwrap().unwrap().payload else {
        panic!("something else was delivered");
    };
    assert_eq!(message.request_id, request);
    let done = sdk::SubmitResultRequest {
        request_id: request.clone(),
        text: "hi".to_owned(),
        done: true,
        ..Default::default()
    };
    assert!(runner.submit_result(with(&token, done)).await.unwrap().into_inner().ok);
    let text = ChatEvent::Text { request: request.clone(), text: "hi".to_owned() };
    assert_eq!(chat.events.recv().await.unwrap(), text);
    let ended = ChatEvent::TurnEnded { request, error: None };
    assert_eq!(chat.events.recv().await.unwrap(), ended);
    served.end().await;
}

#[tokio::test]
async fn a_tick_goes_to_a_runner_that_listens_and_that_is_all() {
    let mut served = Served::new().await;
    let gateway = served.bench.gateway.clone();
    let token = gateway.new_token("leads", 1);
    let mut runner = RunnerServiceClient::new(served.channel.clone());
    let (name, tick) = ("hourly_sync".to_owned(), true);
    let (task, attempt) = (TaskId(7), AttemptNumber(1));
    let run = StockTask { task, attempt, name, tick, ..StockTask::default() };
    gateway.deliver_stock("leads", 1, run);
    assert!(served.bench.wanted.reports.try_recv().is_err(), "nobody listens yet");
    let mut stream =
        runner.recv(with(&token, sdk::RecvRequest::default())).await.unwrap().into_inner();
    let Some(Payload::Schedule(tick)) = stream.message().await.unwrap().unwrap().payload else {
        panic!("something else was delivered");
    };
    assert_eq!(tick.schedule_name, "hourly_sync");
    let report = served.bench.wanted.reports.recv().await.unwrap();
    assert!(matches!(report.event, StockEvent::Delivered), "{report:?}");
    assert!(!gateway.forget_stock(task, attempt), "it is forgotten already");
    let listening = |open| Listening { token: token.clone(), open };
    assert_eq!(served.bench.wanted.streams.recv().await.unwrap(), listening(true));
    drop(stream);
    assert_eq!(served.bench.wanted.streams.recv().await.unwrap(), listening(false));
    served.end().await;
}

#[tokio::test]
async fn an_adopted_attempt_is_heard_of_once_and_told_to_stop() {
    let mut served = Served::new().await;
    let (task, attempt) = claimed(&served.bench).await;
    let gateway = served.bench.gateway.clone();
    let token = gateway.new_token("leads", 1);
    gateway.adopt_stock("leads", 1, task, attempt);
    let mut tasks = TaskServiceClient::new(served.channel.clone());
    let beat = sdk::TaskHeartbeatRequest { task_id: task.to_string(), ..Default::default() };
    for stop in [false, false, true] {
        if stop {
            gateway.stop_stock(task, attempt);
        }
        let reply = tasks.task_heartbeat(with(&token, beat.clone())).await.unwrap();
        assert_eq!(reply.into_inner().cancelled, stop);
    }
    let alive = served.bench.wanted.reports.try_recv().unwrap();
    assert!(matches!(alive.event, StockEvent::Alive), "{alive:?}");
    let status = sdk::TaskStatus::Cancelled.into();
    let task_id = task.to_string();
    let done = sdk::CompleteTaskRequest { task_id, status, ..Default::default() };
    let telling = tokio::spawn(async move { tasks.complete_task(with(&token, done)).await });
    let event = served.bench.wanted.reports.recv().await.unwrap().event;
    assert!(matches!(event, StockEvent::Ended { told: true, .. }), "{event:?}");
    drop(event);
    assert!(telling.await.unwrap().unwrap().into_inner().ok);
    served.end().await;
}

#[tokio::test]
async fn what_is_taken_back_cannot_be_claimed() {
    let served = Served::new().await;
    let (task, attempt) = claimed(&served.bench).await;
    let gateway = served.bench.gateway.clone();
    let token = gateway.new_token("leads", 1);
    let mut runner = RunnerServiceClient::new(served.channel.clone());
    let mut tasks = TaskServiceClient::new(served.channel.clone());
    let mut stream =
        runner.recv(with(&token, sdk::RecvRequest::default())).await.unwrap().into_inner();
    let claim = sdk::ClaimTaskRequest { task_id: task.to_string(), ..Default::default() };
    for (taken_back, ok) in [(true, false), (false, true)] {
        gateway.deliver_stock("leads", 1, stock(task, attempt));
        assert!(stream.message().await.unwrap().is_some());
        if taken_back {
            assert!(gateway.forget_stock(task, attempt));
        }
        let reply = tasks.claim_task(with(&token, claim.clone())).await.unwrap();
        assert_eq!(reply.into_inner().ok, ok);
    }
    assert!(!gateway.forget_stock(task, attempt), "it has begun");
    served.end().await;
}
