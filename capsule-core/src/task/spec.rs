//! What was asked for: a task as submitted, and the checks that need nothing but itself.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use crate::id::{ScheduleId, TaskId};
use crate::retry::Backoff;
use crate::time::{Span, Timestamp};

/// A task as submitted. Fields are numbered for the disk: never reuse a number.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct TaskSpec {
    /// The app, empty for an ad hoc program.
    #[n(0)]
    pub app: String,
    /// The definition's name, or the program's.
    #[n(1)]
    pub name: String,
    /// What people see instead of the name; empty = the name.
    #[n(2)]
    pub display_name: String,
    /// Who submitted it, or `--owner`.
    #[n(3)]
    pub owner: String,
    /// The user it runs as.
    #[n(4)]
    pub uid: u32,
    /// The queue it waits in.
    #[n(5)]
    pub queue: String,
    /// −100..=100; higher starts sooner.
    #[n(6)]
    pub priority: i8,
    /// Free words to filter by.
    #[n(7)]
    pub labels: BTreeMap<String, String>,
    /// What to run, opaque here.
    #[n(8)]
    pub payload: Payload,
    /// Own failures that are made good by another attempt.
    #[n(9)]
    pub retries: u32,
    /// The pause between attempts.
    #[n(10)]
    pub backoff: Backoff,
    /// The longest an attempt may run; `None` = no limit.
    #[n(11)]
    pub timeout: Option<Span>,
    /// Between SIGTERM and SIGKILL.
    #[n(12)]
    pub grace: Span,
    /// What happens when we cannot know whether an attempt had effects.
    #[n(13)]
    pub delivery: Delivery,
    /// The lock key, already rendered; scoped by `app`.
    #[n(14)]
    pub lock: Option<String>,
    /// What a second submit of the same name under the same key does.
    #[n(15)]
    pub lock_policy: LockPolicy,
    /// The idempotency key.
    #[n(16)]
    pub key: Option<String>,
    /// Ends cancelled when it has not started this long after it became due.
    #[n(17)]
    pub start_within: Option<Span>,
    /// Tasks that must end first.
    #[n(18)]
    pub after: Vec<Dependency>,
    /// Exit codes that no retry makes good.
    #[n(19)]
    pub no_retry_exit_codes: Vec<i32>,
    /// Classes of failure that no retry makes good.
    #[n(20)]
    pub no_retry_on: Vec<FailureClass>,
    /// The revision of the app at submit.
    #[n(21)]
    pub revision: u32,
    /// A digest of the arguments alone, to tell whether two submits ask for the same.
    #[n(22)]
    pub arguments: u64,
    /// One line for people: the command line or the arguments, bounded.
    #[n(23)]
    pub summary: String,
    /// Not before this instant.
    #[n(24)]
    pub not_before: Option<Timestamp>,
    /// Starts only when released.
    #[n(25)]
    pub hold: bool,
    /// The fire of a schedule that made it.
    #[n(26)]
    pub tick: Option<TickRef>,
    /// The task whose attempt submitted it.
    #[n(27)]
    pub parent: Option<TaskId>,
}

/// One planned fire of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TickRef {
    /// Of which schedule.
    #[n(0)]
    pub schedule: ScheduleId,
    /// When it was planned; a fire by hand has the instant at which it was asked for.
    #[n(1)]
    pub planned: Timestamp,
}

/// What to run: kept in the record when small, in a side file when not.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Payload {
    /// In the record itself.
    #[n(0)]
    Inline(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// In the side file of the task.
    #[n(1)]
    Side {
        /// Length in bytes.
        #[n(0)]
        length: u32,
    },
}

/// What happens when an attempt was lost and we cannot know whether it had effects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Delivery {
    /// It is attempted again.
    #[default]
    #[n(0)]
    AtLeastOnce,
    /// It ends `failed`, reason `lost`; a person decides.
    #[n(1)]
    AtMostOnce,
}

/// What a second submit of the same task name under the same lock key does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum LockPolicy {
    /// It is answered with the task that stands.
    #[default]
    #[n(0)]
    Merge,
    /// It waits for the lock.
    #[n(1)]
    Wait,
    /// It cancels the one that waits.
    #[n(2)]
    Replace,
    /// It is refused.
    #[n(3)]
    Reject,
}

