//! The keeper's place in the runtime folder: lock, socket, log, and the registry by which the next
//! keeper finds what this one left behind.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileExt, MetadataExt, OpenOptionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    fcntl::OFlag,
    sys::{
        signal::Signal,
        stat::{Mode, umask},
    },
    unistd::{Pid, geteuid},
};
use uuid::Uuid;

use super::KeeperError;

/// The fixed name of the socket of the keeper that serves the store `uuid`.
pub fn socket_path(runtime_dir: &Path, uuid: Uuid) -> PathBuf {
    named(runtime_dir, uuid, "sock")
}

/// The file that keeps the keeper's words about itself.
pub fn log_path(runtime_dir: &Path, uuid: Uuid) -> PathBuf {
    named(runtime_dir, uuid, "log")
}

fn named(dir: &Path, uuid: Uuid, kind: &str) -> PathBuf {
    dir.join(format!("keeper-{}.{kind}", short(uuid)))
}

/// The last twelve hex digits of a store's id. The first ones are the time of its making, so that
/// two stores made within a minute would share a keeper's socket and cgroup.
pub(super) fn short(uuid: Uuid) -> String {
    let mut text = uuid.simple().to_string();
    text.split_off(20)
}

/// The right to be the keeper of one store, held by guard and keeper together.
#[derive(Debug)]
pub(super) struct Home {
    dir: PathBuf,
    uuid: Uuid,
    /// Freed when the last copy closes, not before: the starter's copy must not free it by a drop.
    _lock: File,
}

impl Home {
    /// Checks the folder and takes the lock. A running keeper gives `AlreadyRunning`; one that is
    /// just dying is waited for.
    pub(super) fn claim(dir: &Path, uuid: Uuid) -> Result<Self, KeeperError> {
        check_private(dir)?;
        let deadline = Instant::now() + Duration::from_secs(2);
        let file =
            private_file(&named(dir, uuid, "lock"), OpenOptions::new().write(true).create(true))
                .map_err(|e| KeeperError::io("opening the lock in", dir, e))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { dir: dir.to_owned(), uuid, _lock: file }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(e)) => return Err(KeeperError::io("locking", dir, e)),
            }
            let socket = socket_path(dir, uuid);
            if UnixStream::connect(socket).is_ok() || Instant::now() >= deadline {
                return Err(KeeperError::AlreadyRunning);
            }
            // Nothing tells when a lock is freed, short of blocking without a deadline.
            let _timeout = nix::poll::poll(&mut [], 5_u16);
        }
    }

    pub(super) fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Binds the socket. Holding the lock, a socket nobody answers on is a left-over.
    pub(super) fn listen(&self) -> Result<UnixListener, KeeperError> {
        let path = socket_path(&self.dir, self.uuid);
        match UnixStream::connect(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(&path).map_err(|e| KeeperError::io("removing", &path, e))?;
            }
            Err(e) => return Err(KeeperError::io("looking at", &path, e)),
            Ok(_) => return Err(KeeperError::AlreadyRunning),
        }
        let mask = umask(Mode::from_bits_truncate(0o077));
        let bound = UnixListener::bind(&path);
        umask(mask);
        let listener = bound.map_err(|e| KeeperError::io("binding", &path, e))?;
        listener.set_nonblocking(true).map_err(|e| KeeperError::io("binding", &path, e))?;
        Ok(listener)
    }

    /// Takes the socket away, so that nobody waits on a keeper that has gone.
    pub(super) fn unlisten(&self) {
        // If it cannot be removed, the next keeper finds it stale and replaces it.
        let _left = fs::remove_file(socket_path(&self.dir, self.uuid));
    }

    /// Opens the log for appending, from the start once it has grown past 1 MiB.
    pub(super) fn open_log(&self) -> Result<OwnedFd, KeeperError> {
        let path = log_path(&self.dir, self.uuid);
        let large = fs::symlink_metadata(&path).is_ok_and(|meta| meta.len() > 1 << 20);
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        let file =
            private_file(&path, &mut options).map_err(|e| KeeperError::io("opening", &path, e))?;
        if large {
            file.set_len(0).map_err(|e| KeeperError::io("emptying", &path, e))?;
        }
        Ok(file.into())
    }

    /// What the keeper before us wrote down.
    pub(super) fn former(&self) -> Former {
        let text = fs::read(named(&self.dir, self.uuid, "registry")).unwrap_or_default();
        Former::parse(&String::from_utf8_lossy(&text))
    }

    /// Starts a new registry, naming our cgroup folder.
    pub(super) fn register(&self, cgroup: Option<&Path>) -> Result<Registry, KeeperError> {
        let path = named(&self.dir, self.uuid, "registry");
        let failed = |e| KeeperError::io("writing", &path, e);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        let mut file = private_file(&path, &mut options).map_err(failed)?;
        let cgroup = cgroup.map(|path| path.display().to_string()).unwrap_or_default();
        let head = format!("boot {}\ncgroup {cgroup}\n", boot_id());
        file.write_all(head.as_bytes()).map_err(failed)?;
        Ok(Registry { file, start: head.len() as u64, used: Vec::new() })
    }
}

