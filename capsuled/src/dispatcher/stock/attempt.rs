//! One attempt in a stock runner, as the daemon sees it, and what the runner's words about it mean.

use std::time::Duration;

use capsule_core::attempt::{How, Loss, NotStarted, Receipt, Verdict};
use capsule_core::command::Report;
use capsule_core::id::AttemptNumber;
use capsule_core::spec::Payload;
use capsule_core::time::{Span, Timestamp};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::dispatcher::report::{DELIVERED, Raised, STOCK, never_ran};
use crate::gateway::StockEnd;

/// A runner asks this often whether an attempt is to be stopped, and some time to say that it did.
const ASKS: Duration = Duration::from_secs(12);
/// A runner that goes on after a restart of the daemon is heard of each of its attempts in this
/// time: its longest pause before it connects again, and its heartbeat.
const HEARD: Duration = Duration::from_secs(40);

/// An attempt that a runner was given, until its verdict is durable.
#[derive(Debug)]
pub(super) struct Attempt {
    /// When its runner claimed it.
    pub(super) began: Option<Timestamp>,
    /// When its time is up or, once it is to be stopped, when its runner is killed for it.
    pub(super) due: Option<Instant>,
    /// It is to be stopped, for this reason.
    pub(super) stop: Option<Stop>,
    /// Its runner is killed for it.
    pub(super) blamed: bool,
    /// A former daemon gave it away: it is lost when nothing is heard of it until then.
    pub(super) unheard: Option<Instant>,
    /// Its verdict is on its way into the store.
    pub(super) reported: bool,
    /// The runner waits for this to go.
    pub(super) durable: Option<oneshot::Sender<()>>,
    limits: Limits,
}

/// How long an attempt may take.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    pub(super) timeout: Option<Span>,
    pub(super) grace: Span,
}

/// Why an attempt is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Its time is up.
    Timeout,
    /// Somebody asked for it.
    Cancel,
    /// The daemon ends; it is put back.
    Drain,
}

/// What a runner says at the end.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) end: StockEnd,
    pub(super) error: String,
    pub(super) told: bool,
    pub(super) took: Duration,
}

impl Attempt {
    pub(super) const fn new(limits: Limits) -> Self {
        Self {
            began: None,
            due: None,
            stop: None,
            blamed: false,
            unheard: None,
            reported: false,
            durable: None,
            limits,
        }
    }

    /// One that a former daemon gave to a runner that lives.
    pub(super) fn adopted(limits: Limits, began: Timestamp, ran: Span) -> Self {
        let mut attempt = Self::new(limits);
        attempt.began = Some(began);
        attempt.unheard = Instant::now().checked_add(HEARD);
        let left = limits.timeout.map(|limit| limit.to_std().saturating_sub(ran.to_std()));
        attempt.due = left.and_then(|left| Instant::now().checked_add(left));
        attempt
    }

    /// Its runner has claimed it: its time runs from now on.
    pub(super) fn begin(&mut self, at: Timestamp) {
        self.began = Some(at);
        self.count_anew();
    }

    /// Counts the time limit from now on.
    pub(super) fn count_anew(&mut self) {
        if self.stop.is_none() {
            let limit = self.limits.timeout.map(Span::to_std);
            self.due = limit.and_then(|limit| Instant::now().checked_add(limit));
        }
    }

    /// Its time is up: it may take its own grace to stop.
    pub(super) fn expire(&mut self) {
        self.stop(Stop::Timeout, self.limits.grace);
    }

    /// It is to be stopped; its runner is killed when that takes longer than `grace` from when
    /// the runner can know. When all are stopped the runner is not waited for.
    pub(super) fn stop(&mut self, why: Stop, grace: Span) {
        let asks = if why == Stop::Drain { Duration::ZERO } else { ASKS };
        let until = Instant::now().checked_add(grace.to_std() + asks);
        let before = self.due.filter(|_| self.stop.is_some());
        self.due = before.into_iter().chain(until).min();
        self.stop = Some(self.stop.unwrap_or(why));
    }

