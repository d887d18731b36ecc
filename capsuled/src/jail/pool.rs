//! Several starts at once. A start stands still until its program runs; on a busy machine most of
//! that is waiting for a processor, so starts that wait together wait once.
#![expect(unsafe_code, reason = "a spawner is handed to the thread that alone uses it")]

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use nix::unistd::Pid;

use super::{CannotStart, Image, Spawner, Stdio};

/// Threads beside the one that asks.
const THREADS: usize = 3;

/// One start. The descriptors of `stdio` stay open until the pool has answered.
#[derive(Debug)]
pub struct Start {
    /// What to run.
    pub image: Image,
    /// What it starts with.
    pub stdio: Stdio,
    /// Where it starts.
    pub cgroup: Arc<OwnedFd>,
}

type Started = Result<Pid, CannotStart>;

/// Long-lived threads that start programs: the death signal of a child is tied to the thread that
/// made it, so none of them ends before the process does.
#[derive(Debug)]
pub struct Pool {
    threads: Vec<(Sender<Start>, Receiver<Started>)>,
}

/// A spawner on its way to its thread.
struct Moved(Spawner);

// SAFETY: the spawner's memory is mapped for the whole process and named by nobody else; it is
// used by one thread at a time, the one that it was moved to.
unsafe impl Send for Moved {}

impl Pool {
    /// Starts the threads. `nofile` is the limit of open files programs start with.
    pub fn new(nofile: (u64, u64)) -> io::Result<Self> {
        let mut threads = Vec::with_capacity(THREADS);
        for number in 0..THREADS {
            let spawner = Moved(Spawner::new(nofile)?);
            let (ask, asked) = channel();
            let (answer, answers) = channel();
            thread::Builder::new()
                .name(format!("start-{number}"))
                .spawn(move || serve(spawner, &asked, &answer))?;
            threads.push((ask, answers));
        }
        Ok(Self { threads })
    }

    /// Starts all of them, as many at once as there are threads, the first by `own` on this one.
    /// Returns when every program runs or has failed to, in the order of `starts`.
    pub fn start_all(&self, own: &mut Spawner, starts: Vec<Start>) -> Vec<Started> {
        let mut results = Vec::with_capacity(starts.len());
        let mut starts = starts.into_iter();
        while let Some(first) = starts.next() {
            let mut asked = Vec::with_capacity(THREADS);
            for ((ask, answers), start) in self.threads.iter().zip(starts.by_ref().take(THREADS)) {
                ask.send(start).expect("a thread of the pool never ends");
                asked.push(answers);
            }
            results.push(own.start(&first.image, first.stdio, Some(first.cgroup.as_fd())));
            for answers in asked {
                results.push(answers.recv().expect("a thread of the pool never ends"));
            }
        }
        results
    }
}

fn serve(moved: Moved, asked: &Receiver<Start>, answer: &Sender<Started>) {
    let Moved(mut spawner) = moved;
    // It ends only with the process: the pool is never dropped before.
    while let Ok(start) = asked.recv() {
        let started = spawner.start(&start.image, start.stdio, Some(start.cgroup.as_fd()));
        drop(start);
        if answer.send(started).is_err() {
            return;
        }
    }
}
