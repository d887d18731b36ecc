//! A keeper of the built binary, and a daemon that speaks to it.

use std::{
    collections::VecDeque,
    fs,
    io::{IoSlice, Read, Write},
    os::{
        fd::AsRawFd,
        unix::{fs::PermissionsExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    process::Command as Process,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use capsuled::{
    jail::Plan,
    keeper::{
        self, Choice, KeeperArgs,
        wire::{self, Cancel, Command, Ended, Inbox, Inventory, Key, Report, Spawn, Welcome},
    },
    logs::{Chunk, Cursor, LogDir, LogReader},
};
use nix::{
    sys::{
        signal::{Signal, kill},
        socket::{ControlMessage, MsgFlags, sendmsg},
    },
    unistd::Pid,
};
use uuid::Uuid;

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Starts one program and waits for it.
#[expect(clippy::disallowed_methods, reason = "tests start the built binary themselves")]
pub(crate) fn process(program: impl AsRef<std::ffi::OsStr>) -> Process {
    Process::new(program)
}

/// Waits until `done` gives something; fails after the deadline.
pub(crate) fn eventually<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        let _ = nix::poll::poll(&mut [], 2_u16);
    }
}

pub(crate) fn alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Pids of live processes whose environment holds `mark`.
pub(crate) fn marked(mark: &str) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let env = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            env.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes()) && alive(*pid)
        })
        .collect()
}

/// Whether cgroups can be used here; says so loudly when not.
pub(crate) fn modes() -> Vec<Choice> {
    let probe = tempdir();
    let uuid = Uuid::now_v7();
    let keeper = Keeper::try_start(probe.path(), uuid, Choice::Cgroup, 60);
    if keeper.is_some() {
        Daemon::connect(probe.path(), uuid, 1).quit();
        return vec![Choice::Cgroup, Choice::Reaper];
    }
    println!("NO CGROUP CAN BE MADE HERE: only the reaper is tested");
    vec![Choice::Reaper]
}

pub(crate) fn tempdir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
    dir
}

/// A running keeper; ended with all its attempts when dropped.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) dir: Arc<tempfile::TempDir>,
    pub(crate) uuid: Uuid,
    pub(crate) choice: Choice,
}

impl Keeper {
    pub(crate) fn start(choice: Choice) -> Self {
        let dir = Arc::new(tempdir());
        let uuid = Uuid::from_u128(rand());
        assert_eq!(Self::try_start(dir.path(), uuid, choice, 60), Some(()), "the keeper starts");
        Self { dir, uuid, choice }
    }

    /// Runs the starter; none if it failed.
    pub(crate) fn try_start(dir: &Path, uuid: Uuid, choice: Choice, linger: u64) -> Option<()> {
        let code = Self::run_starter(dir, uuid, choice, linger);
        (code == Some(0)).then_some(())
    }

    pub(crate) fn run_starter(dir: &Path, uuid: Uuid, choice: Choice, linger: u64) -> Option<i32> {
        let args = KeeperArgs {
            runtime_dir: dir.to_owned(),
            uuid,
            attribution: choice,
            linger_secs: linger,
        };
        let mut starter = process(env!("CARGO_BIN_EXE_capsuled"));
        starter.args(args.argv()).status().unwrap().code()
    }

    pub(crate) fn restart(&self) {
        Self::try_start(self.dir.path(), self.uuid, self.choice, 60).expect("the keeper restarts");
    }

    pub(crate) fn daemon(&self, epoch: u64) -> Daemon {
        Daemon::connect(self.dir.path(), self.uuid, epoch)
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.dir.path().join("logs")
    }
}

fn rand() -> u128 {
    // The last bits of a v7 id are random; the first ones name the files.
    Uuid::now_v7().as_u128().rotate_left(64)
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if UnixStream::connect(keeper::socket_path(self.dir.path(), self.uuid)).is_ok() {
            self.daemon(u64::MAX).quit();
        }
    }
}

/// One daemon session.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) stream: UnixStream,
    inbox: Inbox,
    pub(crate) waiting: VecDeque<Report>,
    pub(crate) welcome: Welcome,
    pub(crate) inventory: Inventory,
}

impl Daemon {
    pub(crate) fn connect(dir: &Path, uuid: Uuid, epoch: u64) -> Self {
        Self::try_connect(dir, uuid, epoch).unwrap()
    }

