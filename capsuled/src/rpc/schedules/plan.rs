//! What a schedule would do, and whether it did: previews and audits.

use std::collections::{BTreeMap, HashMap};

use capsule_core::time::{Span, Timestamp};
use capsule_proto::v1;
use jiff::tz::TimeZone;

use super::super::Api;
use super::super::status::Refused;
use super::view::{tick, view};
use crate::schedule::{
    CatchUp, Counted, Cron, EVERY_MIN, JITTER_MAX, LATE, MISSED_MAX, Outcome, Overlap, Policy,
    Rule, RuleError, Schedule, Shift, TICKS_KEPT, TICKS_MAX, local_zone,
};

/// The most fires told of at once.
pub(super) const FIRES_MAX: u32 = 1000;
/// Fires of a preview unless a number or an end is asked for.
const FIRES: u32 = 10;
/// Gaps that an audit shows.
const GAPS_SHOWN: usize = 100;
/// Planned fires that an audit looks at.
const AUDITED_MAX: u32 = 100_000;

/// The rule that is meant; `name` picks the values of `~`.
pub(super) fn rule(when: Option<v1::When>, name: &str, now: Timestamp) -> Result<Rule, Refused> {
    use v1::when::Rule as Wanted;

    let v1::When { rule, zone } = when.unwrap_or_default();
    let zone = match zone.as_str() {
        "local" => local_zone().ok_or_else(|| {
            Refused::invalid("the zone of this machine has no name").hint("capsule help cron")
        })?,
        _ => zone,
    };
    match rule {
        None => Err(Refused::invalid("say when it fires: by cron, every or at")),
        Some(Wanted::Cron(text)) => {
            Rule::parse(&text, &zone, name, now).map_err(|error| unread(&error))
        }
        Some(Wanted::EveryMs(ms)) if Span(ms) < EVERY_MIN => Err(Refused::invalid(format!(
            "the shortest time between two fires is {EVERY_MIN}, not {}",
            Span(ms)
        ))),
        Some(Wanted::EveryMs(ms)) => Ok(Rule::Every { every: Span(ms), first: now.plus(Span(ms)) }),
        Some(Wanted::AtUs(at)) => Ok(Rule::At(Timestamp(at))),
    }
}

/// The expression with a mark below the place that is wrong.
fn unread(error: &RuleError) -> Refused {
    let marked = match error {
        RuleError::Cron(error) => error.marked(),
        RuleError::Every { .. } => None,
    };
    let mark = marked.map_or(String::new(), |marked| {
        marked.lines().fold(String::new(), |text, line| text + "\n  " + line)
    });
    Refused::invalid(format!("{error}{mark}")).hint("capsule help cron")
}

/// What may not have been meant.
pub(super) fn warnings(rule: &Rule) -> Vec<String> {
    rule.cron().map_or_else(Vec::new, |cron| cron.lints())
}

/// The policy that is meant.
pub(super) fn policy(wanted: Option<v1::SchedulePolicy>) -> Result<Policy, Refused> {
    let wanted = wanted.unwrap_or_default();
    let overlap = match wanted.overlap.as_str() {
        "" => Overlap::default(),
        word => Overlap::parse(word).ok_or_else(|| {
            let words = Overlap::WORDS.map(|(word, _)| word).join(", ");
            Refused::invalid(format!("overlap {word:?} is none of {words}"))
        })?,
    };
    let catch_up = match wanted.catch_up.as_str() {
        "" => CatchUp::default(),
        word => CatchUp::parse(word).ok_or_else(|| {
            let why = format!("catch-up {word:?} is none of latest, skip, all and all(1..1000)");
            Refused::invalid(why)
        })?,
    };
    let counts = match wanted.overlap_counts.as_str() {
        "" => Counted::default(),
        word => Counted::parse(word).ok_or_else(|| {
            let why = format!("what an overlap counts is run or submitted, not {word:?}");
            Refused::invalid(why)
        })?,
    };
    let jitter = Span(wanted.jitter_ms);
    if jitter > JITTER_MAX {
        return Err(Refused::invalid(format!("the longest jitter is {JITTER_MAX}, not {jitter}")));
    }
    if let (Some(start), Some(end)) = (wanted.start_us, wanted.end_us)
        && end < start
    {
        return Err(Refused::invalid("its end is before its start"));
    }
    if wanted.limit == Some(0) {
        return Err(Refused::invalid("with a limit of 0 it would never fire"));
    }
    Ok(Policy {
        overlap,
        catch_up,
        jitter,
        start: wanted.start_us.map(Timestamp),
        end: wanted.end_us.map(Timestamp),
        limit: wanted.limit,
        pause_after_failures: wanted.pause_after_failures.filter(|count| *count > 0),
        counts,
    })
}

