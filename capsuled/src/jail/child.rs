//! The code of the child between clone and exec.
//!
//! It may run in the keeper's memory while the keeper stands still, so it calls nothing that is not
//! async-signal-safe, allocates nothing and cannot panic.
#![expect(unsafe_code, reason = "raw system calls of a child that must not allocate")]

use std::{
    ffi::c_char,
    os::fd::RawFd,
    sync::atomic::{AtomicI32, Ordering},
};

use nix::{errno::Errno, libc};

use super::{image::Image, plan::Step};

/// Where the child writes what went wrong; shared memory.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Report {
    pub(super) step: AtomicI32,
    pub(super) errno: AtomicI32,
}

/// What the child needs, all of it prepared before the clone.
#[derive(Clone, Copy)]
pub(super) struct ChildSpec<'a> {
    pub(super) image: &'a Image,
    /// Descriptors to become 0, 1, 2 and (unless negative) 3; each is above 3.
    pub(super) fds: [RawFd; 4],
    /// Who must still be the parent once PDEATHSIG is armed.
    pub(super) parent: libc::pid_t,
    /// The soft limit of open files that programs start with.
    pub(super) nofile: libc::rlimit,
    /// Signals to be reset.
    pub(super) signals: Signals,
    pub(super) report: &'a Report,
}

type Outcome = Result<(), (Step, Errno)>;

/// Turns this process into the program, or writes the report and exits.
pub(super) fn become_program(spec: &ChildSpec<'_>) -> ! {
    if let Err((step, errno)) = prepare(spec) {
        spec.report.errno.store(errno as i32, Ordering::Release);
        spec.report.step.store(step as i32, Ordering::Release);
    }
    exit_now()
}

/// Ends this process without running any exit handler.
pub(super) fn exit_now() -> ! {
    // SAFETY: `_exit` ends the process at once; nothing of the shared memory is touched after it.
    unsafe { libc::_exit(127) }
}

fn prepare(spec: &ChildSpec<'_>) -> Outcome {
    reset_dispositions(spec.signals);
    // SAFETY: no arguments; a child made by clone leads no group, so this cannot fail but by EPERM.
    check(unsafe { libc::setsid() }, Step::Setup)?;
    die_with(spec.parent)?;
    connect(&spec.fds)?;
    limits(spec)?;
    if let Some(mask) = spec.image.umask {
        // SAFETY: takes a number and cannot fail.
        unsafe { libc::umask(mask) };
    }
    // SAFETY: the path is a C string that outlives the call.
    check(unsafe { libc::chdir(spec.image.cwd().as_ptr()) }, Step::Cwd)?;
    if spec.image.no_new_privs {
        // SAFETY: only numbers are passed.
        check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, Step::Setup)?;
    }
    unblock_signals();
    execute(spec.image)
}

/// Sets signals to their default: ignored ones would stay ignored across exec. Raw, because libc
/// hides two signals that a parent may have left ignored.
fn reset_dispositions(signals: Signals) {
    let default = [0_u64; 4];
    for signal in (1..=64_i32).filter(|signal| signals.has(*signal)) {
        // SAFETY: `default` has the size and, being zero, the meaning (SIG_DFL) of the kernel's
        // sigaction on 64-bit machines; KILL and STOP fail without effect.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0_usize, 8_usize)
        };
    }
}

/// A set of signals.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signals(u64);

impl Signals {
    /// Those that this process ignores or handles. A handler that it sets later goes at exec.
    pub(super) fn not_default() -> Self {
        let mut set = 0;
        for signal in 1..=64_i32 {
            let mut action = [0_u64; 4];
            // SAFETY: `action` has the size of the kernel's sigaction; nothing is changed.
            let asked = unsafe {
                libc::syscall(libc::SYS_rt_sigaction, signal, 0_usize, action.as_mut_ptr(), 8_usize)
            };
            // One that cannot be asked about is reset.
            if asked != 0 || action.first() != Some(&0) {
                set |= 1 << (signal - 1);
            }
        }
        Self(set)
    }

