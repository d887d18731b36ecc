//! One cgroup2 folder per attempt, below our own cgroup. No controllers are needed: membership
//! alone says which process belongs to which attempt, and `cgroup.kill` ends them all at once.
//!
//! The kernel takes longer to make and remove a folder than to start a program in it, so empty ones
//! are used again. Invariant: a folder has one owner, the attempt that holds its [`Leaf`]; it is
//! given away only by that one's successor in the pool, once no process is in it.
#![expect(unsafe_code, reason = "pidfd calls that no crate in use wraps")]

use std::{
    fs,
    io::Read,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, openat},
    libc,
    sys::{signal::Signal, stat::Mode},
    unistd::{Pid, UnlinkatFlags, unlinkat},
};

pub(super) use self::leaf::Leaf;

mod leaf;

/// Empty folders kept for later attempts, with three descriptors each. Where more attempts than
/// these end together, some of the next get a new one.
const SPARE: usize = 16;

/// The folder that holds one folder per attempt.
#[derive(Debug)]
pub(super) struct Base {
    path: PathBuf,
    dir: OwnedFd,
    has_memory: bool,
    has_io: bool,
    /// Where there are controllers, a folder keeps figures and limits of the attempt before.
    has_controllers: bool,
    /// Empty folders.
    spare: Vec<Leaf>,
    /// Folders made so far.
    made: u64,
}

/// What the kernel counted for all processes that were ever in a cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CgroupUse {
    pub(super) cpu_us: Option<(u64, u64)>,
    pub(super) peak: Option<u64>,
    pub(super) io: Option<(u64, u64)>,
}

impl Base {
    /// Makes `capsule-<short>` below our own cgroup2 folder. Fails where there is no cgroup2, we may
    /// not write there, or the kernel lacks `cgroup.kill`.
    pub(super) fn prepare(short: &str) -> Result<Self, String> {
        let own = own_folder().ok_or("no cgroup2 folder of ours was found")?;
        let path = own.join(format!("capsule-{short}"));
        match fs::create_dir(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(format!("cannot make {}: {e}", path.display()));
            }
            Ok(()) | Err(_) => {}
        }
        let mut base =
            Self::open(&path).map_err(|e| format!("cannot open {}: {e}", path.display()))?;
        base.rehearse().map_err(|e| format!("{} cannot be used: {e}", path.display()))?;
        Ok(base)
    }

    /// Opens an existing base folder.
    pub(super) fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
        let dir = nix::fcntl::open(path, flags, Mode::empty())?;
        let (path, spare) = (path.to_owned(), Vec::new());
        let (has_memory, has_io, has_controllers) = (false, false, true);
        Ok(Self { path, dir, has_memory, has_io, has_controllers, spare, made: 0 })
    }

    /// Everything a later attempt needs must work now.
    fn rehearse(&mut self) -> Result<(), Errno> {
        let leaf = self.make_new()?;
        let usable = self.write(&leaf, "cgroup.kill", b"1");
        self.has_memory = self.read(&leaf, "memory.peak").is_some();
        self.has_io = self.read(&leaf, "io.stat").is_some();
        let controllers = self.read(&leaf, "cgroup.controllers");
        self.has_controllers = controllers.is_none_or(|text| !text.trim().is_empty());
        self.remove(&leaf)?;
        usable
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// An empty folder for one attempt.
    pub(super) fn make(&mut self) -> Result<Leaf, Errno> {
        while let Some(mut leaf) = self.spare.pop() {
            if leaf.renew() {
                return Ok(leaf);
            }
            self.discard(&leaf);
        }
        self.make_new()
    }

    fn make_new(&mut self) -> Result<Leaf, Errno> {
        loop {
            self.made += 1;
            let name = format!("a{}", self.made);
            let mode = Mode::from_bits_truncate(0o755);
            match nix::sys::stat::mkdirat(&self.dir, &*name, mode) {
                Ok(()) => {
                    return Leaf::open(&self.dir, &name).inspect_err(|_| {
                        // Empty, and nobody's: should even this fail, the keeper's end takes it.
                        let _kept = unlinkat(&self.dir, &*name, UnlinkatFlags::RemoveDir);
                    });
                }
                // A process that a former keeper could not end may still be in it.
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Takes back a folder that is empty.
    pub(super) fn give_back(&mut self, leaf: Leaf) {
        if leaf.killed || self.has_controllers || self.spare.len() >= SPARE {
            self.discard(&leaf);
        } else {
            self.spare.push(leaf);
        }
    }

    /// Removes a folder that no attempt has any more.
    pub(super) fn discard(&self, leaf: &Leaf) {
        if let Err(error) = self.remove(leaf) {
            tracing::warn!(%error, cgroup = leaf.name, "cannot remove a cgroup");
        }
    }

    fn remove(&self, leaf: &Leaf) -> Result<(), Errno> {
        match unlinkat(&self.dir, &*leaf.name, UnlinkatFlags::RemoveDir) {
            Err(Errno::EBUSY) if leaf.is_empty() => {
                // The attempt made cgroups of its own; they are empty too.
                remove_below(&self.path.join(&leaf.name));
                unlinkat(&self.dir, &*leaf.name, UnlinkatFlags::RemoveDir)
            }
            Err(Errno::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// Kills every process of one attempt.
    pub(super) fn kill(&self, leaf: &mut Leaf) {
        leaf.killed = true;
        if let Err(error) = self.write(leaf, "cgroup.kill", b"1")
            && error != Errno::ENOENT
        {
            tracing::error!(%error, cgroup = leaf.name, "cannot kill a cgroup");
        }
    }

    pub(super) fn usage(&self, leaf: &Leaf) -> CgroupUse {
        let peak = self.has_memory.then(|| self.read(leaf, "memory.peak")).flatten();
        let io = self.has_io.then(|| self.read(leaf, "io.stat")).flatten();
        CgroupUse {
            cpu_us: leaf.cpu_us(),
            peak: peak.and_then(|text| text.trim().parse().ok()),
            io: io.map(|text| (sum(&text, "rbytes="), sum(&text, "wbytes="))),
        }
    }

    /// Kills every attempt, whoever started it, and waits (at most 1 s) until all are gone.
    pub(super) fn clear(&self) {
        let deadline = Instant::now() + Duration::from_secs(1);
        loop {
            // Attempts of a dying keeper may still appear: kill again in each round.
            let _refused = fs::write(self.path.join("cgroup.kill"), "1");
            let events = fs::read_to_string(self.path.join("cgroup.events")).unwrap_or_default();
            if !events.contains("populated 1") || Instant::now() >= deadline {
                break;
            }
            let _timeout = nix::poll::poll(&mut [], 1_u16);
        }
        remove_below(&self.path);
    }

    /// Removes the base folder itself, if it is empty.
    pub(super) fn retire(&self) {
        remove_below(&self.path);
        let _kept = fs::remove_dir(&self.path);
    }

    fn open_file(&self, leaf: &Leaf, file: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        let path = format!("{}/{file}", leaf.name);
        openat(&self.dir, &*path, flags | OFlag::O_CLOEXEC, Mode::empty())
    }

    fn write(&self, leaf: &Leaf, file: &str, bytes: &[u8]) -> Result<(), Errno> {
        let fd = self.open_file(leaf, file, OFlag::O_WRONLY)?;
        nix::unistd::write(&fd, bytes).map(|_| ())
    }

    fn read(&self, leaf: &Leaf, file: &str) -> Option<String> {
        let mut text = String::with_capacity(512);
        let mut file = fs::File::from(self.open_file(leaf, file, OFlag::O_RDONLY).ok()?);
        file.read_to_string(&mut text).ok()?;
        Some(text)
    }
}

/// The sum of one figure over all devices.
fn sum(text: &str, name: &str) -> u64 {
    let figures = text.split_whitespace().filter_map(|word| word.strip_prefix(name));
    figures.filter_map(|figure| figure.parse::<u64>().ok()).sum()
}

fn remove_below(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path());
            // One that still has a process stays, and the next keeper clears it.
            let _kept = fs::remove_dir(entry.path());
        }
    }
}

/// Our own cgroup in the cgroup2 hierarchy, wherever that is mounted.
fn own_folder() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (mount, fs) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        // A mount of a part of the hierarchy shows paths below that part.
        let below = Path::new(own).strip_prefix(root).ok()?;
        fs.starts_with("cgroup2 ").then(|| Path::new(point).join(below))
    })
}

