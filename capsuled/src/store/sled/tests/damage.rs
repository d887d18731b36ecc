//! Seeded damage to the files of a store: it is refused by name, or nothing is lost.

use std::os::unix::fs::FileExt as _;

use super::*;

const PAGE: usize = 4096;

/// A store to damage, and what it held.
struct Victim {
    dir: tempfile::TempDir,
    model: Model,
    found: Found,
}

impl Victim {
    /// One that was opened three times and then stopped, so that it has a snapshot.
    fn stopped() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut model = Model::new();
        for seed in 0..3 {
            let opened = open(dir.path()).unwrap();
            churn(&opened.store, &mut model, seed, 60);
            opened.store.close().unwrap();
        }
        Self::of(dir, model)
    }

    /// One as a killed process leaves it: nothing closed, no MANIFEST written since the start.
    fn killed() -> Self {
        let running = tempfile::tempdir().unwrap();
        let mut model = Model::new();
        let opened = open(running.path()).unwrap();
        churn(&opened.store, &mut model, 7, 120);
        let dir = tempfile::tempdir().unwrap();
        copy_state(running.path(), &dir.path().join("state"));
        Self::of(dir, model)
    }

    fn of(dir: tempfile::TempDir, model: Model) -> Self {
        let copy = tempfile::tempdir().unwrap();
        let mut victim = Self { dir, model, found: blank() };
        victim.copy(&copy.path().join("state"));
        victim.found = open(&copy.path().join("state")).unwrap().found;
        victim
    }

    fn copy(&self, to: &Path) {
        let nested = self.dir.path().join("state");
        copy_state(if nested.exists() { &nested } else { self.dir.path() }, to);
    }
}

fn blank() -> Found {
    Found {
        fresh: false,
        uuid: uuid::Uuid::nil(),
        created: now(),
        low_bound: 0,
        high_water: 0,
        records: BTreeMap::new(),
        reserved: false,
    }
}

/// Opens a damaged state directory and demands all or a named refusal.
fn all_or_refused(victim: &Victim, dir: &Path, what: &str) -> bool {
    match open(dir) {
        Ok(opened) => {
            let read = everything(&opened.store).unwrap();
            assert!(read == victim.model, "{what}: opened with {} records", read.len());
            assert_eq!(opened.found.high_water, victim.found.high_water, "{what}");
            false
        }
        Err(
            refused @ (StoreError::Damaged { .. }
            | StoreError::Emptied { .. }
            | StoreError::Missing { .. }
            | StoreError::Newer { .. }
            | StoreError::RolledBack { .. }),
        ) => {
            assert!(refused.hint().is_some(), "{what}: {refused} has no hint");
            true
        }
        Err(other) => panic!("{what}: {other:?}"),
    }
}

/// Damages one of `files` in a way that follows from `seed`, and says how.
fn damage(files: &[Damaged], queue: &Path, seed: u64) -> String {
    let mut random = Random(seed);
    // The database file comes first; its settings and its snapshot are hit less often.
    let others = files.len() - 1;
    let pick = if random.below(5) > 0 { 0 } else { 1 + random.below(others) };
    let Damaged { name, bytes, written } = &files[pick];
    let file = fs::File::options().write(true).open(queue.join(name)).unwrap();
    let at = written[random.below(written.len())];
    let page = at / PAGE * PAGE;
    let mut other = bytes[page..(page + PAGE).min(bytes.len())].to_vec();
    let how = match random.below(7) {
        0..=2 => {
            other[at - page] ^= 1 << random.below(8);
            "a flipped bit"
        }
        3 => {
            other.fill(0);
            "a zeroed page"
        }
        4 => {
            other.fill_with(|| random.byte());
            "a random page"
        }
        5 => {
            other.truncate(at - page);
            file.set_len(at as u64).unwrap();
            "a cut"
        }
        _ => {
            let from = random.below(bytes.len() - other.len() + 1);
            other = bytes[from..from + other.len()].to_vec();
            "a misplaced page"
        }
    };
    file.write_all_at(&other, page as u64).unwrap();
    format!("seed {seed}: {how} at {at} of {name}")
}

/// A file to damage, and where it is not zero.
struct Damaged {
    name: String,
    bytes: Vec<u8>,
    written: Vec<usize>,
}

impl Damaged {
    fn all(queue: &Path) -> Vec<Self> {
        let listed = fs::read_dir(queue).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<Self> = listed
            .filter(|path| path.is_file())
            .map(|path| {
                let bytes = fs::read(&path).unwrap();
                let written = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
                let name = path.file_name().unwrap().display().to_string();
                Self { name, bytes, written }
            })
            .collect();
        files.sort_by(|one, other| {
            (one.name != "db", &one.name).cmp(&(other.name != "db", &other.name))
        });
        files
    }
}

fn survive(victim: &Victim, seeds: std::ops::Range<u64>) {
    let parent = tempfile::tempdir().unwrap();
    let whole = parent.path().join("whole");
    victim.copy(&whole);
    let files = Damaged::all(&whole.join("queue"));
    let mut refused = 0;
    for seed in seeds.clone() {
        let dir = parent.path().join("state");
        victim.copy(&dir);
        let what = damage(&files, &dir.join("queue"), seed);
        refused += u64::from(all_or_refused(victim, &dir, &what));
        fs::remove_dir_all(&dir).unwrap();
    }
    let total = seeds.end - seeds.start;
    println!("{refused} of {total} refused, the others opened whole");
    assert!(refused > total / 10, "{refused} of {total} refused");
}

#[test]
fn a_stopped_store_is_never_lost_in_silence() {
    survive(&Victim::stopped(), 0..100);
}

#[test]
fn a_killed_store_is_never_lost_in_silence() {
    survive(&Victim::killed(), 0..100);
}

#[test]
#[ignore = "takes minutes: for a change of the database or of the checks"]
fn much_damage_is_never_lost_in_silence() {
    survive(&Victim::stopped(), 1000..6000);
    survive(&Victim::killed(), 6000..11000);
}
