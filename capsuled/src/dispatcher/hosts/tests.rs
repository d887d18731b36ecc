//! Hosts without a keeper: their processes never run, but whoever has the word may connect.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::*;
use crate::apps::parse;
use crate::clock::HandClock;
use crate::engine::{Parts, Recovered};
use crate::runner::host::{Answer, Call};
use crate::store::{MemoryStore, SideFiles, StateDir};

const PATIENCE: Duration = Duration::from_secs(10);

/// What reaches the other side of the calls.
#[derive(Debug, Default)]
struct Noted {
    calls: Mutex<Vec<(Caller, Call)>>,
    messages: Mutex<Option<mpsc::UnboundedSender<Vec<u8>>>>,
    turns: Mutex<Vec<(String, Option<String>)>>,
}

#[derive(Debug)]
struct NotedCalls(Arc<Noted>);

/// Takes the way to the host away when it is dropped.
#[derive(Debug)]
struct Held(Arc<Noted>);

impl Drop for Held {
    fn drop(&mut self) {
        *self.0.messages.lock() = None;
    }
}

impl Calls for NotedCalls {
    fn call(&self, caller: Caller, call: Call) -> Answer<'_> {
        let body = call.body.clone();
        self.0.calls.lock().push((caller, call));
        Box::pin(async { Ok(body) })
    }

    fn attach(
        &self,
        app: &str,
        revision: u32,
        messages: mpsc::UnboundedSender<Vec<u8>>,
    ) -> Box<dyn Any + Send + Sync> {
        assert_eq!((app, revision), ("leads", 1));
        *self.0.messages.lock() = Some(messages);
        Box::new(Held(Arc::clone(&self.0)))
    }

    fn turn_ended(&self, request_id: &str, error: Option<String>) {
        self.0.turns.lock().push((request_id.to_owned(), error));
    }
}

struct Bench {
    dir: tempfile::TempDir,
    hosts: Hosts,
    engine: Engine,
    noted: Arc<Noted>,
    _state: StateDir,
}