/// A descriptor of a process, whoever its parent is.
pub(super) fn pidfd(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: only numbers are passed.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = i32::try_from(Errno::result(fd)?).unwrap_or(-1);
    // SAFETY: the kernel just made this descriptor for us; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Signals the very process that `handle` was opened for.
pub(super) fn pidfd_signal(handle: &OwnedFd, signal: Signal) -> Result<(), Errno> {
    let fd: BorrowedFd<'_> = handle.as_fd();
    // SAFETY: only numbers and a null pointer, which means "as kill would".
    let done = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), signal as i32, 0_usize, 0)
    };
    Errno::result(done).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A base of our own, where cgroups can be made; says so loudly where not.
    fn base(name: &str) -> Option<Base> {
        let base = Base::prepare(&format!("test-{name}-{}", std::process::id()));
        base.inspect_err(|why| println!("NO CGROUP CAN BE MADE HERE: {why}")).ok()
    }

    #[test]
    fn untouched_folder_is_used_again() {
        let Some(mut base) = base("again") else { return };
        let leaf = base.make().unwrap();
        let name = leaf.name.clone();
        base.give_back(leaf);
        let again = base.make().unwrap();
        assert_eq!(again.name == name, !base.has_controllers);
        assert_eq!(again.cpu_us(), Some((0, 0)));
        base.give_back(again);
        base.retire();
        assert!(!base.path.exists());
    }

    #[test]
    fn changed_folder_is_not_used_again() {
        let Some(mut base) = base("changed") else { return };
        let changes: [fn(&Path); 3] = [
            |path| fs::create_dir(path.join("inner")).unwrap(),
            |path| fs::write(path.join("cgroup.freeze"), "1").unwrap(),
            |path| {
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
                fs::set_permissions(path, mode).unwrap();
            },
        ];
        for change in changes {
            let leaf = base.make().unwrap();
            let path = base.path.join(&leaf.name);
            change(&path);
            base.give_back(leaf);
            let next = base.make().unwrap();
            assert!(!path.exists() && base.path.join(&next.name) != path);
            base.discard(&next);
        }
        base.retire();
        assert!(!base.path.exists());
    }

    #[test]
    fn killed_folder_is_not_used_again() {
        let Some(mut base) = base("killed") else { return };
        let mut leaf = base.make().unwrap();
        let path = base.path.join(&leaf.name);
        base.kill(&mut leaf);
        base.give_back(leaf);
        assert!(!path.exists());
        base.retire();
    }

    #[test]
    fn folders_of_many_attempts_do_not_stay() {
        let Some(mut base) = base("many") else { return };
        let leaves: Vec<Leaf> = (0..SPARE + 5).map(|_| base.make().unwrap()).collect();
        for leaf in leaves {
            base.give_back(leaf);
        }
        let folders = fs::read_dir(&base.path).unwrap().flatten();
        assert!(folders.filter(|entry| entry.path().is_dir()).count() <= SPARE);
        base.retire();
        assert!(!base.path.exists());
    }
}
