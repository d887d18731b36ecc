//! The flags of `submit` and `run`.

use std::collections::HashMap;
use std::time::Duration;

use capsule_proto::v1::{Delivery, Dependency, LockPolicy, Options};
use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::values;
use super::words::Work;
use crate::error::CliError;

/// Queue a task or any program, print its id
///
/// The answer means: on disk. A word after TASK that starts with `--` is a parameter of the task,
/// unless it is one of the options below.
#[derive(Debug, Args)]
#[command(
    override_usage = "capsule submit [OPTIONS] TASK [TASK PARAMETERS]\n       \
                      capsule submit [OPTIONS] -- COMMAND [ARGS]",
    after_help = "Examples:\n  \
                  capsule submit sync_leads --owner-id acme --limit 50\n  \
                  capsule submit --in 10m -- backup.sh /srv\n  \
                  capsule submit sync_leads --help"
)]
pub(crate) struct SubmitArgs {
    /// Wait until it has ended and exit by its outcome
    #[arg(short, long)]
    pub(crate) wait: bool,
    /// Show its log until it has ended and exit by its outcome
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Submit one task for each line of a file of JSON objects
    #[arg(long, value_name = "ROWS.ndjson|-")]
    pub(crate) each: Option<String>,
    #[command(flatten)]
    pub(crate) what: What,
}

/// Queue a task or any program, follow it, exit by its code
///
/// A program: its stdout and stderr come on ours, and we exit by its code (0-125; 128+N for the
/// signal N; 125, 126 or 127 when it could not be started). A task: its log comes on stderr, its
/// result on stdout, and we exit 20 failed, 21 cancelled, 22 timeout or 23 lost. Ctrl-C cancels the
/// task, a second Ctrl-C leaves it alone.
#[derive(Debug, Args)]
#[command(
    override_usage = "capsule run [OPTIONS] TASK [TASK PARAMETERS]\n       \
                      capsule run [OPTIONS] -- COMMAND [ARGS]",
    after_help = "Examples:\n  \
                  capsule run sync_leads --owner-id acme\n  \
                  capsule run -- make -j4\n  \
                  capsule run --shell -- 'sort a.txt | uniq -c'"
)]
pub(crate) struct RunArgs {
    /// Exit by the program's own code, also for a task
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// Leave the task alone at the first Ctrl-C
    #[arg(long)]
    pub(crate) detach_on_interrupt: bool,
    #[command(flatten)]
    pub(crate) what: What,
}

/// What to submit, and how.
#[derive(Debug, Args)]
pub(crate) struct What {
    #[arg(skip)]
    pub(crate) work: Work,
    #[command(flatten)]
    pub(crate) program: ProgramArgs,
    #[command(flatten)]
    pub(crate) arguments: ArgumentArgs,
    #[command(flatten)]
    pub(crate) options: OptionArgs,
    /// Check and show, queue nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// How a program is run.
#[derive(Debug, Clone, Args)]
pub(crate) struct ProgramArgs {
    /// Run one string by /bin/sh -c
    #[arg(long)]
    pub(crate) shell: bool,
    /// Working directory [default: this one]
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<String>,
    /// Give the program this variable, or our own of that name
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Give the program our whole environment
    #[arg(long)]
    pub(crate) env_all: bool,
    /// Give the program this file, or our stdin, as its stdin
    #[arg(long, value_name = "FILE|-")]
    pub(crate) stdin: Option<String>,
}

/// Arguments of a task beside its own flags.
#[derive(Debug, Clone, Args)]
pub(crate) struct ArgumentArgs {
    /// Parameter of the task, as text
    #[arg(short = 'p', long, value_name = "NAME=TEXT")]
    pub(crate) param: Vec<String>,
    /// Parameter of the task, as JSON
    #[arg(short = 'P', long, value_name = "NAME:=JSON")]
    pub(crate) param_json: Vec<String>,
    /// All parameters as one JSON object
    #[arg(long, value_name = "JSON|@FILE|-")]
    pub(crate) payload: Option<String>,
}

/// When, where and how often a task runs.
#[derive(Debug, Default, Args)]
pub(crate) struct OptionArgs {
    /// Start this long from now
    #[arg(long = "in", value_name = "DURATION", value_parser = values::duration)]
    pub(crate) delay: Option<Duration>,
    /// Start at this time
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    pub(crate) at: Option<Timestamp>,
    /// Start when this task has ended ok, or `any` or `failed` how
    #[arg(long, value_name = "ID[:ok|any|failed]")]
    pub(crate) after: Vec<String>,
    /// Cancel it when it has not started this long after it was due
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub(crate) start_within: Option<Duration>,
    /// Queue it, start it only after `capsule edit ID --no-hold`
    #[arg(long)]
    pub(crate) hold: bool,
    /// -100 (last) to 100 (first)
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-100..=100))]
    pub(crate) priority: Option<i32>,
    /// Queue to wait in
    #[arg(long, value_name = "NAME")]
    pub(crate) queue: Option<String>,
    /// Label to find it by
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = values::pair)]
    pub(crate) label: Vec<(String, String)>,
    /// On whose behalf
    #[arg(long, value_name = "NAME")]
    pub(crate) owner: Option<String>,
    /// Name of a program's task [default: the program's]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Title on cards and boards
    #[arg(long, value_name = "TEXT")]
    pub(crate) display_name: Option<String>,
    /// Submitting again under the same key gives the same task
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// At most one task runs under a lock
    #[arg(long, value_name = "LOCK")]
    pub(crate) lock: Option<String>,
    /// What to do when one is unfinished under the same lock
    #[arg(long, value_name = "POLICY")]
    pub(crate) lock_policy: Option<LockPolicyArg>,
    /// How often to try again
    #[arg(long, value_name = "N")]
    pub(crate) retries: Option<u32>,
    /// Pause before trying again
    #[arg(long, value_name = "fixed:10s|exponential:5s..15m")]
    pub(crate) backoff: Option<String>,
    /// Longest run of one attempt, 0 for none
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub(crate) timeout: Option<Duration>,
    /// Time between asking it to stop and killing it
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub(crate) grace: Option<Duration>,
    /// What happens after a reboot
    #[arg(long, value_name = "HOW")]
    pub(crate) delivery: Option<DeliveryArg>,
    /// Exit code that is not tried again
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    pub(crate) no_retry_exit_code: Vec<i32>,
    /// Kind of failure that is not tried again
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pub(crate) no_retry_on: Vec<String>,
}

