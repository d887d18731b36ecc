//! New inputs from kept ones, by a seed: small, without coverage, the same on every machine.

/// Random numbers (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The same seed gives the same numbers.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`; 0 when that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.roll() % limit).unwrap_or(0)
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }

    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        self.roll().to_le_bytes()[0]
    }
}

/// Numbers near which readers go wrong.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];
/// Text that means something to one reader or another.
const WORDS: [&str; 24] = [
    "{",
    "}",
    "{a}",
    "\n",
    "\0",
    "%",
    "\"",
    ",",
    "=",
    "/",
    "../",
    "*/7",
    "-",
    ".",
    "e9",
    "ms",
    "99999999999",
    "\u{202e}",
    "ü",
    "\u{1b}[",
    "[tasks.x]\n",
    "null",
    "[[[[",
    "\r\n",
];

/// The longest input.
pub const LONGEST: usize = 16 << 10;

/// An input like `one`, in up to eight small ways different; pieces may come from `other`.
pub fn mutated(one: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = one.to_vec();
    for _ in 0..=dice.below(8) {
        change(&mut bytes, other, dice);
    }
    bytes.truncate(LONGEST);
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    let at = dice.below(bytes.len() + 1);
    let until = (at + dice.below(32)).min(bytes.len());
    match dice.below(10) {
        0 | 1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << dice.below(8);
            }
        }
        2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = dice.byte();
            }
        }
        3 => {
            let random: Vec<u8> = (0..dice.below(8)).map(|_| dice.byte()).collect();
            drop(bytes.splice(at..at, random));
        }
        4 => drop(bytes.drain(at..until)),
        5 => bytes.truncate(at),
        6 => {
            let piece = bytes.get(at..until).unwrap_or_default().repeat(1 + dice.below(4));
            drop(bytes.splice(at..at, piece));
        }
        7 => {
            let edge = dice.pick(&EDGES).copied().unwrap_or(0).to_le_bytes();
            let width = 1 << dice.below(4);
            let room = bytes.iter_mut().skip(at).zip(edge.iter().take(width));
            room.for_each(|(byte, edge)| *byte = *edge);
        }
        8 => {
            let word = dice.pick(&WORDS).copied().unwrap_or_default();
            drop(bytes.splice(at..until, word.bytes()));
        }
        _ => {
            let from = dice.below(other.len() + 1);
            let piece = other.iter().skip(from).take(dice.below(256)).copied().collect::<Vec<_>>();
            drop(bytes.splice(at..until, piece));
        }
    }
}