/// A policy for the wire.
pub(super) fn policy_view(policy: &Policy) -> v1::SchedulePolicy {
    let counts = match policy.counts {
        Counted::Run => "run",
        Counted::Submitted => "submitted",
    };
    v1::SchedulePolicy {
        overlap: policy.overlap.to_string(),
        catch_up: policy.catch_up.to_string(),
        jitter_ms: policy.jitter.as_millis(),
        start_us: policy.start.map(|at| at.0),
        end_us: policy.end.map(|at| at.0),
        limit: policy.limit,
        pause_after_failures: policy.pause_after_failures,
        overlap_counts: counts.to_owned(),
    }
}

/// A planned fire, told of.
pub(super) fn fire(schedule: &Schedule, cron: Option<&Cron>, at: Timestamp) -> v1::FireView {
    let zone = cron.map_or("UTC", |cron| cron.zone());
    let due = schedule.due_at(at);
    v1::FireView {
        at_us: at.0,
        wall: wall(zone, at),
        note: cron.and_then(|cron| cron.shift(at)).map_or_else(String::new, said),
        due_us: (due != at).then_some(due.0),
    }
}

/// An instant on the wall of a zone: `2027-03-28 03:00 CEST`.
pub(super) fn wall(zone: &str, at: Timestamp) -> String {
    let shown = jiff::Timestamp::from_microsecond(at.0).map(|at| {
        let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
        let at = at.to_zoned(zone);
        let format = if at.second() == 0 { "%F %H:%M %Z" } else { "%F %H:%M:%S %Z" };
        at.strftime(format).to_string()
    });
    shown.unwrap_or_default()
}

/// What a change of the clocks does to a fire.
fn said(shift: Shift) -> String {
    let clock = |wall| {
        let wall = jiff::Timestamp::from_microsecond(wall).ok();
        wall.map_or_else(String::new, |wall| wall.strftime("%H:%M").to_string())
    };
    match shift {
        Shift::Gap(wall) => {
            format!("no {} that day: right after it", clock(wall))
        }
        Shift::First => "comes twice: the first time only".to_owned(),
        Shift::Earlier => "comes twice: the first time".to_owned(),
        Shift::Later => "comes twice: the second time".to_owned(),
    }
}

impl Api {
    pub(super) fn preview(
        &self,
        request: v1::PreviewScheduleRequest,
    ) -> Result<v1::PreviewScheduleReply, Refused> {
        let v1::PreviewScheduleRequest { schedule, app, when, from_us, to_us, count } = request;
        let now = self.engine.now();
        let schedule = if schedule.is_empty() {
            let id = capsule_core::id::ScheduleId(0);
            Schedule::new(id, rule(when, "preview", now)?, now)
        } else {
            self.find(&schedule, &app)?
        };
        let cron = schedule.rule.cron();
        let most = match (count, to_us) {
            (0, None) => FIRES,
            (0, Some(_)) => FIRES_MAX,
            (count, _) => count.min(FIRES_MAX),
        };
        let from = from_us.map_or(now, |from| Timestamp(from.saturating_sub(1)));
        let is_wanted = |at: &Timestamp| to_us.is_none_or(|to| at.0 <= to);
        let mut fires = Vec::new();
        let mut next = schedule.next_after(from).filter(is_wanted);
        while let Some(at) = next.filter(|_| fires.len() < most as usize) {
            fires.push(fire(&schedule, cron.as_ref(), at));
            next = schedule.next_after(at).filter(is_wanted);
        }
        if fires.is_empty() && to_us.is_none() {
            return Err(Refused::invalid("it never fires again"));
        }
        Ok(v1::PreviewScheduleReply {
            prose: schedule.rule.prose(),
            zone: cron.as_ref().map_or("UTC", |cron| cron.zone()).to_owned(),
            fires,
            warnings: warnings(&schedule.rule),
            more: next.is_some() && to_us.is_some(),
        })
    }

