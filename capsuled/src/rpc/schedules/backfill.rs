//! Fires that are asked for after their time.

use capsule_core::id::ScheduleId;
use capsule_core::time::Timestamp;
use capsule_proto::v1;

use super::super::Api;
use super::super::status::Refused;
use super::plan;
use super::view::view;
use crate::engine::{AskedBackfill, Backfilled};

impl Api {
    /// Carries out what has not fired of a period that is over, or says what that would be.
    pub(super) async fn backfill(
        &self,
        request: v1::BackfillScheduleRequest,
    ) -> Result<v1::BackfillScheduleReply, Refused> {
        let v1::BackfillScheduleRequest { schedule, app, from_us, to_us, dry_run } = request;
        let schedule = self.find(&schedule, &app)?;
        let (from, until) = (Timestamp(from_us), Timestamp(to_us));
        if until < from {
            return Err(Refused::invalid("its last instant is before its first"));
        }
        if until > self.engine.now() {
            return Err(Refused::invalid(format!("{} is not over yet", rfc3339(until)))
                .hint(format!("capsule schedule next {}", schedule.id)));
        }
        let asked = AskedBackfill { id: schedule.id, from, until, dry_run };
        let Backfilled { schedule, found, started } = self.engine.backfill(asked).await??;
        let cron = schedule.rule.cron();
        let fires = found.fires.iter().map(|at| plan::fire(&schedule, cron.as_ref(), *at));
        Ok(v1::BackfillScheduleReply {
            fires: fires.map(|fire| v1::FireView { due_us: None, ..fire }).collect(),
            schedule: Some(view(&schedule)),
            started,
            fired: found.fired,
            waiting: found.waiting,
            forgotten: found.forgotten,
        })
    }
}

/// A backfill for which there is room; without any, what is in its way.
pub(super) fn shorter(id: ScheduleId, from: Timestamp, last: Option<Timestamp>) -> String {
    last.map_or_else(
        || format!("capsule schedule show {id}"),
        |last| {
            let (from, to) = (rfc3339(from), rfc3339(last));
            format!("capsule schedule backfill {id} --from {from} --to {to}")
        },
    )
}

fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(at.0).map_or_else(|_| at.0.to_string(), |at| at.to_string())
}
