//! The lines of the table that a run prints, as Markdown.

use std::fmt;

use crate::sample::Sample;

/// One line: a figure, the limit measured in the same run, and how they compare.
#[derive(Debug)]
pub(crate) struct Line {
    what: String,
    unit: &'static str,
    figure: Sample,
    limit: Option<(String, Sample)>,
    ratio: Option<Sample>,
    reach: &'static str,
    notes: Vec<String>,
}

impl Line {
    /// A figure and what it is to reach.
    pub(crate) fn new(
        what: impl Into<String>,
        unit: &'static str,
        figure: Sample,
        reach: &'static str,
    ) -> Self {
        let what = what.into();
        Self { what, unit, figure, limit: None, ratio: None, reach, notes: Vec::new() }
    }

    /// The limit, by round; the ratio is figure / limit of each round.
    pub(crate) fn limit(mut self, what: impl Into<String>, limit: Sample) -> Self {
        self.ratio = Some(self.figure.over(&limit));
        self.limit = Some((what.into(), limit));
        self
    }

    /// A limit that the figure is not divided by.
    pub(crate) fn beside(mut self, what: impl Into<String>, limit: Sample) -> Self {
        self.limit = Some((what.into(), limit));
        self
    }

    /// Something measured besides.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = match &self.limit {
            Some((what, limit)) => format!("{what}: {limit}"),
            None => "–".to_owned(),
        };
        let ratio = self.ratio.as_ref().map_or_else(|| "–".to_owned(), |ratio| format!("{ratio}"));
        let (what, unit, figure, reach) = (&self.what, self.unit, &self.figure, self.reach);
        let notes = self.notes.join("; ");
        write!(f, "| {what} | {figure} {unit} | {limit} | {ratio} | {reach} | {notes} |")
    }
}

/// What stands above the lines: when, where, how.
pub(crate) fn heading(quick: bool) -> String {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?").to_owned();
    let length = if quick { "quick" } else { "full" };
    format!(
        "{now}, {cores} cores, Linux {}, load {load}, {length} run\n\n\
         Median (lowest–highest) of the rounds.\n\n\
         | what | figure | limit of this run | ratio | reach | beside |\n|---|---|---|---|---|---|",
        kernel.trim()
    )
}
