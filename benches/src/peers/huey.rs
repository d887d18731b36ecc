//! huey on SQLite, in the driver's own process.

use tempfile::TempDir;

use super::driver::{Driver, HUEY};
use super::{Peer, Turn};
use crate::bench::Bench;

#[derive(Debug)]
struct Huey {
    driver: Driver,
    _folder: TempDir,
}

pub(super) fn start(bench: &Bench) -> anyhow::Result<Box<dyn Peer>> {
    let folder = bench.folder()?;
    let driver = Driver::start(&HUEY, &folder, &folder.path().join("huey.db"))?;
    Ok(Box::new(Huey { driver, _folder: folder }))
}

impl Peer for Huey {
    fn about(&self) -> String {
        format!("{} WAL, fsync", self.driver.version)
    }

    fn round(&mut self, bench: &Bench) -> anyhow::Result<Turn> {
        self.driver.submit(bench.round())
    }
}
