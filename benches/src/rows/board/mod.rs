//! How soon people who look at a board see a change.

mod page;
mod terminal;

use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use capsule_proto::v1;

use crate::bench::{Bench, block_on};
use crate::daemon::{Client, Daemon, STILL, program};
use crate::report::Line;
use crate::sample::{Sample, micros};

/// The longest that a change may take before the row is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// From the request of a change to its bytes at an open board, while many tasks wait.
pub(super) fn board(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let daemon = Daemon::start(bench, 4)?;
    let (queued, changes) = (bench.amount(100_000, 5000), bench.amount(1000, 150));
    block_on(async {
        let mut client = daemon.client().await?;
        client.submit_many(&program(STILL, ["/bin/true"]), queued).await
    })?;
    let mut lines = Vec::new();
    let mut terminal = terminal::Terminal::open(bench, &daemon)?;
    let name = format!("a change → on an open capsule board, p99 of {changes}, {queued} queued");
    lines.push(line(name, &daemon, changes, &mut terminal.screen)?);
    terminal.leave()?;
    let mut page = page::Page::open(bench, &daemon)?;
    let name = format!("a change → told to an open page, p99 of {changes}, {queued} queued");
    lines.push(line(name, &daemon, changes, &mut page.events)?);
    Ok(lines)
}

fn line(
    what: String,
    daemon: &Daemon,
    changes: usize,
    screen: &mut Screen,
) -> anyhow::Result<Line> {
    let (shown, answered) = block_on(async {
        let mut client = daemon.client().await?;
        measure(&mut client, changes, screen).await
    })?;
    let p99 = |sample: &Sample| Sample::one(sample.quantile(0.99));
    Ok(Line::new(what, "ms", p99(&shown), "≤ 50 ms")
        .beside("its durable answer, p99", p99(&answered))
        .note(format!(
            "p50 {:.1} ms, most {:.1} ms, answer p50 {:.1} ms",
            shown.median(),
            shown.quantile(1.0),
            answered.median()
        )))
}

/// Submits held tasks one after the other, each when the one before was seen: when each is seen,
/// and when it was answered, in milliseconds from the request.
async fn measure(
    client: &mut Client,
    changes: usize,
    screen: &mut Screen,
) -> anyhow::Result<(Sample, Sample)> {
    let (mut shown, mut answered) = (Sample::default(), Sample::default());
    // Each name has a letter of its own, so that all of it is drawn when it comes.
    let letters: Vec<char> = ('a'..='z').chain('A'..='Z').collect();
    for letter in letters.iter().cycle().take(changes) {
        let name = letter.to_string().repeat(9);
        let mut submit = program(STILL, ["/bin/true"]);
        submit.options =
            Some(v1::Options { name: name.clone(), hold: true, ..v1::Options::default() });
        screen.forget();
        let began = Instant::now();
        client.tasks.submit(submit).await?;
        answered.push(micros(began.elapsed()) / 1000.0);
        let at = screen.until(&name)?;
        shown.push(micros(at.saturating_duration_since(began)) / 1000.0);
    }
    Ok((shown, answered))
}

/// Bytes with the moment at which they came.
type Piece = (Instant, Vec<u8>);

/// What somebody who looks is sent.
#[derive(Debug)]
struct Screen {
    pieces: Receiver<Piece>,
    seen: Vec<u8>,
}

impl Screen {
    fn new(pieces: Receiver<Piece>) -> Self {
        Self { pieces, seen: Vec::new() }
    }

    /// Passes over what has come by now.
    fn forget(&mut self) {
        while self.pieces.try_recv().is_ok() {}
        self.seen.clear();
    }

    /// Waits for a text, and says when the last of it came.
    fn until(&mut self, text: &str) -> anyhow::Result<Instant> {
        loop {
            let Ok((at, bytes)) = self.pieces.recv_timeout(PATIENCE) else {
                anyhow::bail!("{text:?} never came: {:?}", String::from_utf8_lossy(&self.seen))
            };
            self.seen.extend(bytes);
            if self.seen.windows(text.len()).any(|part| part == text.as_bytes()) {
                return Ok(at);
            }
        }
    }
}

/// Passes on what is read, with its time, until there is no more.
fn pass_on(mut from: impl std::io::Read, to: &Sender<Piece>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let bytes = buffer.get(..count).unwrap_or_default().to_vec();
        if to.send((Instant::now(), bytes)).is_err() {
            return;
        }
    }
}
