//! The thread that moves forked processes into their cgroups: the kernel may take its time over it.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, mpsc},
    thread,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, openat},
    sys::{
        eventfd::{EfdFlags, EventFd},
        stat::Mode,
    },
    unistd::Pid,
};

/// A process and the folder that it is to be in.
type Move = (Pid, Arc<OwnedFd>);

/// The control thread's handle of that thread.
#[derive(Debug)]
pub(in crate::keeper) struct Mover {
    moves: mpsc::Sender<Move>,
    /// What became of each; `bell` rings when there is one.
    pub(super) moved: mpsc::Receiver<(Pid, Result<(), Errno>)>,
    pub(in crate::keeper) bell: Arc<EventFd>,
}

impl Mover {
    pub(in crate::keeper) fn start() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let bell = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let (moves, inbox) = mpsc::channel::<Move>();
        let (answers, told) = mpsc::channel();
        let ring = Arc::clone(&bell);
        let serve = move || {
            for (pid, folder) in inbox {
                if answers.send((pid, enter(pid, &folder))).is_err() || ring.write(1).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("keeper-mover".to_owned()).spawn(serve)?;
        Ok(Self { moves, moved: told, bell })
    }

    /// Asks for a move. Without an answer the attempt starts afresh when its time is over.
    pub(super) fn ask(&self, pid: Pid, folder: Arc<OwnedFd>) {
        if self.moves.send((pid, folder)).is_err() {
            tracing::error!("the mover of processes has died");
        }
    }
}

fn enter(pid: Pid, folder: &OwnedFd) -> Result<(), Errno> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let file = openat(folder, "cgroup.procs", flags, Mode::empty())?;
    nix::unistd::write(&file, pid.to_string().as_bytes()).map(|_| ())
}
