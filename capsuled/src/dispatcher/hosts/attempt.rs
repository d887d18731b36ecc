//! One attempt in a host, as the daemon sees it.

use std::time::Duration;

use capsule_core::attempt::{How, Loss, Receipt, Verdict};
use capsule_core::command::Report;
use capsule_core::id::AttemptNumber;
use capsule_core::time::{Span, Timestamp};
use tokio::time::Instant;

use crate::dispatcher::report::{Raised, micros, never_ran, retry_after};
use crate::logs::{LogSummary, LogWriter, Stream};
use crate::runner::host::{Ended, Log, Start};

/// How long the host may take beyond time limit and grace to say that an attempt is over.
const SLACK: Duration = Duration::from_secs(2);

/// An attempt that a host has, or had until its verdict is durable.
#[derive(Debug)]
pub(super) struct Attempt {
    /// What began it, until the host says that it began.
    pub(super) start: Option<Box<Start>>,
    /// When it began, in µs since 1970; 0 = not known yet.
    pub(super) started_us: u64,
    /// Its time limit and grace.
    pub(super) limits: Limits,
    /// When the host is killed for it.
    pub(super) deadline: Option<Instant>,
    /// A cancel was asked for, with this grace.
    pub(super) cancel: Option<Span>,
    /// The host is killed for it, for this reason.
    pub(super) blamed: Option<Blame>,
    /// Its verdict is on its way into the store.
    pub(super) reported: bool,
    log: Option<LogWriter>,
    written: LogSummary,
}

/// How long an attempt may take.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    pub(super) timeout: Option<Span>,
    pub(super) grace: Span,
}

/// Why a host is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    Timeout,
    Cancel,
}

impl Attempt {
    pub(super) fn new(start: Option<Box<Start>>, limits: Limits) -> Self {
        Self {
            start,
            started_us: 0,
            limits,
            deadline: None,
            cancel: None,
            blamed: None,
            reported: false,
            log: None,
            written: LogSummary::default(),
        }
    }

    /// The host says that it began; its time runs from now on.
    pub(super) fn begin(&mut self, at_us: u64) {
        self.start = None;
        self.started_us = at_us;
        self.count_anew();
    }

    /// Counts the time limit from now on.
    pub(super) fn count_anew(&mut self) {
        if self.cancel.is_none() {
            let Limits { timeout, grace } = self.limits;
            let whole = timeout.map(|timeout| timeout.to_std() + grace.to_std() + SLACK);
            self.deadline = whole.and_then(|whole| Instant::now().checked_add(whole));
        }
    }

    /// A cancel was asked for.
    pub(super) fn stop(&mut self, grace: Span) {
        let until = Instant::now().checked_add(grace.to_std() + SLACK);
        self.cancel = Some(self.cancel.map_or(grace, |before| before.min(grace)));
        self.deadline = match (self.deadline, until) {
            (Some(before), Some(until)) => Some(before.min(until)),
            (before, until) => before.or(until),
        };
    }

    /// Notes what it wrote.
    pub(super) fn write(&mut self, log: &Log, open: impl FnOnce() -> Option<LogWriter>) {
        if self.log.is_none() {
            self.log = open();
        }
        let stream = match log.stream.as_str() {
            "err" => Stream::Err,
            "event" => Stream::Event,
            _ => Stream::Out,
        };
        let length = u64::try_from(log.text.len()).unwrap_or(0);
        match stream {
            Stream::Err => self.written.bytes_err += length,
            Stream::Event => self.written.bytes_event += length,
            Stream::Out | Stream::Note => self.written.bytes_out += length,
        }
        match &mut self.log {
            Some(writer) => writer.append(log.at_us, stream, log.text.as_bytes()),
            None => self.written.dropped += length,
        }
    }

    /// Ends the log.
    pub(super) fn close_log(&mut self) {
        if let Some(writer) = self.log.take() {
            // Written is counted here: after a restart the writer counts what came before too.
            self.written.dropped += writer.close().dropped;
        }
    }

    /// What is reported when the host is gone without a verdict.
    pub(super) fn lost(&self, number: AttemptNumber, now: Timestamp) -> Report {
        let verdict = match self.blamed {
            Some(Blame::Timeout) => Verdict::Timeout(How::Killed),
            Some(Blame::Cancel) => Verdict::Stopped(How::Killed),
            None => Verdict::Lost(Loss::HostDied),
        };
        Report { before_signal: false, ..self.whole(never_ran(number, verdict, now)) }
    }

    /// What the host's verdict means.
    pub(super) fn ended(&self, ended: &Ended) -> Report {
        let raised = ended.error.clone().unwrap_or_default();
        let verdict = match ended.verdict.as_str() {
            "completed" => Verdict::Completed,
            "timeout" => Verdict::Timeout(How::Graceful),
            "cancelled" => Verdict::Stopped(How::Graceful),
            _ => {
                Raised { kind: raised.kind, message: raised.message, ..Raised::default() }.verdict()
            }
        };
        let by_itself = matches!(verdict, Verdict::Completed | Verdict::Failed(_));
        let began = if ended.started_us == 0 { self.started_us } else { ended.started_us };
        let number = AttemptNumber(ended.attempt);
        let mut report = self.whole(never_ran(number, verdict, Timestamp(micros(ended.at_us))));
        report.is_final = raised.retry == Some(false);
        report.retry_after = raised.retry_after.as_ref().and_then(retry_after);
        report.started = Some((Timestamp(micros(began)), 0));
        report.before_signal = by_itself;
        report.receipt.wall_us = Some(ended.at_us.saturating_sub(began));
        report.receipt.cpu_user_us = ended.cpu_us;
        report.receipt.dropped_bytes += ended.dropped;
        report
    }

    fn whole(&self, report: Report) -> Report {
        let LogSummary { bytes_out, bytes_err, dropped, .. } = self.written;
        let started = (self.started_us != 0).then(|| (Timestamp(micros(self.started_us)), 0));
        let receipt = Receipt {
            output_bytes: bytes_out,
            error_bytes: bytes_err,
            dropped_bytes: dropped,
            attribution: "host".to_owned(),
            ..Receipt::default()
        };
        Report { started, receipt, ..report }
    }
}
