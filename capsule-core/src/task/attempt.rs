//! One execution of a task: how it ended and what it used.

use std::fmt;

use minicbor::{Decode, Encode};

use crate::id::AttemptNumber;
use crate::time::{Span, Timestamp};

/// One execution of a task, as kept.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct AttemptRecord {
    /// From 1.
    #[n(0)]
    pub number: AttemptNumber,
    /// When it got its number.
    #[n(1)]
    pub claimed: Timestamp,
    /// When its process began.
    #[n(2)]
    pub started: Option<Timestamp>,
    /// When its main process was gone.
    #[n(3)]
    pub ended: Option<Timestamp>,
    /// Its main process.
    #[n(4)]
    pub pid: Option<u32>,
    /// How it ended.
    #[n(5)]
    pub verdict: Option<Verdict>,
    /// What it used.
    #[n(6)]
    pub receipt: Receipt,
    /// The revision it ran on.
    #[n(7)]
    pub revision: u32,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Verdict {
    /// Exit code 0.
    #[n(0)]
    Completed,
    /// Its own failure: uses up `retries`.
    #[n(1)]
    Failed(#[n(0)] Failure),
    /// It ran longer than its timeout: an own failure too.
    #[n(2)]
    Timeout(#[n(0)] How),
    /// It ended after our signal, for a cancel or a shutdown.
    #[n(3)]
    Stopped(#[n(0)] How),
    /// It ended, or may have, through no fault of its own.
    #[n(4)]
    Lost(#[n(0)] Loss),
    /// It never began and may be tried again.
    #[n(5)]
    NotStarted(#[n(0)] NotStarted),
}

/// Why an attempt that failed, failed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Failure {
    /// An exit code other than 0.
    #[n(0)]
    Exit(#[n(0)] i32),
    /// A signal that was not ours.
    #[n(1)]
    Signal(#[n(0)] i32),
    /// The kernel took its memory away.
    #[n(2)]
    OutOfMemory,
    /// It can never start as asked.
    #[n(3)]
    CannotStart {
        /// The step that failed: program, cwd, user, ...
        #[n(0)]
        step: String,
        /// What the step said, bounded.
        #[n(1)]
        message: String,
    },
    /// Lost, and not to be tried again.
    #[n(4)]
    Lost(#[n(0)] Loss),
    /// It raised an error that its runner tells by name.
    #[n(5)]
    Error {
        /// The error's class, as its language names it: `ValueError`.
        #[n(0)]
        kind: String,
        /// What it said, bounded.
        #[n(1)]
        message: String,
    },
}

/// The longest error text, step and message together, in bytes. A record may hold it twice: in the
/// attempt and in the task's outcome.
pub const ERROR_MAX: usize = 320;

/// How an attempt was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Loss {
    /// The keeper that owned it is gone, and with it the process.
    #[n(0)]
    KeeperDied,
    /// The machine was restarted.
    #[n(1)]
    Reboot,
    /// The system had no process or memory for it, time and again.
    #[n(2)]
    NoResources,
    /// The app host in whose process it ran is gone.
    #[n(3)]
    HostDied,
}

/// Why an attempt never began although it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum NotStarted {
    /// The system had no process, memory or file descriptor for it: counts as a loss.
    #[n(0)]
    NoResources,
    /// We took the claim back before anything ran: counts as nothing.
    #[n(1)]
    Released,
}

/// How we stopped an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum How {
    /// It ended within the grace.
    #[n(0)]
    Graceful,
    /// It was killed.
    #[n(1)]
    Killed,
}

/// What an attempt used; `None` = unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Receipt {
    /// From start to the end of the main process, in microseconds.
    #[n(0)]
    pub wall_us: Option<u64>,
    /// CPU time in user mode, of the whole tree, in microseconds.
    #[n(1)]
    pub cpu_user_us: Option<u64>,
    /// CPU time in the kernel, in microseconds.
    #[n(2)]
    pub cpu_system_us: Option<u64>,
    /// Where the CPU times come from.
    #[n(3)]
    pub cpu_source: Source,
    /// Most memory at one moment, in bytes.
    #[n(4)]
    pub peak_memory: Option<u64>,
    /// Where that comes from: with `rusage` it is the largest single process.
    #[n(5)]
    pub memory_source: Source,
    /// Bytes read from storage.
    #[n(6)]
    pub read_bytes: Option<u64>,
    /// Bytes written to storage.
    #[n(7)]
    pub written_bytes: Option<u64>,
    /// Where those come from.
    #[n(8)]
    pub io_source: Source,
    /// Most processes at one moment.
    #[n(9)]
    pub max_pids: Option<u64>,
    /// Exit code of the main process.
    #[n(10)]
    pub exit_code: Option<i32>,
    /// Signal that ended the main process.
    #[n(11)]
    pub signal: Option<i32>,
    /// Bytes on its output.
    #[n(12)]
    pub output_bytes: u64,
    /// Bytes on its error output.
    #[n(13)]
    pub error_bytes: u64,
    /// Bytes of either that were not kept.
    #[n(14)]
    pub dropped_bytes: u64,
    /// How its processes were told apart from others: `cgroup` or `reaper`; at most
    /// [`ATTRIBUTION_MAX`] bytes.
    #[n(15)]
    pub attribution: String,
    /// Why the result that it wrote was not kept.
    #[n(16)]
    pub result_refused: Option<ResultRefusal>,
}

/// Why a result is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ResultRefusal {
    /// It has more bytes than a result may have.
    #[n(0)]
    TooLarge,
    /// A folder, link, pipe or device stood where the file should be.
    #[n(1)]
    NotAFile,
    /// The system would not let us read or keep it.
    #[n(2)]
    Unreadable,
}

impl fmt::Display for ResultRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "it is over 1 MiB",
            Self::NotAFile => "it is not a regular file",
            Self::Unreadable => "it could not be read or kept",
        })
    }
}