/// Another task that must end first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Dependency {
    /// Which.
    #[n(0)]
    pub task: TaskId,
    /// How it must end.
    #[n(1)]
    pub on: DependencyOn,
}

/// How a dependency must end for its dependant to start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum DependencyOn {
    /// Completed.
    #[default]
    #[n(0)]
    Ok,
    /// Ended in any way.
    #[n(1)]
    Any,
    /// Failed, timed out or cancelled.
    #[n(2)]
    Failed,
}

/// A class of own failure, as `no_retry_on` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum FailureClass {
    /// Any exit code but 0, or an error that its runner names.
    #[n(0)]
    Exit,
    /// Killed by a signal that was not ours.
    #[n(1)]
    Signal,
    /// Ran longer than its timeout.
    #[n(2)]
    Timeout,
    /// Out of memory.
    #[n(3)]
    Memory,
}

/// The longest record of a task on disk, in bytes: a page of 4 KiB less what the store puts
/// around it. The bounds below are chosen so that no task can be longer.
pub const RECORD_MAX: usize = 4096 - 64;
/// The longest payload kept in the record, in bytes.
pub const INLINE_PAYLOAD_MAX: usize = 1536;
/// The longest result kept in the record, in bytes.
pub const INLINE_RESULT_MAX: usize = 512;
/// The longest name of a task, app, queue or owner, in bytes.
pub const NAME_MAX: usize = 128;
/// The longest lock or idempotency key, in bytes.
pub const KEY_MAX: usize = 256;
/// All labels together, keys and values, in bytes.
pub const LABELS_MAX: usize = 512;
/// The most labels.
pub const LABELS_COUNT_MAX: usize = 32;
/// Names, keys and labels together, in bytes: each has its own bound, but not all at once.
pub const TEXTS_MAX: usize = 768;
/// The longest one-line summary, in bytes.
pub const SUMMARY_MAX: usize = 160;
/// The most retries.
pub const RETRIES_MAX: u32 = 100;
/// The most dependencies of one task.
pub const AFTER_MAX: usize = 16;
/// The most exit codes in `no_retry_exit_codes`.
pub const EXIT_CODES_MAX: usize = 16;
/// The most classes in `no_retry_on`: each once.
pub const CLASSES_MAX: usize = 4;
/// The longest timeout, grace, backoff and `start_within`: 366 days.
pub const TIMEOUT_MAX: Span = Span::from_secs(366 * 86_400);

/// Why a submit is refused before anything is stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// An empty name.
    #[error("{what} is empty")]
    Empty {
        /// Which field.
        what: &'static str,
    },
    /// A field over its bound.
    #[error("{what} has {length} bytes, the limit is {limit}")]
    TooLong {
        /// Which field.
        what: &'static str,
        /// How long it is.
        length: usize,
        /// How long it may be.
        limit: usize,
    },
    /// A name with a character that no name has.
    #[error("{what} {text:?} has a character other than letters, digits and _ . : @ + / -")]
    BadName {
        /// Which field.
        what: &'static str,
        /// As given.
        text: String,
    },
    /// A number outside its range.
    #[error("{what} is {value}, it goes from {low} to {high}")]
    Range {
        /// Which field.
        what: &'static str,
        /// As given.
        value: i64,
        /// Lowest allowed.
        low: i64,
        /// Highest allowed.
        high: i64,
    },
    /// `at_most_once` with retries contradicts itself.
    #[error("delivery at_most_once allows no retries, {0} were asked for")]
    AtMostOnceRetries(u32),
}

