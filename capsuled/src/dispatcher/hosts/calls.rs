//! Who may speak on the hosts' socket, and whom their calls go to.

use std::any::Any;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use capsule_core::id::{AttemptNumber, TaskId};
use parking_lot::Mutex;
use tokio::sync::{OnceCell, mpsc};

use crate::apps::Revision;
use crate::dispatcher::python::token_file;
use crate::engine::Engine;
use crate::runner::host::{Answer, Call, CallRefused, Door, Hello, Peer};

/// gRPC: the caller is not known.
const UNAUTHENTICATED: i32 = 16;
/// gRPC: nobody implements that.
const UNIMPLEMENTED: i32 = 12;
/// Answers kept of calls that must not be carried out twice.
const ANSWERS_KEPT: usize = 4096;

/// For whom a call is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The app.
    pub app: String,
    /// Its revision.
    pub revision: u32,
    /// Who deployed it.
    pub user_id: String,
    /// It runs in the project's folder.
    pub serve: bool,
    /// The attempt that calls, if one does.
    pub task: Option<(TaskId, AttemptNumber)>,
}

/// Answers the SDK's calls and has chat messages for hosts.
pub trait Calls: Debug + Send + Sync {
    /// One unary call. `call.key` is the same when a call comes again after a restart.
    fn call(&self, caller: Caller, call: Call) -> Answer<'_>;

    /// A host can take messages of this app from now on, until the result is dropped.
    fn attach(
        &self,
        app: &str,
        revision: u32,
        messages: mpsc::UnboundedSender<Vec<u8>>,
    ) -> Box<dyn Any + Send + Sync>;

    /// A message's handler is over.
    fn turn_ended(&self, request_id: &str, error: Option<String>);
}

/// Answers nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoCalls;

impl Calls for NoCalls {
    fn call(&self, _: Caller, call: Call) -> Answer<'_> {
        let message = format!("{} is not served here", call.method);
        Box::pin(async { Err(CallRefused { code: UNIMPLEMENTED, message }) })
    }

    fn attach(
        &self,
        _: &str,
        _: u32,
        _: mpsc::UnboundedSender<Vec<u8>>,
    ) -> Box<dyn Any + Send + Sync> {
        Box::new(())
    }

    fn turn_ended(&self, _: &str, _: Option<String>) {}
}

/// Knows the words of hosts and attempts.
#[derive(Debug)]
pub(super) struct Gatekeeper {
    engine: Engine,
    calls: Arc<dyn Calls>,
    /// Where the words of attempts are.
    work: PathBuf,
    hosts: Mutex<BTreeMap<u64, Admitted>>,
    once: Mutex<Once>,
}

/// A host that is expected.
#[derive(Clone, Debug)]
struct Admitted {
    token: String,
    caller: Caller,
}

/// The answer to a call, once there is one.
type Answered = Arc<OnceCell<Result<Vec<u8>, CallRefused>>>;

/// Calls that must not be carried out twice.
#[derive(Debug, Default)]
struct Once {
    answers: HashMap<String, Answered>,
    order: VecDeque<String>,
}

impl Gatekeeper {
    pub(super) fn new(engine: Engine, calls: Arc<dyn Calls>, work: PathBuf) -> Self {
        Self { engine, calls, work, hosts: Mutex::default(), once: Mutex::default() }
    }

    pub(super) fn calls(&self) -> &Arc<dyn Calls> {
        &self.calls
    }

    /// This host may come in.
    pub(super) fn expect(&self, key: u64, token: &str, app: &str, revision: &Revision) {
        let caller = caller(app, revision, None);
        self.hosts.lock().insert(key, Admitted { token: token.to_owned(), caller });
    }

    /// This host is gone.
    pub(super) fn forget(&self, key: u64) {
        self.hosts.lock().remove(&key);
    }

    fn caller_of(&self, peer: Peer, from: Option<(u64, u32)>) -> Option<Caller> {
        let task = from.map(|(task, attempt)| (TaskId(task), AttemptNumber(attempt)));
        match peer {
            Peer::Host(key) => {
                let admitted = self.hosts.lock().get(&key).cloned()?;
                Some(Caller { task, ..admitted.caller })
            }
            Peer::Attempt { task: id, .. } => {
                let found = self.engine.task(TaskId(id)).ok()??;
                let number = found.last.as_ref().map_or(found.spec.revision, |last| last.revision);
                let apps = self.engine.apps();
                let app = apps.get(&found.spec.app)?;
                let revision = app.revisions.get(&number).or_else(|| app.in_force())?;
                Some(caller(&found.spec.app, revision, task))
            }
        }
    }

    fn once(&self, key: &str) -> Answered {
        let mut once = self.once.lock();
        if let Some(known) = once.answers.get(key) {
            return Arc::clone(known);
        }
        if once.order.len() >= ANSWERS_KEPT
            && let Some(oldest) = once.order.pop_front()
        {
            once.answers.remove(&oldest);
        }
        once.order.push_back(key.to_owned());
        let cell = Arc::new(OnceCell::new());
        once.answers.insert(key.to_owned(), Arc::clone(&cell));
        cell
    }
}

fn caller(app: &str, revision: &Revision, task: Option<(TaskId, AttemptNumber)>) -> Caller {
    Caller {
        app: app.to_owned(),
        revision: revision.number,
        user_id: revision.by.clone(),
        serve: revision.python.as_ref().is_some_and(|python| python.serve),
        task,
    }
}

impl Door for Gatekeeper {
    fn admit(&self, hello: &Hello) -> Result<Peer, String> {
        let nobody = || "nobody is expected with this token".to_owned();
        if hello.token.is_empty() {
            return Err(nobody());
        }
        if hello.role == "host" {
            let hosts = self.hosts.lock();
            let found = hosts.iter().find(|(_, admitted)| admitted.token == hello.token);
            return found.map(|(key, _)| Peer::Host(*key)).ok_or_else(nobody);
        }
        let (task, attempt) = (hello.task, hello.attempt);
        let file = token_file(&self.work, TaskId(task), AttemptNumber(attempt));
        match std::fs::read_to_string(file) {
            Ok(token) if token == hello.token => Ok(Peer::Attempt { task, attempt }),
            Ok(_) | Err(_) => Err(nobody()),
        }
    }

    fn call(&self, peer: Peer, call: Call) -> Answer<'_> {
        let Some(caller) = self.caller_of(peer, call.from) else {
            let message = "the app of this call is gone".to_owned();
            return Box::pin(async { Err(CallRefused { code: UNAUTHENTICATED, message }) });
        };
        let Some(key) = call.key.clone() else { return self.calls.call(caller, call) };
        let answer = self.once(&key);
        Box::pin(async move { answer.get_or_init(|| self.calls.call(caller, call)).await.clone() })
    }
}
