//! What the kernel says of a process.

use std::fs;
use std::time::{Duration, Instant};

/// Bytes that a process has in memory, now and at most.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) now: f64,
    pub(crate) most: f64,
}

const MIB: f64 = 1024.0 * 1024.0;

/// Memory of a process in MiB.
pub(crate) fn memory(pid: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mib = |name: &str| kib(&status, name) * 1024.0 / MIB;
    Memory { now: mib("VmRSS:"), most: mib("VmHWM:") }
}

fn kib(status: &str, name: &str) -> f64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok())
        .unwrap_or(0.0)
}

/// How often the threads of a process were put on a core: what an idle one does not need.
pub(crate) fn switches(pid: u32) -> u64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    threads
        .flatten()
        .map(|thread| {
            let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            status
                .lines()
                .filter(|line| line.contains("ctxt_switches"))
                .filter_map(|line| line.rsplit('\t').next()?.trim().parse::<u64>().ok())
                .sum::<u64>()
        })
        .sum()
}

/// CPU time that a process has used, all threads, in the kernel and out of it.
pub(crate) fn cpu(pid: u32) -> Duration {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Duration::ZERO };
    let nanos = threads
        .flatten()
        .filter_map(|thread| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        })
        .sum();
    Duration::from_nanos(nanos)
}

/// The process above, by `/proc`.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// Whether a process has ended; also one that nobody has waited for yet.
pub(crate) fn has_ended(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:"));
    state.is_none_or(|state| state.trim().starts_with(['Z', 'X']))
}

/// Waits until something holds, looking every millisecond; false when `limit` has passed.
pub(crate) fn wait_until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !holds() {
        if began.elapsed() > limit {
            return false;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    true
}
