//! `capsuled run --keep-…`: how long and how much of the past is kept.

use std::io;
use std::sync::Arc;

use capsule_core::id::{AttemptNumber, TaskId};
use capsule_core::time::Span;

use crate::book::{ENDED_MAX, Keep};
use crate::engine::Engine;
use crate::logs::{LOGS_MAX, LedgerThread, LogDir, Standing};
use crate::runner::process;

/// What `capsuled run` is told about the past.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct KeepArgs {
    /// How long completed and cancelled tasks are kept; `0s` = not at all, `never` = they never go
    /// for their age. The last 10 of each definition always stay [default: 7d].
    #[arg(long, value_name = "DURATION|never", value_parser = age)]
    pub keep_completed: Option<Age>,
    /// The same of failed tasks and those that ran too long [default: 30d].
    #[arg(long, value_name = "DURATION|never", value_parser = age)]
    pub keep_failed: Option<Age>,
    /// How many ended tasks are kept at the most; the oldest ends go first [default: 1000000].
    #[arg(long, value_name = "N")]
    pub keep_ended: Option<u64>,
    /// How much the logs of ended attempts take at the most, as `500M` or `5G`; the oldest go first
    /// [default: 5G].
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub keep_logs: Option<u64>,
}

/// How long; `None` = for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age(Option<Span>);

impl KeepArgs {
    /// How long ended tasks are kept.
    pub fn tasks(&self) -> Keep {
        let usual = Keep::default();
        Keep {
            completed: self.keep_completed.map_or(usual.completed, |age| age.0),
            failed: self.keep_failed.map_or(usual.failed, |age| age.0),
            ended: self.keep_ended.unwrap_or(ENDED_MAX),
        }
    }

    /// Keeps all logs together small enough from now on.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start_ledger(&self, logs: &Arc<LogDir>, engine: &Engine) -> io::Result<LedgerThread> {
        let engine = engine.clone();
        logs.keep_below(self.keep_logs.unwrap_or(LOGS_MAX), move |task, attempt| {
            standing(&engine, task, AttemptNumber(attempt))
        })
    }
}

/// What the log of an attempt belongs to.
fn standing(engine: &Engine, task: u64, attempt: AttemptNumber) -> Standing {
    if task & process::BIT != 0 {
        return Standing::Live;
    }
    match engine.task(TaskId(task)) {
        Ok(None) => Standing::Gone,
        Ok(Some(task)) if task.state.lease().is_some_and(|lease| lease.attempt <= attempt) => {
            Standing::Live
        }
        Ok(Some(_)) => Standing::Ended,
        // Nothing is removed for want of an answer.
        Err(_) => Standing::Live,
    }
}

fn age(text: &str) -> Result<Age, String> {
    match text {
        "never" => Ok(Age(None)),
        "0" => Ok(Age(Some(Span::ZERO))),
        text => Span::parse(text).map(|age| Age(Some(age))).map_err(|error| error.to_string()),
    }
}

fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" | "B" => Some(0),
        "K" | "KiB" => Some(10),
        "M" | "MiB" => Some(20),
        "G" | "GiB" => Some(30),
        "T" | "TiB" => Some(40),
        _ => None,
    };
    let bytes = number.parse::<u64>().ok().zip(shift).and_then(|(number, shift)| {
        let bytes = number.checked_mul(1 << shift)?;
        i64::try_from(bytes).is_ok().then_some(bytes)
    });
    bytes.ok_or_else(|| "expected a size as 500M or 5G".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_are_read() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("5G"), Ok(LOGS_MAX));
        assert_eq!(size("64KiB"), Ok(65_536));
        for wrong in ["", "G", "5 G", "5g", "-1", "99999999999T", "1.5G"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(age("never"), Ok(Age(None)));
        assert_eq!(age("0"), Ok(Age(Some(Span::ZERO))));
        assert_eq!(age("36h"), Ok(Age(Some(Span::from_secs(129_600)))));
        assert!(age("7").unwrap_err().contains('7'));
    }

    #[test]
    fn what_is_not_said_is_as_the_book_has_it() {
        let told = KeepArgs { keep_ended: Some(5), ..KeepArgs::default() };
        assert_eq!(told.tasks(), Keep { ended: 5, ..Keep::default() });
        let never = KeepArgs { keep_failed: Some(Age(None)), ..KeepArgs::default() };
        assert_eq!(never.tasks().failed, None);
    }
}