/// What a second submit under the same lock does.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LockPolicyArg {
    /// It becomes the one that is there
    Merge,
    /// It waits
    Wait,
    /// It takes the place of the one that waits
    Replace,
    /// It is refused
    Reject,
}

/// How often a task may be begun when the machine or the keeper is lost.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum DeliveryArg {
    /// It is run again
    AtLeastOnce,
    /// It is never run twice
    AtMostOnce,
}

impl OptionArgs {
    /// As the protocol has them.
    pub(crate) fn message(&self) -> Result<Options, CliError> {
        if self.delay.is_some() && self.at.is_some() {
            return Err(CliError::usage("--in and --at exclude each other"));
        }
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let (lock_policy, delivery) = (self.lock_policy(), self.delivery());
        let after: Result<Vec<Dependency>, CliError> =
            self.after.iter().map(|word| dependency(word)).collect();
        Ok(Options {
            name: text(&self.name),
            display_name: text(&self.display_name),
            owner: text(&self.owner),
            queue: text(&self.queue),
            priority: self.priority,
            labels: self.label.iter().cloned().collect::<HashMap<_, _>>(),
            delay_ms: self.delay.map(values::millis),
            at_us: self.at.map(Timestamp::as_microsecond),
            start_within_ms: self.start_within.map(values::millis),
            after: after?,
            hold: self.hold,
            retries: self.retries,
            backoff: text(&self.backoff),
            timeout_ms: self.timeout.map(values::millis),
            grace_ms: self.grace.map(values::millis),
            lock: self.lock.clone(),
            lock_policy: lock_policy.into(),
            key: text(&self.key),
            delivery: delivery.into(),
            no_retry_exit_codes: self.no_retry_exit_code.clone(),
            no_retry_on: self.no_retry_on.clone(),
        })
    }

    const fn lock_policy(&self) -> LockPolicy {
        match self.lock_policy {
            None => LockPolicy::Unspecified,
            Some(LockPolicyArg::Merge) => LockPolicy::Merge,
            Some(LockPolicyArg::Wait) => LockPolicy::Wait,
            Some(LockPolicyArg::Replace) => LockPolicy::Replace,
            Some(LockPolicyArg::Reject) => LockPolicy::Reject,
        }
    }

    const fn delivery(&self) -> Delivery {
        match self.delivery {
            None => Delivery::Unspecified,
            Some(DeliveryArg::AtLeastOnce) => Delivery::AtLeastOnce,
            Some(DeliveryArg::AtMostOnce) => Delivery::AtMostOnce,
        }
    }
}

fn dependency(word: &str) -> Result<Dependency, CliError> {
    let (id, on) = word.rsplit_once(':').unwrap_or((word, "ok"));
    if !matches!(on, "ok" | "any" | "failed") {
        return Err(CliError::usage(format!("--after {word}: expected ID, ID:any or ID:failed")));
    }
    Ok(Dependency { id: values::id(id), on: on.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_ok_unless_said() {
        assert_eq!(dependency("#12").unwrap().on, "ok");
        assert_eq!(dependency("#12").unwrap().id, "12");
        assert_eq!(dependency("12:any").unwrap().on, "any");
        assert_eq!(dependency("12:never").unwrap_err().exit().code(), 2);
    }
}
