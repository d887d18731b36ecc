//! Garbage leaves nothing behind in the daemon. `CAPSULE_FUZZ_FRAMES=1000000` is the long run.

use std::fs;

use capsule_fuzz::describe::{CAPSULE, SDK};
use capsule_fuzz::mutate::Dice;
use capsule_fuzz::rig::nothing_panicked;
use capsule_fuzz::targets::rpc::Bed;

/// The most that the process may grow, in KiB.
const GROWTH_MAX: u64 = 10 << 10;

/// What this process has in memory, in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// One frame of random bytes: as a request of any method, or one in 32 as bytes on a socket.
fn garbage(bed: &Bed, dice: &mut Dice) {
    let mut bytes: Vec<u8> = (0..dice.below(256)).map(|_| dice.byte()).collect();
    if dice.below(32) == 0 {
        bytes.insert(0, 2 | dice.byte());
        return bed.write(&bytes);
    }
    let protocol = if dice.below(2) == 0 { &CAPSULE } else { &SDK };
    let method = dice.pick(&protocol.methods).unwrap();
    let mut data = format!("{}\n", method.name).into_bytes();
    data.extend(bytes);
    let _refused = bed.ask(protocol, &data);
}

#[test]
fn garbage_leaves_nothing_behind() {
    let frames = std::env::var("CAPSULE_FUZZ_FRAMES").map_or(2000, |text| text.parse().unwrap());
    let seed = std::env::var("CAPSULE_FUZZ_SEED").map_or(7, |text| text.parse().unwrap());
    let (bed, mut dice) = (Bed::new(), Dice::new(seed));
    let warm = 500;
    for _ in 0..warm {
        garbage(&bed, &mut dice);
    }
    let before = resident();
    for _ in 0..frames {
        garbage(&bed, &mut dice);
    }
    nothing_panicked();
    let grown = resident().saturating_sub(before);
    println!("{frames} frames, CAPSULE_FUZZ_SEED={seed}: {before} KiB and {grown} KiB more");
    assert!(grown < GROWTH_MAX, "{frames} frames left {grown} KiB behind");
}
