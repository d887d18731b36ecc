//! The SDK's own runner, unmodified, against our services. Skipped where the SDK is not installed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use super::*;

/// How long the runner may take for any one step; importing the SDK takes seconds on a busy
/// machine.
const DEADLINE: Duration = Duration::from_secs(60);

struct Runner(Child);

impl Drop for Runner {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The interpreter of the environment that `scripts/needs.sh sdk` makes.
fn python() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let python = target.join("sdk/bin/python");
    if python.exists() {
        return Some(python);
    }
    eprintln!("SKIPPED: {} is not there; make it: scripts/needs.sh sdk", python.display());
    None
}

#[expect(clippy::disallowed_methods, reason = "the SDK's runner is what is tested")]
fn start(python: &Path, dir: &Path, socket: &Path, token: &str) -> Runner {
    std::fs::write(dir.join("leads.py"), include_str!("leads.py")).unwrap();
    let child = Command::new(python)
        .args(["-m", "cpsl.runner", "leads:app"])
        .current_dir(dir)
        .env_clear()
        .env("CAPSULE_GATEWAY_HOST", format!("unix://{}", socket.display()))
        .env("CAPSULE_APP_ID", "leads")
        .env("CAPSULE_USER_ID", "ann")
        .env("CAPSULE_VERSION_ID", "r1")
        .env("CAPSULE_VERSION_TYPE", "deploy")
        .env("CAPSULE_ENV_TYPE", "deploy")
        .env("CAPSULE_RUNNER_TOKEN", token)
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(dir.join("runner.log")).unwrap())
        .stderr(std::fs::File::create(dir.join("runner.err")).unwrap())
        .spawn()
        .unwrap();
    Runner(child)
}

async fn soon<T>(what: &str, step: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, step).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_unmodified_runner_chats_submits_and_carries_attempts() {
    let Some(python) = python() else { return };
    let mut bench = Bench::new().await;
    let socket = socket_path(bench.dir.path(), uuid::Uuid::nil());
    let ending = CancellationToken::new();
    let listener = UnixListener::bind(&socket).unwrap();
    let serving = tokio::spawn(serve(listener, bench.gateway.clone(), ending.clone()));
    let gateway = bench.gateway.clone();
    let token = gateway.new_token("leads", 1);
    let runner = start(&python, bench.dir.path(), &socket, &token);

    let opening = Opening {
        app: "leads".to_owned(),
        user: "ann".to_owned(),
        org: "acme".to_owned(),
        ..Opening::default()
    };
    let mut chat = gateway.open_chat(opening).await.unwrap();
    let request = soon("the runner", async {
        loop {
            match gateway.say("leads", &chat.id, "sync acme").await {
                Err(ChatError::NoRunner(_)) => {}
                said => return said.unwrap(),
            }
        }
    })
    .await;
    let (mut card, mut said) = (String::new(), String::new());
    loop {
        match soon("an event of the chat", chat.events.recv()).await.unwrap() {
            ChatEvent::Card { task, message } => {
                assert_eq!(message, "Lead sync started");
                card = task;
            }
            ChatEvent::Text { text, .. } => said.push_str(&text),
            ChatEvent::TurnEnded { request: of, error } => {
                assert_eq!((of, error), (request, None));
                break;
            }
            other @ (ChatEvent::Block { .. } | ChatEvent::Notification { .. }) => {
                panic!("{other:?}")
            }
        }
    }
    assert_eq!(said, "1 found, last sync acme, True");
    let id: TaskId = card.parse().unwrap();
    let task = gateway.engine().task(id).unwrap().unwrap();
    assert_eq!(gateway.arguments(&task), json!({"owner_id": "org:acme"}).to_string());
    let (session, _) = gateway.data().session("leads", &chat.id, 0).await.unwrap().unwrap();
    assert!(session.data_json().contains("\"asked\":1"), "{}", session.data_json());

    for (owner, wanted) in [("org:acme", StockEnd::Completed), ("nobody", StockEnd::Retry)] {
        let kwargs = json!({"owner_id": owner}).to_string();
        let name = "sync_leads".to_owned();
        let attempt = AttemptNumber(1);
        let task = StockTask { task: id, attempt, name, kwargs, ..StockTask::default() };
        gateway.deliver_stock("leads", 1, task);
        let claimed = soon("a claim", bench.wanted.reports.recv()).await.unwrap();
        assert!(matches!(claimed.event, StockEvent::Claimed), "{claimed:?}");
        let ended = soon("an end", bench.wanted.reports.recv()).await.unwrap().event;
        let StockEvent::Ended { end, error, .. } = ended else { panic!("{ended:?}") };
        assert_eq!(end, wanted, "{error}");
        assert_eq!(error.is_empty(), wanted == StockEnd::Completed, "{error}");
    }
    let place = crate::appdata::Place { app: "leads".to_owned(), collection: "things".to_owned() };
    assert_eq!(gateway.data().count(place, serde_json::Map::new()).await.unwrap(), 1);

    drop(runner);
    ending.cancel();
    soon("the end of the server", serving).await.unwrap().unwrap();
}