/// The folder must be ours alone, and not reached through a link.
fn check_private(dir: &Path) -> Result<(), KeeperError> {
    let meta = fs::symlink_metadata(dir).map_err(|e| KeeperError::io("looking at", dir, e))?;
    let wrong = if !meta.is_dir() {
        "is not a folder"
    } else if meta.uid() != geteuid().as_raw() {
        "belongs to somebody else"
    } else if meta.mode() & 0o077 != 0 {
        "is open to others (it must have mode 0700)"
    } else {
        return Ok(());
    };
    Err(KeeperError::Unsafe { dir: dir.to_owned(), wrong })
}

fn private_file(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options.mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)
}

fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// The processes of attempts that no cgroup holds together, in a file of fixed-size lines that
/// survives us. Its folder is kept in memory by the system, so writing it waits for no disk.
#[derive(Debug)]
pub(super) struct Registry {
    file: File,
    start: u64,
    used: Vec<Option<Pid>>,
}

const LINE: usize = 32;

impl Registry {
    pub(super) fn add(&mut self, pid: Pid) {
        let Some(start) = start_time(pid) else { return };
        let place = self.used.iter().position(Option::is_none).unwrap_or(self.used.len());
        match self.used.get_mut(place) {
            Some(slot) => *slot = Some(pid),
            None => self.used.push(Some(pid)),
        }
        self.write(place, &format!("{:>10} {start:>20}\n", pid.as_raw()));
    }

    pub(super) fn remove(&mut self, pid: Pid) {
        if let Some(place) = self.used.iter().position(|used| *used == Some(pid)) {
            if let Some(slot) = self.used.get_mut(place) {
                *slot = None;
            }
            self.write(place, &format!("{:LINE$}", "\n"));
        }
    }

    fn write(&self, place: usize, line: &str) {
        let offset = self.start + (place * LINE) as u64;
        if let Err(error) = self.file.write_all_at(line.as_bytes(), offset) {
            tracing::warn!(%error, "cannot write the registry");
        }
    }
}

/// What a former keeper wrote down.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Former {
    /// Where its attempts' cgroups were.
    pub(super) cgroup: Option<PathBuf>,
    same_boot: bool,
    processes: Vec<(i32, u64)>,
}

impl Former {
    fn parse(text: &str) -> Self {
        let mut former = Self::default();
        for line in text.lines() {
            if let Some(boot) = line.strip_prefix("boot ") {
                former.same_boot = boot == boot_id();
            } else if let Some(path) = line.strip_prefix("cgroup ") {
                former.cgroup = (!path.is_empty()).then(|| PathBuf::from(path));
            } else {
                let mut numbers = line.split_whitespace();
                let pid = numbers.next().and_then(|n| n.parse().ok());
                let start = numbers.next().and_then(|n| n.parse().ok());
                former.processes.extend(pid.zip(start));
            }
        }
        former
    }

