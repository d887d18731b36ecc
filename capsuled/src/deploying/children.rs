//! Running a program to its end, by whoever owns processes.

use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

use crate::jail::Plan;
use crate::runner::process::{Process, Processes};

/// How a child ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Its exit code; none when a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The last lines it wrote, oldest first.
    pub output: Vec<String>,
}

impl End {
    /// It ended by itself, with code 0.
    pub fn is_good(&self) -> bool {
        self.exit_code == Some(0)
    }

    /// How, for people: `exit 1`, `signal 11`.
    pub fn how(&self) -> String {
        match (self.signal, self.exit_code) {
            (Some(signal), _) => match nix::sys::signal::Signal::try_from(signal) {
                Ok(signal) => format!("was ended by {signal}"),
                Err(_) => format!("was ended by signal {signal}"),
            },
            (None, Some(code)) => format!("ended with exit code {code}"),
            (None, None) => "was lost".to_owned(),
        }
    }
}

/// Why a child never ran, or was lost sight of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ChildError(pub String);

/// A child on its way to its end.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<End, ChildError>> + Send + 'a>>;

/// Starts programs that belong to no task. One whose future is dropped is stopped.
pub trait Children: Debug + Send + Sync {
    /// Runs `plan` to its end; `what` names it for people.
    fn run<'a>(&'a self, plan: Plan, what: &'a str) -> Running<'a>;
}

/// How long a child that nobody waits for any more has to end by itself.
const GRACE: Duration = Duration::from_secs(1);

impl Children for Processes {
    fn run<'a>(&'a self, plan: Plan, what: &'a str) -> Running<'a> {
        Box::pin(async move {
            let process = self.start(plan, what).await;
            let mut process = process.map_err(|error| ChildError(error.to_string()))?;
            let _stopped = Stopped(process.clone());
            let end = process.ended().await;
            if end.lost {
                return Err(ChildError(format!("the {what} was lost with the keeper")));
            }
            process.forget_output();
            Ok(End { exit_code: end.exit_code, signal: end.signal, output: end.tail })
        })
    }
}

/// Stops a process with the wait for it; one that has ended is not there to be stopped.
struct Stopped(Process);

impl Drop for Stopped {
    fn drop(&mut self) {
        if self.0.pid().is_some() {
            self.0.stop(GRACE);
        }
    }
}
