//! The thread that moves output from pipes to logs. It may wait for a disk; the control thread never
//! waits for it. Memory is bounded by one buffer: what is not read stays in the pipes.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, mpsc},
    thread,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        eventfd::{EfdFlags, EventFd},
    },
};

use super::{
    control::now_us,
    wire::{Key, LogTally},
};
use crate::logs::{LogCaps, LogWriter, Stream};

/// Read ends of standard output, standard error and events.
pub(super) type Pipes = [Option<OwnedFd>; 3];

const STREAMS: [Stream; 3] = [Stream::Out, Stream::Err, Stream::Event];
const BUFFER: usize = 256 * 1024;
const PIPE_SIZE: i32 = 256 * 1024;
const WAKE: u64 = u64::MAX;

/// What the control thread asks for.
#[derive(Debug)]
pub(super) enum Order {
    /// Move the output of an attempt from now on.
    Take(Box<Take>),
    /// Move what is in the pipes at this moment, then answer.
    Flush(u64),
    /// The same, then close the log and answer.
    Finish(u64),
}

/// The output of one attempt.
#[derive(Debug)]
pub(super) struct Take {
    pub(super) slot: u64,
    pub(super) key: Key,
    pub(super) logs: OwnedFd,
    pub(super) caps: LogCaps,
    pub(super) pipes: Pipes,
}

/// The answer to `Flush` and `Finish`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drained {
    pub(super) slot: u64,
    pub(super) tally: LogTally,
    pub(super) closed: bool,
}

/// The control thread's handle of the writer thread.
#[derive(Debug)]
pub(super) struct Writer {
    orders: mpsc::Sender<Order>,
    wake: Arc<EventFd>,
    /// Answers; `bell` rings when there is one.
    pub(super) drained: mpsc::Receiver<Drained>,
    pub(super) bell: Arc<EventFd>,
}

impl Writer {
    pub(super) fn start() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let bell = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let (orders, inbox) = mpsc::channel();
        let (answers, drained) = mpsc::channel();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let mover = Mover {
            epoll,
            wake: Arc::clone(&wake),
            bell: Arc::clone(&bell),
            answers,
            logs: HashMap::new(),
            buffer: vec![0; BUFFER],
        };
        thread::Builder::new().name("keeper-writer".to_owned()).spawn(move || mover.run(&inbox))?;
        Ok(Self { orders, wake, drained, bell })
    }

    pub(super) fn send(&self, order: Order) {
        // Only a panic ends the writer; then logs stop, and verdicts come after their time limit.
        if self.orders.send(order).is_err() || self.wake.write(1).is_err() {
            tracing::error!("the writer of logs has died");
        }
    }
}

struct Moved {
    log: LogWriter,
    pipes: Pipes,
    tally: LogTally,
}

struct Mover {
    epoll: Epoll,
    wake: Arc<EventFd>,
    bell: Arc<EventFd>,
    answers: mpsc::Sender<Drained>,
    logs: HashMap<u64, Moved>,
    buffer: Vec<u8>,
}

impl Mover {
    fn run(mut self, inbox: &mpsc::Receiver<Order>) {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "the writer cannot wait for output");
                    return;
                }
            };
            for event in events.iter().take(count) {
                if event.data() == WAKE {
                    // Reading resets the counter; it may have been reset by an earlier turn.
                    let _count = self.wake.read();
                    for order in inbox.try_iter() {
                        self.obey(order);
                    }
                } else {
                    self.move_once(event.data() >> 2, (event.data() & 3) as usize);
                }
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Take(take) => self.take(*take),
            Order::Flush(slot) => {
                self.drain(slot);
                let tally = self.logs.get(&slot).map(|moved| moved.tally).unwrap_or_default();
                self.answer(Drained { slot, tally, closed: false });
            }
            Order::Finish(slot) => {
                self.drain(slot);
                let tally = self.logs.remove(&slot).map(close).unwrap_or_default();
                self.answer(Drained { slot, tally, closed: true });
            }
        }
    }

    fn answer(&self, drained: Drained) {
        if self.answers.send(drained).is_ok() {
            // The counter cannot overflow; a full one would have woken the reader already.
            let _rung = self.bell.write(1);
        }
    }

    fn take(&mut self, take: Take) {
        for (stream, pipe) in (0_u64..).zip(&take.pipes) {
            let Some(pipe) = pipe else { continue };
            // A larger pipe saves turns for the talkative; the default serves if it is refused.
            let _size = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE));
            let event = EpollEvent::new(EpollFlags::EPOLLIN, take.slot << 2 | stream);
            if let Err(error) = self.epoll.add(pipe, event) {
                tracing::error!(%error, "cannot watch the output of an attempt");
            }
        }
        let log = LogWriter::new(take.logs, take.key.task, take.key.attempt, take.caps);
        let moved = Moved { log, pipes: take.pipes, tally: LogTally::default() };
        self.logs.insert(take.slot, moved);
    }

    /// Moves what is in the pipes, but not more than a pipe holds: somebody may go on writing.
    fn drain(&mut self, slot: u64) {
        for stream in 0..STREAMS.len() {
            let mut moved = 0;
            while moved <= PIPE_SIZE as usize {
                match self.move_once(slot, stream) {
                    0 => break,
                    count => moved += count,
                }
            }
        }
    }

    /// Reads once from a pipe; 0 when there is nothing. The end of the stream closes the pipe.
    fn move_once(&mut self, slot: u64, stream: usize) -> usize {
        let Some(moved) = self.logs.get_mut(&slot) else { return 0 };
        let Some(pipe) = moved.pipes.get_mut(stream) else { return 0 };
        let Some(fd) = pipe.as_ref() else { return 0 };
        match nix::unistd::read(fd.as_fd(), &mut self.buffer) {
            Ok(0) => {
                *pipe = None;
                0
            }
            Ok(count) => {
                let bytes = self.buffer.get(..count).unwrap_or_default();
                if let Some(stream) = STREAMS.get(stream) {
                    moved.log.append(now_us(), *stream, bytes);
                    add(&mut moved.tally, *stream, count as u64);
                }
                count
            }
            Err(Errno::EAGAIN | Errno::EINTR) => 0,
            Err(error) => {
                tracing::error!(%error, "cannot read the output of an attempt");
                *pipe = None;
                0
            }
        }
    }
}

fn add(tally: &mut LogTally, stream: Stream, bytes: u64) {
    match stream {
        Stream::Out => tally.out += bytes,
        Stream::Err => tally.err += bytes,
        Stream::Event => tally.event += bytes,
        Stream::Note => {}
    }
}

fn close(moved: Moved) -> LogTally {
    let summary = moved.log.close();
    LogTally { dropped: summary.dropped, ..moved.tally }
}
