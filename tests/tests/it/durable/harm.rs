//! Seeded damage to any file of a state directory: nothing is lost in silence.
//!
//! `CAPSULE_HARMS` says how often, `CAPSULE_SEED` repeats a run's choices.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use capsule_core::task::Task;
use capsule_tests::power::{Image, scratch};
use capsule_tests::{Home, Random, number};
use capsuled::logs::{Chunk, Cursor, LogDir, LogReader};
use capsuled::store::{SideFiles, SideKind, SledStore, StateDir, StoreError, Table, repair};
use jiff::Timestamp;
use nix::sys::signal::Signal;

const HARMS: u64 = 240;

/// How many of them are also put before the real daemon.
const WHOLE: u64 = 12;

/// The exit code of a store that cannot be used (sysexits.h: `EX_DATAERR`).
const DATA: i32 = 65;

const MOST: usize = 1 << 20;
const HELD: u64 = 40;
const PAGE: u64 = 4096;

type Records = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// A state directory to harm, and what is in it.
struct Victim {
    image: Image,
    files: Vec<(String, u64, Vec<u64>)>,
    records: Records,
    payloads: BTreeMap<u64, Vec<u8>>,
    log: Vec<u8>,
}

/// The task with a log.
const NOISY: u64 = 1;

impl Victim {
    fn make(home: &Home) -> Self {
        let daemon = home.start();
        let noise = "i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo line $i of 400; done";
        home.capsule(["run", "--shell", "--", noise]).run().exits(0);
        for number in 0..HELD {
            let filler = "x".repeat(if number.is_multiple_of(8) { 9_000 } else { 40 });
            let name = format!("held-{number}");
            home.submit(["--hold", "--name", &name, "--", "true", &filler]);
        }
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.end().success());
        // Once more, for a snapshot.
        let daemon = home.start();
        home.capsule(["cancel", "3"]).run().exits(0);
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.end().success());
        let image = Image::of(&home.state_dir());
        let place = scratch();
        image.put(place.path());
        let (state, records) = open(place.path()).unwrap();
        let side = SideFiles::new(&state);
        let payloads = (1..=HELD + 1)
            .filter_map(|id| Some((id, side.read(SideKind::Payload, id, MOST).unwrap()?)));
        let payloads: BTreeMap<_, _> = payloads.collect();
        assert!(payloads.len() > 3, "{payloads:?}");
        let log = read_log(&state).unwrap();
        assert!(log.ends_with(b"line 400 of 400\n"), "{}", log.len());
        Self { files: image.files(), image, records, payloads, log }
    }

    /// Damages one file in `dir` as `seed` says. Gives the file, and what was done to it.
    fn harm(&self, dir: &Path, seed: u64) -> (String, String) {
        let mut random = Random(seed);
        let database = || self.files.iter().find(|(path, ..)| path == "queue/db").unwrap();
        let index = random.index(self.files.len());
        let (path, size, pages) = if random.one_in(3) { database() } else { &self.files[index] };
        let file = File::options().read(true).write(true).open(dir.join(path)).unwrap();
        let page = if pages.is_empty() { 0 } else { pages[random.index(pages.len())] };
        let end = (*size).min((page + 1) * PAGE);
        let at = page * PAGE + random.below((end - (page * PAGE).min(end)).max(1));
        let how = match random.below(6) {
            0..=2 if *size > 0 => {
                let mut byte = [0];
                file.read_at(&mut byte, at).unwrap();
                file.write_all_at(&[byte[0] ^ (1 << random.below(8))], at).unwrap();
                "a flipped bit"
            }
            3 if *size > 0 => {
                let length = usize::try_from(end - page * PAGE).unwrap();
                file.write_all_at(&vec![0; length], page * PAGE).unwrap();
                "a zeroed page"
            }
            4 => {
                file.set_len(0).unwrap();
                "no bytes"
            }
            _ => {
                file.set_len(at).unwrap();
                "a cut"
            }
        };
        (path.clone(), format!("seed {seed}: {how} at {at} of {path}"))
    }

    /// All or a named refusal. True = it was refused.
    fn judge(&self, dir: &Path, seed: u64) -> Result<bool, String> {
        let (path, what) = self.harm(dir, seed);
        let (state, records) = match open(dir) {
            Err(refused) => {
                let hint = refused.hint().unwrap_or_default();
                let newer = matches!(refused, StoreError::Newer { .. });
                if !refused.is_about_data() || !(newer || hint.contains("capsuled db repair")) {
                    return Err(format!("{what}: refused by {refused}, {hint}"));
                }
                if !newer && seed.is_multiple_of(8) {
                    self.mend(dir).map_err(|wrong| format!("{what}: repair: {wrong}"))?;
                }
                return Ok(true);
            }
            Ok(opened) => opened,
        };
        if records != self.records {
            return Err(format!("{what}: LOST in silence: {} records", records.len()));
        }
        let side = SideFiles::new(&state);
        for (id, payload) in &self.payloads {
            let harmed = path.starts_with("side/") && path.ends_with(&format!("/{id}"));
            match side.read(SideKind::Payload, *id, MOST) {
                Ok(Some(found)) if found == *payload => {}
                Err(StoreError::DamagedFile { .. }) if harmed => {}
                other => return Err(format!("{what}: payload {id} is {other:?}")),
            }
        }
        match read_log(&state) {
            Ok(log) if log == self.log || path.starts_with("logs/") => Ok(false),
            Err(_) if path.starts_with("logs/") => Ok(false),
            other => Err(format!("{what}: the log is {other:?}")),
        }
    }

    /// Follows the hint: what is kept is what was there.
    fn mend(&self, dir: &Path) -> Result<(), String> {
        let state = StateDir::open(dir).map_err(|error| error.to_string())?;
        repair(&state, Timestamp::UNIX_EPOCH).map_err(|error| error.to_string())?;
        drop(state);
        let (_, kept) = open(dir).map_err(|error| error.to_string())?;
        // A queue that ended too early has older states of a task, which the repair says.
        for ((table, key), value) in kept.iter().filter(|((table, _), _)| *table == Table::Task) {
            let there = self.records.get(&(*table, key.clone())).map(|bytes| task(bytes));
            let kept = task(value);
            if there.is_none_or(|there| (there.uuid, &there.spec) != (kept.uuid, &kept.spec)) {
                return Err(format!("it made up {kept:?}"));
            }
        }
        Ok(())
    }
}

