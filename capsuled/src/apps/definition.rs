//! What a definition is for and who runs it, and what it is unless it says otherwise.

use std::collections::BTreeMap;

use capsule_core::retry::Backoff;
use capsule_core::spec::{Delivery, LockPolicy};
use capsule_core::time::Span;

use super::{CommandLine, Definition};

/// Between SIGTERM, or an asyncio cancellation, and the kill.
pub(super) const GRACE: Span = Span::from_secs(10);

/// Who carries an attempt to its verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Runner {
    /// A program of its own, started by the keeper.
    #[default]
    Program,
    /// The event loop of the app's warm host.
    Loop,
    /// A thread of the app's host.
    Thread,
    /// A Python process of its own.
    Process,
    /// The SDK's own runner.
    Stock,
}

impl Runner {
    /// It runs inside a process that others share, so it takes none of the slots for processes.
    pub const fn is_shared(self) -> bool {
        match self {
            Self::Loop | Self::Thread | Self::Stock => true,
            Self::Program | Self::Process => false,
        }
    }

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Loop => "loop",
            Self::Thread => "thread",
            Self::Process => "process",
            Self::Stock => "stock",
        }
    }
}

/// What a definition is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Submitted by name.
    #[default]
    Task,
    /// The handler of a schedule: only its ticks run it.
    Tick,
}

impl Definition {
    /// A task with nothing but a name, as the SDK's defaults have it.
    pub(super) fn blank(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            help: String::new(),
            runner: Runner::Loop,
            kind: Kind::Task,
            command: CommandLine::new(Vec::new()),
            params: Vec::new(),
            more_params: false,
            retries: 0,
            backoff: Backoff::default(),
            timeout: None,
            grace: GRACE,
            lock: None,
            lock_policy: LockPolicy::Merge,
            delivery: Delivery::AtLeastOnce,
            queue: "default".to_owned(),
            priority: 0,
            env: BTreeMap::new(),
            cwd: String::new(),
            concurrency: None,
            no_retry_exit_codes: Vec::new(),
            no_retry_on: Vec::new(),
            rlimits: Vec::new(),
            callback_url: None,
        }
    }
}
