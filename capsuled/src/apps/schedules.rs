//! `[schedules.NAME]` of a manifest, or of the file beside an app of the SDK.

use std::collections::BTreeMap;
use std::sync::Arc;

use capsule_core::spec::name;
use capsule_core::time::{Span, Timestamp};
use serde::Deserialize;

use super::manifest::ManifestError;
use super::{AppSchedule, Definition, Given, Kind};
use crate::schedule::{CatchUp, Counted, EVERY_MIN, JITTER_MAX, Overlap, Policy, Rule};

/// A schedule of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// The task that it submits.
    pub task: String,
    /// The arguments of each submit.
    pub arguments: Given,
    /// When.
    when: When,
    /// What goes for all fires.
    pub policy: Policy,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum When {
    Cron { text: String, zone: String },
    Every(Span),
    At(Timestamp),
}

impl Planned {
    /// The rule of a schedule that begins at `now`; `None` = this version cannot read it.
    pub fn rule(&self, now: Timestamp) -> Option<Rule> {
        match &self.when {
            When::Cron { text, zone } => Rule::parse(text, zone, &self.name, now).ok(),
            When::Every(every) => Some(Rule::Every { every: *every, first: now.plus(*every) }),
            When::At(at) => Some(Rule::At(*at)),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    task: String,
    cron: Option<String>,
    every: Option<String>,
    at: Option<toml::Value>,
    #[serde(default)]
    tz: String,
    #[serde(default)]
    args: toml::Table,
    overlap: Option<String>,
    overlap_counts: Option<String>,
    catch_up: Option<String>,
    jitter: Option<String>,
    start: Option<toml::Value>,
    end: Option<toml::Value>,
    limit: Option<u32>,
    pause_after_failures: Option<u32>,
}

/// Makes errors that name the schedule and the option.
struct Place<'a>(&'a str);

impl Place<'_> {
    fn wrong(&self, option: &str, why: impl std::fmt::Display) -> ManifestError {
        ManifestError::Schedule {
            schedule: self.0.to_owned(),
            option: option.to_owned(),
            why: why.to_string(),
        }
    }

    fn word<T: Default>(
        &self,
        option: &str,
        word: Option<&str>,
        (parse, wanted): (impl Fn(&str) -> Option<T>, &str),
    ) -> Result<T, ManifestError> {
        word.map_or_else(
            || Ok(T::default()),
            |word| {
                parse(word)
                    .ok_or_else(|| self.wrong(option, format!("{word:?} is none of {wanted}")))
            },
        )
    }

    fn time(
        &self,
        option: &str,
        at: Option<toml::Value>,
    ) -> Result<Option<Timestamp>, ManifestError> {
        let at = match at {
            None => return Ok(None),
            // A file beside an app of the SDK came here as JSON.
            Some(toml::Value::String(at)) => at,
            Some(at) => at.to_string(),
        };
        let read = at.parse::<jiff::Timestamp>();
        let wrong = |_| self.wrong(option, format!("{at} needs a zone, as {at}Z"));
        read.map(|at| Some(Timestamp(at.as_microsecond()))).map_err(wrong)
    }

    fn table(&self, table: toml::Value) -> Result<Table, ManifestError> {
        table
            .try_into()
            .map_err(|error: toml::de::Error| self.wrong("table", error.to_string().trim()))
    }
}

/// Reads the tables; each is checked against the definition of its task.
pub(super) fn read(
    tables: toml::Table,
    definitions: &BTreeMap<String, Arc<Definition>>,
) -> Result<Vec<Planned>, ManifestError> {
    tables.into_iter().map(|(name, table)| planned(&name, table, definitions)).collect()
}

/// Reads the tables of the file beside an app of the SDK: the one of a handler's name says what goes
/// for its fires, any other is as in a manifest.
pub(super) fn beside(
    tables: toml::Table,
    definitions: &BTreeMap<String, Arc<Definition>>,
    handlers: &mut [AppSchedule],
) -> Result<Vec<Planned>, ManifestError> {
    let mut all = Vec::new();
    for (name, table) in tables {
        match handlers.iter_mut().find(|it| it.name == name) {
            Some(handler) => of_handler(handler, table)?,
            None => all.push(planned(&name, table, definitions)?),
        }
    }
    Ok(all)
}

