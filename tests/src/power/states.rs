//! Every state that a recorded run could leave a disk in, put before a judge.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::recorder::Records;
use super::{Cut, Disk, Image, Op, Recorder};
use crate::Random;

/// Knows what must be found on a disk.
pub trait Witness: Clone + Default + Send + Sync + 'static {
    /// Takes in what somebody noted.
    fn hear(&mut self, mark: &[u8]);

    /// Looks at what a cut left in `dir`.
    ///
    /// # Errors
    /// Says what is wrong there.
    fn judge(&self, dir: &Path) -> Result<(), String>;
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Tally {
    /// States that differ from each other and were judged.
    pub states: u64,
    /// States to choose from.
    pub possible: u64,
    /// What is wrong, and where.
    pub wrong: Vec<String>,
}

impl Tally {
    /// Asserts that nothing is wrong.
    ///
    /// # Panics
    /// Something is.
    #[track_caller]
    pub fn is_clean(&self) {
        let first = &self.wrong[..self.wrong.len().min(10)];
        assert!(first.is_empty(), "{} of {}: {first:#?}", self.wrong.len(), self.states);
    }
}

/// Plays the records one by one.
#[derive(Debug)]
pub struct States<W> {
    /// The disk after the last record.
    pub disk: Disk,
    /// What is known then.
    pub witness: Arc<W>,
    records: Records,
    random: Random,
    count: u64,
    marks: u64,
}

impl<W: Witness> States<W> {
    /// Begins, on an empty disk that takes no notice of syncs of paths that `deaf` names.
    pub fn new(recorder: &Recorder, deaf: Option<fn(&str) -> bool>, seed: u64) -> Self {
        let disk = deaf.map_or_else(Disk::new, Disk::deaf_to);
        let (witness, random) = (Arc::default(), Random(!seed));
        Self { disk, witness, records: recorder.read(), random, count: 0, marks: 0 }
    }

    /// To the end.
    pub fn finish(mut self) -> (Disk, Arc<W>) {
        while self.next().is_some() {}
        (self.disk, self.witness)
    }

    /// The ways to cut the power now.
    fn cuts(&mut self) -> Vec<Cut> {
        let mut cuts = vec![Cut::Lose];
        if !self.disk.is_unsettled() {
            return cuts;
        }
        cuts.push(Cut::Keep);
        for unit in [512, 4096] {
            let boundaries = self.disk.boundaries(unit);
            if boundaries > 0 {
                let boundary = self.random.below(boundaries);
                cuts.extend([true, false].map(|keep| Cut::Torn { unit, boundary, keep }));
            }
        }
        cuts.extend((0..3).map(|_| Cut::Any { seed: self.random.bits() }));
        cuts
    }
}

impl<W: Witness> Iterator for States<W> {
    type Item = Vec<Cut>;

    /// The ways to cut the power after the next record.
    fn next(&mut self) -> Option<Vec<Cut>> {
        let op = self.records.next()?;
        self.count += 1;
        self.disk.play(&op);
        if let Op::Mark(mark) = &op {
            self.marks += 1;
            Arc::make_mut(&mut self.witness).hear(mark);
        }
        Some(self.cuts())
    }
}

struct State<W> {
    image: Image,
    witness: Arc<W>,
    what: String,
}

/// Has about `wanted` of all states judged, chosen by `seed`.
///
/// # Panics
/// An image cannot be written.
pub fn judge<W: Witness>(
    recorder: &Recorder,
    deaf: Option<fn(&str) -> bool>,
    wanted: u64,
    seed: u64,
) -> Tally {
    let mut tally = Tally::default();
    let all = States::<W>::new(recorder, deaf, seed);
    tally.possible = all.map(|cuts| cuts.len() as u64).sum();
    let (queue, inbox) = sync_channel(4);
    let inbox = Arc::new(Mutex::new(inbox));
    let workers = [(); 2].map(|()| {
        let inbox = Arc::clone(&inbox);
        thread::spawn(move || judge_each::<W>(&inbox))
    });
    let mut choice = Random(seed);
    let mut known = HashSet::new();
    let mut walk = States::<W>::new(recorder, deaf, seed);
    while let Some(cuts) = walk.next() {
        for cut in cuts {
            if choice.below(tally.possible) >= wanted {
                continue;
            }
            let image = walk.disk.cut(cut);
            if known.insert((image.fingerprint(), walk.marks)) {
                let what = format!("{cut:?} after record {}", walk.count);
                queue.send(State { image, witness: Arc::clone(&walk.witness), what }).unwrap();
            }
        }
    }
    drop(queue);
    for worker in workers {
        let (states, wrong) = worker.join().unwrap();
        tally.states += states;
        tally.wrong.extend(wrong);
    }
    tally
}

fn judge_each<W: Witness>(inbox: &Mutex<Receiver<State<W>>>) -> (u64, Vec<String>) {
    let place = scratch();
    let (mut states, mut wrong) = (0, Vec::new());
    loop {
        let next = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(state) = next else { return (states, wrong) };
        // Never the same path: the one before may not be closed yet.
        let dir = place.path().join(states.to_string());
        fs::create_dir(&dir).unwrap();
        state.image.put(&dir);
        states += 1;
        if let Err(what) = state.witness.judge(&dir) {
            wrong.push(format!("{}: {what}", state.what));
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}

/// A folder in memory, where there is such a place: many databases are opened in it.
///
/// # Panics
/// There is no place for a folder at all.
pub fn scratch() -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("capsule-cuts-");
    builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir()).unwrap()
}
