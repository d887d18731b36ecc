//! The control thread: waits for whatever comes first, acts, and answers once per turn.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixListener,
    },
    process::ExitCode,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    libc,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        prctl,
        resource::{Resource, getrlimit, setrlimit},
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
        stat::Mode,
    },
    time::{ClockId, clock_gettime},
    unistd::Pid,
};
use uuid::Uuid;

use super::{
    Keeper, KeeperError,
    cgroup::Base,
    guard,
    home::{Home, Registry},
    life::attempt::{Attempt, Body, Told},
    life::fork::{Forks, Mover},
    session::Peer,
    wire::{Key, StopWhy},
    writer::Writer,
};
use crate::jail::{Pool, Spawner, Usage};

/// How long a connection may take to say hello.
const HELLO: Duration = Duration::from_secs(5);
/// How children are waited for: without waiting, and told of those that were stopped.
const WAIT: i32 = libc::WNOHANG | libc::WUNTRACED;
/// How long a keeper told to end waits for what it killed.
const FAREWELL: Duration = Duration::from_secs(2);

/// What an event of the loop is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Listener,
    Signals,
    Guard,
    Bell,
    /// Forked processes were moved into their cgroups.
    Moved,
    Peer(u64),
    /// Slot of the attempt, and which of its pipes.
    Pipe(u64, usize),
    /// The attempt's cgroup has become empty.
    Group(u64),
    Reaper(u64),
    /// Slot of a fork server.
    Fork(u64),
}

impl Token {
    /// The registration that brings this token back.
    pub(super) fn event(self, flags: EpollFlags) -> EpollEvent {
        EpollEvent::new(flags, self.encode())
    }

    fn encode(self) -> u64 {
        match self {
            Self::Listener => 0,
            Self::Signals => 1,
            Self::Guard => 2,
            Self::Bell => 3,
            Self::Moved => 4,
            Self::Pipe(slot, stream) => slot << 3 | stream as u64,
            Self::Group(slot) => slot << 3 | 3,
            Self::Reaper(slot) => slot << 3 | 4,
            Self::Peer(slot) => slot << 3 | 5,
            Self::Fork(slot) => slot << 3 | 6,
        }
    }

    fn decode(data: u64) -> Self {
        match (data >> 3, data & 7) {
            (0, 0) => Self::Listener,
            (0, 1) => Self::Signals,
            (0, 2) => Self::Guard,
            (0, 4) => Self::Moved,
            (0, _) => Self::Bell,
            (slot, 3) => Self::Group(slot),
            (slot, 4) => Self::Reaper(slot),
            (slot, 5) => Self::Peer(slot),
            (slot, 6) => Self::Fork(slot),
            (slot, stream) => Self::Pipe(slot, (stream & 3) as usize),
        }
    }
}

#[derive(Debug)]
pub(super) struct Control {
    pub(super) home: Home,
    pub(super) linger: Duration,
    pub(super) cgroups: Option<Base>,
    pub(super) registry: Registry,
    pub(super) epoll: Epoll,
    pub(super) spawner: Spawner,
    pub(super) pool: Pool,
    pub(super) writer: Writer,
    pub(super) null: OwnedFd,
    pub(super) listener: UnixListener,
    signals: SignalFd,
    guard: OwnedFd,
    /// Given up for a moment to accept and close a connection when no descriptor is left.
    pub(super) spare: Option<OwnedFd>,
    pub(super) attempts: HashMap<u64, Attempt>,
    pub(super) keys: HashMap<Key, u64>,
    pub(super) pids: HashMap<Pid, u64>,
    pub(super) forks: Forks,
    pub(super) alarms: BTreeSet<(Instant, u64)>,
    pub(super) last_slot: u64,
    pub(super) peers: HashMap<u64, Peer>,
    pub(super) session: Option<u64>,
    pub(super) epoch: u64,
    /// The newest logs folder a session has brought.
    pub(super) logs: Option<OwnedFd>,
    pub(super) instance: Uuid,
    idle_since: Option<Instant>,
    quit_by: Option<Instant>,
    guard_died: bool,
    /// Another keeper has the place, and with it the cgroups.
    displaced: bool,
}

