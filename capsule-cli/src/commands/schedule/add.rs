//! `schedule add`: a task or a program, again and again.

use std::time::Duration;

use capsule_proto::v1::{AddScheduleRequest, SchedulePolicy, SubmitRequest, When, when};
use clap::Args;
use jiff::Timestamp;

use super::{show, upcoming, warn};
use crate::args::submit::{ArgumentArgs, OptionArgs, ProgramArgs, What};
use crate::args::values;
use crate::args::words::{Call, Work};
use crate::commands::{Context, submit};
use crate::error::{CliError, Exit};

/// When to fire.
#[derive(Debug, Args)]
pub(crate) struct WhenArgs {
    /// Cron expression of five fields, or six with the second first; @hourly, @every 90s
    #[arg(long, value_name = "CRON", conflicts_with_all = ["every", "once"])]
    cron: Option<String>,
    /// From one fire to the next
    #[arg(long, value_name = "DURATION", value_parser = values::duration, conflicts_with = "once")]
    every: Option<Duration>,
    /// Once, at this time
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    once: Option<Timestamp>,
    /// Time zone of --cron, as Europe/Berlin or `local` [default: UTC]
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
}

impl WhenArgs {
    /// As the protocol has it; `None` = nothing was said.
    pub(super) fn message(&self) -> Result<Option<When>, CliError> {
        if self.tz.is_some() && self.cron.is_none() {
            return Err(CliError::usage("--tz is the zone of --cron, which is missing"));
        }
        let zone = match self.tz.as_deref() {
            Some("local") => local_zone()?,
            zone => zone.unwrap_or_default().to_owned(),
        };
        let rule = match (&self.cron, self.every, self.once) {
            (Some(cron), _, _) => when::Rule::Cron(cron.clone()),
            (None, Some(every), _) => when::Rule::EveryMs(values::millis(every)),
            (None, None, Some(at)) => when::Rule::AtUs(at.as_microsecond()),
            (None, None, None) => return Ok(None),
        };
        Ok(Some(When { zone, rule: Some(rule) }))
    }
}

/// Our own zone, by its name: the daemon's may be another.
pub(super) fn local_zone() -> Result<String, CliError> {
    let zone = jiff::tz::TimeZone::system();
    zone.iana_name().map(str::to_owned).ok_or_else(|| {
        CliError::usage("the zone of this machine has no name; give one as --tz Europe/Berlin")
    })
}

/// Submit a task or a program again and again
///
/// A second time with the same name changes the schedule: its history stays.
#[derive(Debug, Args)]
#[command(
    override_usage = "capsule schedule add [OPTIONS] NAME TASK\n       \
                      capsule schedule add [OPTIONS] NAME -- COMMAND [ARGS]",
    after_help = "Examples:\n  \
                  capsule schedule add nightly --cron '30 3 * * *' --tz local \\\n    \
                  sync_leads -p owner_id=acme\n  \
                  capsule schedule add backup --every 6h --catch-up skip -- backup.sh /srv"
)]
pub(crate) struct AddArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    /// Task to submit
    #[arg(value_name = "TASK", required_unless_present = "command", conflicts_with = "command")]
    task: Option<String>,
    /// Program to run
    #[arg(value_name = "COMMAND", last = true)]
    command: Vec<String>,
    #[command(flatten)]
    when: WhenArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    program: ProgramArgs,
    #[command(flatten)]
    arguments: ArgumentArgs,
    /// Queue to wait in
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// On whose behalf
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// Label of its tasks
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = values::pair)]
    label: Vec<(String, String)>,
    /// At most one task runs under a lock
    #[arg(long, value_name = "LOCK")]
    lock: Option<String>,
    /// How often to try again
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// Longest run of one attempt, 0 for none
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    timeout: Option<Duration>,
}

/// What goes for all fires.
#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    /// What happens while the run before has not ended: skip, buffer-one, buffer-all,
    /// cancel-other or allow
    #[arg(long, value_name = "POLICY", default_value = "skip")]
    overlap: String,
    /// What has to end: run, or submitted for all that it submitted too
    #[arg(long, value_name = "WHAT", default_value = "run")]
    overlap_counts: String,
    /// Which fires are made good when nobody was there: latest, skip, all or all(N)
    #[arg(long, value_name = "POLICY", default_value = "latest")]
    catch_up: String,
    /// Fire up to so much later, by a time that is the same whenever it is worked out
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    jitter: Option<Duration>,
    /// No fire before
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    start: Option<Timestamp>,
    /// No fire after
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    end: Option<Timestamp>,
    /// So many fires, and no more
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// Pause after so many failures in a row
    #[arg(long, value_name = "N")]
    pause_after_failures: Option<u32>,
}

impl PolicyArgs {
    fn message(&self) -> SchedulePolicy {
        SchedulePolicy {
            overlap: self.overlap.clone(),
            catch_up: self.catch_up.clone(),
            jitter_ms: self.jitter.map_or(0, values::millis),
            start_us: self.start.map(Timestamp::as_microsecond),
            end_us: self.end.map(Timestamp::as_microsecond),
            limit: self.limit,
            pause_after_failures: self.pause_after_failures,
            overlap_counts: self.overlap_counts.clone(),
        }
    }
}

impl AddArgs {
    pub(super) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let Some(when) = self.when.message()? else {
            return Err(CliError::usage("say when it fires: --cron, --every or --once")
                .hint("capsule help cron"));
        };
        let request = AddScheduleRequest {
            name: self.name.clone(),
            when: Some(when),
            policy: Some(self.policy.message()),
            submit: Some(self.submit(context)?),
        };
        let client = context.client().await?;
        let reply = client.answer(client.schedules().add_schedule(request)).await?;
        warn(&reply.warnings);
        let schedule = reply.schedule.unwrap_or_default();
        let ui = &context.ui;
        if ui.is_json() {
            ui.value(&show::schedule_json(&schedule))?;
        } else if !ui.quiet {
            let done = if reply.created { "added" } else { "changed" };
            ui.say(&format!("{done} {}, {}", schedule.label, upcoming(&schedule)))?;
        }
        Ok(Exit::Done)
    }

    fn submit(&self, context: &Context) -> Result<SubmitRequest, CliError> {
        let work = match &self.task {
            Some(task) => Work::Task(Call { task: task.clone(), ..Call::default() }),
            None => Work::Program(self.command.clone()),
        };
        let what = What {
            work,
            program: self.program.clone(),
            arguments: self.arguments.clone(),
            options: OptionArgs {
                queue: self.queue.clone(),
                owner: self.owner.clone(),
                label: self.label.clone(),
                lock: self.lock.clone(),
                retries: self.retries,
                timeout: self.timeout,
                ..OptionArgs::default()
            },
            dry_run: false,
        };
        submit::request(context, &what)
    }
}
