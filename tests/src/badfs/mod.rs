//! A file system over a folder whose disk can be told to go bad, by FUSE.
//!
//! Owns the mount and its faults. It must not know what the files mean. Every write arrives here
//! before the program that made it goes on. Nothing is kept back, but it is known what a power cut
//! would take.

mod files;
mod serve;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fuser::MountOption;

use self::files::Files;
use crate::power::{Cut, Disk, Image};

/// What is wrong with the disk.
#[derive(Debug, Default)]
pub struct Faults {
    /// A sync comes back with EIO.
    pub sync_fails: AtomicBool,
    /// Everything that writes comes back with EROFS.
    pub read_only: AtomicBool,
    /// So many bytes can be written before ENOSPC.
    pub room: AtomicU64,
    /// `statfs` tells how much room there is; else it tells of plenty, as a quota does.
    pub tells_room: AtomicBool,
}

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub struct BadDisk {
    /// What is wrong with it now.
    pub faults: Arc<Faults>,
    disk: Arc<Mutex<Disk>>,
    place: PathBuf,
    session: Option<fuser::BackgroundSession>,
}

impl BadDisk {
    /// Mounts the folder `back` at `place`. `None` where that cannot be, which is said out loud.
    pub fn mount(back: &Path, place: &Path) -> Option<Self> {
        let faults = Arc::new(Faults::default());
        faults.room.store(1 << 40, Ordering::Relaxed);
        let disk = Arc::<Mutex<Disk>>::default();
        let files = Files::of(back, Arc::clone(&faults), Arc::clone(&disk));
        let name = MountOption::FSName("bad-disk".to_owned());
        match fuser::spawn_mount2(files, place, &[name]) {
            Ok(session) => {
                let session = Some(session);
                Some(Self { faults, disk, place: place.to_owned(), session })
            }
            Err(error) => {
                eprintln!("SKIPPED: a bad disk is not tested, no FUSE here: {error}");
                None
            }
        }
    }

    /// What a power cut would leave now.
    pub fn cut(&self, cut: Cut) -> Image {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner).cut(cut)
    }

    /// Takes it away from under whoever uses it.
    pub fn unmount(&mut self) {
        if let Some(session) = self.session.take() {
            let umount = std::process::Command::new("umount").arg("-l").arg(&self.place).status();
            drop(umount);
            drop(session);
        }
    }
}

impl Drop for BadDisk {
    fn drop(&mut self) {
        self.unmount();
    }
}