/// Wall time in microseconds since 1970.
pub(super) fn now_us() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// The keeper's life, in a process of its own below the guard.
pub(super) fn run(keeper: Keeper, guard: OwnedFd, tell: File) -> Result<ExitCode, KeeperError> {
    let mut control = match Control::new(keeper, guard) {
        Ok(control) => control,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the keeper cannot start");
            return Err(error);
        }
    };
    guard::report_ready(tell);
    let ended = control.serve();
    control.home.unlisten();
    // Closes the sockets of reapers, which tells them to kill their trees.
    control.attempts.clear();
    guard::sweep(control.cgroups.as_ref().filter(|_| !control.displaced));
    ended
}

impl Control {
    fn new(keeper: Keeper, guard: OwnedFd) -> Result<Self, KeeperError> {
        let failed = |doing| move |errno| KeeperError::system(doing, errno);
        prctl::set_child_subreaper(true).map_err(failed("adopting orphans"))?;
        prctl::set_name(c"capsule-keeper").map_err(failed("taking a name"))?;
        let null = nix::fcntl::open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(failed("opening /dev/null"))?;
        if let Some(third) =
            guard::reserve_third(&null).map_err(failed("duplicating a descriptor"))?
        {
            // Kept for good: no descriptor of ours may be number 3.
            let _number = std::os::fd::IntoRawFd::into_raw_fd(third);
        }
        let null = null
            .try_clone()
            .map_err(|e| KeeperError::io("duplicating", "/dev/null".as_ref(), e))?;
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed("reading a limit"))?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(failed("raising a limit"))?;
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.extend(guard::ending_signals());
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&mask, flags).map_err(failed("watching signals"))?;
        let Keeper { mut home, cgroups, registry, linger } = keeper;
        let none = std::path::Path::new("-");
        let spawner =
            Spawner::new((soft, hard)).map_err(|e| KeeperError::io("mapping", none, e))?;
        let pool =
            Pool::new((soft, hard)).map_err(|e| KeeperError::io("starting threads", none, e))?;
        let writer =
            Writer::start().map_err(|e| KeeperError::io("starting the writer", none, e))?;
        let mover = Mover::start().map_err(|e| KeeperError::io("starting the mover", none, e))?;
        let epoll =
            Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed("making an epoll"))?;
        let spare = null.try_clone().ok();
        let control = Self {
            listener: home.listen()?,
            home,
            linger,
            cgroups,
            registry,
            epoll,
            spawner,
            pool,
            writer,
            null,
            signals,
            guard,
            spare,
            attempts: HashMap::new(),
            keys: HashMap::new(),
            pids: HashMap::new(),
            forks: Forks::new(mover),
            alarms: BTreeSet::new(),
            last_slot: 0,
            peers: HashMap::new(),
            session: None,
            epoch: 0,
            logs: None,
            instance: Uuid::now_v7(),
            idle_since: None,
            quit_by: None,
            guard_died: false,
            displaced: false,
        };
        control.watch(control.listener.as_fd(), EpollFlags::EPOLLIN, Token::Listener);
        control.watch(control.signals.as_fd(), EpollFlags::EPOLLIN, Token::Signals);
        control.watch(control.guard.as_fd(), EpollFlags::EPOLLIN, Token::Guard);
        control.watch(control.writer.bell.as_fd(), EpollFlags::EPOLLIN, Token::Bell);
        control.watch(control.forks.mover.bell.as_fd(), EpollFlags::EPOLLIN, Token::Moved);
        Ok(control)
    }

    fn serve(&mut self) -> Result<ExitCode, KeeperError> {
        let mut events = [EpollEvent::empty(); 256];
        while !self.is_over() {
            let timeout = self.timeout();
            let count = match self.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(errno) => return Err(KeeperError::system("waiting for events", errno)),
            };
            for event in events.iter().take(count) {
                self.on_event(Token::decode(event.data()), event.events());
            }
            self.on_time();
            self.flush();
        }
        Ok(match (self.guard_died, self.displaced) {
            (true, _) => ExitCode::FAILURE,
            (false, true) => ExitCode::from(guard::DISPLACED),
            (false, false) => ExitCode::SUCCESS,
        })
    }

    fn on_event(&mut self, token: Token, flags: EpollFlags) {
        match token {
            Token::Listener => self.accept(),
            Token::Signals => self.on_signals(),
            Token::Guard => {
                tracing::error!("the guard was killed; all attempts are killed too");
                self.guard_died = true;
            }
            Token::Bell => {
                // Reading resets the counter.
                let _count = self.writer.bell.read();
                while let Ok(drained) = self.writer.drained.try_recv() {
                    self.on_drained(drained);
                }
            }
            Token::Peer(slot) => self.on_peer(slot, flags),
            Token::Pipe(slot, stream) => self.on_pipe(slot, stream, flags),
            Token::Group(slot) => {
                self.check_group(slot);
                self.settle(slot);
            }
            Token::Reaper(slot) => self.hear_reaper(slot),
            Token::Fork(slot) => self.hear_server(slot),
            Token::Moved => self.on_moved(),
        }
    }

    fn on_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            if info.ssi_signo != Signal::SIGCHLD as u32 {
                tracing::warn!(signal = info.ssi_signo, "told to end by a signal");
                self.quit(true);
            }
        }
        self.wait_for_children();
    }

    /// Waits for every child that has ended: main processes, reapers, and orphans of attempts.
    #[expect(unsafe_code, reason = "wait4 gives what each child used; nothing in use wraps it")]
    pub(super) fn wait_for_children(&mut self) {
        loop {
            let mut status = 0;
            // SAFETY: a struct of integers, for which zero is a value.
            let mut raw: libc::rusage = unsafe { std::mem::zeroed() };
            // SAFETY: both places live across the call; -1 means any child.
            let pid = unsafe { libc::wait4(-1, &raw mut status, WAIT, &raw mut raw) };
            if pid <= 0 {
                break;
            }
            if libc::WIFSTOPPED(status) {
                self.wake_reaper(Pid::from_raw(pid));
                continue;
            }
            if let Some(slot) = self.pids.get(&Pid::from_raw(pid)).copied() {
                self.on_exit(slot, status, Usage::of(&raw));
            } else {
                self.on_child_gone(Pid::from_raw(pid));
            }
        }
        self.kill_strays();
    }

    /// An attempt may stop its own reaper; it would then neither end nor be killed.
    fn wake_reaper(&self, pid: Pid) {
        if self.reapers().contains(&pid.as_raw()) {
            // It is our child and not waited for, so the pid is still its own.
            let _gone = kill(pid, Signal::SIGCONT);
        }
    }

    fn on_pipe(&mut self, slot: u64, stream: usize, flags: EpollFlags) {
        let Some(attempt) = self.attempts.get_mut(&slot) else { return };
        if flags.contains(EpollFlags::EPOLLIN) {
            if attempt.pipes.iter().any(Option::is_some) {
                self.hand_over(slot);
            }
        } else if let Some(pipe) = attempt.pipes.get_mut(stream) {
            // Closed by all writers, and empty.
            *pipe = None;
        }
    }

    pub(super) fn quit(&mut self, kill: bool) {
        if !kill && !self.attempts.is_empty() {
            return;
        }
        self.quit_by = Some(Instant::now() + FAREWELL);
        self.forks.give_up();
        let live: Vec<u64> = self.attempts.keys().copied().collect();
        for slot in live {
            self.stop(slot, StopWhy::Drain, Duration::ZERO);
        }
    }

    /// Forgets a peer, and the session if it has it.
    pub(super) fn close_session(&mut self, slot: u64) {
        self.peers.remove(&slot);
        if self.session.take_if(|open| *open == slot).is_some() {
            self.keep_place();
        }
    }

    /// Sees to it that the next daemon will find us, also after the runtime folder was removed.
    fn keep_place(&mut self) {
        if self.home.is_in_place() {
            return;
        }
        match self.home.restore() {
            Ok(listener) => {
                tracing::warn!("somebody removed the socket; it is made again");
                self.listener = listener;
                self.watch(self.listener.as_fd(), EpollFlags::EPOLLIN, Token::Listener);
                self.write_registry();
            }
            Err(KeeperError::AlreadyRunning) => {
                tracing::error!("another keeper has the place; all attempts of this one end");
                self.displaced = true;
                self.quit(true);
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the removed socket cannot be made again");
            }
        }
    }

    fn write_registry(&mut self) {
        match self.home.register(self.cgroups.as_ref().map(Base::path)) {
            Ok(mut registry) => {
                self.registry.pids().for_each(|pid| registry.add(pid));
                self.registry = registry;
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the removed registry cannot be made again");
            }
        }
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        while let Some((at, slot)) = self.alarms.first().copied().filter(|(at, _)| *at <= now) {
            self.alarms.remove(&(at, slot));
            self.on_alarm(slot);
        }
        let silent = |(slot, peer): (&u64, &Peer)| {
            (self.session != Some(*slot) && now >= peer.since + HELLO).then_some(*slot)
        };
        let silent: Vec<u64> = self.peers.iter().filter_map(silent).collect();
        for slot in silent {
            self.refuse(slot, "no hello came");
        }
        let idle = self.peers.is_empty() && self.attempts.is_empty();
        self.idle_since = if idle { self.idle_since.or(Some(now)) } else { None };
    }

    /// How long nothing is to be done unless something happens; rounded up, so that the time has
    /// come when the wait ends.
    fn timeout(&self) -> EpollTimeout {
        let alarm = self.alarms.first().map(|(at, _)| *at);
        let hello = self.peers.iter().filter(|(slot, _)| self.session != Some(**slot));
        let hello = hello.map(|(_, peer)| peer.since + HELLO).min();
        let linger = self.idle_since.and_then(|since| since.checked_add(self.linger));
        let held = self.peers.values().filter_map(Peer::held_until).min();
        let next = [alarm, hello, linger, held, self.quit_by].into_iter().flatten().min();
        next.map_or(EpollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(Instant::now());
            let ms = u32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(60_000);
            EpollTimeout::try_from(ms.min(600_000)).unwrap_or(EpollTimeout::ZERO)
        })
    }

    fn is_over(&self) -> bool {
        let now = Instant::now();
        let told = self.attempts.values().all(|attempt| attempt.told == Told::Gone);
        self.guard_died
            || self.quit_by.is_some_and(|by| told || now >= by)
            || self.idle_since.is_some_and(|since| now.duration_since(since) >= self.linger)
    }

    pub(super) fn new_slot(&mut self) -> u64 {
        self.last_slot += 1;
        self.last_slot
    }

    pub(super) fn slot_of(&self, key: Key) -> Option<u64> {
        self.keys.get(&key).copied()
    }

    pub(super) fn slots_of_strays(&self) -> Vec<u64> {
        let strays = self.attempts.iter().filter(|(_, a)| matches!(a.body, Body::Strays));
        strays.map(|(slot, _)| *slot).collect()
    }

    pub(super) fn reapers(&self) -> Vec<i32> {
        let pid = |a: &Attempt| match &a.body {
            Body::Reaper(reaper) => Some(reaper.pid.as_raw()),
            Body::Cgroup { .. } | Body::Strays | Body::Gone => None,
        };
        self.attempts.values().filter_map(pid).collect()
    }

    /// Sets the alarm of an attempt to where its state wants it.
    pub(super) fn set_alarm(&mut self, slot: u64) {
        let Some(attempt) = self.attempts.get_mut(&slot) else { return };
        let next = attempt.next_alarm();
        if attempt.alarm == next {
            return;
        }
        if let Some(old) = std::mem::replace(&mut attempt.alarm, next) {
            self.alarms.remove(&(old, slot));
        }
        self.alarms.extend(next.map(|at| (at, slot)));
    }

    /// Forgets an attempt that is gone and whose verdict is durable.
    pub(super) fn forget_if_done(&mut self, slot: u64) {
        let done = |a: &Attempt| a.acked && a.told == Told::Gone;
        if let Some(attempt) = self.attempts.get(&slot).filter(|a| done(a)) {
            self.keys.remove(&attempt.key);
            if let Some(at) = attempt.alarm {
                self.alarms.remove(&(at, slot));
            }
            self.attempts.remove(&slot);
        }
    }

    pub(super) fn watch(&self, fd: BorrowedFd<'_>, flags: EpollFlags, token: Token) {
        // Only a lack of memory or of watches can refuse this; then the alarm looks instead.
        if let Err(error) = self.epoll.add(fd, token.event(flags)) {
            tracing::error!(%error, ?token, "cannot watch a descriptor");
        }
    }
}