/// The longest [`Receipt::attribution`], in bytes.
pub const ATTRIBUTION_MAX: usize = 16;

/// Where a figure comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Source {
    /// It is not known.
    #[default]
    #[n(0)]
    None,
    /// The attempt's own cgroup: the whole tree.
    #[n(1)]
    Cgroup,
    /// `wait4`: the main process and the children it waited for.
    #[n(2)]
    Rusage,
}

impl Source {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Cgroup => "cgroup",
            Self::Rusage => "rusage",
        }
    }
}

impl AttemptRecord {
    /// A new attempt, nothing known of it but its number.
    pub fn claimed(number: AttemptNumber, at: Timestamp, revision: u32) -> Self {
        Self {
            number,
            claimed: at,
            started: None,
            ended: None,
            pid: None,
            verdict: None,
            receipt: Receipt::default(),
            revision,
        }
    }

    /// How long its process ran, once that is over.
    pub fn ran(&self) -> Option<Span> {
        Some(self.ended?.since(self.started?))
    }
}

impl Verdict {
    /// The word for it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed(_) => "failed",
            Self::Timeout(_) => "timeout",
            Self::Stopped(_) => "cancelled",
            Self::Lost(_) => "lost",
            Self::NotStarted(_) => "not started",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => Ok(()),
            Self::Failed(failure) => failure.fmt(f),
            Self::Timeout(how) | Self::Stopped(how) => how.fmt(f),
            Self::Lost(loss) => loss.fmt(f),
            Self::NotStarted(NotStarted::NoResources) => Loss::NoResources.fmt(f),
            Self::NotStarted(NotStarted::Released) => f.write_str("put back"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exit {code}"),
            Self::Signal(number) => write!(f, "killed by {}", signal_name(*number)),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::CannotStart { step, message } => write!(f, "cannot start: {step}: {message}"),
            Self::Lost(loss) => write!(f, "lost: {loss}"),
            Self::Error { kind, message } if message.is_empty() => f.write_str(kind),
            Self::Error { kind, message } => write!(f, "{kind}: {message}"),
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeeperDied => "its keeper died",
            Self::HostDied => "its app host died",
            Self::Reboot => "the machine was restarted",
            Self::NoResources => "no process or memory left on this machine",
        })
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Graceful => "graceful",
            Self::Killed => "killed",
        })
    }
}

/// The name of a signal on Linux, x86-64 and aarch64 alike (signal(7)).
pub fn signal_name(number: i32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    usize::try_from(number)
        .ok()
        .and_then(|n| NAMES.get(n.checked_sub(1)?))
        .map_or_else(|| format!("signal {number}"), |name| format!("SIG{name}"))
}