    /// When something is to be done about it.
    pub(super) fn alarm(&self) -> Option<Instant> {
        if self.reported || self.blamed {
            return None;
        }
        self.due.into_iter().chain(self.unheard).min()
    }

    /// What is reported when its runner is gone without a word; `begun` = it may have begun.
    pub(super) fn lost(&self, number: AttemptNumber, begun: bool, now: Timestamp) -> Report {
        let verdict = match self.stop.filter(|_| self.blamed) {
            Some(Stop::Timeout) => Verdict::Timeout(How::Killed),
            Some(Stop::Cancel | Stop::Drain) => Verdict::Stopped(How::Killed),
            None if begun => Verdict::Lost(Loss::HostDied),
            None => Verdict::NotStarted(NotStarted::Released),
        };
        Report { before_signal: !begun, ..self.whole(never_ran(number, verdict, now)) }
    }

    /// What a runner's words mean.
    pub(super) fn ended(&self, number: AttemptNumber, said: &Said, now: Timestamp) -> Report {
        let verdict = match (said.end, said.told, self.stop) {
            (StockEnd::Completed, ..) => Verdict::Completed,
            (_, true, Some(Stop::Timeout)) | (StockEnd::Timeout, false, _) => {
                Verdict::Timeout(How::Graceful)
            }
            // A child that was killed for it is told of as an error.
            (_, true, _) => Verdict::Stopped(How::Graceful),
            (StockEnd::Cancelled, false, _) => {
                let message = "it was cancelled by its own code".to_owned();
                let kind = "CancelledError".to_owned();
                Raised { kind, message, ..Raised::default() }.verdict()
            }
            (StockEnd::Retry | StockEnd::Failed, false, _) => raised(&said.error).verdict(),
        };
        let mut report = self.whole(never_ran(number, verdict, now));
        report.before_signal = !said.told;
        report.is_final = said.end == StockEnd::Failed && !said.told;
        report.receipt.wall_us = u64::try_from(said.took.as_micros()).ok();
        report
    }

    /// The run of a handler that was given to a runner. Nobody says how it went.
    pub(super) fn delivered(&self, number: AttemptNumber, now: Timestamp) -> Report {
        let result = serde_json::Value::from(DELIVERED).to_string().into_bytes();
        let report = self.whole(never_ran(number, Verdict::Completed, now));
        Report { result: Some(Payload::Inline(result)), started: Some((now, 0)), ..report }
    }

    fn whole(&self, report: Report) -> Report {
        let receipt = Receipt { attribution: STOCK.to_owned(), ..Receipt::default() };
        Report { started: self.began.map(|began| (began, 0)), receipt, ..report }
    }
}

/// What a runner's text says: `Type: message`, or of a process of its own the whole traceback.
fn raised(error: &str) -> Raised {
    let is_head = |line: &&str| head(line).is_some();
    let last =
        if error.starts_with("Traceback (") { error.lines().rev().find(is_head) } else { None };
    let text = last.unwrap_or(error).trim();
    let (kind, message) = head(text).unwrap_or(("Error", text));
    let kind = kind.rsplit('.').next().unwrap_or(kind);
    Raised { kind: kind.to_owned(), message: message.to_owned(), ..Raised::default() }
}

/// The class and the message at the begin of a text.
fn head(text: &str) -> Option<(&str, &str)> {
    let (kind, message) = text.split_once(':').unwrap_or((text, ""));
    let fits = |letter: char| letter.is_alphanumeric() || "._".contains(letter);
    let is_name = !kind.is_empty()
        && kind.chars().all(fits)
        && kind.chars().next().is_some_and(char::is_alphabetic);
    is_name.then(|| (kind, message.trim()))
}

#[cfg(test)]
mod tests {
    use capsule_core::attempt::Failure;

    use super::*;

    fn said(end: StockEnd, error: &str, told: bool) -> Said {
        Said { end, error: error.to_owned(), told, took: Duration::from_millis(5) }
    }

    fn ended(attempt: &Attempt, said: &Said) -> Report {
        attempt.ended(AttemptNumber(1), said, Timestamp(1_000_000))
    }