struct Side {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl Side {
    async fn say(&mut self, frame: Value) {
        self.write.write_all(format!("{frame}\n").as_bytes()).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        let line = timeout(PATIENCE, self.lines.next_line()).await.unwrap().unwrap().unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

fn engine(dir: &Path) -> (Engine, StateDir) {
    let state = StateDir::open(&dir.join("state")).unwrap();
    std::fs::create_dir(state.side()).unwrap();
    let store = Arc::new(MemoryStore::new());
    let parts = Parts {
        recovered: Recovered::from_store(&*store, 1).unwrap(),
        store,
        side: SideFiles::new(&state),
        clock: Arc::new(HandClock::new(Timestamp(1_700_000_000_000_000))),
        boot_id: "boot".to_owned(),
        state_dir: state.root().to_path_buf(),
    };
    (Engine::start(parts).unwrap().0, state)
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (engine, state) = engine(dir.path());
        let logs = Arc::new(LogDir::open(dir.path().join("logs")).unwrap());
        let noted = Arc::new(Noted::default());
        let parts = HostParts {
            listener: UnixListener::bind(dir.path().join("s")).unwrap(),
            registry: dir.path().join("hosts"),
            work: dir.path().to_path_buf(),
            calls: Arc::new(NotedCalls(Arc::clone(&noted))),
        };
        let surroundings = PythonSurroundings {
            socket: dir.path().join("s"),
            data: dir.path().join("data"),
            ..PythonSurroundings::default()
        };
        let processes = Processes::new(Arc::clone(&logs));
        let hosts = Hosts::new(parts, (engine.clone(), processes), surroundings, logs);
        let bench = Self { dir, hosts, engine, noted, _state: state };
        bench.deploy().await;
        bench
    }

    async fn deploy(&self) {
        let text = r#"{"format":1,"app":"leads","handlers":{"message":[""]},"tasks":[]}"#;
        let parsed = parse(text).unwrap();
        let revision = Revision {
            number: 0,
            deployed: self.engine.now(),
            by: "ann".to_owned(),
            uid: 1000,
            dir: "/".to_owned(),
            manifest: text.to_owned(),
            python: parsed.python,
            definitions: parsed.definitions,
            schedules: parsed.schedules,
        };
        self.engine.deploy("leads".to_owned(), revision).await.unwrap();
    }

    /// The word of the only host, as it is noted for the next daemon.
    fn token(&self) -> String {
        let hosts = std::fs::read_dir(self.dir.path().join("hosts")).unwrap();
        let files: Vec<_> = hosts.flatten().map(|entry| entry.path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        let record: Value = serde_json::from_slice(&std::fs::read(&files[0]).unwrap()).unwrap();
        assert_eq!((&record["app"], &record["revision"]), (&json!("leads"), &json!(1)));
        record["token"].as_str().unwrap().to_owned()
    }

    async fn connect(&self) -> Side {
        let stream = UnixStream::connect(self.dir.path().join("s")).await.unwrap();
        let (read, write) = stream.into_split();
        let mut side = Side { lines: BufReader::new(read).lines(), write };
        let token = self.token();
        side.say(json!({"t":"hello","protocol":1,"role":"host","token":token,"ready":true})).await;
        assert_eq!(side.hear().await["t"], "welcome");
        side
    }

    /// Handles what comes until `done`.
    async fn until(&mut self, done: impl Fn(&Noted) -> bool) {
        while !done(&self.noted) {
            let happening = timeout(PATIENCE, self.hosts.next()).await.unwrap();
            self.hosts.handle(happening).unwrap();
        }
    }
}

#[tokio::test]
async fn messages_reach_a_ready_host_and_the_ends_of_turns_are_told() {
    let mut bench = Bench::new().await;
    bench.hosts.reconcile().unwrap();
    let mut host = bench.connect().await;
    bench.until(|noted| noted.messages.lock().is_some()).await;
    let messages = bench.noted.messages.lock().clone().unwrap();
    messages.send(b"\x01hi".to_vec()).unwrap();
    drop(messages);
    let happening = timeout(PATIENCE, bench.hosts.next()).await.unwrap();
    bench.hosts.handle(happening).unwrap();
    let message = host.hear().await;
    assert_eq!(
        (&message["t"], &message["body"]),
        (&json!("message"), &json!(STANDARD.encode("\x01hi")))
    );
    host.say(json!({"t":"turn","request_id":"r1","ok":false,"error":"no"})).await;
    bench.until(|noted| !noted.turns.lock().is_empty()).await;
    assert_eq!(*bench.noted.turns.lock(), [("r1".to_owned(), Some("no".to_owned()))]);
    // A removed app: its host is told to end, and gets no messages any more.
    bench.engine.remove_app("leads".to_owned()).await.unwrap();
    bench.hosts.reconcile().unwrap();
    assert_eq!(host.hear().await["t"], "quit");
    assert!(bench.noted.messages.lock().is_none());
}

#[tokio::test]
async fn a_call_that_comes_again_is_carried_out_once() {
    let mut bench = Bench::new().await;
    bench.hosts.reconcile().unwrap();
    let body = STANDARD.encode("ask");
    let call = json!({"t":"call","id":1,"method":"TaskService/SubmitTask","body":body,
        "task":7,"attempt":2,"key":"k-1"});
    for _ in 0..2 {
        let mut host = bench.connect().await;
        host.say(call.clone()).await;
        let reply = host.hear().await;
        assert_eq!((&reply["id"], &reply["body"]), (&json!(1), &json!(body)));
    }
    bench.until(|noted| !noted.calls.lock().is_empty()).await;
    let calls = bench.noted.calls.lock();
    assert_eq!(calls.len(), 1, "{calls:?}");
    let (caller, call) = &calls[0];
    let (app, user) = (caller.app.as_str(), caller.user_id.as_str());
    assert_eq!((app, user, caller.revision), ("leads", "ann", 1));
    assert_eq!(caller.task, Some((TaskId(7), AttemptNumber(2))));
    assert_eq!(
        (call.method.as_str(), call.key.as_deref()),
        ("TaskService/SubmitTask", Some("k-1"))
    );
}

#[tokio::test]
async fn an_attempt_in_a_process_of_its_own_is_known_by_its_word() {
    let bench = Bench::new().await;
    let file = super::super::python::token_file(bench.dir.path(), TaskId(4), AttemptNumber(1));
    std::fs::write(file, "its word").unwrap();
    for (token, answer) in [("its word", "welcome"), ("another", "refused"), ("", "refused")] {
        let stream = UnixStream::connect(bench.dir.path().join("s")).await.unwrap();
        let (read, write) = stream.into_split();
        let mut side = Side { lines: BufReader::new(read).lines(), write };
        side.say(json!({"t":"hello","protocol":1,"role":"attempt","token":token,"task":4,
            "attempt":1}))
            .await;
        assert_eq!(side.hear().await["t"], answer, "{token}");
    }
}
