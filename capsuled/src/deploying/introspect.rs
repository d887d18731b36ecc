//! Has a child import an app and write down what it consists of.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::children::Children;
use super::{DESCRIPTION_MAX, DeployError};
use crate::jail::Plan;
use crate::secrets::Secrets;

/// How long importing an app may take.
const LONGEST_MS: u64 = 120_000;
/// Of our own environment, what app code may see.
const INHERITED: [&str; 8] = ["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "SHELL", "TMPDIR"];

/// Who is asked, and where.
#[derive(Debug)]
pub(super) struct Visit<'a> {
    /// The interpreter.
    pub program: &'a Path,
    /// The folder of the host's files.
    pub host: &'a Path,
    /// Where the app runs.
    pub dir: &'a Path,
    /// Where the answer is written.
    pub result: PathBuf,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
    /// Their values stand in nothing that is kept or shown.
    pub secrets: &'a Secrets,
}

/// Why an app is none, as its introspection says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Fault {
    /// `import`, `no_symbol`, `not_an_app`, `no_sdk`, `old_sdk`, `cron`, `lock`, `default`,
    /// `duplicate` or `other`.
    pub kind: String,
    /// What is wrong.
    pub message: String,
    /// In which file of the app; empty = none.
    pub file: String,
    /// On which line; 0 = none.
    pub line: u32,
    /// The frames of the app's own code.
    pub traceback: String,
}

impl Fault {
    /// `app.py:12: what is wrong`.
    pub fn placed(&self) -> String {
        match (self.file.as_str(), self.line) {
            ("", _) => self.message.clone(),
            (file, 0) => format!("{file}: {}", self.message),
            (file, line) => format!("{file}:{line}: {}", self.message),
        }
    }
}

/// What an introspection gave.
#[derive(Debug)]
pub(super) enum Seen {
    Described(Map<String, Value>),
    Fault(Fault),
}

/// Imports the app in a child.
pub(super) async fn introspect(
    children: &dyn Children,
    visit: Visit<'_>,
) -> Result<Seen, DeployError> {
    let Visit { program, host, dir, result, env, secrets } = visit;
    let argv = [program.as_os_str(), "-u".as_ref(), host.as_os_str(), "introspect".as_ref()];
    let mut env = env;
    env.push(("CAPSULE_RESULT_FILE".to_owned(), result.display().to_string()));
    let plan = plan(&argv.map(|word| word.to_string_lossy().into_owned()), dir, env, LONGEST_MS);
    let end = children.run(plan, "introspection").await?;
    if !end.is_good() {
        let what = format!("importing the app with {}", program.display());
        let output = end.output.iter().map(|line| secrets.mask(&without(line, dir))).collect();
        return Err(DeployError::Crashed { what, how: end.how(), output });
    }
    let crashed = |how: String| DeployError::Crashed {
        what: "importing the app".to_owned(),
        how,
        output: end.output.clone(),
    };
    let text = std::fs::read_to_string(&result)
        .map_err(|error| crashed(format!("left no description: {error}")))?;
    let text = secrets.mask(&text);
    if text.len() > DESCRIPTION_MAX {
        return Err(DeployError::TooLong { bytes: text.len() });
    }
    let value: Value = serde_json::from_str(&text)
        .map_err(|error| crashed(format!("left a description that is no JSON: {error}")))?;
    let Value::Object(mut object) = value else {
        return Err(crashed("left a description of another kind".to_owned()));
    };
    match object.remove("error") {
        Some(fault) => {
            let mut fault: Fault = serde_json::from_value(fault).unwrap_or_default();
            fault.traceback = without(&own_frames(&fault.traceback), dir);
            Ok(Seen::Fault(fault))
        }
        None => Ok(Seen::Described(object)),
    }
}

/// Paths as the app's author knows them: the copy goes away.
fn without(text: &str, dir: &Path) -> String {
    text.replace(&format!("{}/", dir.display()), "")
}

/// A traceback without the frames of the import system.
fn own_frames(traceback: &str) -> String {
    let mut shown = String::new();
    let mut foreign = false;
    for line in traceback.lines() {
        if line.starts_with("  File ") || !line.starts_with("    ") {
            let file = line.split('"').nth(1).unwrap_or_default();
            foreign = file.starts_with("<frozen ") || file.ends_with("/importlib/__init__.py");
        }
        if !foreign {
            shown.push_str(line);
            shown.push('\n');
        }
    }
    shown
}

/// A plan of a child of ours: a short environment of our own, and what is given.
pub(super) fn plan(
    argv: &[String],
    dir: &Path,
    env: Vec<(String, String)>,
    deadline_ms: u64,
) -> Plan {
    let inherited = INHERITED.iter().filter_map(|name| {
        let value = std::env::var(name).ok()?;
        Some(((*name).to_owned(), value))
    });
    let mut all: Vec<(String, String)> = inherited.collect();
    for (name, value) in env {
        all.retain(|(known, _)| *known != name);
        all.push((name, value));
    }
    Plan {
        argv: argv.iter().map(|word| word.clone().into_bytes()).collect(),
        cwd: dir.as_os_str().as_encoded_bytes().to_vec(),
        env: all.iter().map(|(name, value)| format!("{name}={value}").into_bytes()).collect(),
        deadline_ms,
        grace_ms: 1000,
        ..Plan::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceback_shows_the_apps_own_frames() {
        let text = "Traceback (most recent call last):\n  \
            File \"/usr/lib/python3.11/importlib/__init__.py\", line 1, in x\n    return 1\n           ^\n  \
            File \"<frozen importlib._bootstrap>\", line 2, in y\n  \
            File \"/s/copy/app.py\", line 3, in <module>\n    import z\nImportError: z\n";
        let shown = without(&own_frames(text), Path::new("/s/copy"));
        let expected = "Traceback (most recent call last):\n  \
            File \"app.py\", line 3, in <module>\n    import z\nImportError: z\n";
        assert_eq!(shown, expected);
    }
}
