//! The reaper: where no cgroup can be made, one small process per attempt that adopts every orphan
//! of the attempt's tree, so that no process of it can get away.
//!
//! It is a copy of the keeper that never executes anything, hence makes only system calls. It ends
//! when the tree is empty; when its socket closes, because the keeper died, it kills the tree first.
#![expect(unsafe_code, reason = "a forked copy of a process with threads may not allocate")]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, poll},
    sys::{
        signal::{Signal, kill},
        socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair},
    },
    unistd::Pid,
};

use super::{
    child::{ChildSpec, Report, close_from, exit_now},
    clone::{CannotStart, Spawner, Stdio, fork_like, map},
    image::Image,
    plan::Step,
    sweep::kill_children,
};

/// What the reaper tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The program runs.
    Started {
        /// Its pid.
        pid: i32,
    },
    /// The program did not start; the reaper ends.
    Failed {
        /// The step.
        step: Step,
        /// The kernel's reason.
        errno: i32,
    },
    /// The main process was waited for.
    Exited {
        /// As `wait4` gave it.
        status: i32,
        /// Use of everything waited for so far.
        usage: Usage,
        /// Nothing else of the tree lives; the reaper ends.
        empty: bool,
    },
    /// The last process of the tree is gone; the reaper ends.
    Empty {
        /// Use of the whole tree.
        usage: Usage,
    },
}

/// What the kernel counted for processes that were waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in user mode, microseconds.
    pub user_us: u64,
    /// Processor time in the kernel, microseconds.
    pub sys_us: u64,
    /// Largest resident set of a single process, bytes.
    pub peak_rss: u64,
    /// Bytes read from block devices.
    pub read_bytes: u64,
    /// Bytes written to block devices.
    pub write_bytes: u64,
}

impl Usage {
    /// The figures of one `rusage`.
    pub fn of(raw: &libc::rusage) -> Self {
        let micros =
            |t: libc::timeval| t.tv_sec.unsigned_abs() * 1_000_000 + t.tv_usec.unsigned_abs();
        Self {
            user_us: micros(raw.ru_utime),
            sys_us: micros(raw.ru_stime),
            peak_rss: raw.ru_maxrss.unsigned_abs() * 1024,
            read_bytes: raw.ru_inblock.unsigned_abs() * 512,
            write_bytes: raw.ru_oublock.unsigned_abs() * 512,
        }
    }

    fn add(&mut self, other: Self) {
        self.user_us += other.user_us;
        self.sys_us += other.sys_us;
        self.peak_rss = self.peak_rss.max(other.peak_rss);
        self.read_bytes += other.read_bytes;
        self.write_bytes += other.write_bytes;
    }
}

/// What the keeper asks of a reaper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Send SIGTERM and SIGCONT to the process group of the main process, if it still lives.
    Terminate = 1,
    /// Kill the whole tree.
    Kill = 2,
}

/// The keeper's end of one reaper.
#[derive(Debug)]
pub struct Reaper {
    /// Readable when there is a note, or when the reaper has died.
    pub socket: OwnedFd,
    /// The reaper itself, a child of the keeper.
    pub pid: Pid,
}

/// How long a reaper may be silent before it is woken, in milliseconds.
const WAKE_MS: u8 = 20;

