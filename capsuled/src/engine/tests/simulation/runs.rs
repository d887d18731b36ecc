//! What the keeper and its attempts do.

use capsule_core::attempt::{Failure, How, NotStarted, Verdict};
use capsule_core::command::Report;
use capsule_core::time::Span;

use super::super::{FAILED, report};
use super::Stop;
use super::keeper::Key;
use super::play::{FINAL_CODE, pick};
use super::steps::{Runner, Told};
use super::world::{SLOTS, World};

impl World {
    /// Has the keeper or its attempts do something.
    pub(super) async fn run(&mut self, what: &Runner) -> Result<(), Stop> {
        match what {
            Runner::Slow(slow) => {
                self.keeper.slow = *slow;
                Ok(())
            }
            Runner::End { which, verdict, tree_gone, told } => {
                let Some(key) = pick(&self.keeper.running(), *which) else { return Ok(()) };
                let (report, started) = self.ending(key, *verdict);
                let tree_gone = *tree_gone || !started;
                self.keeper.end(&self.engine, (key, report), (tree_gone, *told), SLOTS)
            }
            Runner::Flush(count) => self.flush(*count).await,
            Runner::Gone(which) => match pick(&self.keeper.lingering(), *which) {
                Some(key) => self.keeper.gone(&self.engine, key, SLOTS),
                None => Ok(()),
            },
            Runner::Tell => self.keeper.tell(&self.engine),
            Runner::Stale(which) => {
                let Some(key) = pick(&self.keeper.old, *which) else { return Ok(()) };
                let verdict = if which % 2 == 0 { Verdict::Completed } else { FAILED };
                let gone = which % 3 != 0;
                self.engine.started(key.0, key.1, 9, self.engine.now())?;
                Ok(self.engine.report(key.0, report(key.1, verdict, self.engine.now()), gone)?)
            }
            Runner::Disconnect => self.disconnect(),
            Runner::Connect => self.connect().await,
            Runner::Die => {
                self.disconnect()?;
                self.keeper.die();
                self.connect().await
            }
        }
    }

    /// How an attempt ends, and whether it had begun.
    fn ending(&self, key: Key, verdict: u8) -> (Report, bool) {
        let stopped = self.keeper.children.get(&key).is_some_and(|child| child.stop);
        let cannot = Failure::CannotStart { step: "cwd".to_owned(), message: "none".to_owned() };
        let verdict_of = match (stopped, verdict) {
            (true, 0..4) => Verdict::Stopped(How::Graceful),
            (true, 4..8) => Verdict::Stopped(How::Killed),
            (_, 1 | 2 | 3 | 9) => FAILED,
            (_, 10) => Verdict::Failed(Failure::Exit(43)),
            (_, 4) => Verdict::Failed(Failure::Exit(FINAL_CODE)),
            (_, 5) => Verdict::Timeout(How::Killed),
            (_, 6) => Verdict::Failed(Failure::Signal(11)),
            (_, 7) => Verdict::NotStarted(NotStarted::NoResources),
            (_, 8) => Verdict::Failed(cannot),
            (true | false, _) => Verdict::Completed,
        };
        let began = !matches!(verdict_of, Verdict::NotStarted(_))
            && !matches!(verdict_of, Verdict::Failed(Failure::CannotStart { .. }));
        let mut report = report(key.1, verdict_of, self.engine.now());
        report.retry_after = (verdict == 9).then(|| Span::from_secs(3));
        report.is_final = verdict == 10;
        (report, began)
    }

    /// Runs what there is to its end, quickly: then claims run ahead.
    async fn flush(&mut self, count: u8) -> Result<(), Stop> {
        for _ in 0..count {
            let Some(key) = self.keeper.running().first().copied() else { return Ok(()) };
            let ended = report(key.1, Verdict::Completed, self.engine.now());
            self.keeper.end(&self.engine, (key, ended), (true, Told::AtOnce), SLOTS)?;
            self.carry_out().await?;
        }
        Ok(())
    }
}
