//! The folder of one attempt: a cgroup, and what of it stays open.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, openat},
    libc,
    sys::{
        stat::{FileStat, Mode, fstat},
        uio::pread,
    },
};

/// How often a folder may be used: what an attempt changed in it does not last for good.
const USES: u32 = 256;

/// The folder of one attempt. Whoever has it, and nobody else, may kill what is inside.
#[derive(Debug)]
pub(in crate::keeper) struct Leaf {
    pub(super) name: String,
    dir: Arc<OwnedFd>,
    events: OwnedFd,
    cpu: OwnedFd,
    made: Look,
    /// `cgroup.kill` was written.
    pub(super) killed: bool,
    uses: u32,
    /// Processor time of attempts before this one.
    before: (u64, u64),
}

/// What a folder looks like from outside. An attempt that may write there can change its owner and
/// mode, and make folders of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    owner: (u32, u32),
    mode: u32,
    links: libc::nlink_t,
}

impl Look {
    fn at(dir: &OwnedFd) -> Result<Self, Errno> {
        let FileStat { st_uid, st_gid, st_mode, st_nlink, .. } = fstat(dir)?;
        Ok(Self { owner: (st_uid, st_gid), mode: st_mode, links: st_nlink })
    }
}

impl Leaf {
    /// Opens the folder `name` in `base`.
    pub(super) fn open(base: &OwnedFd, name: &str) -> Result<Self, Errno> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_PATH;
        let dir = openat(base, name, flags, Mode::empty())?;
        let file = |file| openat(&dir, file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
        let (events, cpu, made) = (file("cgroup.events")?, file("cpu.stat")?, Look::at(&dir)?);
        Ok(Self {
            name: name.to_owned(),
            dir: Arc::new(dir),
            events,
            cpu,
            made,
            killed: false,
            uses: 1,
            before: (0, 0),
        })
    }

    /// For `clone3`.
    pub(in crate::keeper) fn dir(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.dir)
    }

    /// A descriptor that reports a priority event when the cgroup becomes empty.
    pub(in crate::keeper) fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// No process is in it. One that cannot be read is not known to be empty, unless it was removed.
    pub(in crate::keeper) fn is_empty(&self) -> bool {
        match read(&self.events, |text| !text.contains("populated 1")) {
            Err(Errno::ENODEV) => true,
            read => read == Ok(true),
        }
    }

    /// User and system time of this attempt so far, in microseconds.
    pub(super) fn cpu_us(&self) -> Option<(u64, u64)> {
        let (user, system) = self.cpu_total()?;
        Some((user.saturating_sub(self.before.0), system.saturating_sub(self.before.1)))
    }

    fn cpu_total(&self) -> Option<(u64, u64)> {
        let figures = |text: &str| Some((field(text, "user_usec ")?, field(text, "system_usec ")?));
        read(&self.cpu, figures).ok()?
    }

    /// Makes it ready for another attempt: false when an attempt has left something in it. Linux 6.18
    /// kills whatever is cloned into a cgroup that was ever killed, so such a one is not used again.
    pub(super) fn renew(&mut self) -> bool {
        let unchanged = !self.killed
            && self.uses < USES
            && Look::at(&self.dir) == Ok(self.made)
            && read(&self.events, |text| text.contains("populated 0") && text.contains("frozen 0"))
                == Ok(true);
        let Some(before) = self.cpu_total().filter(|_| unchanged) else { return false };
        self.before = before;
        self.uses += 1;
        true
    }
}

/// What `take` makes of the text of a kernel file, which is shorter than a page.
fn read<T>(fd: &OwnedFd, take: impl FnOnce(&str) -> T) -> Result<T, Errno> {
    let mut buffer = [0; 4096];
    let count = pread(fd, &mut buffer, 0)?;
    let text = buffer.get(..count).and_then(|text| str::from_utf8(text).ok());
    text.map(take).ok_or(Errno::EILSEQ)
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}
