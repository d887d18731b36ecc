//! The thread that rebuilds the database when it has become sparse.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

use crate::store::{SledStore, StoreError};

/// Owns the thread; it ends when this is dropped. Commits wake it, no timer does.
#[derive(Debug)]
pub struct Compactor {
    store: Arc<SledStore>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Compactor {
    /// Starts the thread; a store that is sparse already is rebuilt at once.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(store: &Arc<SledStore>) -> io::Result<Self> {
        let (ask, asked) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let (of, until) = (Arc::clone(store), Arc::clone(&stop));
        let thread =
            Builder::new().name("compactor".to_owned()).spawn(move || run(&of, &until, &asked))?;
        store.ask_when_sparse(Some(ask));
        Ok(Self { store: Arc::clone(store), stop, thread: Some(thread) })
    }
}

impl Drop for Compactor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.store.ask_when_sparse(None);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the compactor panicked");
        }
    }
}

fn run(store: &SledStore, stop: &AtomicBool, asked: &Receiver<()>) {
    while asked.recv().is_ok() {
        match store.compact(stop) {
            Ok(done) => tracing::info!(
                before = done.before,
                after = done.after,
                held_up_us = u64::try_from(done.held_up.as_micros()).unwrap_or(u64::MAX),
                "the queue was rebuilt"
            ),
            Err(StoreError::Stopped) => return,
            Err(error) => tracing::warn!(%error, "the queue was not rebuilt"),
        }
    }
}
