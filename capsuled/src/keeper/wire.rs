//! The words between daemon and keeper, and their framing: a length (u32, little-endian), then one
//! message. Additive: fields and messages may be added within a major version, never changed.

use prost::Message;

use crate::jail::{Plan, Step};

/// Both sides must agree on this number.
pub const MAJOR: u32 = 1;
/// Grows with each addition.
pub const MINOR: u32 = 1;
/// The first minor version of a keeper that knows fork servers.
pub const MINOR_OF_FORKS: u32 = 1;
/// Longest message, in bytes.
pub const MAX_MESSAGE: usize = 1 << 20;

/// What the daemon sends.
#[derive(Clone, PartialEq, Message)]
pub struct ToKeeper {
    /// The command.
    #[prost(oneof = "Command", tags = "1, 2, 3, 4, 5, 6")]
    pub command: Option<Command>,
}

/// One command of the daemon.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Command {
    /// First message of a session; carries the logs folder as a descriptor.
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// Start an attempt.
    #[prost(message, tag = "2")]
    Spawn(Spawn),
    /// Stop an attempt.
    #[prost(message, tag = "3")]
    Cancel(Cancel),
    /// Count the time limit of an attempt anew.
    #[prost(message, tag = "4")]
    Refresh(Refresh),
    /// The verdict is durable and may be forgotten.
    #[prost(message, tag = "5")]
    Ack(Key),
    /// End the keeper.
    #[prost(message, tag = "6")]
    Quit(Quit),
}

/// What the keeper sends.
#[derive(Clone, PartialEq, Message)]
pub struct ToDaemon {
    /// The report.
    #[prost(oneof = "Report", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub report: Option<Report>,
}

/// One report of the keeper.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Report {
    /// The session is open.
    #[prost(message, tag = "1")]
    Welcome(Welcome),
    /// The session is not opened.
    #[prost(message, tag = "2")]
    Refused(Refused),
    /// All attempts the keeper knows, after the welcome; large ones in several parts.
    #[prost(message, tag = "3")]
    Inventory(Inventory),
    /// An attempt runs.
    #[prost(message, tag = "4")]
    Started(Started),
    /// An attempt will never run.
    #[prost(message, tag = "5")]
    CannotStart(CannotStart),
    /// The main process of an attempt has ended.
    #[prost(message, tag = "6")]
    Ended(Ended),
    /// The last process of an attempt is gone.
    #[prost(message, tag = "7")]
    Gone(Ended),
    /// A command named an attempt the keeper does not have.
    #[prost(message, tag = "8")]
    NoSuch(Key),
}

impl Report {
    /// Which attempt it is about.
    pub const fn key(&self) -> Option<Key> {
        match self {
            Self::Started(started) => Some(started.key),
            Self::CannotStart(refused) => Some(refused.key),
            Self::Ended(ended) | Self::Gone(ended) => Some(ended.key),
            Self::NoSuch(key) => Some(*key),
            Self::Welcome(_) | Self::Refused(_) | Self::Inventory(_) => None,
        }
    }
}

/// Names one attempt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Message)]
pub struct Key {
    /// Number of the task.
    #[prost(uint64, tag = "1")]
    pub task: u64,
    /// Number of the attempt within the task.
    #[prost(uint32, tag = "2")]
    pub attempt: u32,
}

/// Opens a session.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Hello {
    /// Major version of the daemon's protocol.
    #[prost(uint32, tag = "1")]
    pub major: u32,
    /// Minor version of the daemon's protocol.
    #[prost(uint32, tag = "2")]
    pub minor: u32,
    /// The store the daemon serves; must be the keeper's.
    #[prost(string, tag = "3")]
    pub uuid: String,
    /// Chosen by the daemon; an open session yields only to one that is not older.
    #[prost(uint64, tag = "4")]
    pub epoch: u64,
}

/// Starts an attempt; repeating it for a known attempt only repeats the answer.
#[derive(Clone, PartialEq, Message)]
pub struct Spawn {
    /// Which attempt.
    #[prost(message, required, tag = "1")]
    pub key: Key,
    /// What to run.
    #[prost(message, required, tag = "2")]
    pub plan: Plan,
}

/// Stops an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Cancel {
    /// Which attempt.
    #[prost(message, required, tag = "1")]
    pub key: Key,
    /// Milliseconds from SIGTERM to SIGKILL; 0 kills at once.
    #[prost(uint64, tag = "2")]
    pub grace_ms: u64,
    /// Why; `Cancel` or `Drain`.
    #[prost(enumeration = "StopWhy", tag = "3")]
    pub why: i32,
}