    /// Holds each planned fire of a period against the records.
    pub(super) fn audit(
        &self,
        request: v1::AuditScheduleRequest,
    ) -> Result<v1::AuditScheduleReply, Refused> {
        let v1::AuditScheduleRequest { schedule, app, from_us, to_us } = request;
        let schedule = self.find(&schedule, &app)?;
        let now = self.engine.now();
        let rows = self.engine.ticks(schedule.id, TICKS_MAX as usize + 1)?;
        // Of an older rule nobody knows any more what it planned.
        let mut since = schedule.since.unwrap_or(schedule.created);
        // Nor of what is not kept any more.
        since = since.max(Timestamp(now.0.saturating_sub(TICKS_KEPT.as_micros().cast_signed())));
        if rows.len() >= TICKS_MAX as usize
            && let Some(oldest) = rows.last()
        {
            since = since.max(oldest.key.planned);
        }
        let from = from_us.map_or(since, |from| Timestamp(from).max(since));
        let settled = settled(&schedule, now);
        let to = to_us.map_or(settled, |to| Timestamp(to).min(settled)).max(from);
        let paused_from = schedule.next.filter(|_| schedule.paused.is_some());
        let paused = "paused".to_owned();
        let mut single = HashMap::new();
        let mut ranges = BTreeMap::new();
        for row in rows.iter().filter(|row| row.key.generation == schedule.generation) {
            let outcome = tick(row.key.planned.0, row.key.generation, &row.tick.outcome).outcome;
            match &row.tick.outcome {
                Outcome::Missed { until, .. } | Outcome::Paused { until, .. } => {
                    ranges.insert(row.key.planned, (*until, outcome));
                }
                Outcome::Fired { .. }
                | Outcome::Skipped { .. }
                | Outcome::Refused { .. }
                | Outcome::Buffered { .. }
                | Outcome::PassedOver { .. }
                | Outcome::ToBackfill => drop(single.insert(row.key.planned, outcome)),
            }
        }
        let mut reply = v1::AuditScheduleReply {
            schedule: Some(view(&schedule)),
            from_us: from.0,
            to_us: to.0,
            ..v1::AuditScheduleReply::default()
        };
        let mut next = schedule.planned_after(Timestamp(from.0.saturating_sub(1)));
        while let Some(at) = next.filter(|at| *at <= to && reply.planned < AUDITED_MAX) {
            reply.planned += 1;
            let range = ranges.range(..=at).next_back().filter(|(_, (until, _))| at <= *until);
            let outcome = single.get(&at).or_else(|| range.map(|(_, (_, outcome))| outcome));
            let outcome =
                outcome.or_else(|| paused_from.filter(|from| at >= *from).map(|_| &paused));
            if let Some(outcome) = outcome {
                *reply.outcomes.entry(outcome.clone()).or_default() += 1;
            } else {
                reply.gaps += 1;
                if reply.gaps_us.len() < GAPS_SHOWN {
                    reply.gaps_us.push(at.0);
                }
            }
            next = schedule.planned_after(at);
        }
        Ok(reply)
    }
}

/// Until when all planned fires must have their record: until the next, unless that is overdue.
fn settled(schedule: &Schedule, now: Timestamp) -> Timestamp {
    if let Some(ended) = schedule.ended {
        return ended;
    }
    match schedule.next {
        None => schedule.decided,
        Some(next) if now.since(schedule.due_at(next)) <= LATE => {
            Timestamp(next.0.saturating_sub(1)).min(now)
        }
        Some(_) => now,
    }
}

const _: () = assert!(MISSED_MAX >= 1000, "the wire says that 1000 stands for more");
