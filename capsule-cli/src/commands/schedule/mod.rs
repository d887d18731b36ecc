//! `schedule`: what fires again and again, when next, and what became of it.

mod add;
mod backfill;
mod crontab;
mod import;
pub(crate) mod show;

use capsule_proto::v1::{
    AuditScheduleRequest, ChangeScheduleReply, EndScheduleRequest, FireView, ListSchedulesRequest,
    NextFiresRequest, PauseScheduleRequest, PreviewScheduleRequest, ResumeScheduleRequest,
    ScheduleHistoryRequest, ScheduleView, SkipNextFireRequest, TriggerScheduleRequest,
};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use self::add::{AddArgs, WhenArgs};
use self::backfill::BackfillArgs;
use self::import::ImportVerb;
use crate::args::values;
use crate::commands::Context;
use crate::error::{CliError, Exit};
use crate::ui::{Ui, shape, time};

/// Show schedules, their next fires and what became of the last ones; add, pause and run them
#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleVerb {
    /// Show schedules, with their next and last fire
    #[command(visible_alias = "ls", after_help = LIST_FIELDS)]
    List {
        /// Also those that have ended, while their history is kept
        #[arg(long)]
        all: bool,
    },
    /// Show all of one schedule
    Show {
        #[command(flatten)]
        which: Which,
    },
    /// Show what became of the fires of a schedule, newest first
    #[command(after_help = "Examples:\n  capsule schedule history hourly_sync\n  \
                            capsule schedule history leads/hourly_sync -n 5\n\n\
                            Kept: 90 days, and at most the last 1,000.\n\n\
                            With --json: planned_at, at, generation, what (fired, caught_up, manual,\n\
                            buffered, backfilled, waiting, skipped, missed, paused, passed_over or\n\
                            refused), task, its status and reason, until and count (of missed and\n\
                            paused), why, submitted (what its run submitted).")]
    History {
        #[command(flatten)]
        which: Which,
        /// How many
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 50,
              value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show when a schedule fires next, in UTC and in your zone
    Next {
        #[command(flatten)]
        which: Which,
        /// How many
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 5,
              value_parser = clap::value_parser!(u32).range(1..=1000))]
        count: u32,
    },
    /// Show when something would fire, and what changes of the clocks do to it
    #[command(after_help = "Examples:\n  \
                  capsule schedule preview --cron '30 2 * * *' --tz Europe/Berlin \\\n    \
                  --from 2027-03-27 --to 2027-03-30\n  \
                  capsule schedule preview hourly_sync -n 20")]
    Preview {
        /// A schedule that is there
        #[arg(value_name = "NAME", required_unless_present_any = ["cron", "every", "once"],
              conflicts_with_all = ["cron", "every", "once"])]
        name: Option<String>,
        #[command(flatten)]
        when: WhenArgs,
        /// From this time on [default: now]
        #[arg(long, value_name = "TIME", value_parser = values::time)]
        from: Option<Timestamp>,
        /// Until this time
        #[arg(long, value_name = "TIME", value_parser = values::time)]
        to: Option<Timestamp>,
        /// How many [default: 10, or all until --to]
        #[arg(short = 'n', long, value_name = "COUNT",
              value_parser = clap::value_parser!(u32).range(1..=1000))]
        count: Option<u32>,
    },
    /// Hold every planned fire of a period against the records; exits 1 at a gap
    Audit {
        #[command(flatten)]
        which: Which,
        /// From this time on [default: as far as the history goes]
        #[arg(long, value_name = "TIME", value_parser = values::moment)]
        from: Option<Timestamp>,
        /// Until this time [default: now]
        #[arg(long, value_name = "TIME", value_parser = values::moment)]
        to: Option<Timestamp>,
    },
    /// Submit a task or a program again and again
    Add(Box<AddArgs>),
    /// Pause a schedule: nothing fires until it is resumed
    Pause {
        #[command(flatten)]
        which: Which,
        /// Why, for those who wonder
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
    },
    /// Let a paused schedule fire again, from its next fire on
    Resume {
        #[command(flatten)]
        which: Which,
    },
    /// Pass the next fire over
    SkipNext {
        #[command(flatten)]
        which: Which,
    },
    /// Run a schedule now, besides its plan; print the id of the task
    Trigger {
        #[command(flatten)]
        which: Which,
    },
    /// Run what has not fired of a time that is over, also from before the schedule was there
    Backfill(BackfillArgs),
    /// End what was added or a recurrence; the task that it submitted last goes on
    #[command(visible_alias = "end")]
    Remove {
        #[command(flatten)]
        which: Which,
    },
    /// Take schedules over from elsewhere
    #[command(subcommand)]
    Import(ImportVerb),
}