/// Counts the time limit anew.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Refresh {
    /// Which attempt.
    #[prost(message, required, tag = "1")]
    pub key: Key,
    /// Milliseconds from this moment; 0 means no limit.
    #[prost(uint64, tag = "2")]
    pub deadline_ms: u64,
}

/// Ends the keeper.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Quit {
    /// Kill what runs; without it a keeper with live attempts stays.
    #[prost(bool, tag = "1")]
    pub kill: bool,
}

/// Opens the keeper's side of a session.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Welcome {
    /// Major version of the keeper's protocol.
    #[prost(uint32, tag = "1")]
    pub major: u32,
    /// Minor version of the keeper's protocol.
    #[prost(uint32, tag = "2")]
    pub minor: u32,
    /// New for each life of a keeper: what another instance ran is lost.
    #[prost(string, tag = "3")]
    pub instance: String,
    /// How the keeper attributes processes to attempts by default.
    #[prost(enumeration = "Attribution", tag = "4")]
    pub attribution: i32,
    /// Pid of the keeper.
    #[prost(int32, tag = "5")]
    pub pid: i32,
    /// Pid of its guard.
    #[prost(int32, tag = "6")]
    pub guard: i32,
}

/// Why a session was not opened.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Refused {
    /// For people.
    #[prost(string, tag = "1")]
    pub message: String,
}

/// Attempts the keeper knows: all of them, together with the parts that follow.
#[derive(Clone, PartialEq, Message)]
pub struct Inventory {
    /// In no order.
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<Item>,
    /// Another part follows at once.
    #[prost(bool, tag = "2")]
    pub more: bool,
}

/// One attempt in the inventory.
#[derive(Clone, PartialEq, Message)]
pub struct Item {
    /// Which attempt.
    #[prost(message, required, tag = "1")]
    pub key: Key,
    /// Main process; 0 when it has ended.
    #[prost(int32, tag = "2")]
    pub pid: i32,
    /// Wall time of the start, microseconds since 1970.
    #[prost(uint64, tag = "3")]
    pub started_us: u64,
    /// It is being stopped.
    #[prost(bool, tag = "4")]
    pub cancelling: bool,
    /// Its verdict, once the main process has ended; kept until acknowledged.
    #[prost(message, optional, tag = "5")]
    pub ended: Option<Ended>,
}

/// An attempt runs.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Started {
    /// Which attempt.
    #[prost(message, required, tag = "1")]
    pub key: Key,
    /// Main process.
    #[prost(int32, tag = "2")]
    pub pid: i32,
    /// Wall time of the start, microseconds since 1970.
    #[prost(uint64, tag = "3")]
    pub started_us: u64,
}

/// An attempt will never run. Not kept: sending the spawn again tries again.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CannotStart {
    /// Which attempt.
    #[prost(message, required, tag = "1")]
    pub key: Key,
    /// What failed.
    #[prost(enumeration = "Step", tag = "2")]
    pub step: i32,
    /// The kernel's reason.
    #[prost(int32, tag = "3")]
    pub errno: i32,
    /// For people.
    #[prost(string, tag = "4")]
    pub message: String,
    /// The machine had no room; the task is not to blame.
    #[prost(bool, tag = "5")]
    pub transient: bool,
}

/// The verdict on an attempt.
#[derive(Clone, PartialEq, Message)]
pub struct Ended {
    /// Which attempt.
    #[prost(message, required, tag = "1")]
    pub key: Key,
    /// Exit code of the main process; unset when a signal ended it.
    #[prost(int32, optional, tag = "2")]
    pub exit_code: Option<i32>,
    /// Signal that ended the main process.
    #[prost(int32, optional, tag = "3")]
    pub signal: Option<i32>,
    /// The signal left a core.
    #[prost(bool, tag = "4")]
    pub core_dumped: bool,
    /// Who asked it to stop, if anybody did, even if it had already exited.
    #[prost(enumeration = "StopWhy", tag = "5")]
    pub stop: i32,
    /// How it was stopped: `None` when it exited before any signal of the keeper.
    #[prost(enumeration = "How", tag = "6")]
    pub how: i32,
    /// No process of the tree is left, and the log is closed.
    #[prost(bool, tag = "7")]
    pub tree_gone: bool,
    /// What the attempt used so far.
    #[prost(message, required, tag = "8")]
    pub receipt: Receipt,
    /// What the attempt wrote so far.
    #[prost(message, required, tag = "9")]
    pub log: LogTally,
}