fn of_handler(handler: &mut AppSchedule, table: toml::Value) -> Result<(), ManifestError> {
    let place = Place(&handler.name);
    let table = place.table(table)?;
    let in_code = [
        ("task", !table.task.is_empty()),
        ("cron", table.cron.is_some()),
        ("every", table.every.is_some()),
        ("at", table.at.is_some()),
        ("args", !table.args.is_empty()),
    ];
    if let Some((option, _)) = in_code.into_iter().find(|(_, given)| *given) {
        return Err(place.wrong(option, "the app's code says when its handler runs"));
    }
    let rule = Rule::parse(&handler.cron, &table.tz, &handler.name, Timestamp(0));
    let rule = rule.map_err(|error| place.wrong("tz", error))?;
    if !table.tz.is_empty() && rule.cron().is_none() {
        return Err(place.wrong("tz", "only a cron has a zone"));
    }
    let tz = table.tz.clone();
    let policy = policy(&place, table)?;
    (handler.tz, handler.policy) = (tz, policy);
    Ok(())
}

fn planned(
    title: &str,
    table: toml::Value,
    definitions: &BTreeMap<String, Arc<Definition>>,
) -> Result<Planned, ManifestError> {
    let place = Place(title);
    name("schedule", title)?;
    if title.parse::<u64>().is_ok() {
        return Err(place.wrong("name", "a number is no name of a schedule, it is an id"));
    }
    let table = place.table(table)?;
    if table.task.is_empty() {
        return Err(place.wrong("task", "it is missing"));
    }
    let is_task = |it: &&Arc<Definition>| it.kind == Kind::Task;
    let Some(definition) = definitions.get(&table.task).filter(is_task) else {
        return Err(place.wrong("task", format!("there is no task {}", table.task)));
    };
    let payload = serde_json::to_string(&table.args).map_err(|error| place.wrong("args", error))?;
    let arguments = Given { payload, ..Given::default() };
    let checked = definition.arguments(&arguments);
    let checked = checked.map_err(|error| place.wrong("args", error))?;
    definition.lock_key(&checked).map_err(|error| place.wrong("args", error))?;
    let when = when(&place, &table)?;
    let planned = Planned {
        task: table.task.clone(),
        arguments,
        policy: policy(&place, table)?,
        when,
        name: title.to_owned(),
    };
    let first = planned.rule(Timestamp(0));
    first.ok_or_else(|| place.wrong("cron", "it cannot be read"))?;
    Ok(planned)
}

fn when(place: &Place<'_>, table: &Table) -> Result<When, ManifestError> {
    let given = [table.cron.is_some(), table.every.is_some(), table.at.is_some()];
    if given.iter().filter(|given| **given).count() != 1 {
        return Err(place.wrong("cron", "give one of cron, every and at"));
    }
    if !table.tz.is_empty() && table.cron.is_none() {
        return Err(place.wrong("tz", "only a cron has a zone"));
    }
    if let Some(text) = &table.cron {
        let rule = Rule::parse(text, &table.tz, place.0, Timestamp(0));
        rule.map_err(|error| place.wrong("cron", error))?;
        return Ok(When::Cron { text: text.clone(), zone: table.tz.clone() });
    }
    if let Some(text) = &table.every {
        let every = Span::parse(text).map_err(|error| place.wrong("every", error))?;
        if every < EVERY_MIN {
            return Err(place.wrong("every", format!("the shortest is {EVERY_MIN}")));
        }
        return Ok(When::Every(every));
    }
    let at = place.time("at", table.at.clone())?;
    at.map(When::At).ok_or_else(|| place.wrong("at", "it is missing"))
}

