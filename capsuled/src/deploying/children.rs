//! Running a program to its end, by whoever owns processes.

use std::fmt::Debug;
use std::pin::Pin;

use crate::jail::Plan;

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

/// Where nobody starts processes: apps of the SDK are refused.
#[derive(Clone, Copy, Debug)]
pub struct NoChildren;

impl Children for NoChildren {
    fn run<'a>(&'a self, _: Plan, what: &'a str) -> Running<'a> {
        let error = ChildError(format!("nobody here runs the {what} of an app"));
        Box::pin(std::future::ready(Err(error)))
    }
}
