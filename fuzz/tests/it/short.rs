//! A moment of each target: its kept inputs, then inputs like them, by a seed that is printed. With
//! `CAPSULE_FUZZ_SECONDS` longer, with `CAPSULE_FUZZ_SEED` again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime};

use capsule_fuzz::mutate::{Dice, mutated};
use capsule_fuzz::{TARGETS, corpus, target};

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[expect(clippy::disallowed_methods, reason = "a seed of its own for each run")]
fn seed() -> u64 {
    setting("CAPSULE_FUZZ_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos()) << 32 | now.as_secs()
    })
}

/// Runs one input; one that finds something is written out.
fn tried(name: &str, run: fn(&[u8]), data: &[u8], what: &str) {
    if catch_unwind(AssertUnwindSafe(|| run(data))).is_ok() {
        return;
    }
    let path = std::env::temp_dir().join(format!("found-{name}-{}", std::process::id()));
    std::fs::write(&path, data).unwrap();
    panic!(
        "{what} found something; the input is in {}, keep it in fuzz/corpus/{name}",
        path.display()
    );
}

fn fuzzed(name: &str) {
    let run = target(name).unwrap().run;
    let kept = corpus::kept(name);
    assert!(!kept.is_empty(), "fuzz/corpus/{name} has no input");
    for (file, data) in &kept {
        tried(name, run, data, &format!("{name}/{file}"));
    }
    let seed = seed();
    let span = Duration::from_secs(setting("CAPSULE_FUZZ_SECONDS").unwrap_or(1));
    let mut dice = Dice::new(seed);
    let (begin, mut count) = (Instant::now(), 0_u64);
    while begin.elapsed() < span {
        let (_, one) = dice.pick(&kept).unwrap();
        let (_, other) = dice.pick(&kept).unwrap();
        let data = mutated(one, other, &mut dice);
        tried(name, run, &data, &format!("{name}, input {count} of CAPSULE_FUZZ_SEED={seed}"));
        count += 1;
    }
    println!("{name}: {count} inputs, CAPSULE_FUZZ_SEED={seed}");
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                fuzzed(stringify!($name));
            }
        )*

        #[test]
        fn every_target_is_run() {
            let names = TARGETS.map(|target| target.name);
            assert_eq!(names.to_vec(), [$(stringify!($name)),*]);
        }
    };
}

targets!(lock spans cron manifest description fault store records logs keeper host rpc sdk http);

/// The mutations reach what no kept input has: a brace where none was, a number at the edge of its type.
#[test]
fn mutations_reach_what_is_planted() {
    let kept = corpus::kept("lock");
    let mut dice = Dice::new(1);
    let planted: [fn(&[u8]) -> bool; 2] =
        [|data| data.starts_with(b"{{{"), |data| data.windows(4).any(|four| four == [0xff; 4])];
    let mut found = [0_u32; 2];
    for _ in 0..50_000 {
        let (_, one) = dice.pick(&kept).unwrap();
        let (_, other) = dice.pick(&kept).unwrap();
        let mut data = mutated(one, other, &mut dice);
        // Mutated again, as an input that was kept for what it found.
        data = mutated(&data, other, &mut dice);
        for (count, planted) in found.iter_mut().zip(planted) {
            *count += u32::from(planted(&data) && !planted(one));
        }
    }
    assert!(found.iter().all(|count| *count > 0), "{found:?}");
}
