//! Making the child: `clone3` straight into its cgroup, sharing memory until exec where the machine
//! is known, so that a start costs the same whatever the size of the keeper.
#![expect(unsafe_code, reason = "clone3 and the memory its child runs in")]

use std::{
    ffi::c_void,
    io,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    ptr::NonNull,
    sync::atomic::Ordering,
};

use nix::{errno::Errno, libc, unistd::Pid};

use super::{
    child::{ChildSpec, Report, Signals, become_program},
    image::Image,
    plan::Step,
};

/// A program that did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CannotStart {
    /// What failed.
    pub step: Step,
    /// The kernel's reason.
    pub errno: i32,
    /// A sentence for people.
    pub message: String,
    /// Nothing is wrong with the task; the machine had no room.
    pub transient: bool,
}

impl CannotStart {
    pub(crate) fn new(step: Step, errno: Errno, message: &str) -> Self {
        let transient = step == Step::Fork;
        Self { step, errno: errno as i32, message: message.to_owned(), transient }
    }

    /// The failure of a system call that makes room for a child.
    pub(crate) fn no_room(errno: Errno, doing: &str) -> Self {
        Self::new(Step::Fork, errno, &format!("{doing}: {}", errno.desc()))
    }

    pub(super) fn in_child(step: Step, errno: Errno, image: &Image) -> Self {
        let path = image.path().to_string_lossy();
        let reason = errno.desc();
        let message = if step == Step::Cwd {
            format!("working directory {}: {reason}", image.cwd().to_string_lossy())
        } else if step == Step::Exec && errno == Errno::ENOENT {
            format!("{path}: its interpreter was not found")
        } else if step == Step::Rlimit {
            format!("{path}: setting a resource limit: {reason}")
        } else {
            format!("{path}: {reason}")
        };
        let no_room = [Errno::EAGAIN, Errno::ENOMEM, Errno::EMFILE, Errno::ENFILE];
        let step = if no_room.contains(&errno) { Step::Fork } else { step };
        Self::new(step, errno, &message)
    }
}

/// The descriptors a program starts with; each must lie above 3.
#[derive(Clone, Copy, Debug)]
pub struct Stdio {
    /// Descriptors for 0, 1, 2 and 3; the last is negative when there is none.
    pub fds: [RawFd; 4],
}

/// As in the kernel; libc's constant is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// The kernel's ways to say that a cgroup may not be entered by a clone.
const NO_ENTRY: [Errno; 5] =
    [Errno::EACCES, Errno::EOPNOTSUPP, Errno::EBUSY, Errno::EINVAL, Errno::ENODEV];
const STACK: usize = 64 * 1024;
const GUARD: usize = 4096;

/// Starts programs, one at a time, from one thread that lives as long as the process: the kernel
/// ties the death signal of each child to the thread that made it.
#[derive(Debug)]
pub struct Spawner {
    stack: NonNull<c_void>,
    pub(super) report: NonNull<Report>,
    pub(super) nofile: libc::rlimit,
    pub(super) signals: Signals,
}