    /// Kills the registered processes that still live, and everything below them.
    pub(super) fn kill_processes(&self) {
        for (pid, start) in self.processes.iter().filter(|_| self.same_boot) {
            let pid = Pid::from_raw(*pid);
            if super::guard::is_reaper(pid.as_raw()) {
                empty_reaper(pid, *start);
            }
            kill_tree(pid, Some(*start));
        }
    }
}

/// Kills what is below a reaper until it ends by itself, for at most one second. It has lost its
/// keeper and does the same; killed in the midst of that, it would set free what it is about to
/// adopt.
fn empty_reaper(pid: Pid, start: u64) {
    let deadline = Instant::now() + Duration::from_secs(1);
    while lives(pid) && start_time(pid) == Some(start) && Instant::now() < deadline {
        for (child, start) in children(pid) {
            kill_tree(child, start);
        }
        let _timeout = nix::poll::poll(&mut [], 1_u16);
    }
}

/// Whether a process is there and not only waits to be waited for.
fn lives(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Kills a process and its descendants, deepest last, if it is still the one that began at `start`.
fn kill_tree(pid: Pid, start: Option<u64>) {
    // The descriptor comes first: once it is open and the start time matches, it can only mean the
    // process that was registered, whatever happens to the number.
    let Ok(handle) = super::cgroup::pidfd(pid) else { return };
    if start.is_some_and(|start| start_time(pid) != Some(start)) {
        return;
    }
    let below = children(pid);
    if super::cgroup::pidfd_signal(&handle, Signal::SIGKILL).is_ok() {
        tracing::warn!(pid = pid.as_raw(), "killed a process that a former keeper left behind");
    }
    for (child, start) in below {
        kill_tree(child, start);
    }
}

fn children(pid: Pid) -> Vec<(Pid, Option<u64>)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|pid| pid.parse().ok().map(Pid::from_raw))
        .map(|pid| (pid, start_time(pid)))
        .collect()
}

/// Field 22 of `/proc/PID/stat`: clock ticks from boot to the start of the process.
fn start_time(pid: Pid) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(dir.path(), mode).unwrap();
        let home = Home::claim(dir.path(), Uuid::nil()).unwrap();
        let mut registry = home.register(Some(Path::new("/somewhere"))).unwrap();
        let me = Pid::this();
        registry.add(me);
        registry.add(Pid::parent());
        registry.remove(Pid::parent());
        let former = home.former();
        assert_eq!(former.cgroup.as_deref(), Some(Path::new("/somewhere")));
        assert!(former.same_boot);
        assert_eq!(former.processes, [(me.as_raw(), start_time(me).unwrap())]);
    }

    #[test]
    fn a_pid_with_another_start_time_is_never_signalled() {
        // Were the start time not compared, this test process would be killed.
        let me = Pid::this();
        let text = format!("boot {}\ncgroup \n{me} {}\n", boot_id(), start_time(me).unwrap() + 1);
        Former::parse(&text).kill_processes();
        let other_boot = format!("boot other\ncgroup \n{me} {}\n", start_time(me).unwrap());
        Former::parse(&other_boot).kill_processes();
    }

    #[test]
    fn stores_made_at_the_same_time_have_names_of_their_own() {
        let made: std::collections::HashSet<_> = (0..100).map(|_| short(Uuid::now_v7())).collect();
        assert_eq!(made.len(), 100);
    }

    #[test]
    fn an_open_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o750);
        fs::set_permissions(dir.path(), mode).unwrap();
        let refused = Home::claim(dir.path(), Uuid::nil()).unwrap_err();
        assert!(matches!(refused, KeeperError::Unsafe { .. }), "{refused}");
    }
}
