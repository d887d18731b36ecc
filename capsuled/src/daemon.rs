//! The only place that knows all parts: builds them, runs them, stops them in order.

mod args;

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use capsule_core::time::{Span, Timestamp};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::args::cores;
pub use self::args::{KeeperStart, RunArgs, state_dir};
use crate::appdata::AppData;
use crate::backup::{Backups, Sources};
use crate::book::Keep;
use crate::bridge::Bridge;
use crate::callback::Callbacks;
use crate::clock::{self, Clock as _, SystemClock};
use crate::deploying::Deployer;
use crate::dispatcher::{
    Dispatcher, HostParts, KeeperAccess, PythonParts, PythonSurroundings, StockParts, Surroundings,
};
use crate::engine::{Engine, EngineThread, Parts, Recovered};
use crate::gateway::{self, Gateway};
use crate::keeper::{self, Choice, KeeperArgs};
use crate::logs::LogDir;
use crate::rpc::{self, About, Api, Doors};
use crate::runner::files;
use crate::runner::process::Processes;
use crate::socket::{self, Listeners, Sockets};
use crate::store::{Compactor, LiveCopy, Opened, SideFiles, SledStore, StateDir};
use crate::telemetry::helped;
use crate::web::{self, Asked, Entrance};

/// How long a Ctrl-C waits for running tasks before it stops them.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between SIGTERM and SIGKILL of tasks that a Ctrl-C stops.
const LAST_GRACE: Span = Span::from_secs(5);
/// How long calls in flight may take when the daemon ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// Runs the daemon until a signal ends it.
///
/// # Errors
/// It cannot start, or the store failed while it ran; the message says what to do.
pub fn run(args: &RunArgs) -> anyhow::Result<()> {
    let runtime_dir = socket::runtime_dir();
    let socket = args.socket.clone().unwrap_or_else(|| runtime_dir.join("capsuled.sock"));
    socket::check_path(&socket)?;
    let state_dir = state_dir(args.state_dir.as_deref())?;
    socket::make_private(&runtime_dir)?;
    let state = StateDir::open(&state_dir).map_err(helped)?;
    let slots = args.slots.unwrap_or_else(cores);
    let (opened, recovered) = open_store(&state, slots, args.keep.tasks())?;
    let (side, store_uuid) = (SideFiles::new(&state), opened.found.uuid);
    let store = Arc::new(opened.store);
    let compactor = Compactor::start(&store).context("starting a thread")?;
    let data = AppData::start(state.root(), Arc::new(SystemClock))?;
    let backups = backups(&state, store_uuid, &store, &side, &data);
    let parts = Parts {
        store,
        side,
        clock: Arc::new(SystemClock),
        recovered,
        boot_id: boot_id(),
        state_dir: state.root().to_path_buf(),
    };
    let (engine, thread, effects) = Engine::start(parts)?;
    let (quit, quit_told) = watch::channel(None);
    let logs = Arc::new(LogDir::open(state.logs())?);
    let _ledger = args.keep.start_ledger(&logs, &engine)?;
    let runners = gateway::socket_path(&runtime_dir, store_uuid);
    let sockets = Sockets::new(socket, runners, &runtime_dir, store_uuid)?;
    let now = SystemClock.now();
    let (entrance, visitors) = Entrance::new(&args.web, &runtime_dir, store_uuid, now)?;
    let processes = Processes::new(Arc::clone(&logs));
    let surroundings = surroundings(&state, &sockets)?;
    let host = surroundings.python.host.clone();
    let deployer = Deployer::new(state.root(), host, Arc::new(processes.clone()));
    let dispatcher = Dispatcher {
        engine: engine.clone(),
        effects,
        access: keeper_access(args, runtime_dir, store_uuid, &logs)?,
        logs: Arc::clone(&logs),
        surroundings,
        processes,
        slots,
        callbacks: callbacks(),
        quit: quit_told,
    };
    let about = about(&state, &sockets, store_uuid, now);
    let ending = CancellationToken::new();
    let (gateway, wanted) = Gateway::new(engine.clone(), data, state.root().join("secrets"));
    let stock = StockParts {
        gateway: gateway.clone(),
        wanted,
        socket: std::path::absolute(&sockets.runners)?,
        registry: state.root().join("runners"),
    };
    let doors = Doors { gateway, backups: backups.clone(), entrance, ending: ending.clone() };
    let api = Api::new(engine.clone(), logs, about, deployer.into(), doors);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let registry = state.root().join("hosts");
    let ended = runtime.block_on(async move {
        let running =
            Running { engine, thread, dispatcher, registry, stock, api, visitors, quit, ending };
        let ended = running.until_ended(sockets.listen()?).await;
        sockets.remove();
        ended
    });
    runtime.shutdown_timeout(FAREWELL);
    backups.end();
    drop((compactor, state));
    ended
}

