//! Which tasks: ids as people type them, or the filter that all commands share.

use std::io::BufRead as _;

use capsule_proto::query;
use capsule_proto::v1::{Filter, Status, Targets};
use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::values;
use crate::error::CliError;
use crate::ui::task::this_command;

/// The filter of every command that takes several tasks.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which tasks")]
pub(crate) struct FilterArgs {
    /// Status, several with commas
    #[arg(long, alias = "state", value_name = "STATUS", value_delimiter = ',', ignore_case = true)]
    pub(crate) status: Vec<StatusArg>,
    /// Name of the task
    #[arg(long, visible_alias = "name", value_name = "NAME", value_delimiter = ',')]
    pub(crate) task: Vec<String>,
    /// On whose behalf
    #[arg(long, value_name = "NAME")]
    pub(crate) owner: Option<String>,
    /// Queue it waits in
    #[arg(long, value_name = "NAME")]
    pub(crate) queue: Option<String>,
    /// Lock it runs under
    #[arg(long, value_name = "LOCK")]
    pub(crate) lock: Option<String>,
    /// Label
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = values::pair)]
    pub(crate) label: Vec<(String, String)>,
    /// Submitted after this time, or this long ago
    #[arg(long, value_name = "TIME|DURATION", value_parser = values::moment, allow_hyphen_values = true)]
    pub(crate) since: Option<Timestamp>,
    /// Submitted before this time, or this long ago
    #[arg(long, value_name = "TIME|DURATION", value_parser = values::moment, allow_hyphen_values = true)]
    pub(crate) until: Option<Timestamp>,
    /// Text in its name or arguments
    #[arg(long, value_name = "TEXT")]
    pub(crate) grep: Option<String>,
    /// Schedule that made it
    #[arg(long, value_name = "NAME")]
    pub(crate) schedule: Option<String>,
    /// All of it in words: 'task:sync* state:failed age:<1h "text"'
    #[arg(long, value_name = "WORDS", value_parser = in_words)]
    pub(crate) filter: Option<Filter>,
}

fn in_words(text: &str) -> Result<Filter, String> {
    query::parse(text, Timestamp::now().as_microsecond())
}

/// Statuses as people type them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusArg {
    Scheduled,
    Pending,
    Claimed,
    Running,
    Retry,
    Completed,
    Failed,
    Timeout,
    #[value(alias = "canceled")]
    Cancelled,
}

impl From<StatusArg> for Status {
    fn from(status: StatusArg) -> Self {
        match status {
            StatusArg::Scheduled => Self::Scheduled,
            StatusArg::Pending => Self::Pending,
            StatusArg::Claimed => Self::Claimed,
            StatusArg::Running => Self::Running,
            StatusArg::Retry => Self::Retry,
            StatusArg::Completed => Self::Completed,
            StatusArg::Failed => Self::Failed,
            StatusArg::Timeout => Self::Timeout,
            StatusArg::Cancelled => Self::Cancelled,
        }
    }
}

impl FilterArgs {
    /// As the protocol has it; the app is the global flag.
    pub(crate) fn message(&self, app: Option<&str>) -> Filter {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let mut filter = Filter {
            statuses: self.status.iter().map(|status| Status::from(*status).into()).collect(),
            app: app.unwrap_or_default().to_owned(),
            names: self.task.clone(),
            owner: text(&self.owner),
            queue: text(&self.queue),
            lock: text(&self.lock),
            labels: self.label.iter().cloned().collect(),
            since_us: self.since.map(Timestamp::as_microsecond),
            until_us: self.until.map(Timestamp::as_microsecond),
            text: text(&self.grep),
            schedule: text(&self.schedule),
            except_names: Vec::new(),
        };
        if let Some(words) = &self.filter {
            query::narrow(&mut filter, words);
        }
        filter
    }

    /// Nothing was asked of the tasks; the app alone does not count, it may come of the environment.
    pub(crate) fn is_empty(&self) -> bool {
        self.message(None) == Filter::default()
    }
}

/// Ids, or a filter with `--all`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TargetArgs {
    /// Ids: 1842, a UUID or its last 6 digits, @last, @failed, or - for ids on stdin
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// All tasks that the filter lets through
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
}

impl TargetArgs {
    /// As the protocol has them; a filter without `--all`, or nothing at all, is refused.
    pub(crate) fn message(&self, verb: &str, app: Option<&str>) -> Result<Targets, CliError> {
        let ids = ids(&self.ids)?;
        match (ids.is_empty(), self.all, self.filter.is_empty()) {
            (false, false, true) => Ok(Targets { ids, filter: None, all: false }),
            (false, _, _) => Err(CliError::usage("give ids or a filter, not both")),
            (true, true, _) => {
                Ok(Targets { ids, filter: Some(self.filter.message(app)), all: true })
            }
            (true, false, false) => Err(CliError::usage("a filter needs --all")
                .hint(format!("add it    {} --all", this_command()))),
            (true, false, true) if !self.ids.is_empty() => {
                Err(CliError::usage("no ids on stdin").hint("find them    capsule list"))
            }
            (true, false, true) => Err(CliError::usage("which tasks?")
                .hint("find ids    capsule list")
                .hint(format!("then        capsule {verb} ID"))),
        }
    }
}

/// Ids without `#`; `-` stands for those on stdin, the first word of each line.
pub(crate) fn ids(words: &[String]) -> Result<Vec<String>, CliError> {
    let mut ids = Vec::with_capacity(words.len());
    for word in words {
        if word != "-" {
            ids.push(values::id(word));
            continue;
        }
        for line in std::io::stdin().lock().lines() {
            ids.extend(line?.split_whitespace().next().map(values::id));
        }
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(ids: &[&str], all: bool, status: &[StatusArg]) -> Result<Targets, CliError> {
        let filter = FilterArgs { status: status.to_vec(), ..FilterArgs::default() };
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        TargetArgs { ids, all, filter }.message("cancel", None)
    }

    #[test]
    fn ids_or_a_filter_with_all() {
        assert_eq!(targets(&["#7", "@last"], false, &[]).unwrap().ids, ["7", "@last"]);
        let all = targets(&[], true, &[StatusArg::Running]).unwrap();
        assert!(all.all);
        assert_eq!(all.filter.unwrap().statuses, [i32::from(Status::Running)]);
        assert!(targets(&[], true, &[]).unwrap().all);
    }

    #[test]
    fn half_a_choice_is_refused() {
        for refused in [
            targets(&[], false, &[]),
            targets(&[], false, &[StatusArg::Running]),
            targets(&["7"], true, &[]),
            targets(&["7"], false, &[StatusArg::Running]),
        ] {
            assert_eq!(refused.unwrap_err().exit().code(), 2);
        }
    }
}
