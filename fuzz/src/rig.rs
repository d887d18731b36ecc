//! A whole daemon inside the process, over a store in memory: engine, gateway and both sockets, with a
//! keeper that is played. Nothing it is asked to run is run.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::Once;

use capsule_core::attempt::{Failure, Receipt, Verdict};
use capsule_core::command::Report;
use capsule_core::id::{AttemptNumber, TaskId, Uuid};
use capsuled::appdata::AppData;
use capsuled::apps::{Revision, parse};
use capsuled::backup::{Backups, Sources};
use capsuled::book::Keeper;
use capsuled::clock::{Clock, SystemClock};
use capsuled::deploying::{ChildError, Children, Deployer, Running};
use capsuled::engine::{Effect, Engine, Parts, Recovered};
use capsuled::gateway::{Gateway, StockEvent, Wanted};
use capsuled::jail::Plan;
use capsuled::logs::LogDir;
use capsuled::rpc::{About, Api, Doors};
use capsuled::store::{MemoryStore, SideFiles, StateDir, Store};
use capsuled::web::{Entrance, WebArgs};
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

/// The app that is deployed from the start, as its introspection describes it; what stands behind
/// `#!` is for another reader.
const APP: &str = include_str!("../corpus/description/leads");

/// A daemon to speak to.
#[derive(Debug)]
pub struct Rig {
    /// Drives the daemon while somebody waits for an answer.
    pub runtime: Runtime,
    /// Where `capsule` connects.
    pub clients: PathBuf,
    /// Where stock runners connect.
    pub runners: PathBuf,
    /// What a stock runner of the app shows.
    pub token: String,
    /// A folder in which a project may lie.
    pub project: PathBuf,
    ending: CancellationToken,
    // Behind the runtime: it goes when nobody uses it any more.
    _dir: tempfile::TempDir,
    _state: StateDir,
}

/// Starts no process.
#[derive(Debug)]
struct NoChildren;

impl Children for NoChildren {
    fn run<'a>(&'a self, _plan: Plan, what: &'a str) -> Running<'a> {
        Box::pin(async move { Err(ChildError(format!("{what} is not started here"))) })
    }
}

impl Rig {
    /// A daemon with an app and a keeper.
    pub fn new() -> Self {
        watch_for_panics();
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        let project = dir.path().join("project");
        for folder in [state.side(), project.clone()] {
            fs::create_dir_all(folder).unwrap();
        }
        let (clients, runners) = (dir.path().join("clients"), dir.path().join("runners"));
        let ending = CancellationToken::new();
        let token = runtime.block_on(async {
            let (engine, effects) = engine(&state);
            tokio::spawn(engine.hand_out_answers());
            deploy(&engine).await;
            tokio::spawn(play(engine.clone(), effects));
            let data = AppData::start(state.root(), Arc::new(SystemClock)).unwrap();
            let (gateway, wanted) =
                Gateway::new(engine.clone(), data.clone(), state.root().join("secrets"));
            let backups = Backups::new(Sources {
                root: state.root().to_path_buf(),
                store: uuid::Uuid::nil(),
                records: Arc::new(MemoryStore::new()),
                side: SideFiles::new(&state),
                data,
            });
            tokio::spawn(dispatch(wanted));
            let logs = Arc::new(LogDir::open(state.logs()).unwrap());
            let deployer =
                Deployer::new(state.root(), state.root().join("host"), Arc::new(NoChildren));
            let about = About {
                state_dir: state.root().to_path_buf(),
                socket: clients.clone(),
                store_uuid: uuid::Uuid::nil().to_string(),
                started: engine.now(),
            };
            let token = gateway.new_token("leads", 1);
            let runner = UnixListener::bind(&runners).unwrap();
            tokio::spawn(capsuled::gateway::serve(runner, gateway.clone(), ending.clone()));
            let (web, nil) = (WebArgs::default(), uuid::Uuid::nil());
            let (entrance, _) = Entrance::new(&web, dir.path(), nil, engine.now()).unwrap();
            let doors = Doors { gateway, backups, entrance, ending: ending.clone() };
            let api = Api::new(engine, logs, about, deployer.into(), doors);
            let client = UnixListener::bind(&clients).unwrap();
            tokio::spawn(capsuled::rpc::serve(client, api));
            token
        });
        Self { runtime, clients, runners, token, project, ending, _dir: dir, _state: state }
    }
}

