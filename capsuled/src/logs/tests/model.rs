//! Random appends against a model that keeps everything in memory.

use proptest::prelude::*;

use super::{SMALL, folder, read_from, reader, unrolled, writer};
use crate::logs::{Cursor, LogCaps, Stream};

const SEGMENT_HEADER: u64 = 96;
const FRAME_HEADER: u64 = 32;

#[derive(Debug)]
struct Model {
    caps: LogCaps,
    all: Vec<(Stream, u8)>,
    /// First and last offset, and size, of each segment that was ever begun; the first may be the
    /// head.
    segments: Vec<(usize, usize, u64)>,
    has_head: bool,
}

impl Model {
    fn append(&mut self, stream: Stream, bytes: &[u8]) {
        let segment = self.caps.tail.max(2048) / 2;
        let longest = ((segment - SEGMENT_HEADER) / 4 - FRAME_HEADER).min(64 << 10);
        for piece in bytes.chunks(usize::try_from(longest).unwrap()) {
            let size = FRAME_HEADER + piece.len() as u64;
            let in_head = self.segments.len() == usize::from(self.has_head);
            let cap = if in_head { self.caps.head } else { segment };
            let at = self.all.len();
            match self.segments.last_mut() {
                Some(last) if last.2 + size <= cap => last.2 += size,
                None if SEGMENT_HEADER + size <= self.caps.head => {
                    self.has_head = true;
                    self.segments.push((at, at, SEGMENT_HEADER + size));
                }
                _ => self.segments.push((at, at, SEGMENT_HEADER + size)),
            }
            self.all.extend(piece.iter().map(|byte| (stream, *byte)));
            self.segments.last_mut().unwrap().1 = self.all.len();
        }
    }

    fn kept(&self) -> Vec<Option<(Stream, u8)>> {
        let mut kept = vec![None; self.all.len()];
        let head = self.segments.iter().take(usize::from(self.has_head));
        let tail = self.segments.iter().skip(usize::from(self.has_head)).rev().take(2);
        for (from, to, _) in head.chain(tail) {
            for (slot, byte) in kept[*from..*to].iter_mut().zip(&self.all[*from..*to]) {
                *slot = Some(*byte);
            }
        }
        kept
    }

    /// Where the last lines of what is kept begin.
    fn last_lines(&self, lines: usize, streams: &[Stream]) -> usize {
        let kept = self.kept();
        let wanted: Vec<_> = kept
            .iter()
            .enumerate()
            .filter_map(|(at, byte)| byte.filter(|(of, _)| streams.contains(of)).map(|b| (at, b.1)))
            .collect();
        if lines == 0 {
            return kept.len();
        }
        let body = wanted.split_last().map_or(&[][..], |(_, body)| body);
        let ends = body.iter().rev().filter(|(_, byte)| *byte == b'\n');
        ends.map(|(at, _)| at + 1).nth(lines - 1).unwrap_or(0)
    }
}

fn streams() -> impl Strategy<Value = Stream> {
    prop_oneof![
        4 => Just(Stream::Out),
        2 => Just(Stream::Err),
        1 => Just(Stream::Event),
        1 => Just(Stream::Note)
    ]
}

/// Bytes of any value, one in four or so a line end.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let lengths = prop_oneof![8 => 0_usize..40, 2 => 0_usize..400, 1 => 1000_usize..5000];
    (any::<u32>(), lengths).prop_map(|(mut seed, length)| {
        let byte = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let [.., kind, byte] = seed.to_le_bytes();
            if kind % 4 == 0 { b'\n' } else { byte }
        };
        std::iter::repeat_with(byte).take(length).collect()
    })
}

fn caps() -> impl Strategy<Value = LogCaps> {
    prop_oneof![
        Just(SMALL),
        (0_u64..1500, 0_u64..20_000).prop_map(|(head, tail)| LogCaps { head, tail })
    ]
}

fn limits() -> impl Strategy<Value = usize> {
    prop_oneof![1 => 3_usize..50, 9 => 50_usize..5000]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_reader_sees_what_the_caps_keep(
        caps in caps(),
        appends in proptest::collection::vec((streams(), pieces()), 0..120),
        limits in proptest::collection::vec(limits(), 1..3),
        reopen_at in 0_usize..240,
        from in 0.0..1.0_f64,
        lines in 0_usize..60,
        wanted in proptest::collection::vec(streams(), 0..3),
    ) {
        let (_temp, dir) = folder();
        let mut log = writer(&dir, caps);
        let mut early = reader(&dir);
        let mut model =
            Model { caps, all: Vec::new(), segments: Vec::new(), has_head: false };
        for (index, (stream, bytes)) in appends.iter().enumerate() {
            if index == reopen_at {
                log = writer(&dir, caps);
            }
            log.append(index as u64, *stream, bytes);
            model.append(*stream, bytes);
            if index % 7 == 0 {
                // A reader that knows old boundaries must not be misled by them later.
                early.read(Cursor(model.all.len() as u64 / 2), 300).unwrap();
            }
        }
        let kept = model.kept();
        let written = model.all.len() as u64;
        // A writer that is given nothing looks at nothing, and has nothing to sum up.
        let idle = appends.iter().skip(reopen_at).all(|(_, bytes)| bytes.is_empty());
        let counted = if reopen_at < appends.len() && idle { &[][..] } else { &model.all };
        let count = |of: Stream| counted.iter().filter(|(stream, _)| *stream == of).count() as u64;
        let summary = log.close();
        prop_assert_eq!(summary.bytes_out, count(Stream::Out));
        prop_assert_eq!(summary.bytes_err, count(Stream::Err));
        prop_assert_eq!(summary.bytes_event, count(Stream::Event));
        prop_assert_eq!(summary.dropped, 0);

        for limit in limits {
            let chunks = read_from(&mut reader(&dir), Cursor(0), limit);
            prop_assert_eq!(&unrolled(&chunks, Cursor(0)), &kept);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a small fraction of a small number"
        )]
        let from = (from * written as f64) as usize;
        let chunks = read_from(&mut early, Cursor(from as u64), 700);
        prop_assert_eq!(&unrolled(&chunks, Cursor(from as u64)), &kept[from..]);
        let size = early.size().unwrap();
        prop_assert_eq!(size.written, written);
        prop_assert_eq!(size.stored, dir.usage().unwrap());
        prop_assert!(size.stored <= caps.head + caps.tail.max(2048));

        let start = reader(&dir).last_lines(lines as u64, &wanted).unwrap();
        prop_assert_eq!(start, Cursor(model.last_lines(lines, &wanted) as u64));
    }
}