/// What an attempt used. An unset figure is unknown.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Receipt {
    /// Wall time of the start, microseconds since 1970.
    #[prost(uint64, tag = "1")]
    pub started_us: u64,
    /// Wall time of the end of the main process, microseconds since 1970.
    #[prost(uint64, tag = "2")]
    pub ended_us: u64,
    /// Duration on the monotonic clock, microseconds.
    #[prost(uint64, tag = "3")]
    pub wall_us: u64,
    /// Processor time in user mode, microseconds.
    #[prost(uint64, optional, tag = "4")]
    pub cpu_user_us: Option<u64>,
    /// Processor time in the kernel, microseconds.
    #[prost(uint64, optional, tag = "5")]
    pub cpu_sys_us: Option<u64>,
    /// Where the processor times come from.
    #[prost(enumeration = "Source", tag = "6")]
    pub cpu_source: i32,
    /// Peak memory in bytes; of the largest process when the source is `Rusage`.
    #[prost(uint64, optional, tag = "7")]
    pub peak_rss: Option<u64>,
    /// Where the peak comes from.
    #[prost(enumeration = "Source", tag = "8")]
    pub rss_source: i32,
    /// Bytes read from block devices.
    #[prost(uint64, optional, tag = "9")]
    pub io_read: Option<u64>,
    /// Bytes written to block devices.
    #[prost(uint64, optional, tag = "10")]
    pub io_write: Option<u64>,
    /// Where the I/O figures come from.
    #[prost(enumeration = "Source", tag = "11")]
    pub io_source: i32,
    /// How processes were attributed to this attempt.
    #[prost(enumeration = "Attribution", tag = "12")]
    pub attribution: i32,
}

/// What an attempt wrote, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct LogTally {
    /// To standard output.
    #[prost(uint64, tag = "1")]
    pub out: u64,
    /// To standard error.
    #[prost(uint64, tag = "2")]
    pub err: u64,
    /// To the event descriptor.
    #[prost(uint64, tag = "3")]
    pub event: u64,
    /// Of all, how much never reached a file.
    #[prost(uint64, tag = "4")]
    pub dropped: u64,
}

/// Where a figure comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Source {
    /// Unknown.
    None = 0,
    /// The attempt's cgroup: the whole tree.
    Cgroup = 1,
    /// What the kernel gave when processes were waited for.
    Rusage = 2,
}

/// How processes are attributed to attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Attribution {
    /// Not said.
    Unknown = 0,
    /// One cgroup per attempt.
    Cgroup = 1,
    /// One subreaper per attempt.
    Reaper = 2,
}

/// Why an attempt was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum StopWhy {
    /// It was not.
    None = 0,
    /// Its time was over.
    Timeout = 1,
    /// Asked for.
    Cancel = 2,
    /// The daemon stops its tasks.
    Drain = 3,
}

/// How an attempt was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum How {
    /// By itself, before any signal.
    None = 0,
    /// It ended within the grace after SIGTERM.
    Graceful = 1,
    /// By SIGKILL.
    Killed = 2,
}

/// A peer sent something that is no message.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Longer than allowed.
    #[error("message of {0} bytes, at most {MAX_MESSAGE} are allowed")]
    TooLong(usize),
    /// Not decodable.
    #[error("malformed message")]
    Malformed(#[from] prost::DecodeError),
}

/// Appends `message` with its length to `out`.
pub fn encode(message: &impl Message, out: &mut Vec<u8>) {
    let len = u32::try_from(message.encoded_len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    message.encode(out).expect("a Vec grows as needed");
}

/// Takes the first whole message off `buffer`, if there is one.
pub fn decode<M: Message + Default>(buffer: &mut Inbox) -> Result<Option<M>, WireError> {
    let unread = buffer.bytes.get(buffer.start..).unwrap_or_default();
    let Some((head, rest)) = unread.split_first_chunk::<4>() else { return Ok(None) };
    let len = usize::try_from(u32::from_le_bytes(*head)).unwrap_or(usize::MAX);
    if len > MAX_MESSAGE {
        return Err(WireError::TooLong(len));
    }
    let Some((body, _)) = rest.split_at_checked(len) else { return Ok(None) };
    let message = M::decode(body)?;
    buffer.start += 4 + len;
    if buffer.start == buffer.bytes.len() {
        buffer.bytes.clear();
        buffer.start = 0;
    }
    Ok(Some(message))
}

/// Bytes received and not decoded yet.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    start: usize,
}

impl Inbox {
    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > MAX_MESSAGE {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }
}
