//! The two rows: ours, its limit and every peer take turns within each round.

use super::{IN_FLIGHT, Known, PARALLEL, Peer, SUBMITS, TASKS, Turn, own_turn};
use crate::bench::{Bench, block_on};
use crate::daemon::Daemon;
use crate::limit::noop::Noop;
use crate::limit::spawn;
use crate::report::Line;
use crate::rows::{Row, process, submit};
use crate::sample::Sample;

/// Measured only when asked for by name: they need what others have made.
pub(crate) const ROWS: &[Row] = &[
    Row { name: "peers-submits", about: "durable submits beside other queues", run: submits },
    Row { name: "peers-tasks", about: "process tasks beside other queues", run: tasks },
];

/// 64 submits without an answer at any time, for everybody, each durable before it is answered;
/// ours on one stream, as the clients of the others have one or more connections of their own.
/// Nobody has a worker, so nothing starts.
fn submits(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let daemon = Daemon::start(bench, 1)?;
    let noop = Noop::start(bench)?;
    let ours = || {
        let mut rate = 0.0;
        let turn = own_turn(|| {
            rate = block_on(submit::stream_to(bench, &daemon))?;
            Ok(0)
        })?;
        Ok(Turn { rate, ..turn })
    };
    let limit = || block_on(noop.rate(IN_FLIGHT, bench.round()));
    let measured = Measured::take(bench, &SUBMITS, ours, limit)?;
    Ok(measured
        .lines("durable submits, on a stream, 64 in flight", ("no-op RPC, 64 in flight", "–")))
}

/// `/bin/true`, four at once.
fn tasks(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let daemon = Daemon::start(bench, PARALLEL)?;
    let count = bench.amount(2000, 600);
    let mut done = 0;
    let ours = || {
        done += count;
        let rate = block_on(process::run(&daemon, count, done))?;
        Ok(Turn { rate, driver: None })
    };
    let limit = || spawn::rate_parallel(PARALLEL, count);
    let measured = Measured::take(bench, &TASKS, ours, limit)?;
    let limit = ("bare posix_spawn + wait, 4 at once", "≥ 0.8 ×");
    Ok(measured.lines("process tasks end to end, 4 at once", limit))
}

/// What all rounds gave.
struct Measured<'a> {
    ours: Figures,
    limit: Sample,
    peers: Vec<(&'a Known, anyhow::Result<Beside>)>,
}

/// A peer and what it gave.
struct Beside {
    peer: Box<dyn Peer>,
    figures: Figures,
}

#[derive(Default)]
struct Figures {
    rates: Sample,
    drivers: Sample,
}

impl Figures {
    fn push(&mut self, turn: Turn) {
        self.rates.push(turn.rate);
        if let Some(driver) = turn.driver {
            self.drivers.push(driver);
        }
    }

    fn driver(&self) -> Option<String> {
        (self.drivers.len() > 0).then(|| format!("driver {} of a core", self.drivers))
    }
}

impl<'a> Measured<'a> {
    fn take(
        bench: &Bench,
        known: &'a [Known],
        mut ours: impl FnMut() -> anyhow::Result<Turn>,
        mut limit: impl FnMut() -> anyhow::Result<f64>,
    ) -> anyhow::Result<Self> {
        let mut measured = Self {
            ours: Figures::default(),
            limit: Sample::default(),
            peers: known.iter().map(|known| (known, Beside::start(bench, known))).collect(),
        };
        for _ in 0..bench.rounds() {
            measured.ours.push(ours()?);
            measured.limit.push(limit()?);
            for (known, beside) in &mut measured.peers {
                let Ok(there) = beside else { continue };
                match there.peer.round(bench) {
                    Ok(turn) => there.figures.push(turn),
                    Err(error) => {
                        eprintln!("{} is not measured: {error:#}", known.name);
                        *beside = Err(error);
                    }
                }
            }
        }
        Ok(measured)
    }

    fn lines(self, what: &str, (limit, reach): (&str, &'static str)) -> Vec<Line> {
        let (ours, driver) = (self.ours.rates.clone(), self.ours.driver());
        let first = Line::new(what, "/s", ours.clone(), reach).limit(limit, self.limit);
        let mut lines = vec![driver.into_iter().fold(first, Line::note)];
        for (known, beside) in self.peers {
            let line = Line::new(
                format!("the same beside {}", known.name),
                "/s",
                ours.clone(),
                known.reach,
            );
            lines.push(match beside {
                Ok(Beside { peer, figures }) => {
                    let driver = figures.driver();
                    let line = line.limit(known.name, figures.rates).note(peer.about());
                    driver.into_iter().fold(line, Line::note)
                }
                Err(error) => line.note(format!("{} is not here: {error:#}", known.name)),
            });
        }
        lines
    }
}

impl Beside {
    fn start(bench: &Bench, known: &Known) -> anyhow::Result<Self> {
        eprintln!("starting {}", known.name);
        let peer = (known.start)(bench)
            .inspect_err(|error| eprintln!("{} is not here: {error:#}", known.name))?;
        Ok(Self { peer, figures: Figures::default() })
    }
}
