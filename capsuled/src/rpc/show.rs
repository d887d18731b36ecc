//! Everything about one task, in the wire's words.

use capsule_core::attempt::AttemptRecord;
use capsule_core::spec::Payload;
use capsule_core::task::{State, Task};
use capsule_core::time::Timestamp;
use capsule_proto::v1;

use super::status::Refused;
use super::{Api, convert};
use crate::engine::{self, How, Submitted};
use crate::store::SideKind;
use crate::work::Work;

impl Api {
    pub(super) fn submit_reply(&self, submitted: Submitted) -> v1::SubmitReply {
        let Submitted { task, how, waiting } = submitted;
        let (mut merged, mut existing, mut arguments_differ) = (false, false, false);
        let note = match how {
            How::Created => String::new(),
            How::Checked => "nothing was queued".to_owned(),
            How::Replaced(ids) => {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                format!("cancelled for it: {}", ids.join(" "))
            }
            How::Existing => {
                existing = true;
                format!("the key was used by {}", task.id)
            }
            How::Merged { arguments_differ: differ, pulled_forward } => {
                (merged, arguments_differ) = (true, differ);
                let lock = task.spec.lock.as_deref().unwrap_or_default();
                let doing = self.engine.book().doing(task.id, self.engine.now());
                let forward = if pulled_forward { ", pulled forward" } else { "" };
                format!("lock {lock} held ({doing}){forward}")
            }
        };
        let view = convert::view(&self.engine.book(), &task, waiting);
        v1::SubmitReply {
            lock_policy: convert::lock_policy(task.spec.lock_policy).into(),
            payload_json: self.arguments_of(&task),
            task: Some(self.with_progress(view)),
            merged,
            existing,
            arguments_differ,
            note,
        }
    }

    pub(super) fn show_reply(&self, task: &Task) -> Result<v1::ShowReply, Refused> {
        let now = self.engine.now();
        let (program, payload_json) = self.payload_of(task).unwrap_or_default();
        let attempts = engine::attempts(self.engine.store(), task)?;
        let gates = self.engine.book().gates(task, now);
        Ok(v1::ShowReply {
            timeline: timeline(task, &attempts),
            attempts: attempts.iter().map(convert::attempt).collect(),
            program,
            payload_json,
            result_json: self.result_of(task)?,
            error: error_of(task),
            gates: gates.into_iter().map(convert::gate).collect(),
            options: Some(convert::options(&task.spec)),
            longest_ms: task.spec.longest_run().map(|span| span.0),
            task: Some(self.view(task)),
        })
    }

    /// The arguments of a call; a program, which has no app, is not even read.
    fn arguments_of(&self, task: &Task) -> String {
        let payload = (!task.spec.app.is_empty()).then(|| self.payload_of(task)).flatten();
        payload.map(|(_, json)| json).unwrap_or_default()
    }

    /// The program, or the arguments of a call.
    fn payload_of(&self, task: &Task) -> Option<(Option<v1::Program>, String)> {
        let bytes = match &task.spec.payload {
            Payload::Inline(bytes) => bytes.clone(),
            Payload::Side { .. } => self.engine.side(SideKind::Payload, task.id).ok()??,
        };
        match Work::decode(&bytes)? {
            Work::Program(program) => {
                let env = program.env.into_iter().collect();
                let (argv, shell, cwd) = (program.argv, program.shell, program.cwd);
                Some((Some(v1::Program { argv, shell, cwd, env, stdin: None }), String::new()))
            }
            Work::Call(call) => Some((None, call.arguments)),
        }
    }

    pub(super) fn result_of(&self, task: &Task) -> Result<String, Refused> {
        let bytes = match &task.result {
            None => return Ok(String::new()),
            Some(Payload::Inline(bytes)) => bytes.clone(),
            Some(Payload::Side { .. }) => {
                self.engine.side(SideKind::Result, task.id)?.unwrap_or_default()
            }
        };
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(super) fn why_reply(&self, task: &Task) -> v1::WhyReply {
        let now = self.engine.now();
        let gates = self.engine.book().gates(task, now);
        let status = task.status();
        let text = match gates.split_first() {
            _ if status.is_ended() => format!("{} has ended: {status} {}", task.id, error_of(task)),
            None if task.state.lease().is_some() => format!("{} is {status}", task.id),
            None => format!("{} starts next", task.id),
            Some((first, rest)) => {
                let rest: Vec<&str> = rest.iter().map(|gate| gate.text.as_str()).collect();
                let rest = if rest.is_empty() {
                    String::new()
                } else {
                    format!("; then {}", rest.join("; "))
                };
                format!("{} waits: {}{rest}", task.id, first.text)
            }
        };
        let earliest = gates.iter().filter_map(|gate| gate.until).max();
        v1::WhyReply {
            task: Some(self.view(task)),
            gates: gates.into_iter().map(convert::gate).collect(),
            earliest_us: earliest.map(|at| at.0),
            text: text.trim_end().to_owned(),
        }
    }
}

fn timeline(task: &Task, attempts: &[AttemptRecord]) -> Vec<v1::TimelineEntry> {
    let mut entries =
        vec![v1::TimelineEntry { at_us: task.created.0, what: "submitted".to_owned() }];
    let mut note = |at: Timestamp, what: String| {
        entries.push(v1::TimelineEntry { at_us: at.0, what });
    };
    for attempt in attempts {
        let number = attempt.number;
        note(attempt.claimed, format!("attempt {number} claimed"));
        if let Some(at) = attempt.started {
            note(at, format!("attempt {number} started"));
        }
        if let (Some(at), Some(verdict)) = (attempt.ended, &attempt.verdict) {
            note(
                at,
                format!("attempt {number} {} {verdict}", verdict.word()).trim_end().to_owned(),
            );
        }
    }
    if let State::Ended { at, outcome } = &task.state {
        note(*at, format!("{} {outcome}", outcome.status()).trim_end().to_owned());
    }
    if let Some(due) = task.state.due() {
        note(due, "due".to_owned());
    }
    entries
}

pub(super) fn error_of(task: &Task) -> String {
    match &task.state {
        State::Ended { outcome, .. } => convert::reason(task, outcome),
        State::Scheduled { .. }
        | State::Pending { .. }
        | State::Claimed { .. }
        | State::Running { .. }
        | State::Retry { .. } => String::new(),
    }
}