fn policy(place: &Place<'_>, table: Table) -> Result<Policy, ManifestError> {
    let jitter = table.jitter.map(|text| Span::parse(&text)).transpose();
    let jitter = jitter.map_err(|error| place.wrong("jitter", error))?.unwrap_or_default();
    if jitter > JITTER_MAX {
        return Err(place.wrong("jitter", format!("the longest is {JITTER_MAX}")));
    }
    let (start, end) = (place.time("start", table.start)?, place.time("end", table.end)?);
    if let (Some(start), Some(end)) = (start, end)
        && end < start
    {
        return Err(place.wrong("end", "it is before start"));
    }
    if table.limit == Some(0) {
        return Err(place.wrong("limit", "with 0 it would never fire"));
    }
    let overlaps = "skip, buffer_one, buffer_all, cancel_other and allow";
    let catch_ups = "latest, skip, all and all(1..1000)";
    Ok(Policy {
        overlap: place.word("overlap", table.overlap.as_deref(), (Overlap::parse, overlaps))?,
        catch_up: place.word("catch_up", table.catch_up.as_deref(), (CatchUp::parse, catch_ups))?,
        counts: place.word(
            "overlap_counts",
            table.overlap_counts.as_deref(),
            (Counted::parse, "run and submitted"),
        )?,
        jitter,
        start,
        end,
        limit: table.limit,
        pause_after_failures: table.pause_after_failures.filter(|count| *count > 0),
    })
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    fn manifest(schedule: &str) -> String {
        format!(
            "[app]\nname = \"leads\"\n[tasks.sync]\ncommand = [\"true\"]\nlock = \"o:{{owner}}\"\n\
             [tasks.sync.params]\nowner = \"str\"\nlimit = {{ type = \"int\", default = 5 }}\n\
             [schedules.nightly]\n{schedule}\n"
        )
    }

    #[test]
    fn a_schedule_is_read_with_its_policy() {
        let text = "task = \"sync\"\ncron = \"30 2 * * *\"\ntz = \"Europe/Berlin\"\n\
                    args = { owner = \"acme\" }\noverlap = \"buffer_one\"\ncatch_up = \"all(3)\"\n\
                    jitter = \"5m\"\nstart = 2026-12-01T00:00:00Z\npause_after_failures = 3";
        let parsed = parse(&manifest(text)).unwrap();
        let [planned] = parsed.schedules.as_slice() else { panic!("{:?}", parsed.schedules) };
        assert_eq!((planned.name.as_str(), planned.task.as_str()), ("nightly", "sync"));
        assert_eq!(planned.arguments.payload, "{\"owner\":\"acme\"}");
        let rule = planned.rule(capsule_core::time::Timestamp(0)).unwrap();
        assert_eq!(rule.prose(), "at 02:30 every day, Europe/Berlin");
        assert_eq!(planned.policy.overlap.to_string(), "buffer_one");
        assert_eq!(planned.policy.catch_up.to_string(), "all(3)");
        assert_eq!(planned.policy.start.unwrap().0, 1_796_083_200_000_000);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, said) in [
            ("task = \"sink\"\ncron = \"* * * * *\"", "task: there is no task sink"),
            ("task = \"sync\"\ncron = \"* * * * *\"", "args: sync needs --owner"),
            (
                "task = \"sync\"\nargs = { owner = \"a\", limit = \"x\" }\nevery = \"5m\"",
                "args: --limit wants",
            ),
            ("task = \"sync\"\nargs = { owner = \"a\" }", "cron: give one of cron, every and at"),
            (
                "task = \"sync\"\nargs = { owner = \"a\" }\ncron = \"0 0 30 2 *\"",
                "cron: cron \"0 0 30 2 *\" never comes",
            ),
            (
                "task = \"sync\"\nargs = { owner = \"a\" }\ncron = \"0 0 * * *\"\ntz = \"Mars/X\"",
                "cron: \"Mars/X\" is no time zone",
            ),
            (
                "task = \"sync\"\nargs = { owner = \"a\" }\nevery = \"5m\"\nend = 2026-01-01T00:00:00Z\n\
                 start = 2027-01-01T00:00:00Z",
                "end: it is before start",
            ),
            (
                "task = \"sync\"\nargs = { owner = \"a\" }\nevery = \"5m\"\noverlap = \"maybe\"",
                "overlap: \"maybe\" is none of skip",
            ),
            (
                "task = \"sync\"\nargs = { owner = \"a\" }\nevery = \"5m\"\ncorn = 1",
                "table: unknown field",
            ),
        ] {
            let error = parse(&manifest(text)).unwrap_err().to_string();
            let found = error.contains(&format!("[schedules.nightly] {said}"));
            assert!(found, "{text}: {error}");
        }
    }
}