const LIST_FIELDS: &str = "\
With --json: id, label, app, name, rule, prose, zone, origin (app, manifest, sdk or manual),
generation, owner, created_at, next_at, next_wall, last, paused (since, by, note), skip_at,
decided_at (later than now = silent until then, since the clock was set back), waiting,
backfill, fires, done, ended_at, submits, policy.";

/// A schedule.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Its name, APP/NAME, or its id
    #[arg(value_name = "NAME")]
    name: String,
}

impl ScheduleVerb {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let ui = &context.ui;
        match self {
            Self::Add(args) => return args.run(context).await,
            Self::Backfill(args) => args.run(context).await?,
            Self::Import(verb) => return verb.run(context).await,
            Self::List { all } => list(context, *all).await?,
            Self::Show { which } => {
                let (schedule, _) = next(context, which, 1).await?;
                if ui.is_json() {
                    ui.value(&show::schedule_json(&schedule))?;
                } else {
                    show::one(ui, &schedule)?;
                }
            }
            Self::Next { which, count } => {
                let (schedule, fires) = next(context, which, *count).await?;
                ui.listing(show::fires(ui, &schedule.zone, &fires))?;
            }
            Self::History { which, limit } => history(context, which, *limit).await?,
            Self::Preview { name, when, from, to, count } => {
                let request = PreviewScheduleRequest {
                    schedule: name.clone().unwrap_or_default(),
                    app: app(context),
                    when: when.message()?,
                    from_us: from.map(Timestamp::as_microsecond),
                    to_us: to.map(Timestamp::as_microsecond),
                    count: count.unwrap_or(0),
                };
                preview(context, request).await?;
            }
            Self::Audit { which, from, to } => {
                let request = AuditScheduleRequest {
                    schedule: which.name.clone(),
                    app: app(context),
                    from_us: from.map(Timestamp::as_microsecond),
                    to_us: to.map(Timestamp::as_microsecond),
                };
                return audit(context, request).await;
            }
            Self::Pause { which, note } => pause(context, which, note).await?,
            Self::Resume { which } => resume(context, which).await?,
            Self::SkipNext { which } => skip_next(context, which).await?,
            Self::Trigger { which } => trigger(context, which).await?,
            Self::Remove { which } => remove(context, which).await?,
        }
        Ok(Exit::Done)
    }
}

fn app(context: &Context) -> String {
    context.app().unwrap_or_default().to_owned()
}

async fn list(context: &Context, all: bool) -> Result<(), CliError> {
    let (client, ui) = (context.client().await?, &context.ui);
    let request = ListSchedulesRequest { app: app(context), all };
    let reply = client.answer(client.schedules().list_schedules(request)).await?;
    if reply.schedules.is_empty() && ui.tty && !ui.is_json() {
        ui.talk("nothing is scheduled");
        return Ok(());
    }
    ui.listing(show::schedules(ui, &reply.schedules))
}

/// A schedule and its next fires.
async fn next(
    context: &Context,
    which: &Which,
    count: u32,
) -> Result<(ScheduleView, Vec<FireView>), CliError> {
    let client = context.client().await?;
    let request = NextFiresRequest { schedule: which.name.clone(), app: app(context), count };
    let reply = client.answer(client.schedules().next_fires(request)).await?;
    Ok((reply.schedule.unwrap_or_default(), reply.fires))
}

