//! Starting attempts: what each needs is prepared, then those that came together start together.

use std::{
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
    time::{Duration, Instant},
};

use nix::{
    sys::socket::{AddressFamily, SockFlag, SockType, socketpair},
    unistd::Pid,
};

use super::attempt::{Attempt, Body, Output, Told, make_pipes, stdin_of};
use super::{after, started};
use crate::{
    failpoint,
    jail::{CannotStart, Image, Plan, Reaper, Start, Stdio, Step, Usage},
    keeper::{
        cgroup::{CgroupUse, Leaf},
        control::{Control, now_us},
        wire::{self, Attribution, Key, LogTally, Report},
        writer::Pipes,
    },
    logs::LogCaps,
};

/// An attempt with everything it needs, not started yet.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) key: Key,
    pub(super) plan: Plan,
    image: Image,
    pipes: Pipes,
    ends: Ends,
    pub(super) input: Option<OwnedFd>,
    /// Our end of a fork server's socket.
    socket: Option<OwnedFd>,
}

/// An attempt that is being started; what its program is given stays open until that is done.
pub(super) struct Unstarted {
    key: Key,
    plan: Plan,
    pipes: Pipes,
    socket: Option<OwnedFd>,
    _given: (Ends, Option<OwnedFd>),
}

/// The program's ends of its pipes.
#[derive(Debug)]
struct Ends(Pipes);

impl Prepared {
    fn new(key: Key, plan: Plan) -> Result<Self, CannotStart> {
        let image = Image::new(&plan)?;
        let (pipes, mut ends) = make_pipes(plan.event_fd && !plan.fork_server)?;
        let input = plan.stdin.as_deref().map(stdin_of).transpose()?;
        let mut socket = None;
        if plan.fork_server {
            let (ours, theirs) = fork_socket()?;
            socket = Some(ours);
            if let Some(third) = ends.last_mut() {
                *third = Some(theirs);
            }
        }
        Ok(Self { key, plan, image, pipes, ends: Ends(ends), input, socket })
    }

    fn stdio(&self, null: &OwnedFd) -> Stdio {
        let ends = self.ends.0.each_ref();
        let [output, errors, events] = ends.map(|end| end.as_ref().map_or(-1, raw));
        Stdio { fds: [raw(self.input.as_ref().unwrap_or(null)), output, errors, events] }
    }

    /// Descriptors of output, errors and events for the program.
    pub(super) fn fds(&self, null: &OwnedFd) -> [RawFd; 3] {
        self.ends.0.each_ref().map(|end| raw(end.as_ref().unwrap_or(null)))
    }
}

/// The socket of a fork server: our end and its own.
fn fork_socket() -> Result<(OwnedFd, OwnedFd), CannotStart> {
    let failed = |errno| CannotStart::no_room(errno, "making a socket for a fork server");
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(failed)
}

fn raw(fd: &OwnedFd) -> RawFd {
    fd.as_raw_fd()
}

impl Unstarted {
    /// Without what only a program of its own needs.
    pub(super) fn new(one: Prepared) -> (Self, Image) {
        let Prepared { key, plan, image, pipes, ends, input, socket } = one;
        let given = (ends, input);
        (Self { key, plan, pipes, socket, _given: given }, image)
    }

    pub(super) fn started(
        self,
        pid: Pid,
        body: Body,
        attribution: Attribution,
        (began, began_us): (Instant, u64),
    ) -> Attempt {
        let caps = self.plan.log_caps;
        Attempt {
            key: self.key,
            pid,
            started: began,
            started_us: began_us,
            deadline: after(began, self.plan.deadline_ms),
            grace: Duration::from_millis(self.plan.grace_ms),
            body,
            attribution,
            pipes: self.pipes,
            caps: caps
                .map_or_else(LogCaps::default, |caps| LogCaps { head: caps.head, tail: caps.tail }),
            output: Output::Silent,
            stop: None,
            exit: None,
            usage: Usage::default(),
            group: CgroupUse::default(),
            tally: LogTally::default(),
            told: Told::Running,
            acked: false,
            alarm: None,
        }
    }
}

