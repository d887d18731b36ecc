//! `schedule backfill`: fires of a time that is over.

use capsule_proto::v1::{BackfillScheduleReply, BackfillScheduleRequest};
use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::{Which, app, show};
use crate::args::values;
use crate::commands::Context;
use crate::error::CliError;
use crate::ui::{self, Ui, time};

const EXAMPLES: &str = "\
Examples:
  capsule schedule backfill nightly --from 2026-11-01 --to yesterday --dry-run
  capsule schedule backfill leads/hourly_sync --from 6h --to now

Each planned fire of that time that was missed, skipped, paused or refused, or that the schedule was
not there for, gets its task, with the planned time as its own. What has fired is passed over: the
same again does nothing more.

They run one after another, at most 100 at a time; with the overlap 'allow' at once, at most 1,000.
What fires by plan meanwhile goes before the next of them. They count for no limit. A pause does not
forbid a backfill, but one that comes later holds it until resume. Another rule drops what waits.

With --json: fires (planned_at, wall, note), started, fired, waiting, forgotten (of which the
history is not kept), dry_run.";

/// Run fires of a time that is over.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BackfillArgs {
    #[command(flatten)]
    which: Which,
    /// From this time on: an instant, or a span before now
    #[arg(long, value_name = "TIME", value_parser = values::moment)]
    from: Timestamp,
    /// Until this time, which must be over
    #[arg(long, value_name = "TIME", value_parser = values::moment)]
    to: Timestamp,
    /// Only show what would run
    #[arg(long)]
    dry_run: bool,
}

impl BackfillArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<(), CliError> {
        let (client, ui) = (context.client().await?, &context.ui);
        let request = BackfillScheduleRequest {
            schedule: self.which.name.clone(),
            app: app(context),
            from_us: self.from.as_microsecond(),
            to_us: self.to.as_microsecond(),
            dry_run: self.dry_run,
        };
        let reply = client.answer(client.schedules().backfill_schedule(request)).await?;
        if ui.is_json() {
            return ui.value(&json!({
                "fires": reply.fires.iter().map(show::fire_json).collect::<Vec<_>>(),
                "started": reply.started,
                "fired": reply.fired,
                "waiting": reply.waiting,
                "forgotten": reply.forgotten,
                "dry_run": self.dry_run,
            }));
        }
        if self.dry_run && !reply.fires.is_empty() {
            let zone = reply.schedule.as_ref().map_or("", |it| it.zone.as_str());
            ui.listing(show::planned(ui, zone, &reply.fires))?;
        }
        if !ui.quiet {
            said(ui, &reply, self.dry_run)?;
        }
        if reply.forgotten > 0 {
            let count = some(reply.forgotten);
            ui::warn(&format!("left alone: {count} planned, of which the history is not kept"));
        }
        Ok(())
    }
}

/// `backfills 24 fires of nightly, 2026-11-01 03:00:00 to …, one after another; 3 have fired`.
fn said(ui: &Ui, reply: &BackfillScheduleReply, dry_run: bool) -> Result<(), CliError> {
    let label = reply.schedule.as_ref().map_or("", |it| it.label.as_str());
    let what = match (reply.fires.as_slice(), dry_run) {
        ([], _) => format!("nothing is left to backfill of {label}"),
        ([first, .., last], _) => {
            let period = format!("{} to {} UTC", time::utc(first.at_us), time::utc(last.at_us));
            format!("{} {} fires of {label}, {period}", does(dry_run), reply.fires.len())
        }
        ([one], _) => {
            format!("{} 1 fire of {label}, {} UTC", does(dry_run), time::utc(one.at_us))
        }
    };
    let waits = reply.fires.len().saturating_sub(reply.started as usize);
    let turns = (!dry_run && waits > 0).then(|| ", one after another".to_owned());
    let fired = (reply.fired > 0).then(|| format!("; fired before: {}", some(reply.fired)));
    let to_come = (reply.waiting > 0).then(|| format!("; still to come: {}", some(reply.waiting)));
    let rest: String = [turns, fired, to_come].into_iter().flatten().collect();
    ui.say(&(what + &rest))
}

const fn does(dry_run: bool) -> &'static str {
    if dry_run { "would backfill" } else { "backfills" }
}

/// The daemon counts up to here.
const MANY: u32 = 1000;

fn some(count: u32) -> String {
    if count < MANY { count.to_string() } else { format!("{MANY} or more") }
}