fn about(state: &StateDir, sockets: &Sockets, store: uuid::Uuid, started: Timestamp) -> About {
    let (state_dir, socket) = (state.root().to_path_buf(), sockets.clients.clone());
    About { state_dir, socket, store_uuid: store.to_string(), started }
}

fn backups(
    state: &StateDir,
    store: uuid::Uuid,
    records: &Arc<SledStore>,
    side: &SideFiles,
    data: &AppData,
) -> Backups {
    let (root, side, data) = (state.root().to_path_buf(), side.clone(), data.clone());
    let records = Arc::clone(records) as Arc<dyn LiveCopy>;
    Backups::new(Sources { root, store, records, side, data })
}

/// What attempts are given, their host's files written out.
fn surroundings(state: &StateDir, sockets: &Sockets) -> anyhow::Result<Surroundings> {
    let host = files::write_out(&state.root().join("host"));
    let program = std::env::current_exe().ok();
    Ok(Surroundings {
        work: state.work(),
        socket: std::path::absolute(&sockets.clients)?,
        programs: program.and_then(|program| program.parent().map(Path::to_path_buf)),
        python: PythonSurroundings {
            host: host.context("writing the Python host's files")?,
            socket: sockets.hosts.clone(),
            secrets: state.root().join("secrets"),
            data: state.root().join("data"),
        },
    })
}

/// Opens the store; what the daemon keeps in memory is taken in while each record is checked.
fn open_store(state: &StateDir, slots: u32, keep: Keep) -> anyhow::Result<(Opened, Recovered)> {
    let now = SystemClock.now();
    let now = jiff::Timestamp::from_microsecond(now.0).context("reading the clock")?;
    let mut recovered = Recovered::new(slots).keeping(keep);
    let mut visit = |table, key: &[u8], value: &[u8]| recovered.take(table, key, value);
    let opened = SledStore::open_and_visit(state, now, &mut visit).map_err(helped)?;
    let (state_dir, records) = (state.root().display(), &opened.found.records);
    tracing::info!(%state_dir, ?records, "the store is whole");
    Ok((opened, recovered))
}

struct Running {
    engine: Engine,
    thread: EngineThread,
    dispatcher: Dispatcher,
    registry: PathBuf,
    stock: StockParts,
    api: Api,
    visitors: Asked,
    quit: watch::Sender<Option<bool>>,
    ending: CancellationToken,
}

/// What made the daemon end.
enum End {
    /// SIGTERM: running tasks go on under the keeper.
    Leave,
    /// Ctrl-C in the foreground: running tasks are stopped and put back.
    Interrupt,
}

impl Running {
    async fn until_ended(self, listeners: Listeners) -> anyhow::Result<()> {
        let Self { engine, thread, dispatcher, registry, stock, api, visitors, quit, ending } =
            self;
        let hosts = HostParts {
            listener: listeners.hosts,
            registry,
            work: dispatcher.surroundings.work.clone(),
            calls: Arc::new(Bridge(api.gateway.clone())),
        };
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::spawn(engine.hand_out_answers());
        let mut dispatching = tokio::spawn(dispatcher.run(PythonParts { hosts, stock }));
        let socket = api.about.socket.display().to_string();
        let served = gateway::serve(listeners.runners, api.gateway.clone(), ending.clone());
        let mut serving_runners = tokio::spawn(served);
        let mut serving_browsers = tokio::spawn(web::serve(api.clone(), visitors));
        let mut serving = tokio::spawn(rpc::serve(listeners.clients, api));
        let mut deciding = watch_engine(thread)?;
        let (sleeper, until) = (engine.clone(), ending.clone());
        let watching = clock::watch(move || sleeper.clock_set().is_ok());
        tokio::spawn(async move { until.run_until_cancelled(watching).await });
        tracing::info!(socket, "ready");
        let end = tokio::select! {
            _ = interrupt.recv() => End::Interrupt,
            _ = terminate.recv() => End::Leave,
            decided = &mut deciding => return fail(decided),
            dispatched = &mut dispatching => {
                dispatched.context("the dispatcher panicked; restart the daemon")?.ok();
                // It only ends by itself when the engine has.
                return fail(deciding.await);
            }
            served = &mut serving => {
                served?.context("serving the socket")?;
                End::Leave
            }
            served = &mut serving_runners => {
                served?.context("serving the runners' socket")?;
                End::Leave
            }
        };
        let kill = match end {
            End::Leave => false,
            End::Interrupt => {
                stop_tasks(&engine, &mut interrupt).await;
                true
            }
        };
        quit.send_replace(Some(kill));
        drop(tokio::time::timeout(FAREWELL, &mut dispatching).await);
        ending.cancel();
        let served =
            async { tokio::join!(&mut serving, &mut serving_runners, &mut serving_browsers) };
        drop(tokio::time::timeout(FAREWELL, served).await);
        engine.close().await;
        tracing::info!("ended");
        fail(deciding.await)
    }
}

