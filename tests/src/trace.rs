//! System calls of the daemon, and whether a record was on disk before anybody heard of it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use crate::{Home, processes, wait_for};

const CALLS: &str = "trace=fsync,fdatasync,pwrite64,write,writev,sendto,sendmsg";

/// Watches the system calls of a process and all its threads.
#[derive(Debug)]
pub struct Strace {
    child: Child,
    output: PathBuf,
}

impl Strace {
    /// Attaches to a process; gives the reason when that cannot be done here.
    ///
    /// # Errors
    /// There is no strace, or it may not attach.
    ///
    /// # Panics
    /// A file in the home cannot be written.
    pub fn attach(home: &Home, pid: i32) -> Result<Self, String> {
        let (output, said) = (home.path("trace"), home.path("trace.err"));
        let child = Command::new("strace")
            .args(["-f", "-y", "-s", "65536", "-e", CALLS, "-p", &pid.to_string(), "-o"])
            .arg(&output)
            .stdin(Stdio::null())
            .stderr(File::create(&said).unwrap())
            .spawn()
            .map_err(|error| format!("strace cannot be started: {error}"))?;
        let mut strace = Self { child, output };
        wait_for("strace attaches or says why not", || {
            let text = fs::read_to_string(&said).unwrap();
            if text.contains(" attached") {
                return Some(Ok(()));
            }
            strace.child.try_wait().unwrap().map(|_| Err(text))
        })?;
        Ok(strace)
    }

    /// Lets go of the process and gives what was seen.
    ///
    /// # Panics
    /// It does not end.
    pub fn end(mut self) -> String {
        processes::send(i32::try_from(self.child.id()).unwrap(), Signal::SIGINT);
        wait_for("strace ends", || self.child.try_wait().unwrap());
        String::from_utf8_lossy(&fs::read(&self.output).unwrap()).into_owned()
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A system call: which, on what, with what, and the lines on which it began and came back.
#[derive(Debug)]
struct Call<'a> {
    name: &'a str,
    target: &'a str,
    text: &'a str,
    began: usize,
    ended: Option<usize>,
    done: bool,
}

impl<'a> Call<'a> {
    /// `fdatasync(5</path>) = 0`, or the beginning of it.
    fn parse(text: &'a str, line: usize) -> Option<Self> {
        let (name, rest) = text.split_once('(')?;
        let (_, rest) = rest.split_once('<')?;
        let (target, _) = rest.split_once('>')?;
        let whole = !text.ends_with("<unfinished ...>");
        let ended = whole.then_some(line);
        Some(Self { name, target, text, began: line, ended, done: whole && succeeded(text) })
    }

    fn writes(&self, mark: &str) -> bool {
        !self.is_sync() && self.text.contains(mark)
    }

    fn is_sync(&self) -> bool {
        matches!(self.name, "fsync" | "fdatasync")
    }
}

fn succeeded(text: &str) -> bool {
    text.rsplit_once(" = ").is_some_and(|(_, result)| !result.starts_with('-'))
}

fn calls(trace: &str) -> Vec<Call<'_>> {
    let mut calls: Vec<Call<'_>> = Vec::new();
    let mut open: HashMap<&str, usize> = HashMap::new();
    for (line, text) in trace.lines().enumerate() {
        let Some((pid, text)) = text.split_once(' ') else { continue };
        let text = text.trim_start();
        if text.starts_with("<... ") {
            if let Some(call) = open.remove(pid).and_then(|index| calls.get_mut(index)) {
                call.ended = Some(line);
                call.done = succeeded(text);
            }
        } else if let Some(call) = Call::parse(text, line) {
            if call.ended.is_none() {
                open.insert(pid, calls.len());
            }
            calls.push(call);
        }
    }
    calls
}

/// Checks that the record that holds `mark` was written to `database`, that a sync of that file
/// began after the write and came back, and that only then a socket carried the mark.
///
/// # Errors
/// Says what is missing or out of order.
pub fn check_order(trace: &str, mark: &str, database: &str) -> Result<(), String> {
    let calls = calls(trace);
    let written = calls
        .iter()
        .find(|call| call.target == database && call.done && call.writes(mark))
        .and_then(|call| call.ended)
        .ok_or_else(|| format!("{mark} was not written to {database}"))?;
    let synced = calls
        .iter()
        .filter(|call| call.target == database && call.is_sync() && call.done)
        .filter(|call| call.began > written)
        .filter_map(|call| call.ended)
        .min()
        .ok_or_else(|| format!("{database} was not synced after {mark} was written"))?;
    let told = calls
        .iter()
        .filter(|call| call.target.starts_with("socket:") && call.writes(mark))
        .map(|call| call.began)
        .min()
        .ok_or_else(|| format!("nobody was told of {mark}"))?;
    if told < synced {
        return Err(format!("{mark} was told on line {told}, synced on line {synced}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = r#"80 pwrite64(4</s/queue/db>, "..the-mark..", 24, 339) = 24"#;
    const SYNCED: &str = "81 fdatasync(5</s/queue/db>) = 0";
    const BEGUN: &str = "81 fdatasync(5</s/queue/db> <unfinished ...>";
    const RESUMED: &str = "81 <... fdatasync resumed>)             = 0";
    const TOLD: &str = r#"82 writev(18<socket:[53]>, [{iov_base="\0the-mark", iov_len=9}], 1) = 9"#;

    fn check(lines: &[&str]) -> Result<(), String> {
        check_order(&lines.join("\n"), "the-mark", "/s/queue/db")
    }

    #[test]
    fn written_synced_told() {
        check(&[WRITTEN, SYNCED, TOLD]).unwrap();
        check(&[SYNCED, WRITTEN, BEGUN, RESUMED, TOLD, SYNCED]).unwrap();
    }

    #[test]
    fn a_sync_that_is_missing_early_late_failed_or_of_another_file_is_none() {
        let failed = "81 fdatasync(5</s/queue/db>) = -1 EIO (Input/output error)";
        let other = "81 fdatasync(5</s/MANIFEST>) = 0";
        for bad in [
            [WRITTEN, TOLD].as_slice(),
            &[SYNCED, WRITTEN, TOLD],
            &[WRITTEN, TOLD, SYNCED],
            &[WRITTEN, failed, TOLD],
            &[WRITTEN, other, TOLD],
            &[WRITTEN, BEGUN, TOLD, RESUMED],
            &[WRITTEN, BEGUN, TOLD],
            &[BEGUN, WRITTEN, RESUMED, TOLD],
        ] {
            check(bad).unwrap_err();
        }
    }

    #[test]
    fn what_was_not_seen_proves_nothing() {
        check(&[SYNCED, TOLD]).unwrap_err();
        check(&[WRITTEN, SYNCED]).unwrap_err();
        check(&[]).unwrap_err();
    }
}