impl Reaper {
    /// Forks a reaper that starts `image`; returns when it has told the outcome of the start, with
    /// the pid of the program.
    pub fn start(
        spawner: &Spawner,
        image: &Image,
        stdio: Stdio,
    ) -> Result<(Self, Pid), CannotStart> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .map_err(|errno| CannotStart::no_room(errno, "making a socket for the reaper"))?;
        let pid = fork_like(0, None);
        if pid == 0 {
            live(spawner, image, stdio, theirs.as_raw_fd());
        }
        drop(theirs);
        let Ok(pid) = i32::try_from(pid).and_then(u32::try_from) else {
            let errno = Errno::from_raw(i32::try_from(-pid).unwrap_or(libc::EAGAIN));
            return Err(CannotStart::no_room(errno, "forking a reaper"));
        };
        let reaper = Self { socket: ours, pid: Pid::from_raw(pid.cast_signed()) };
        reaper.until_it_tells();
        match reaper.read(MsgFlags::empty()) {
            Ok(Some(Note::Started { pid })) => return Ok((reaper, Pid::from_raw(pid))),
            Ok(Some(Note::Failed { step, errno })) => {
                let errno = Errno::from_raw(errno);
                return Err(if step == Step::Fork {
                    CannotStart::no_room(errno, "starting a process")
                } else {
                    CannotStart::in_child(step, errno, image)
                });
            }
            Ok(Some(Note::Exited { .. } | Note::Empty { .. }) | None) | Err(_) => {}
        }
        Err(CannotStart::no_room(Errno::EAGAIN, "the reaper died while starting the program"))
    }

    /// Waits until there is a note, or the reaper has gone. The program runs a moment before the
    /// reaper tells so, and may have stopped it meanwhile: nobody else would wake it, for the
    /// caller stands still here.
    fn until_it_tells(&self) {
        loop {
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, WAKE_MS) {
                // Harmless to one that runs; it is our child and not waited for.
                Ok(0) => drop(kill(self.pid, Signal::SIGCONT)),
                Err(Errno::EINTR) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// The next note without waiting: `Ok(None)` when the reaper has gone, `EAGAIN` when there is
    /// none yet.
    pub fn note(&self) -> Result<Option<Note>, Errno> {
        self.read(MsgFlags::MSG_DONTWAIT)
    }

    /// Sends an order; a reaper that has gone needs none.
    pub fn order(&self, order: Order) {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        // A full socket holds orders that do the same; a closed one means that the tree is gone.
        let _unsent = send(self.socket.as_raw_fd(), &[order as u8], flags);
    }

    fn read(&self, flags: MsgFlags) -> Result<Option<Note>, Errno> {
        let mut buffer = [0_u8; 64];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, flags) {
                Ok(0) | Err(Errno::ECONNRESET) => return Ok(None),
                Ok(_) => return Ok(decode(&buffer)),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

fn encode(note: Note) -> [u8; 64] {
    let number = |n: i32| u64::from(n.cast_unsigned());
    let (kind, a, b, usage) = match note {
        Note::Started { pid } => (1, number(pid), 0, Usage::default()),
        Note::Failed { step, errno } => (2, number(step as i32), number(errno), Usage::default()),
        Note::Exited { status, usage, empty } => (3, number(status), u64::from(empty), usage),
        Note::Empty { usage } => (4, 0, 0, usage),
    };
    let Usage { user_us, sys_us, peak_rss, read_bytes, write_bytes } = usage;
    let words = [kind, a, b, user_us, sys_us, peak_rss, read_bytes, write_bytes];
    let mut bytes = [0_u8; 64];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

fn decode(bytes: &[u8; 64]) -> Option<Note> {
    let mut words = [0_u64; 8];
    for (word, place) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_ne_bytes(place.try_into().ok()?);
    }
    let [kind, a, b, user_us, sys_us, peak_rss, read_bytes, write_bytes] = words;
    let usage = Usage { user_us, sys_us, peak_rss, read_bytes, write_bytes };
    let number = |n: u64| i32::try_from(n).unwrap_or(-1);
    match kind {
        1 => Some(Note::Started { pid: number(a) }),
        2 => Some(Note::Failed {
            step: Step::try_from(number(a)).unwrap_or(Step::Unknown),
            errno: number(b),
        }),
        3 => Some(Note::Exited { status: number(a), usage, empty: b != 0 }),
        4 => Some(Note::Empty { usage }),
        _ => None,
    }
}

/// The life of the reaper. From here on nothing is allocated and nothing may panic.
fn live(spawner: &Spawner, image: &Image, stdio: Stdio, socket: RawFd) -> ! {
    // SAFETY: only numbers are passed.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    // SAFETY: the name is a C string.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"capsule-reaper".as_ptr(), 0, 0, 0) };
    let main = match start(spawner, image, stdio) {
        Ok(pid) => pid.as_raw(),
        Err((step, errno)) => {
            tell(socket, Note::Failed { step, errno: errno as i32 });
            exit_now()
        }
    };
    // SAFETY: both are numbers; descriptor 0 of this process is /dev/null and no more needed.
    unsafe { libc::dup2(socket, 0) };
    close_from(1);
    tell(0, Note::Started { pid: main });
    let mut tree = Tree { main, usage: Usage::default(), killing: false };
    let children = children_signal();
    loop {
        tree.wait_for_all();
        let timeout = if tree.killing && kill_children(&|_| false).refused > 0 { 20 } else { -1 };
        let mut fds = [poll_in(if tree.killing { -1 } else { 0 }), poll_in(children)];
        // SAFETY: the array has two entries and lives across the call.
        unsafe { libc::poll(fds.as_mut_ptr(), 2, timeout) };
        let [commands, signals] = fds;
        if signals.revents != 0 {
            forget_signal(children);
        }
        if commands.revents != 0 {
            tree.obey();
        }
    }
}

fn start(spawner: &Spawner, image: &Image, stdio: Stdio) -> Result<Pid, (Step, Errno)> {
    // The keeper's report page is shared with this copy, and may be in use again.
    let report = map(size_of::<Report>(), libc::MAP_SHARED).map_err(|e: io::Error| {
        (Step::Fork, Errno::from_raw(e.raw_os_error().unwrap_or(libc::ENOMEM)))
    })?;
    // SAFETY: mapped above, zeroed by the kernel, never unmapped, and holding only atomics.
    let report = unsafe { report.cast::<Report>().as_ref() };
    // SAFETY: takes nothing and cannot fail.
    let parent = unsafe { libc::getpid() };
    let (nofile, signals) = (spawner.nofile, spawner.signals);
    let spec = ChildSpec { image, fds: stdio.fds, parent, nofile, signals, report };
    spawner.try_start(&spec, None)
}

struct Tree {
    main: i32,
    usage: Usage,
    killing: bool,
}

impl Tree {
    /// Waits for everything that has ended; tells of the main process and of the end of the tree.
    fn wait_for_all(&mut self) {
        let mut exited = None;
        loop {
            let mut status = 0;
            // SAFETY: a struct of integers.
            let mut raw: libc::rusage = unsafe { std::mem::zeroed() };
            // SAFETY: both places live across the call; -1 means any child of ours.
            let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut raw) };
            if pid > 0 {
                self.usage.add(Usage::of(&raw));
                if pid == self.main {
                    self.main = 0;
                    exited = Some(status);
                }
                continue;
            }
            if pid < 0 && Errno::last() == Errno::EINTR {
                continue;
            }
            let empty = pid < 0;
            if let Some(status) = exited {
                tell(0, Note::Exited { status, usage: self.usage, empty });
            } else if empty {
                tell(0, Note::Empty { usage: self.usage });
            }
            if empty {
                exit_now();
            }
            return;
        }
    }

    /// Follows the orders in the socket; its end is an order to kill.
    fn obey(&mut self) {
        let mut order = 0_u8;
        // SAFETY: one byte is read into one byte.
        let got = unsafe { libc::recv(0, (&raw mut order).cast(), 1, libc::MSG_DONTWAIT) };
        if got < 0 {
            return;
        }
        if got == 1 && order == Order::Terminate as u8 {
            if self.main > 0 {
                signal_group(self.main);
            }
            return;
        }
        self.killing = true;
    }
}

fn signal_group(leader: i32) {
    for signal in [libc::SIGTERM, libc::SIGCONT] {
        // SAFETY: only numbers; the leader has not been waited for, so its group is still its own.
        unsafe { libc::kill(-leader, signal) };
    }
}

fn tell(socket: RawFd, note: Note) {
    let bytes = encode(note);
    // SAFETY: the bytes are as long as said. A keeper that has gone needs no note.
    unsafe { libc::send(socket, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
}

/// A descriptor that is readable when a child has ended (SIGCHLD is blocked here as in the keeper).
fn children_signal() -> RawFd {
    let mask = 1_u64 << (libc::SIGCHLD - 1);
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the mask is 8 bytes, as said, and lives across the call.
    let fd = unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const mask, 8_usize, flags) };
    i32::try_from(fd).unwrap_or(-1)
}

fn forget_signal(fd: RawFd) {
    let mut info = [0_u8; 128];
    // SAFETY: the buffer is as long as said.
    unsafe { libc::read(fd, info.as_mut_ptr().cast(), info.len()) };
}

fn poll_in(fd: RawFd) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}