impl Default for Rig {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.ending.cancel();
    }
}

fn engine(state: &StateDir) -> (Engine, UnboundedReceiver<Effect>) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let parts = Parts {
        side: SideFiles::new(state),
        clock: Arc::new(SystemClock) as Arc<dyn Clock>,
        recovered: Recovered::from_store(&*store, 4).unwrap(),
        store,
        boot_id: "boot".to_owned(),
        state_dir: state.root().to_path_buf(),
    };
    // The thread ends with the last handle of the engine.
    let (engine, _thread, effects) = Engine::start(parts).unwrap();
    (engine, effects)
}

async fn deploy(engine: &Engine) {
    let text = APP.split_once("\n#!").map_or(APP, |(text, _)| text);
    let parsed = parse(text).unwrap();
    let revision = Revision {
        number: 0,
        deployed: engine.now(),
        by: "ann".to_owned(),
        uid: nix::unistd::geteuid().as_raw(),
        dir: "/tmp".to_owned(),
        manifest: text.to_owned(),
        definitions: parsed.definitions,
        python: parsed.python,
        schedules: parsed.schedules,
    };
    engine.deploy("leads".to_owned(), revision).await.unwrap();
    let keeper = Keeper { instance: Uuid([1; 16]), pid: 1, attribution: "cgroup".to_owned() };
    engine.keeper_up(keeper, Vec::new()).await.unwrap();
}

/// Plays the keeper: every other attempt fails at once, the others run until they are stopped.
async fn play(engine: Engine, mut effects: UnboundedReceiver<Effect>) {
    while let Some(effect) = effects.recv().await {
        let (task, attempt, ends) = match &effect {
            Effect::Spawn(task) => {
                let Some(lease) = task.state.lease() else { continue };
                drop(engine.started(task.id, lease.attempt, 7, engine.now()));
                (task.id, lease.attempt, !task.id.0.is_multiple_of(8))
            }
            Effect::Stop { task, attempt, .. } => (*task, *attempt, true),
            Effect::PutBack
            | Effect::Refresh { .. }
            | Effect::Callback { .. }
            | Effect::AppsChanged
            | Effect::Forgotten { .. }
            | Effect::Ack { .. } => continue,
        };
        if ends {
            end(&engine, task, attempt);
        }
    }
}

fn end(engine: &Engine, task: TaskId, attempt: AttemptNumber) {
    let failed = task.0.is_multiple_of(2);
    let verdict = if failed { Verdict::Failed(Failure::Exit(1)) } else { Verdict::Completed };
    let report = Report {
        attempt,
        verdict,
        before_signal: true,
        is_final: false,
        retry_after: None,
        started: None,
        ended: engine.now(),
        receipt: Receipt { exit_code: Some(failed.into()), ..Receipt::default() },
        result: None,
    };
    drop(engine.report(task, report, true));
}

/// Plays the dispatcher for stock runners: what they say is durable at once.
async fn dispatch(mut wanted: Wanted) {
    while let Some(report) = wanted.reports.recv().await {
        if let StockEvent::Ended { durable, .. } = report.event {
            let _told = durable.send(());
        }
        while wanted.streams.try_recv().is_ok() {}
    }
}

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// From now on a panic of any thread is noted: a server catches what its handlers throw.
pub(crate) fn watch_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if let Ok(mut panics) = PANICS.lock() {
                panics.push(info.to_string());
            }
            before(info);
        }));
    });
}

/// Panics if anything has.
pub fn nothing_panicked() {
    let panics = std::mem::take(&mut *PANICS.lock().unwrap());
    assert!(panics.is_empty(), "the daemon panicked: {}", panics.join("\n"));
}
