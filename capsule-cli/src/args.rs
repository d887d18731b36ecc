//! The command line: the verbs, and the flags that every verb takes.

pub(crate) mod filter;
pub(crate) mod submit;
pub(crate) mod values;
pub(crate) mod words;

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::{admin, apps, change, task};

/// Run background tasks that survive: submit, watch and steer them.
#[derive(Debug, Parser)]
#[command(
    name = "capsule",
    version,
    disable_help_subcommand = true,
    after_help = "More: capsule help exit-codes|environment|formatting|ids|states|time"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
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
    Submit(submit::SubmitArgs),
    Run(submit::RunArgs),
    #[command(visible_alias = "ls")]
    List(task::list::ListArgs),
    Show(task::show::ShowArgs),
    #[command(visible_alias = "logs")]
    Tail(task::tail::TailArgs),
    Result(task::result::ResultArgs),
    Wait(task::wait::WaitArgs),
    Why(task::why::WhyArgs),
    Board(task::board::BoardArgs),
    Events(task::events::EventsArgs),
    Cancel(change::cancel::CancelArgs),
    Retry(change::retry::RetryArgs),
    Promote(change::promote::PromoteArgs),
    Edit(change::edit::EditArgs),
    Rm(change::rm::RmArgs),
    Prune(change::prune::PruneArgs),
    Deploy(apps::deploy::DeployArgs),
    #[command(subcommand)]
    App(apps::app::AppVerb),
    Tasks(apps::tasks::TasksArgs),
    #[command(subcommand)]
    Queue(admin::queue::QueueVerb),
    #[command(subcommand)]
    Lock(admin::lock::LockVerb),
    Drain(admin::drain::DrainArgs),
    /// Show whether the daemon runs and how it does; exit 3 when it does not
    #[command(after_help = "Examples:\n  capsule status\n  capsule status -q && echo running")]
    Status,
    /// Show the versions of this command and of the daemon
    Version,
    Help(admin::help::HelpArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn no_two_arguments_of_a_verb_share_a_name() {
        Cli::command().debug_assert();
    }
}