impl Spawner {
    /// Reserves the memory of children. `nofile` is the limit of open files programs start with.
    /// Signals that this process ignores now are reset in children; those ignored later are not.
    pub fn new(nofile: (u64, u64)) -> io::Result<Self> {
        let stack = map(STACK + GUARD, libc::MAP_PRIVATE)?;
        // SAFETY: the first page of a mapping just made; nothing points into it.
        if unsafe { libc::mprotect(stack.as_ptr(), GUARD, libc::PROT_NONE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let nofile = libc::rlimit { rlim_cur: nofile.0, rlim_max: nofile.1 };
        let report = map(size_of::<Report>(), libc::MAP_SHARED)?.cast();
        Ok(Self { stack, report, nofile, signals: Signals::not_default() })
    }

    /// Starts `image` as a child of this process, in `cgroup` if given. Returns once the program
    /// runs or has failed to; a failed child has been waited for.
    pub fn start(
        &mut self,
        image: &Image,
        stdio: Stdio,
        cgroup: Option<BorrowedFd<'_>>,
    ) -> Result<Pid, CannotStart> {
        // SAFETY: mapped by `new` for as long as this process lives, zeroed by the kernel, and
        // holding only atomics.
        let report = unsafe { self.report.as_ref() };
        let parent = std::process::id().cast_signed();
        let (nofile, signals) = (self.nofile, self.signals);
        let spec = ChildSpec { image, fds: stdio.fds, parent, nofile, signals, report };
        self.start_spec(&spec, cgroup)
    }

    /// As `start`, allocating nothing unless the start fails.
    pub(super) fn start_spec(
        &self,
        spec: &ChildSpec<'_>,
        cgroup: Option<BorrowedFd<'_>>,
    ) -> Result<Pid, CannotStart> {
        match self.try_start(spec, cgroup) {
            Ok(pid) => Ok(pid),
            Err((Step::Fork, errno)) => Err(CannotStart::no_room(errno, "starting a process")),
            Err((Step::Cgroup, errno)) => {
                Err(CannotStart::new(Step::Cgroup, errno, "entering the attempt's cgroup"))
            }
            Err((step, errno)) => Err(CannotStart::in_child(step, errno, spec.image)),
        }
    }

    /// The start itself; makes only system calls.
    pub(super) fn try_start(
        &self,
        spec: &ChildSpec<'_>,
        cgroup: Option<BorrowedFd<'_>>,
    ) -> Result<Pid, (Step, Errno)> {
        spec.report.step.store(0, Ordering::Release);
        let cgroup = cgroup.map(|fd| fd.as_raw_fd());
        let pid = self.clone_child(spec, cgroup);
        if pid < 0 {
            let errno = Errno::from_raw(i32::try_from(-pid).unwrap_or(libc::EINVAL));
            let step = if cgroup.is_some() && NO_ENTRY.contains(&errno) {
                Step::Cgroup
            } else {
                Step::Fork
            };
            return Err((step, errno));
        }
        let pid = i32::try_from(pid).unwrap_or(-1);
        let step = spec.report.step.load(Ordering::Acquire);
        if step == 0 {
            return Ok(Pid::from_raw(pid));
        }
        wait_for(pid);
        let errno = Errno::from_raw(spec.report.errno.load(Ordering::Acquire));
        Err((Step::try_from(step).unwrap_or(Step::Unknown), errno))
    }

    #[cfg(target_arch = "x86_64")]
    fn clone_child(&self, spec: &ChildSpec<'_>, cgroup: Option<RawFd>) -> isize {
        let mut args = arguments(libc::CLONE_VFORK | libc::CLONE_VM, cgroup);
        // The lowest page is the guard; the stack grows down towards it.
        args.stack = self.stack.as_ptr().addr() as u64 + GUARD as u64;
        args.stack_size = STACK as u64;
        let pid: libc::c_long;
        // SAFETY: the child gets its own stack, which no other child uses, since the calling thread
        // stands still (VFORK) until the child has gone to another memory or ended. `spec` and all
        // that it points to therefore outlive the child's use. The parent's registers are kept by
        // the kernel but for rax, rcx and r11; the child never returns from `entry`.
        unsafe {
            std::arch::asm!(
                "syscall",
                "test rax, rax",
                "jnz 2f",
                "xor ebp, ebp",
                "mov rdi, r9",
                "call r8",
                "ud2",
                "2:",
                inlateout("rax") libc::SYS_clone3 => pid,
                in("rdi") &raw const args,
                in("rsi") size_of::<libc::clone_args>(),
                in("r8") entry as extern "C" fn(*const ChildSpec<'static>) -> !,
                in("r9") std::ptr::from_ref(spec).cast::<ChildSpec<'static>>(),
                out("rcx") _,
                out("r11") _,
            );
        }
        isize::try_from(pid).unwrap_or(-1)
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn clone_child(&self, spec: &ChildSpec<'_>, cgroup: Option<RawFd>) -> isize {
        match fork_like(libc::CLONE_VFORK, cgroup) {
            0 => become_program(spec),
            pid => pid,
        }
    }
}

#[cfg(target_arch = "x86_64")]
extern "C" fn entry(spec: *const ChildSpec<'static>) -> ! {
    // SAFETY: `clone_child` passes a reference that stays good until this child execs or ends.
    become_program(unsafe { &*spec })
}

/// A clone with its own copy of memory: 0 in the child, a pid or a negative errno in the parent.
/// The child of a process with threads may only make system calls.
pub(super) fn fork_like(flags: i32, cgroup: Option<RawFd>) -> isize {
    let args = arguments(flags, cgroup);
    // SAFETY: the arguments are as long as said; without a stack the child goes on on a copy of ours.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    let result = if pid < 0 { -i64::from(Errno::last_raw()) } else { pid };
    isize::try_from(result).unwrap_or(-1)
}

fn arguments(flags: i32, cgroup: Option<RawFd>) -> libc::clone_args {
    // SAFETY: a struct of integers, for which zero means "not used".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(flags.cast_unsigned());
    args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(fd.cast_unsigned());
    }
    args
}

fn wait_for(pid: i32) {
    loop {
        // SAFETY: a null status is allowed; `pid` is our own child, not waited for yet.
        let done = unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        if done >= 0 || Errno::last() != Errno::EINTR {
            return;
        }
    }
}

/// Fresh zeroed memory, never given back: it is needed as long as the process lives.
pub(super) fn map(len: usize, sharing: i32) -> io::Result<NonNull<c_void>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing of ours.
    let address = unsafe {
        libc::mmap(std::ptr::null_mut(), len, protection, sharing | libc::MAP_ANONYMOUS, -1, 0)
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(address).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))
}