type Ended = std::thread::Result<Result<(), crate::engine::EngineError>>;

/// Waits for the engine's end in a thread of its own, because a pool of threads panics where the
/// system has no thread left.
fn watch_engine(thread: EngineThread) -> anyhow::Result<oneshot::Receiver<Ended>> {
    let (tell, told) = oneshot::channel();
    std::thread::Builder::new()
        .name("engine-end".to_owned())
        // Nobody listens any more when the daemon has ended for another reason.
        .spawn(move || drop(tell.send(thread.join())))
        .context("starting a thread")?;
    Ok(told)
}

/// The engine's own end: nothing when it was asked to, else the reason.
fn fail(ended: Result<Ended, oneshot::error::RecvError>) -> anyhow::Result<()> {
    match ended? {
        Ok(result) => result.context("the store failed, so nothing more is acknowledged"),
        Err(_) => bail!("the engine panicked; restart the daemon, it recovers what is on disk"),
    }
}

/// Stops starting, waits a while, then stops what runs; a second Ctrl-C does so at once.
async fn stop_tasks(engine: &Engine, interrupt: &mut tokio::signal::unix::Signal) {
    drop(engine.drain(true).await);
    let running = engine.book().running();
    if running > 0 {
        tracing::info!(running, "waiting for running tasks, Ctrl-C stops them now");
    }
    let calm = tokio::select! {
        calm = tokio::time::timeout(PATIENCE, idle(engine)) => calm.is_ok(),
        _ = interrupt.recv() => false,
    };
    if calm {
        return;
    }
    let stopped = engine.stop_all(LAST_GRACE).await.unwrap_or_default();
    let ids: Vec<String> = stopped.iter().map(ToString::to_string).collect();
    tracing::info!(tasks = ids.join(" "), "stopped and put back");
    let grace = LAST_GRACE.to_std() + Duration::from_secs(2);
    tokio::select! {
        _ = tokio::time::timeout(grace, idle(engine)) => {}
        _ = interrupt.recv() => {}
    }
}

/// Waits until no attempt runs.
async fn idle(engine: &Engine) {
    let mut feed = engine.feed().cursor();
    while engine.book().running() > 0 {
        if engine.feed().next(&mut feed).await.is_err() {
            feed = engine.feed().cursor();
        }
    }
}

/// Where the store's keeper listens, and what to do when nobody does.
fn keeper_access(
    args: &RunArgs,
    runtime_dir: PathBuf,
    uuid: uuid::Uuid,
    logs: &LogDir,
) -> anyhow::Result<KeeperAccess> {
    let socket = keeper::socket_path(&runtime_dir, uuid);
    let who = args.keeper.unwrap_or(KeeperStart::Own);
    let attribution = args.attribution.unwrap_or(Choice::Auto);
    let keeper_args = KeeperArgs { runtime_dir, uuid, attribution, linger_secs: 60 };
    let start = move || match who {
        KeeperStart::Own => start_keeper(&keeper_args),
        KeeperStart::External => Err(io::Error::other("its unit has not started it yet")),
    };
    Ok(KeeperAccess { socket, store: uuid, logs: logs.handle()?, start: Arc::new(start) })
}

/// Starts the keeper: the only process that the daemon starts itself. Returns when it listens.
#[expect(clippy::disallowed_methods, reason = "the keeper is started here and nowhere else")]
fn start_keeper(args: &KeeperArgs) -> io::Result<()> {
    let name = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("capsuled"));
    // Our own file also after an upgrade has put another in its place, or has taken it away.
    let output = Command::new("/proc/self/exe")
        .arg0(name)
        .args(args.argv())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()?;
    let code = output.status.code();
    if output.status.success() || code == Some(i32::from(keeper::EXIT_ALREADY_RUNNING)) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("the keeper did not start ({}): {}", output.status, said.trim())))
}

/// Without threads the daemon runs all the same.
fn callbacks() -> Option<Callbacks> {
    Callbacks::start()
        .inspect_err(|error| tracing::error!(%error, "callbacks are not told: no thread"))
        .ok()
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| "unknown".to_owned(), |id| id.trim().to_owned())
}