    const fn has(self, signal: i32) -> bool {
        self.0 & 1 << (signal - 1) != 0
    }
}

fn unblock_signals() {
    let none = 0_u64;
    // SAFETY: the mask is 8 bytes, as said, and lives across the call.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            0_usize,
            8_usize,
        )
    };
}

fn die_with(parent: libc::pid_t) -> Outcome {
    // SAFETY: only numbers are passed.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) }, Step::Setup)?;
    // SAFETY: takes nothing and cannot fail.
    if unsafe { libc::getppid() } != parent {
        exit_now();
    }
    Ok(())
}

/// Puts the descriptors in place. All sources lie above 3, so no target overwrites a source.
fn connect(fds: &[RawFd; 4]) -> Outcome {
    let mut first_unwanted = 0_u32;
    for (target, source) in (0_i32..).zip(fds.iter().copied().take_while(|fd| *fd >= 0)) {
        // SAFETY: both are numbers; the child's descriptor table is its own.
        check(unsafe { libc::dup2(source, target) }, Step::Setup)?;
        first_unwanted += 1;
    }
    close_from(first_unwanted);
    Ok(())
}

/// Closes every descriptor from `first` on.
pub(super) fn close_from(first: u32) {
    // SAFETY: the table of this process is not shared, and nothing above `first` is used again.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0_u32) };
}

fn limits(spec: &ChildSpec<'_>) -> Outcome {
    // SAFETY: the limit lives across the call.
    let nofile = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const spec.nofile) };
    check(nofile, Step::Rlimit)?;
    for (resource, limit) in &spec.image.rlimits {
        // SAFETY: the limit lives across the call; an unknown resource gives EINVAL. Raw, because
        // libc's type of the resource differs between C libraries.
        let done = unsafe {
            libc::syscall(libc::SYS_prlimit64, 0, *resource, std::ptr::from_ref(limit), 0_usize)
        };
        check(i32::try_from(done).unwrap_or(-1), Step::Rlimit)?;
    }
    Ok(())
}

fn execute(image: &Image) -> Outcome {
    let env = image.env().as_ptr();
    let failure = exec(image.path().as_ptr(), image.argv().as_ptr(), env);
    if failure == Errno::ENOEXEC && is_plain_script(image.path().as_ptr()) {
        return Err((Step::Exec, exec(c"/bin/sh".as_ptr(), image.shell_argv().as_ptr(), env)));
    }
    Err((Step::Exec, failure))
}

/// Whether the shell can make sense of a file that the kernel does not take: text without an
/// interpreter line. A program for another machine, or an interpreter line that the kernel
/// refused, would run as nonsense, or as nothing, and end well.
fn is_plain_script(path: *const c_char) -> bool {
    let mut start = [0_u8; 128];
    // SAFETY: the path is a C string owned by the image; the descriptor goes with the next exec.
    let fd = unsafe { libc::open(path, libc::O_RDONLY | libc::O_CLOEXEC) };
    // SAFETY: the buffer is as long as said; a failed open makes this fail too.
    let got = unsafe { libc::read(fd, start.as_mut_ptr().cast(), start.len()) };
    let Some(start) = usize::try_from(got).ok().and_then(|got| start.get(..got)) else {
        return false;
    };
    let mut first_line = start.iter().take_while(|byte| **byte != b'\n');
    !start.starts_with(b"#!") && first_line.all(|byte| *byte != 0)
}

fn exec(path: *const c_char, argv: *const *const c_char, env: *const *const c_char) -> Errno {
    // SAFETY: the path is a C string, both lists end with null and point to C strings, and all of
    // them are owned by the image, which outlives this call.
    unsafe { libc::execve(path, argv, env) };
    Errno::last()
}

fn check(result: i32, step: Step) -> Outcome {
    if result < 0 { Err((step, Errno::last())) } else { Ok(()) }
}
