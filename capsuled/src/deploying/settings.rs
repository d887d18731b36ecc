//! What lies beside an app and says how it runs: `[python]` and `[schedules.NAME]` of a
//! `capsule.toml`, and `.env`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::DeployError;
use crate::apps::SyncTasks;

/// `[python]` of the `capsule.toml` beside an app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    /// The interpreter, against the file's folder.
    pub interpreter: Option<PathBuf>,
    /// What runs plain functions.
    pub sync_tasks: SyncTasks,
    /// `stock` = the SDK's own runner.
    pub runner: Runner,
    /// `[schedules.NAME]`, as they are written.
    #[serde(skip)]
    pub schedules: Map<String, Value>,
}

/// Who is asked to run the app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Runner {
    /// Our host, unless it does not know the SDK.
    #[default]
    Host,
    /// The SDK's own, always.
    Stock,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    python: Settings,
    schedules: toml::Table,
    /// With tasks it is the manifest of another app, and its schedules are that one's.
    tasks: Option<toml::Table>,
}

impl Settings {
    /// Reads the file beside the app, if there is one.
    ///
    /// # Errors
    /// It is no TOML, or its `[python]` makes no sense.
    pub(super) fn read(dir: &Path) -> Result<Self, DeployError> {
        let Ok(text) = std::fs::read_to_string(dir.join("capsule.toml")) else {
            return Ok(Self::default());
        };
        let file: File = toml::from_str(&text).map_err(|error| DeployError::Settings {
            message: error.to_string().trim_end().to_owned(),
        })?;
        let mut settings = file.python;
        settings.interpreter = settings.interpreter.map(|path| dir.join(path));
        if file.tasks.is_none() {
            settings.schedules = plain(file.schedules);
        }
        Ok(settings)
    }
}

/// The same as JSON; times become text.
fn plain(table: toml::Table) -> Map<String, Value> {
    fn value(from: toml::Value) -> Value {
        match from {
            toml::Value::String(text) => text.into(),
            toml::Value::Integer(number) => number.into(),
            toml::Value::Float(number) => number.into(),
            toml::Value::Boolean(truth) => truth.into(),
            toml::Value::Datetime(time) => time.to_string().into(),
            toml::Value::Array(items) => items.into_iter().map(value).collect(),
            toml::Value::Table(table) => plain(table).into(),
        }
    }
    table.into_iter().map(|(name, from)| (name, value(from))).collect()
}

/// The pairs of the `.env` in a folder; lines that are none are passed over.
pub fn dotenv(dir: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(dir.join(".env")).unwrap_or_default();
    text.lines().filter_map(pair).collect()
}

fn pair(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(fits)
    {
        return None;
    }
    let value = value.trim();
    let quoted = ['"', '\''].into_iter().find_map(|mark| {
        let (inner, _) = value.strip_prefix(mark)?.split_once(mark)?;
        Some(inner)
    });
    let bare = || value.split_once(" #").map_or(value, |(value, _)| value.trim_end());
    Some((name.to_owned(), quoted.unwrap_or_else(bare).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dotenv_gives_its_pairs() {
        let dir = tempfile::tempdir().unwrap();
        let text = "# no\nA=1\nexport B = \"x y\" # z\nC='q'\n1D=2\nE=plain # note\nnothing\n";
        std::fs::write(dir.path().join(".env"), text).unwrap();
        let pairs = dotenv(dir.path());
        let shown: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(shown, ["A=1", "B=x y", "C=q", "E=plain"]);
    }

    #[test]
    fn the_file_beside_the_app_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Settings::read(dir.path()).unwrap(), Settings::default());
        let write = |text: &str| std::fs::write(dir.path().join("capsule.toml"), text).unwrap();
        write("[python]\nsync_tasks = \"thread\"\nrunner = \"stock\"\n[app]\nname = \"x\"\n");
        let read = Settings::read(dir.path()).unwrap();
        assert_eq!((read.sync_tasks, read.runner), (SyncTasks::Thread, Runner::Stock));
        write("[schedules.nightly]\nstart = 2027-01-01T00:00:00Z\nlimit = 3\n");
        let read = Settings::read(dir.path()).unwrap().schedules;
        assert_eq!(read["nightly"]["start"], "2027-01-01T00:00:00Z");
        assert_eq!(read["nightly"]["limit"], 3);
        write("[tasks.a]\n[schedules.nightly]\nlimit = 3\n");
        assert!(Settings::read(dir.path()).unwrap().schedules.is_empty());
        write("[python]\nsync_tasks = \"fibre\"\n");
        let refused = Settings::read(dir.path()).unwrap_err().to_string();
        assert!(refused.starts_with("capsule.toml: ") && refused.contains("fibre"), "{refused}");
    }
}