    pub(crate) fn try_connect(dir: &Path, uuid: Uuid, epoch: u64) -> Result<Self, Report> {
        let stream = UnixStream::connect(keeper::socket_path(dir, uuid)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let logs = dir.join("logs");
        fs::create_dir_all(&logs).unwrap();
        let logs = fs::File::open(logs).unwrap();
        let hello = wire::Hello { major: 1, minor: 0, uuid: uuid.to_string(), epoch };
        let mut bytes = Vec::new();
        let command = Some(Command::Hello(hello));
        wire::encode(&wire::ToKeeper { command }, &mut bytes);
        let fds = [logs.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        let parts = [IoSlice::new(&bytes)];
        sendmsg::<()>(stream.as_raw_fd(), &parts, &rights, MsgFlags::empty(), None).unwrap();
        let mut daemon = Self {
            stream,
            inbox: Inbox::default(),
            waiting: VecDeque::new(),
            welcome: Welcome::default(),
            inventory: Inventory::default(),
        };
        match daemon.next() {
            Report::Welcome(welcome) => daemon.welcome = welcome,
            other => return Err(other),
        }
        match daemon.next() {
            Report::Inventory(inventory) => daemon.inventory = inventory,
            other => return Err(other),
        }
        Ok(daemon)
    }

    pub(crate) fn send(&mut self, command: Command) {
        let mut bytes = Vec::new();
        wire::encode(&wire::ToKeeper { command: Some(command) }, &mut bytes);
        self.stream.write_all(&bytes).unwrap();
    }

    pub(crate) fn try_next(&mut self) -> Option<Report> {
        loop {
            let message: Option<wire::ToDaemon> = wire::decode(&mut self.inbox).unwrap();
            if let Some(message) = message {
                return message.report;
            }
            let mut buffer = [0; 16384];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.inbox.push(&buffer[..count]),
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(e) => panic!("no report came: {e}"),
            }
        }
    }

    pub(crate) fn next(&mut self) -> Report {
        self.try_next().expect("the keeper closed the session")
    }

    /// The first report, waiting or to come, for which `pick` gives something.
    pub(crate) fn find<T>(&mut self, mut pick: impl FnMut(&Report) -> Option<T>) -> T {
        for index in 0..self.waiting.len() {
            if let Some(value) = pick(&self.waiting[index]) {
                self.waiting.remove(index);
                return value;
            }
        }
        loop {
            let report = self.next();
            if let Some(value) = pick(&report) {
                return value;
            }
            self.waiting.push_back(report);
        }
    }

    pub(crate) fn spawn(&mut self, task: u64, plan: Plan) {
        self.send(Command::Spawn(Spawn { key: key(task), plan }));
    }

    /// Spawns and waits until it runs; gives the pid.
    pub(crate) fn run(&mut self, task: u64, plan: Plan) -> i32 {
        self.spawn(task, plan);
        self.find(|report| match report {
            Report::Started(started) if started.key == key(task) => Some(started.pid),
            Report::CannotStart(failure) if failure.key == key(task) => panic!("{failure:?}"),
            _ => None,
        })
    }

    pub(crate) fn cancel(&mut self, task: u64, grace_ms: u64) {
        let why = wire::StopWhy::Cancel.into();
        self.send(Command::Cancel(Cancel { key: key(task), grace_ms, why }));
    }

    pub(crate) fn ended(&mut self, task: u64) -> Ended {
        self.find(|report| match report {
            Report::Ended(ended) if ended.key == key(task) => Some(ended.clone()),
            Report::CannotStart(failure) if failure.key == key(task) => panic!("{failure:?}"),
            _ => None,
        })
    }

    /// The verdict with the whole tree gone.
    pub(crate) fn gone(&mut self, task: u64) -> Ended {
        let ended = self.ended(task);
        if ended.tree_gone {
            return ended;
        }
        self.find(|report| match report {
            Report::Gone(gone) if gone.key == key(task) => Some(gone.clone()),
            _ => None,
        })
    }

    pub(crate) fn failure(&mut self, task: u64) -> wire::CannotStart {
        self.find(|report| match report {
            Report::CannotStart(failure) if failure.key == key(task) => Some(failure.clone()),
            Report::Started(started) if started.key == key(task) => panic!("it started"),
            _ => None,
        })
    }

    pub(crate) fn ack(&mut self, task: u64) {
        self.send(Command::Ack(key(task)));
    }

    /// Ends the keeper with all that runs, and waits until both its processes are gone.
    pub(crate) fn quit(mut self) {
        self.send(Command::Quit(wire::Quit { kill: true }));
        while self.try_next().is_some() {}
        for pid in [self.welcome.pid, self.welcome.guard] {
            eventually("the keeper has gone", || (!alive(pid)).then_some(()));
        }
    }

    pub(crate) fn kill_keeper(&self) {
        kill(Pid::from_raw(self.welcome.pid), Signal::SIGKILL).unwrap();
    }

    pub(crate) fn kill_guard(&self) {
        kill(Pid::from_raw(self.welcome.guard), Signal::SIGKILL).unwrap();
    }
}

pub(crate) fn key(task: u64) -> Key {
    Key { task, attempt: 1 }
}

/// A plan for `argv` with a usual PATH.
pub(crate) fn plan(argv: &[&str]) -> Plan {
    Plan {
        argv: argv.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
        env: vec![b"PATH=/usr/local/bin:/usr/bin:/bin".to_vec()],
        event_fd: true,
        ..Plan::default()
    }
}

pub(crate) fn shell(script: &str) -> Plan {
    plan(&["sh", "-c", script])
}

/// As `shell`, with a mark by which its processes are found.
pub(crate) fn shell_marked(script: &str, mark: &str) -> Plan {
    let mut plan = shell(script);
    plan.env.push(mark.as_bytes().to_vec());
    plan
}

/// What an attempt wrote to one stream, from its log.
pub(crate) fn output(logs: &Path, task: u64, stream: u8) -> Vec<u8> {
    let dir = Arc::new(LogDir::open(logs).unwrap());
    let mut reader = LogReader::open(dir, task, 1);
    let (mut next, mut found) = (Cursor::default(), Vec::new());
    loop {
        let batch = reader.read(next, 1 << 20).unwrap();
        for chunk in batch.chunks {
            match chunk {
                Chunk::Data { stream: from, bytes, .. } if from as u8 == stream => {
                    found.extend(bytes);
                }
                Chunk::Data { .. } => {}
                Chunk::Gap { .. } => panic!("the log has a gap"),
            }
        }
        next = batch.next;
        if !batch.more {
            return found;
        }
    }
}

/// Tests that measure or count run one at a time.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
