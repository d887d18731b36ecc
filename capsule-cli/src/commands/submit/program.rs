//! Any program: its argv, folder, environment and stdin.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use capsule_proto::v1::Program;

use crate::args::submit::{ProgramArgs, What};
use crate::error::{CliError, Exit};

/// Variables that a program is given unless more is asked for; `LC_*` besides.
const CAPTURED: &[&str] = &["PATH", "HOME", "USER", "LANG", "TZ", "SHELL", "VIRTUAL_ENV"];

/// The message of a program.
pub(super) fn message(what: &What, argv: &[String]) -> Result<Program, CliError> {
    let how = &what.program;
    let given = &what.arguments;
    if !given.param.is_empty() || !given.param_json.is_empty() || given.payload.is_some() {
        return Err(CliError::usage("a program takes its arguments as words, not as parameters"));
    }
    if argv.first().is_none_or(String::is_empty) {
        return Err(CliError::usage("the program has no name"));
    }
    if how.shell && argv.len() != 1 {
        return Err(CliError::usage("--shell takes one string: quote the whole command"));
    }
    Ok(Program {
        argv: argv.to_vec(),
        shell: how.shell,
        cwd: folder(how.cwd.as_deref())?,
        env: environment(how)?,
        stdin: how.stdin.as_deref().map(stdin).transpose()?,
    })
}

/// The folder, absolute.
pub(super) fn folder(asked: Option<&str>) -> Result<String, CliError> {
    let here = std::env::current_dir().map_err(|error| {
        CliError::new(
            Exit::Failure,
            "no_cwd",
            format!("cannot tell the working directory: {error}"),
        )
    })?;
    let folder = asked.map_or_else(|| here.clone(), |asked| here.join(asked));
    let folder: PathBuf = folder.components().collect();
    path_text(&folder)
}

/// A path as text: the protocol carries UTF-8.
pub(super) fn path_text(path: &Path) -> Result<String, CliError> {
    match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(CliError::usage(format!("the path {} is not UTF-8", path.display()))),
    }
}

fn environment(args: &ProgramArgs) -> Result<HashMap<String, String>, CliError> {
    let mut env = HashMap::new();
    for (name, value) in std::env::vars_os() {
        let shown = name.to_string_lossy().into_owned();
        if !args.env_all && !CAPTURED.contains(&&*shown) && !shown.starts_with("LC_") {
            continue;
        }
        // Left out in silence it would be missed only when the task runs.
        let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) else {
            return Err(CliError::usage(format!("the variable {shown} is not UTF-8")));
        };
        env.insert(name, value);
    }
    for word in &args.env {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => match std::env::var(word) {
                Ok(value) => (word.as_str(), value),
                Err(error) => return Err(CliError::usage(format!("--env {word}: {error}"))),
            },
        };
        if name.is_empty() {
            return Err(CliError::usage(format!("--env {word}: the name is empty")));
        }
        env.insert(name.to_owned(), value);
    }
    Ok(env)
}

fn stdin(source: &str) -> Result<Vec<u8>, CliError> {
    read(source).map_err(|error| error.hint("what --stdin takes: capsule submit --help"))
}

/// All bytes of a file, or of our stdin for `-`.
pub(super) fn read(source: &str) -> Result<Vec<u8>, CliError> {
    let read = if source == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(source)
    };
    read.map_err(|error| {
        CliError::new(Exit::Usage, "unreadable", format!("cannot read {source}: {error}"))
    })
}

/// All text of a file, or of our stdin for `-`.
pub(crate) fn read_text(source: &str) -> Result<String, CliError> {
    String::from_utf8(read(source)?)
        .map_err(|_| CliError::new(Exit::Usage, "unreadable", format!("{source} is not UTF-8")))
}
