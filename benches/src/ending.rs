//! What is to be ended when a run is interrupted: every process by its id, every private folder.
//!
//! Whoever starts a process that would outlive this program starts it with [`spawn`] and tells
//! [`forget`] once it has been waited for.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

use crate::bench::block_on;
use crate::proc::{has_ended, wait_until};

/// As a shell says of a program that ended by Ctrl-C.
const INTERRUPTED: i32 = 130;
/// How long what was started may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

static STARTED: Mutex<Started> = Mutex::new(Started { processes: Vec::new(), folders: Vec::new() });

struct Started {
    processes: Vec<(u32, Signal)>,
    folders: Vec<PathBuf>,
}

fn started() -> MutexGuard<'static, Started> {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a process that an interruption ends by this signal. While one is carried out nothing
/// starts any more.
pub(crate) fn spawn(command: &mut Command, by: Signal) -> std::io::Result<Child> {
    let mut started = started();
    let child = command.spawn()?;
    started.processes.push((child.id(), by));
    Ok(child)
}

/// Notes a process that was not started by this one itself.
pub(crate) fn note(pid: u32, by: Signal) {
    started().processes.push((pid, by));
}

/// The process has ended: its id may soon be another's.
pub(crate) fn forget(pid: u32) {
    started().processes.retain(|(known, _)| *known != pid);
}

/// Notes a folder that goes away with its owner, or else by an interruption.
pub(crate) fn folder(path: &Path) {
    started().folders.push(path.to_owned());
}

/// Waits until an interruption that is being carried out has ended the program.
pub(crate) fn settle() {
    drop(started());
}

/// Sends a signal to one process; one that has gone already is what was wanted.
pub(crate) fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().filter(|pid| *pid > 1) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Has Ctrl-C, SIGTERM and SIGHUP end what was started before they end this program.
pub(crate) fn watch() {
    std::thread::spawn(|| {
        let waited = block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut hang_up = signal(SignalKind::hangup())?;
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
            Ok(())
        });
        if let Err(error) = waited {
            eprintln!("capsule-bench: an interruption will leave processes: {error:#}");
            return;
        }
        eprintln!("capsule-bench: interrupted; ending what was started");
        end_all(&mut started());
    });
}

#[expect(clippy::exit, reason = "the program was told to end, and another thread has the rows")]
fn end_all(started: &mut Started) -> ! {
    for (pid, by) in &started.processes {
        send(*pid, *by);
    }
    wait_until(PATIENCE, || started.processes.iter().all(|(pid, _)| has_ended(*pid)));
    for (pid, _) in started.processes.iter().filter(|(pid, _)| !has_ended(*pid)) {
        send(*pid, Signal::SIGKILL);
    }
    for folder in &started.folders {
        // Most have gone with their owners.
        drop(std::fs::remove_dir_all(folder));
    }
    std::process::exit(INTERRUPTED)
}
