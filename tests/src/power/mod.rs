//! Power cuts without a power cut: what a program wrote and synced is recorded, and from that every
//! state in which a disk could be left is made.
//!
//! Owns the recorder (`tests/shim/record.c`), its records, the model of a disk and the images made
//! from it. It must not know what the files mean. Invariant: a disk keeps what a sync that came back
//! had been asked for, and of everything else any part, in any order.
//!
//! The model is strict where file systems differ: the sync of a file does not keep its name, the sync
//! of a folder keeps no contents, and renames that were not synced may come back to the old name one
//! by one. Only a rename itself is never seen half done.

mod crash;
mod disk;
mod image;
mod recorder;
mod states;

pub use self::crash::Cut;
pub use self::disk::Disk;
pub use self::image::Image;
pub use self::recorder::{Op, Recorder, Records, mark};
pub use self::states::{States, Tally, Witness, judge, scratch};