    fn error(kind: &str, message: &str) -> Verdict {
        let (kind, message) = (kind.to_owned(), message.to_owned());
        Verdict::Failed(Failure::Error { kind, message })
    }

    #[test]
    fn an_error_is_read_from_its_text() {
        let traceback = "Traceback (most recent call last):\n  File \"app.py\", line 3, in f\n    \
                         raise Odd(\"a: b\")\nleads.errors.Odd: a: b\n";
        for (text, kind, message) in [
            ("ValueError: no owner", "ValueError", "no owner"),
            ("KeyError: 'x: y'", "KeyError", "'x: y'"),
            ("EOFError: ", "EOFError", ""),
            (traceback, "Odd", "a: b"),
            ("process exited with code 3", "Error", "process exited with code 3"),
            ("unknown task: nope", "Error", "unknown task: nope"),
            ("", "Error", ""),
        ] {
            let report =
                ended(&Attempt::new(Limits::default()), &said(StockEnd::Retry, text, false));
            assert_eq!(report.verdict, error(kind, message), "{text}");
            assert!(!report.is_final && report.before_signal);
        }
    }

    #[test]
    fn ends_become_verdicts_by_what_was_asked() {
        use StockEnd::{Cancelled, Completed, Failed, Retry, Timeout};
        let stopped = Verdict::Stopped(How::Graceful);
        let timeout = Verdict::Timeout(How::Graceful);
        let own = error("CancelledError", "it was cancelled by its own code");
        for (end, told, stop, verdict, is_final) in [
            (Completed, false, None, Verdict::Completed, false),
            (Completed, true, Some(Stop::Cancel), Verdict::Completed, false),
            (Failed, false, None, error("E", "x"), true),
            (Failed, true, Some(Stop::Cancel), stopped.clone(), false),
            (Retry, true, Some(Stop::Timeout), timeout.clone(), false),
            (Cancelled, true, Some(Stop::Timeout), timeout.clone(), false),
            (Cancelled, true, Some(Stop::Drain), stopped.clone(), false),
            (Cancelled, true, None, stopped, false),
            (Cancelled, false, None, own, false),
            (Timeout, false, None, timeout, false),
            // It was asked for too late for the runner to know.
            (Retry, false, Some(Stop::Timeout), error("E", "x"), false),
        ] {
            let mut attempt = Attempt::new(Limits::default());
            attempt.stop = stop;
            let report = ended(&attempt, &said(end, "E: x", told));
            assert_eq!(report.verdict, verdict, "{end:?} {told} {stop:?}");
            assert_eq!((report.is_final, report.before_signal), (is_final, !told));
        }
    }

    #[test]
    fn a_dead_runner_blames_only_whom_it_was_killed_for() {
        let now = Timestamp(5);
        let mut attempt = Attempt::new(Limits::default());
        let lost = |attempt: &Attempt, begun| attempt.lost(AttemptNumber(1), begun, now).verdict;
        assert_eq!(lost(&attempt, true), Verdict::Lost(Loss::HostDied));
        assert_eq!(lost(&attempt, false), Verdict::NotStarted(NotStarted::Released));
        attempt.expire();
        assert_eq!(lost(&attempt, true), Verdict::Lost(Loss::HostDied));
        attempt.blamed = true;
        assert_eq!(lost(&attempt, true), Verdict::Timeout(How::Killed));
    }

    #[tokio::test]
    async fn a_stop_comes_before_the_limit_and_is_not_put_off() {
        let limits = Limits { timeout: Some(Span::from_secs(300)), grace: Span::from_secs(1) };
        let mut attempt = Attempt::new(limits);
        attempt.begin(Timestamp(1));
        let limit = attempt.due.unwrap();
        attempt.stop(Stop::Cancel, Span::from_secs(1));
        let first = attempt.due.unwrap();
        assert!(first < limit);
        attempt.stop(Stop::Cancel, Span::from_secs(100));
        attempt.count_anew();
        assert_eq!(attempt.due, Some(first));
        attempt.stop(Stop::Drain, Span::ZERO);
        assert!(attempt.due.unwrap() < first);
        assert_eq!(attempt.stop, Some(Stop::Cancel));
    }
}