fn task(bytes: &[u8]) -> Task {
    minicbor::decode(bytes).unwrap()
}

fn open(dir: &Path) -> Result<(StateDir, Records), StoreError> {
    let state = StateDir::open(dir)?;
    let mut records = Records::new();
    let mut visit = |table: Table, key: &[u8], value: &[u8]| {
        records.insert((table, key.to_vec()), value.to_vec());
    };
    SledStore::open_and_visit(&state, Timestamp::UNIX_EPOCH, &mut visit)?;
    Ok((state, records))
}

fn read_log(state: &StateDir) -> Result<Vec<u8>, String> {
    let dir = LogDir::open(state.logs()).map_err(|error| error.to_string())?;
    let mut reader = LogReader::open(Arc::new(dir), NOISY, 1);
    let (mut cursor, mut bytes) = (Cursor(0), Vec::new());
    for _ in 0..1000 {
        let batch = reader.read(cursor, MOST).map_err(|error| error.to_string())?;
        for chunk in batch.chunks {
            match chunk {
                Chunk::Data { bytes: data, .. } => bytes.extend(data),
                Chunk::Gap { .. } => return Err("a gap".to_owned()),
            }
        }
        cursor = batch.next;
        if !batch.more {
            return Ok(bytes);
        }
    }
    Err("it never ends".to_owned())
}

#[test]
fn damage_is_never_a_silent_loss() {
    let mut random = Random::from_environment("CAPSULE_SEED");
    let wanted = number("CAPSULE_HARMS").unwrap_or(HARMS);
    let home = Home::new();
    let victim = Victim::make(&home);
    let base = random.bits() >> 1;
    let (next, refused, began) = (AtomicU64::new(0), AtomicU64::new(0), Instant::now());
    let work = || {
        let place = scratch();
        let mut wrong = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= wanted {
                return wrong;
            }
            let dir: PathBuf = place.path().join(number.to_string());
            std::fs::create_dir(&dir).unwrap();
            std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))
                .unwrap();
            victim.image.put(&dir);
            match victim.judge(&dir, base + number) {
                Ok(no) => drop(refused.fetch_add(u64::from(no), Ordering::Relaxed)),
                Err(what) => wrong.push(what),
            }
            std::fs::remove_dir_all(&dir).unwrap();
        }
    };
    // More than there are cores: one that was opened damaged may hold its file for seconds.
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let refused = refused.into_inner();
    eprintln!("{wanted} harms, {refused} refused, {} wrong, {:?}", wrong.len(), began.elapsed());
    assert!(wrong.is_empty(), "{:#?}", &wrong[..wrong.len().min(20)]);
    assert!(refused > wanted / 20, "only {refused} refused");
    for number in 0..WHOLE {
        the_daemon_copes(&victim, base + number);
    }
}

/// The real daemon refuses by name and is helped by the command that it names, or it goes on.
fn the_daemon_copes(victim: &Victim, seed: u64) {
    let home = Home::new();
    let dir = home.state_dir();
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    victim.image.put(&dir);
    let (_, what) = victim.harm(&dir, seed);
    let mut daemon = home.launch(&["--slots", "8"]);
    let up = capsule_tests::wait_for("the daemon is up or gives up", || match daemon.ended() {
        Some(status) => Some(Err(status)),
        None => (home.capsule(["status"]).run().code() == 0).then_some(Ok(())),
    });
    let said = home.log();
    assert!(!said.contains("panicked at"), "{what}: {said}");
    let count = || home.capsule(["list", "--all", "--count"]).run().exits(0).text();
    match up {
        Ok(()) => assert_eq!(count().trim(), (HELD + 1).to_string(), "{what}"),
        Err(status) => {
            assert_eq!(status.code(), Some(DATA), "{what}: {said}");
            let command = said.split("keep what is readable: ").nth(1).unwrap();
            let command = command.lines().next().unwrap().trim().trim_end_matches('`');
            let program = home.program("capsuled");
            home.shell(&command.replacen("capsuled", &program, 1)).run().exits(0);
            let _daemon = home.start();
            count();
        }
    }
}
