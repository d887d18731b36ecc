//! What `/proc` says about the processes of a test.

use std::fs;

use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

/// A process that lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its short name, as the kernel keeps it.
    pub name: String,
    /// Its command line, words separated by spaces.
    pub command: String,
}

/// The processes that carry `mark` somewhere in their environment.
pub fn marked(mark: &str) -> Vec<Process> {
    all().into_iter().filter(|pid| holds(*pid, "environ", mark)).filter_map(described).collect()
}

/// The processes whose command line holds `mark`.
pub fn called(mark: &str) -> Vec<Process> {
    all().into_iter().filter(|pid| holds(*pid, "cmdline", mark)).filter_map(described).collect()
}

/// A process that has not ended; a zombie has.
pub fn alive(pid: i32) -> bool {
    stat(pid).is_some_and(|rest| !rest.starts_with(['Z', 'X']))
}

/// When it started, in clock ticks since boot: tells a process from a later one of the same id.
pub fn start_time(pid: i32) -> Option<u64> {
    stat(pid)?.split_whitespace().nth(19)?.parse().ok()
}

/// The process that it came from.
pub fn parent(pid: i32) -> Option<i32> {
    stat(pid)?.split_whitespace().nth(1)?.parse().ok()
}

/// The children of a process that have ended and that it has not waited for.
pub fn zombies(of: i32) -> Vec<i32> {
    let is_zombie = |pid: &i32| {
        parent(*pid) == Some(of) && stat(*pid).is_some_and(|rest| rest.starts_with('Z'))
    };
    all().into_iter().filter(is_zombie).collect()
}

/// Bytes of memory that it holds at present.
pub fn resident_bytes(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// The inodes of its sockets.
pub fn sockets(pid: i32) -> Vec<u64> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = files
        .filter_map(|file| fs::read_link(file.path()).ok()?.into_os_string().into_string().ok());
    links
        .filter_map(|link| link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .collect()
}

/// Sends a signal; a process that has gone is fine.
///
/// # Panics
/// The signal cannot be sent.
pub fn send(pid: i32, signal: Signal) {
    assert!(pid > 1, "{pid} is no process of ours");
    match signal::kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => panic!("sending {signal} to {pid}: {errno}"),
    }
}

fn all() -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn holds(pid: i32, file: &str, mark: &str) -> bool {
    let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    bytes.windows(mark.len()).any(|window| window == mark.as_bytes()) && alive(pid)
}

fn described(pid: i32) -> Option<Process> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned();
    let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = String::from_utf8_lossy(&words).replace('\0', " ");
    Some(Process { pid, name, command })
}

/// The fields of `/proc/PID/stat` from the state on.
fn stat(pid: i32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(") ")?.1.to_owned())
}
