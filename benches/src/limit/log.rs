//! A bare log file: append, fdatasync, answer. Nothing durable can be faster.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::noop::flood;
use crate::sample::Sample;

/// About the length of a task's record.
const RECORD: [u8; 400] = [7; 400];

type Waiter = oneshot::Sender<()>;

/// Records acknowledged per second with so many writers in flight: one thread writes what has
/// come together, syncs once, and answers all.
pub(crate) async fn group_commit(
    dir: &Path,
    in_flight: usize,
    time: Duration,
) -> anyhow::Result<f64> {
    let (records, inbox) = channel::<Waiter>();
    let file = File::create(dir.join("raw-log"))?;
    let flusher = std::thread::spawn(move || flush_groups(file, &inbox));
    let rate = flood(in_flight, time, || {
        let (answer, answered) = oneshot::channel();
        let sent = records.send(answer);
        async move {
            sent.map_err(|_| tonic::Status::internal("the log's thread has ended"))?;
            answered.await.map_err(|_| tonic::Status::internal("the log's thread has ended"))
        }
    })
    .await?;
    drop(records);
    match flusher.join() {
        Ok(ended) => ended?,
        Err(_) => anyhow::bail!("the log's thread panicked"),
    }
    Ok(rate)
}

fn flush_groups(mut file: File, inbox: &Receiver<Waiter>) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let mut waiting = Vec::new();
    while let Ok(first) = inbox.recv() {
        waiting.push(first);
        waiting.extend(inbox.try_iter());
        bytes.clear();
        bytes.resize(waiting.len() * RECORD.len(), 7);
        file.write_all(&bytes)?;
        file.sync_data()?;
        for waiter in waiting.drain(..) {
            // Whoever asked may be gone.
            let _ = waiter.send(());
        }
    }
    Ok(())
}

/// The times of so many appends with fdatasync, in microseconds.
pub(crate) fn serial(dir: &Path, appends: usize) -> anyhow::Result<Sample> {
    let mut file = File::create(dir.join("raw-log"))?;
    let mut times = Sample::default();
    for _ in 0..appends {
        let began = Instant::now();
        file.write_all(&RECORD)?;
        file.sync_data()?;
        times.push_micros(began.elapsed());
    }
    Ok(times)
}