impl TaskSpec {
    /// Checks everything that needs nothing but the spec itself.
    ///
    /// # Errors
    /// The first bound or rule that is broken.
    pub fn check(&self) -> Result<(), SpecError> {
        name("task name", &self.name)?;
        name("queue", &self.queue)?;
        if !self.app.is_empty() {
            name("app", &self.app)?;
        }
        for (what, text, limit) in [
            ("owner", self.owner.as_str(), NAME_MAX),
            ("display name", self.display_name.as_str(), NAME_MAX),
            ("lock key", self.lock.as_deref().unwrap_or("-"), KEY_MAX),
            ("idempotency key", self.key.as_deref().unwrap_or("-"), KEY_MAX),
            ("summary", self.summary.as_str(), SUMMARY_MAX),
        ] {
            bound(what, text.len(), limit)?;
        }
        for (what, text) in [
            ("owner", Some(&self.owner)),
            ("lock key", self.lock.as_ref()),
            ("idempotency key", self.key.as_ref()),
        ] {
            if text.is_some_and(String::is_empty) {
                return Err(SpecError::Empty { what });
            }
        }
        self.check_lists()?;
        if let Payload::Inline(bytes) = &self.payload {
            bound("inline payload", bytes.len(), INLINE_PAYLOAD_MAX)?;
        }
        range("priority", i64::from(self.priority), -100, 100)?;
        range("retries", i64::from(self.retries), 0, i64::from(RETRIES_MAX))?;
        self.check_spans()?;
        if self.delivery == Delivery::AtMostOnce && self.retries > 0 {
            return Err(SpecError::AtMostOnceRetries(self.retries));
        }
        Ok(())
    }

    fn check_lists(&self) -> Result<(), SpecError> {
        let labels = self.labels.iter().map(|(k, v)| k.len() + v.len()).sum();
        bound("labels", labels, LABELS_MAX)?;
        let names = [&self.app, &self.name, &self.display_name, &self.owner, &self.queue];
        let keys = [self.lock.as_ref(), self.key.as_ref()].into_iter().flatten();
        let texts: usize = names.into_iter().chain(keys).map(String::len).sum();
        bound("all names, keys and labels together", texts + labels, TEXTS_MAX)?;
        for (what, count, most) in [
            ("the number of labels", self.labels.len(), LABELS_COUNT_MAX),
            ("the number of dependencies", self.after.len(), AFTER_MAX),
            ("the number of exit codes", self.no_retry_exit_codes.len(), EXIT_CODES_MAX),
            ("the number of failure classes", self.no_retry_on.len(), CLASSES_MAX),
        ] {
            range(what, signed(count as u64), 0, signed(most as u64))?;
        }
        Ok(())
    }

    fn check_spans(&self) -> Result<(), SpecError> {
        let longest = signed(TIMEOUT_MAX.0);
        if let Some(timeout) = self.timeout {
            range("timeout in milliseconds", signed(timeout.0), 1, longest)?;
        }
        let (first, last) = match self.backoff {
            Backoff::Fixed(span) => (span, span),
            Backoff::Exponential { first, max } => (first, max),
        };
        for (what, span) in [
            ("grace in milliseconds", self.grace),
            ("start_within in milliseconds", self.start_within.unwrap_or_default()),
            ("longest backoff in milliseconds", last),
        ] {
            range(what, signed(span.0), 0, longest)?;
        }
        range("first backoff in milliseconds", signed(first.0), 0, signed(last.0))
    }

    /// The longest all attempts and the pauses between them can take; `None` = no limit.
    pub fn longest_run(&self) -> Option<Span> {
        let timeout = self.timeout?;
        let attempts = u64::from(self.retries) + 1;
        let pauses: u64 = (1..=self.retries).map(|n| self.backoff.longest(n).0).sum();
        Some(Span(timeout.0.saturating_mul(attempts).saturating_add(pauses)))
    }
}

/// Checks a name that people type and files may carry.
///
/// # Errors
/// Empty, over [`NAME_MAX`], or a character that no name has.
pub fn name(what: &'static str, text: &str) -> Result<(), SpecError> {
    if text.is_empty() {
        return Err(SpecError::Empty { what });
    }
    bound(what, text.len(), NAME_MAX)?;
    let fits = |c: char| c.is_alphanumeric() || "_.:@+/-".contains(c);
    if text.chars().all(fits) {
        Ok(())
    } else {
        Err(SpecError::BadName { what, text: text.to_owned() })
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn bound(what: &'static str, length: usize, limit: usize) -> Result<(), SpecError> {
    if length > limit { Err(SpecError::TooLong { what, length, limit }) } else { Ok(()) }
}

fn range(what: &'static str, value: i64, low: i64, high: i64) -> Result<(), SpecError> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(SpecError::Range { what, value, low, high })
    }
}

#[cfg(test)]
mod tests;
