//! The command line: the verbs, and the flags that every verb takes.

pub(crate) mod filter;
pub(crate) mod submit;
pub(crate) mod values;
pub(crate) mod words;

use std::time::Duration;

use clap::{Args, Command, CommandFactory as _, Parser, Subcommand, ValueEnum};

use self::words::{Split, Work};
use crate::commands::{admin, apps, change, chat, schedule, task};

/// Run background tasks that survive: submit, watch and steer them.
#[derive(Debug, Parser)]
#[command(
    name = "capsule",
    version,
    disable_help_subcommand = true,
    args_override_self = true,
    after_help = "More: capsule help data|environment|exit-codes|formatting|ids|manifest|states|time"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// What reads the words of the command line.
///
/// Programs call `submit` and `run` in loops. The tree of all verbs, each with a copy of every
/// global flag, would cost them about as much as the call itself, so they get the one verb.
pub(crate) fn command(Split { words, work }: &Split) -> Command {
    let verb = words.get(1).filter(|_| *work != Work::Nothing);
    let lean = |verb: Command| {
        let command = Command::new("capsule").version(env!("CARGO_PKG_VERSION"));
        let command = command.disable_help_subcommand(true).args_override_self(true);
        Globals::augment_args(command).subcommand(verb)
    };
    match verb.map(String::as_str) {
        Some("submit") => lean(submit::SubmitArgs::augment_args(Command::new("submit"))),
        Some("run") => lean(submit::RunArgs::augment_args(Command::new("run"))),
        Some(_) | None => Cli::command(),
    }
}

/// Flags that stand before or after the verb.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Globals {
    /// Socket of the daemon to talk to
    #[arg(
        long,
        global = true,
        env = "CAPSULE_SOCKET",
        value_name = "PATH",
        hide_env_values = true
    )]
    pub(crate) socket: Option<String>,
    /// App the task belongs to
    #[arg(
        short,
        long,
        global = true,
        env = "CAPSULE_APP",
        value_name = "NAME",
        hide_env_values = true
    )]
    pub(crate) app: Option<String>,
    /// JSON output; FIELDS selects, `help` lists them
    #[arg(long, global = true, value_name = "FIELDS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(crate) json: Option<String>,
    /// Output format
    #[arg(
        short = 'o',
        long,
        global = true,
        env = "CAPSULE_FORMAT",
        value_name = "FORMAT",
        hide_env_values = true
    )]
    pub(crate) format: Option<Format>,
    /// Print ids only on lists, nothing but errors on actions
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Say on stderr what is being done
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
    /// Never ask
    #[arg(long, global = true)]
    pub(crate) no_input: bool,
    /// Answer yes to every question
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,
    /// How times are shown
    #[arg(long, global = true, env = "CAPSULE_TIME", value_name = "STYLE", hide_env_values = true)]
    pub(crate) time: Option<TimeStyle>,
    /// Show times in UTC
    #[arg(long, global = true)]
    pub(crate) utc: bool,
    /// How long one answer of the daemon may take
    #[arg(long, global = true, value_name = "DURATION", value_parser = values::duration)]
    pub(crate) request_timeout: Option<Duration>,
}

/// Output formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    Table,
    /// One JSON value
    Json,
    /// One JSON object a line
    Ndjson,
    /// The columns, separated by tabs
    Tsv,
    /// Ids, one a line
    Id,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set
    #[default]
    Auto,
    /// Also in a pipe
    Always,
    /// Not at all
    Never,
}

