//! A plan turned into what `execve` takes, with the program found.
#![expect(unsafe_code, reason = "pointers into owned strings go to another thread with them")]

use std::{
    ffi::{CStr, CString, OsStr, c_char},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use nix::{errno::Errno, fcntl::AtFlags, libc, unistd::AccessFlags};

use super::{
    clone::CannotStart,
    plan::{Level, Plan, Step},
};

/// An argument or environment list as C wants it: pointers into owned strings, then null.
struct List {
    _strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

// SAFETY: the pointers lead into the strings beside them, which are on the heap, never change and
// move along, so they are as good on any other thread.
unsafe impl Send for List {}

impl List {
    fn new(strings: Vec<CString>) -> Self {
        let mut pointers: Vec<*const c_char> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Self { _strings: strings, pointers }
    }
}

/// A program ready to be executed; everything a child needs without allocating.
pub struct Image {
    path: CString,
    cwd: CString,
    argv: List,
    shell_argv: List,
    env: List,
    pub(super) umask: Option<libc::mode_t>,
    pub(super) rlimits: Vec<(i32, libc::rlimit)>,
    pub(super) no_new_privs: bool,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Image {
    /// Prepares `plan`: finds the program through the task's PATH and checks that it may run.
    /// Fails with step `program`, or `plan` for bytes the kernel cannot take.
    pub fn new(plan: &Plan) -> Result<Self, CannotStart> {
        if Level::try_from(plan.level).is_err() {
            return Err(CannotStart::new(Step::Plan, Errno::EINVAL, "unknown isolation level"));
        }
        let cwd = if plan.cwd.is_empty() { b"/".to_vec() } else { plan.cwd.clone() };
        let name = if plan.program.is_empty() { plan.argv.first() } else { Some(&plan.program) };
        let name = name.filter(|name| !name.is_empty()).ok_or_else(|| {
            CannotStart::new(Step::Program, Errno::ENOENT, "no program was given")
        })?;
        let path = find(name, &cwd, &plan.env)?;
        let mut argv = plan.argv.iter().map(c_string).collect::<Result<Vec<_>, _>>()?;
        if argv.is_empty() {
            argv.push(c_string(name)?);
        }
        let path = c_string(path.as_os_str().as_bytes())?;
        let mut env = plan.env.iter().map(c_string).collect::<Result<Vec<_>, _>>()?;
        if plan.fork_server {
            env.push(c"CAPSULE_FORK_FD=3".to_owned());
        } else if plan.event_fd {
            env.push(c"CAPSULE_EVENT_FD=3".to_owned());
        }
        let mut shell_argv = vec![c"/bin/sh".to_owned(), path.clone()];
        shell_argv.extend(argv.iter().skip(1).cloned());
        Ok(Self {
            path,
            cwd: c_string(&cwd)?,
            argv: List::new(argv),
            shell_argv: List::new(shell_argv),
            env: List::new(env),
            umask: plan.umask.map(|mask| mask & 0o777),
            rlimits: plan.rlimits.iter().map(rlimit).collect::<Result<_, _>>()?,
            no_new_privs: plan.no_new_privs,
        })
    }

    pub(super) fn path(&self) -> &CStr {
        &self.path
    }

    pub(super) fn cwd(&self) -> &CStr {
        &self.cwd
    }

    pub(super) fn argv(&self) -> &[*const c_char] {
        &self.argv.pointers
    }

    /// `/bin/sh path args...`, for a script without an interpreter line.
    pub(super) fn shell_argv(&self) -> &[*const c_char] {
        &self.shell_argv.pointers
    }

    pub(super) fn env(&self) -> &[*const c_char] {
        &self.env.pointers
    }
}

fn rlimit(limit: &super::plan::Rlimit) -> Result<(i32, libc::rlimit), CannotStart> {
    let resource = i32::try_from(limit.resource)
        .map_err(|_| CannotStart::new(Step::Rlimit, Errno::EINVAL, "unknown resource limit"))?;
    Ok((resource, libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard }))
}

fn c_string(bytes: impl AsRef<[u8]>) -> Result<CString, CannotStart> {
    CString::new(bytes.as_ref()).map_err(|_| {
        CannotStart::new(Step::Plan, Errno::EINVAL, "an argument or name holds a zero byte")
    })
}

/// The path to execute. A bare name is looked for in PATH like `execvp` does, a name with a slash
/// is taken as it is (relative to the task's directory).
fn find(name: &[u8], cwd: &[u8], env: &[Vec<u8>]) -> Result<PathBuf, CannotStart> {
    let cwd = Path::new(OsStr::from_bytes(cwd));
    let name = Path::new(OsStr::from_bytes(name));
    let shown = name.display();
    if name.as_os_str().as_bytes().contains(&b'/') {
        return match runnable(&cwd.join(name)) {
            // A missing directory is the child's to report: it will fail there, by its own step.
            Err(_) if name.is_relative() && !cwd.is_dir() => Ok(name.to_owned()),
            Err(errno) => Err(CannotStart::new(Step::Program, errno, &say(errno, &shown))),
            Ok(()) => Ok(name.to_owned()),
        };
    }
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix(b"PATH="));
    let mut failure = Errno::ENOENT;
    for dir in path.unwrap_or(b"/usr/local/bin:/usr/bin:/bin").split(|byte| *byte == b':') {
        let candidate = cwd.join(OsStr::from_bytes(dir)).join(name);
        match runnable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::EACCES) => failure = Errno::EACCES,
            Err(_) => {}
        }
    }
    let message = if failure == Errno::EACCES {
        format!("{shown}: found in the task's PATH, but not executable")
    } else {
        format!("{shown}: not found in the task's PATH")
    };
    Err(CannotStart::new(Step::Program, failure, &message))
}

fn say(errno: Errno, shown: &dyn std::fmt::Display) -> String {
    let known = [
        (Errno::ENOENT, "no such file"),
        (Errno::EISDIR, "is a directory"),
        (Errno::EACCES, "not executable"),
    ];
    let known = known.iter().find(|(code, _)| *code == errno);
    format!("{shown}: {}", known.map_or(errno.desc(), |(_, text)| *text))
}

fn runnable(path: &Path) -> Result<(), Errno> {
    let stat = nix::sys::stat::stat(path)?;
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => return Err(Errno::EISDIR),
        libc::S_IFREG => {}
        _ => return Err(Errno::EACCES),
    }
    let cwd = nix::fcntl::AT_FDCWD;
    nix::unistd::faccessat(cwd, path, AccessFlags::X_OK, AtFlags::AT_EACCESS)
}
