//! How long what was asked may stay undecided, so that more of it shares a commit.

use std::time::Duration;

use super::super::request::Request;

/// For starts, for which nobody waits: `running` shares the commit of whatever comes next, and a
/// short task's start that of its end.
const STARTS: Duration = Duration::from_millis(8);
/// For ends while others are claimed ahead, so that no slot waits for the commit.
const ENDS: Duration = Duration::from_millis(5);

/// How long the first of these may stay undecided while so many are claimed ahead. A crash before
/// the commit loses nothing that the keeper cannot tell again. `None` = there is nothing to decide.
pub(super) fn patience(waiting: &[Request], ahead: u32) -> Option<Duration> {
    let mut ends = 0;
    for request in waiting {
        let is_end = matches!(request, Request::Report { .. });
        if !is_end && !matches!(request, Request::Started { .. }) {
            return Some(Duration::ZERO);
        }
        ends += u32::from(is_end);
    }
    match ends {
        0 if waiting.is_empty() => None,
        0 => Some(STARTS),
        // A third is left for the time that the commit takes.
        ends if ends * 3 < ahead * 2 => Some(ENDS),
        _ => Some(Duration::ZERO),
    }
}

#[cfg(test)]
mod tests {
    use capsule_core::id::{AttemptNumber, TaskId};
    use capsule_core::time::Timestamp;

    use super::*;
    use crate::engine::committer::lost_report;

    #[test]
    fn only_what_nobody_waits_for_is_put_off() {
        let (task, attempt, at) = (TaskId(1), AttemptNumber(1), Timestamp(0));
        let started = || Request::Started { task, attempt, pid: 1, at };
        let ended = || {
            let verdict = capsule_core::attempt::Verdict::Completed;
            let report = Box::new(lost_report(attempt, verdict, at));
            Request::Report { task, report, tree_gone: true }
        };
        assert_eq!(patience(&[], 12), None);
        assert_eq!(patience(&[started()], 0), Some(STARTS));
        assert_eq!(patience(&[started(), ended()], 0), Some(Duration::ZERO));
        assert_eq!(patience(&[started(), ended(), ended()], 4), Some(ENDS));
        assert_eq!(patience(&[ended(), ended(), ended()], 4), Some(Duration::ZERO));
        assert_eq!(patience(&[ended(), Request::KeeperDown], 12), Some(Duration::ZERO));
    }
}