/// How times are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TimeStyle {
    /// 5m ago
    Relative,
    /// 2026-12-01 09:00:00, in your zone
    Absolute,
    /// 2026-12-01T09:00:00Z
    Iso,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Verb {
    /// Queue a task or any program, print its id
    Submit(submit::SubmitArgs),
    /// Queue a task or any program, follow it, exit by its code
    Run(submit::RunArgs),
    /// Show the newest tasks
    #[command(visible_alias = "ls")]
    List(task::list::ListArgs),
    /// Show everything about a task: attempts, arguments, why it waits, its last log lines
    Show(task::show::ShowArgs),
    /// Print the log of a task; on a terminal, follow it to its end
    #[command(visible_alias = "logs")]
    Tail(task::tail::TailArgs),
    /// Print what a task returned, exit by how it ended
    Result(task::result::ResultArgs),
    /// Wait for tasks, exit by how they ended
    Wait(task::wait::WaitArgs),
    /// Say why a task waits, and when it can start
    Why(task::why::WhyArgs),
    /// Show tasks in columns, live
    Board(task::board::BoardArgs),
    /// Print a link that opens the board in a browser, good once and for ten minutes
    #[command(
        after_help = "The board is served on this machine only, from the first `capsule web` on.\n\
                            From another machine: ssh -L 7788:127.0.0.1:7788 HOST, then the link as it is.\n\n\
                            Examples:\n  capsule web\n  xdg-open \"$(capsule web)\""
    )]
    Web,
    /// Talk to an app: replies stream, the tasks it shows are live
    Chat(chat::ChatArgs),
    /// Print every change of tasks and schedules as it is committed, one JSON object a line
    Events(task::events::EventsArgs),
    /// Cancel tasks and wait until they have ended
    Cancel(change::cancel::CancelArgs),
    /// Run failed, timed out or cancelled tasks again, under the same id
    Retry(change::retry::RetryArgs),
    /// Let a scheduled task, or one that waits to be tried again, start now
    Promote(change::promote::PromoteArgs),
    /// Change priority, queue, time or other options of a task
    Edit(change::edit::EditArgs),
    /// Remove ended tasks with their logs and results
    Rm(change::rm::RmArgs),
    /// Remove ended tasks by age and number, with their logs and results
    Prune(change::prune::PruneArgs),
    /// Register the tasks of an app or a manifest; a changed one becomes the next revision
    Deploy(apps::deploy::DeployArgs),
    /// Run an app where it lies and deploy it again with every save
    Serve(apps::serve::ServeArgs),
    /// Show deployed apps, go back to an earlier revision, remove
    #[command(subcommand)]
    App(apps::app::AppVerb),
    /// Show what can be submitted: the tasks of deployed apps, or all about one
    Tasks(apps::tasks::TasksArgs),
    /// Keep what apps must know and nobody else: keys, tokens, passwords
    #[command(subcommand)]
    Secret(apps::secret::SecretVerb),
    /// Show schedules, their next fires and what became of the last ones, run one now
    #[command(subcommand)]
    Schedule(schedule::ScheduleVerb),
    /// Show queues, pause and resume them, limit how many tasks run at once
    #[command(subcommand)]
    Queue(admin::queue::QueueVerb),
    /// Show who holds a lock and who waits for it
    #[command(subcommand)]
    Lock(admin::lock::LockVerb),
    /// Save everything into one file while the daemon runs, list, verify and restore such files
    #[command(subcommand)]
    Backup(admin::backup::BackupVerb),
    /// Start no more tasks and wait until the running ones have ended
    Drain(admin::drain::DrainArgs),
    /// Show whether the daemon runs and how it does; exit 3 when it does not
    #[command(after_help = "Examples:\n  capsule status\n  capsule status -q && echo running")]
    Status,
    /// Show every bound of the daemon, how much of it is used and which flag sets it
    #[command(after_help = "Examples:\n  capsule limits\n  capsule limits --json")]
    Limits,
    /// Show the versions of this command and of the daemon
    Version,
    /// Show help of a command or on a topic
    Help(admin::help::HelpArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn clap_finds_nothing_wrong() {
        Cli::command().debug_assert();
    }

    /// The list of verbs is told by this file, the help of a verb by its own.
    #[test]
    fn a_verb_is_told_the_same_way_in_both_places() {
        let listed = Cli::command();
        let mut built = Cli::command();
        built.build();
        for verb in listed.get_subcommands() {
            let own = built.find_subcommand(verb.get_name()).and_then(Command::get_about);
            assert_eq!(
                verb.get_about().map(ToString::to_string),
                own.map(ToString::to_string),
                "{}",
                verb.get_name()
            );
        }
    }
}