async fn history(context: &Context, which: &Which, limit: u32) -> Result<(), CliError> {
    let client = context.client().await?;
    let request = ScheduleHistoryRequest { schedule: which.name.clone(), app: app(context), limit };
    let reply = client.answer(client.schedules().schedule_history(request)).await?;
    context.ui.listing(show::history(&context.ui, &reply))
}

async fn preview(context: &Context, request: PreviewScheduleRequest) -> Result<(), CliError> {
    let (client, ui) = (context.client().await?, &context.ui);
    let reply = client.answer(client.schedules().preview_schedule(request)).await?;
    warn(&reply.warnings);
    if ui.tty && !ui.is_json() {
        ui.talk(&reply.prose);
    }
    ui.listing(show::fires(ui, &reply.zone, &reply.fires))?;
    if reply.more {
        crate::ui::warn("there are more until then: give --count, or an earlier --to");
    }
    Ok(())
}

async fn audit(context: &Context, request: AuditScheduleRequest) -> Result<Exit, CliError> {
    let client = context.client().await?;
    let reply = client.answer(client.schedules().audit_schedule(request)).await?;
    show::audit(&context.ui, &reply)?;
    Ok(if reply.gaps == 0 { Exit::Done } else { Exit::Failure })
}

async fn pause(context: &Context, which: &Which, note: &str) -> Result<(), CliError> {
    let client = context.client().await?;
    let (schedule, note) = (which.name.clone(), note.to_owned());
    let request = PauseScheduleRequest { schedule, app: app(context), note };
    let reply = client.answer(client.schedules().pause_schedule(request)).await?;
    changed(&context.ui, reply, |it| format!("paused {}", it.label))
}

async fn resume(context: &Context, which: &Which) -> Result<(), CliError> {
    let client = context.client().await?;
    let request = ResumeScheduleRequest { schedule: which.name.clone(), app: app(context) };
    let reply = client.answer(client.schedules().resume_schedule(request)).await?;
    changed(&context.ui, reply, |it| format!("resumed {}, {}", it.label, upcoming(it)))
}

async fn skip_next(context: &Context, which: &Which) -> Result<(), CliError> {
    let client = context.client().await?;
    let request = SkipNextFireRequest { schedule: which.name.clone(), app: app(context) };
    let reply = client.answer(client.schedules().skip_next_fire(request)).await?;
    changed(&context.ui, reply, |it| {
        let skipped = it.skip_us.map(time::utc).unwrap_or_default();
        format!("{} will pass {skipped} UTC over", it.label)
    })
}

async fn trigger(context: &Context, which: &Which) -> Result<(), CliError> {
    let (client, ui) = (context.client().await?, &context.ui);
    let request = TriggerScheduleRequest { schedule: which.name.clone(), app: app(context) };
    let reply = client.answer(client.schedules().trigger_schedule(request)).await?;
    let task = reply.task.unwrap_or_default();
    if ui.is_json() { ui.value(&shape::task(&task)) } else { ui.say(&task.id.to_string()) }
}

async fn remove(context: &Context, which: &Which) -> Result<(), CliError> {
    let client = context.client().await?;
    let request = EndScheduleRequest { schedule: which.name.clone(), app: app(context) };
    let reply = client.answer(client.schedules().end_schedule(request)).await?;
    let reply = ChangeScheduleReply { schedule: reply.schedule };
    changed(&context.ui, reply, |it| format!("ended {}", it.label))
}

fn changed(
    ui: &Ui,
    reply: ChangeScheduleReply,
    say: impl FnOnce(&ScheduleView) -> String,
) -> Result<(), CliError> {
    let schedule = reply.schedule.unwrap_or_default();
    if ui.is_json() {
        return ui.value(&show::schedule_json(&schedule));
    }
    if ui.quiet { Ok(()) } else { ui.say(&say(&schedule)) }
}

/// `next 2026-12-01 09:00:00 UTC`.
fn upcoming(it: &ScheduleView) -> String {
    it.next_us.map_or_else(|| "done".to_owned(), |us| format!("next {} UTC", time::utc(us)))
}

/// What may not have been meant.
fn warn(warnings: &[String]) {
    for warning in warnings {
        crate::ui::warn(warning);
    }
}