impl Control {
    /// Starts attempts, those in cgroups at once, or repeats what became of them.
    pub(in crate::keeper) fn spawn_all(&mut self, spawns: Vec<wire::Spawn>) {
        let mut prepared: Vec<Prepared> = Vec::new();
        for wire::Spawn { key, plan } in spawns {
            if let Some(attempt) = self.slot_of(key).and_then(|slot| self.attempts.get(&slot)) {
                let report = match attempt.verdict().filter(|_| attempt.told >= Told::Ended) {
                    Some(ended) => Report::Ended(ended),
                    None => Report::Started(started(attempt)),
                };
                self.tell(report);
            } else if !self.forks.has(key) && !prepared.iter().any(|other| other.key == key) {
                match Prepared::new(key, plan).map(|one| self.fork(one)) {
                    Ok(afresh) => prepared.extend(afresh),
                    Err(failure) => self.tell_failure(key, failure),
                }
            }
        }
        self.start_fresh(prepared);
    }

    /// Starts a program for each.
    pub(super) fn start_fresh(&mut self, prepared: Vec<Prepared>) {
        let mut grouped = Vec::new();
        for one in prepared {
            match self.cgroups.as_mut().and_then(|base| base.make().ok()) {
                Some(leaf) => grouped.push((one, leaf)),
                None => self.start_with_reaper(one),
            }
        }
        self.start_in_cgroups(grouped);
    }

    fn start_in_cgroups(&mut self, grouped: Vec<(Prepared, Leaf)>) {
        let (mut waiting, mut starts) = (Vec::new(), Vec::new());
        let (began, began_us) = (Instant::now(), now_us());
        for (one, leaf) in grouped {
            let stdio = one.stdio(&self.null);
            let (one, image) = Unstarted::new(one);
            starts.push(Start { image, stdio, cgroup: leaf.dir() });
            waiting.push((leaf, one));
        }
        let results = self.pool.start_all(&mut self.spawner, starts);
        failpoint::pass("keeper-after-spawn");
        for ((leaf, mut one), result) in waiting.into_iter().zip(results) {
            match result {
                Ok(pid) => {
                    let no_new_privs = one.plan.no_new_privs;
                    let socket = one.socket.take();
                    let body = Body::Cgroup { leaf, watched: false };
                    let attempt = one.started(pid, body, Attribution::Cgroup, (began, began_us));
                    self.tell(Report::Started(started(&attempt)));
                    let slot = self.admit(attempt);
                    if let Some(socket) = socket {
                        self.add_server(slot, socket, no_new_privs);
                    }
                }
                Err(failure) => {
                    if let Some(base) = &self.cgroups {
                        base.discard(&leaf);
                    }
                    let key = one.key;
                    if failure.step == Step::Cgroup {
                        match Prepared::new(key, one.plan) {
                            Ok(again) => self.start_with_reaper(again),
                            Err(failure) => self.tell_failure(key, failure),
                        }
                    } else {
                        self.tell_failure(key, failure);
                    }
                }
            }
        }
    }

    fn start_with_reaper(&mut self, one: Prepared) {
        let stdio = one.stdio(&self.null);
        let (one, image) = Unstarted::new(one);
        let began = (Instant::now(), now_us());
        match Reaper::start(&self.spawner, &image, stdio) {
            Ok((reaper, pid)) => {
                failpoint::pass("keeper-after-spawn");
                self.registry.add(reaper.pid);
                self.registry.add(pid);
                let attempt = one.started(pid, Body::Reaper(reaper), Attribution::Reaper, began);
                self.tell(Report::Started(started(&attempt)));
                self.admit(attempt);
            }
            Err(failure) => self.tell_failure(one.key, failure),
        }
    }

    fn tell_failure(&mut self, key: Key, failure: CannotStart) {
        let CannotStart { step, errno, message, transient } = failure;
        let step = step.into();
        self.tell(Report::CannotStart(wire::CannotStart { key, step, errno, message, transient }));
    }
}
