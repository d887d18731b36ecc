//! The services over a real engine and real app data; the runners are played by the test.

mod calls;
mod chats;
mod stock;
mod wire;

use std::sync::Arc;

use capsule_proto::sdk;
use prost::Message;

use super::*;
use crate::apps::{Revision, parse};
use crate::clock::{Clock, SystemClock};
use crate::engine::{EngineThread, Parts, Recovered};
use crate::store::{MemoryStore, SideFiles, StateDir, Store};

/// An app with a few tasks, as its introspection describes it.
const LEADS: &str = r#"{"format":1,"kind":"python","app":"leads","entry":"app.py:app","module":"app",
"symbol":"app","style":"functional","sdk":"0.3.181","python":"3.11.7",
"tasks":[
 {"name":"sync_leads","doc":"","file":"app.py","line":1,"async":true,"process":false,"retries":2,
  "timeout":300,"lock":null,"retry_for":[],"callback_url":"","session_param":"",
  "params":[{"name":"owner_id","type":"str","required":true,"default":null,"has_default":false,"help":""}],
  "var_kwargs":false},
 {"name":"rebuild_index","doc":"","file":"app.py","line":9,"async":true,"process":true,"retries":0,
  "timeout":0,"lock":"owner:{owner_id}","retry_for":[],"callback_url":"","session_param":"",
  "params":[{"name":"owner_id","type":"str","required":true,"default":null,"has_default":false,"help":""}],
  "var_kwargs":false}],
"schedules":[],"pages":[],
"handlers":{"message":[""],"action":[],"session":[],"boot":false,"enter":false,"exit":false,"shutdown":false},
"secrets":[],"image":{"python_packages":[],"apt_packages":[],"commands":[],"cpu":null,"memory":null,"gpu":null},
"uses":["tasks"],"threads_at_import":false,"interpreter":"/usr/bin/python3","dir":"/tmp","source":"/tmp",
"mode":"stock","mode_why":"","sync_tasks":"process","serve":false,"venv":"","packages":[]}"#;

/// A gateway with everything around it in the test's hands.
pub(crate) struct Bench {
    pub(crate) gateway: Gateway,
    pub(crate) wanted: Wanted,
    pub(crate) dir: tempfile::TempDir,
    _effects: mpsc::UnboundedReceiver<crate::engine::Effect>,
    _thread: EngineThread,
    _state: StateDir,
}

impl Bench {
    /// The app `leads` is deployed by `ann`.
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        std::fs::create_dir(state.side()).unwrap();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let parts = Parts {
            side: SideFiles::new(&state),
            recovered: Recovered::from_store(&*store, 4).unwrap(),
            store,
            clock: Arc::clone(&clock),
            boot_id: "boot".to_owned(),
            state_dir: state.root().to_path_buf(),
        };
        let (engine, thread, effects) = Engine::start(parts).unwrap();
        let parsed = parse(LEADS).unwrap();
        let revision = Revision {
            number: 0,
            deployed: engine.now(),
            by: "ann".to_owned(),
            uid: nix::unistd::geteuid().as_raw(),
            dir: "/tmp".to_owned(),
            manifest: LEADS.to_owned(),
            definitions: parsed.definitions,
            schedules: parsed.schedules,
            python: parsed.python,
        };
        assert_eq!(engine.deploy("leads".to_owned(), revision).await.unwrap(), 1);
        let data = AppData::start(dir.path(), clock).unwrap();
        let (gateway, wanted) = Gateway::new(engine, data, dir.path().join("secrets"));
        Self { gateway, wanted, dir, _effects: effects, _thread: thread, _state: state }
    }

    pub(crate) async fn call<A: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
    ) -> Result<A, Status> {
        self.call_as(&caller(), method, request).await
    }

    pub(crate) async fn call_as<A: Message + Default>(
        &self,
        caller: &Caller,
        method: &str,
        request: &impl Message,
    ) -> Result<A, Status> {
        let bytes = self.gateway.call(caller, method, &request.encode_to_vec()).await?;
        Ok(A::decode(bytes.as_slice()).unwrap())
    }
}

pub(crate) fn caller() -> Caller {
    let (app, user_id) = ("leads".to_owned(), "ann".to_owned());
    Caller { app, revision: 1, user_id, serve: false, task: None }
}

/// Submits a task as the app does; gives its id.
pub(crate) async fn submitted(bench: &Bench) -> String {
    let request = sdk::SubmitTaskRequest {
        task_name: "sync_leads".to_owned(),
        kwargs_json: br#"{"owner_id":"acme"}"#.to_vec(),
        ..Default::default()
    };
    let reply: sdk::SubmitTaskResponse =
        bench.call("TaskService/SubmitTask", &request).await.unwrap();
    reply.task_id
}

/// Shows a task in a session as the app does.
pub(crate) async fn block(bench: &Bench, session: &str, task: &str) {
    let payload = serde_json::json!({"task_id": task, "message": "Lead sync started"});
    let block = serde_json::json!({"id": "b1", "type": "task_card", "payload": payload});
    let request = sdk::SubmitResultRequest {
        request_id: "another".to_owned(),
        done: true,
        session_id: session.to_owned(),
        block_json: block.to_string(),
        ..Default::default()
    };
    let _: sdk::SubmitResultResponse =
        bench.call("RunnerService/SubmitResult", &request).await.unwrap();
}
