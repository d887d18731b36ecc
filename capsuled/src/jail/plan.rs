//! The plan of one attempt, as the daemon sends it.

/// Everything needed to start one attempt. Bytes, not text, wherever the kernel takes bytes.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct Plan {
    /// Program to run: a path, or a bare name looked up in the task's own PATH. Empty: `argv[0]`.
    #[prost(bytes = "vec", tag = "1")]
    pub program: Vec<u8>,
    /// Arguments, the first being the name the program is called by.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub argv: Vec<Vec<u8>>,
    /// Working directory; empty means `/`.
    #[prost(bytes = "vec", tag = "3")]
    pub cwd: Vec<u8>,
    /// The whole environment, each entry as `NAME=value`.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub env: Vec<Vec<u8>>,
    /// File mode creation mask; unset: the keeper's own.
    #[prost(uint32, optional, tag = "5")]
    pub umask: Option<u32>,
    /// Resource limits to set, in order.
    #[prost(message, repeated, tag = "6")]
    pub rlimits: Vec<Rlimit>,
    /// Never gain privileges through exec.
    #[prost(bool, tag = "7")]
    pub no_new_privs: bool,
    /// Longest run from start, in milliseconds; 0 means no limit.
    #[prost(uint64, tag = "8")]
    pub deadline_ms: u64,
    /// Milliseconds between the polite signal and the kill at the deadline; 0 kills at once.
    #[prost(uint64, tag = "9")]
    pub grace_ms: u64,
    /// What standard input holds; unset: `/dev/null`.
    #[prost(bytes = "vec", optional, tag = "10")]
    pub stdin: Option<Vec<u8>>,
    /// Bounds of the log; unset: the defaults.
    #[prost(message, optional, tag = "11")]
    pub log_caps: Option<LogCapsPlan>,
    /// Open descriptor 3 for events and name it in `CAPSULE_EVENT_FD`.
    #[prost(bool, tag = "12")]
    pub event_fd: bool,
    /// How strongly the attempt is separated from the rest.
    #[prost(enumeration = "Level", tag = "13")]
    pub level: i32,
    /// Start it as a fork of this server, where that can be done.
    #[prost(message, optional, tag = "14")]
    pub fork: Option<Fork>,
    /// It is a fork server: it gets a socket as descriptor 3, named in `CAPSULE_FORK_FD`, instead of
    /// that for events.
    #[prost(bool, tag = "15")]
    pub fork_server: bool,
}

/// Names a fork server.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Fork {
    /// The task number in the key of its process, whose attempt is 1.
    #[prost(uint64, tag = "1")]
    pub server: u64,
}

impl std::fmt::Debug for Plan {
    /// Leaves out environment, arguments and input: they may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan")
            .field("program", &String::from_utf8_lossy(&self.program))
            .field("args", &self.argv.len())
            .field("deadline_ms", &self.deadline_ms)
            .field("grace_ms", &self.grace_ms)
            .finish_non_exhaustive()
    }
}

/// One resource limit; `u64::MAX` means unlimited.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Rlimit {
    /// The kernel's number of the resource (`RLIMIT_*`).
    #[prost(uint32, tag = "1")]
    pub resource: u32,
    /// Soft limit.
    #[prost(uint64, tag = "2")]
    pub soft: u64,
    /// Hard limit.
    #[prost(uint64, tag = "3")]
    pub hard: u64,
}

/// Bounds of an attempt's log in bytes on disk.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct LogCapsPlan {
    /// Bytes of the head file.
    #[prost(uint64, tag = "1")]
    pub head: u64,
    /// Bytes of the tail files together.
    #[prost(uint64, tag = "2")]
    pub tail: u64,
}

/// Levels of isolation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Level {
    /// Own session, clean descriptors, signals, directory and environment.
    Process = 0,
}

/// The step of a start that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Step {
    /// Not said.
    Unknown = 0,
    /// The program is missing, is a directory or may not be executed.
    Program = 1,
    /// The working directory cannot be entered.
    Cwd = 2,
    /// A resource limit cannot be set.
    Rlimit = 3,
    /// The user cannot be taken on.
    User = 4,
    /// The attempt's cgroup cannot be made or entered.
    Cgroup = 5,
    /// The kernel refused to execute the program.
    Exec = 6,
    /// No process, memory or descriptor was left; worth another try.
    Fork = 7,
    /// Session, descriptors or signals could not be set up.
    Setup = 8,
    /// The plan itself makes no sense.
    Plan = 9,
}
