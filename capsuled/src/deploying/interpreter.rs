//! Which Python runs an app: the one `uv run` would take.
//!
//! A path through an environment is never resolved: behind its links lies the Python it was made
//! from, without its packages.

use std::path::{Path, PathBuf};

use super::DeployError;
use super::settings::Settings;

/// The oldest Python that apps run on: its minor version.
const OLDEST: u32 = 10;
/// The newest one that is looked for by name.
const NEWEST: u32 = 15;

/// What the caller's shell says.
#[derive(Clone, Debug, Default)]
pub struct Shell {
    /// Its working directory.
    pub cwd: PathBuf,
    /// `VIRTUAL_ENV`, or `CONDA_PREFIX`.
    pub environment: Option<PathBuf>,
    /// `PATH`.
    pub path: String,
}

/// An interpreter and how it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// Absolute, not resolved.
    pub program: PathBuf,
    /// Where it comes from, for people.
    pub why: String,
    /// The root of the environment that it belongs to.
    pub environment: Option<PathBuf>,
    /// What may surprise.
    pub warnings: Vec<String>,
}

/// Finds the interpreter of the app in `dir`.
///
/// # Errors
/// The one asked for is not there, or there is none.
pub(super) fn find(
    dir: &Path,
    asked: Option<&Path>,
    settings: &Settings,
    shell: &Shell,
) -> Result<Interpreter, DeployError> {
    if let Some(asked) = asked {
        return named(&shell.cwd, asked, "--python", shell);
    }
    if let Some(asked) = &settings.interpreter {
        return named(dir, asked, "[python] interpreter of capsule.toml", shell);
    }
    let of_project = upward(dir)
        .find(|folder| folder.join("pyproject.toml").is_file())
        .map(|folder| folder.join(".venv"));
    let nearest = upward(dir).map(|folder| folder.join(".venv")).find(|venv| is_environment(venv));
    if let Some(venv) = of_project.filter(|venv| is_environment(venv)) {
        let mut found = within(&venv, "the project's .venv");
        if let Some(other) = shell.environment.as_ref().filter(|other| **other != venv) {
            let other = other.display();
            found.warnings.push(format!(
                "the environment of your shell, {other}, is not used: the project has its own"
            ));
        }
        return Ok(found);
    }
    if let Some(active) = shell.environment.as_ref().filter(|env| python_of(env).is_some()) {
        return Ok(within(active, "the environment of your shell"));
    }
    if let Some(venv) = nearest {
        return Ok(within(&venv, "the nearest .venv"));
    }
    plain(dir, shell)
}

fn upward(dir: &Path) -> impl Iterator<Item = &Path> {
    dir.ancestors()
}

fn is_environment(venv: &Path) -> bool {
    venv.join("pyvenv.cfg").is_file() && python_of(venv).is_some()
}

fn python_of(environment: &Path) -> Option<PathBuf> {
    let bin = environment.join("bin");
    ["python", "python3"].iter().map(|name| bin.join(name)).find(|program| program.exists())
}

fn within(environment: &Path, why: &str) -> Interpreter {
    Interpreter {
        program: python_of(environment).unwrap_or_else(|| environment.join("bin/python")),
        why: why.to_owned(),
        environment: Some(environment.to_owned()),
        warnings: Vec::new(),
    }
}

/// A path, the root of an environment, or a version such as 3.12.
fn named(base: &Path, asked: &Path, why: &str, shell: &Shell) -> Result<Interpreter, DeployError> {
    let absent = || DeployError::NoInterpreter { asked: asked.display().to_string() };
    let version = asked.to_str().filter(|text| !text.contains('/'));
    if let Some(text) = version.filter(|_| !base.join(asked).exists()) {
        let name =
            if text.starts_with("python") { text.to_owned() } else { format!("python{text}") };
        let program = on_path(&shell.path, &name).ok_or_else(absent)?;
        let (why, warnings) = (why.to_owned(), Vec::new());
        return Ok(Interpreter { program, why, environment: None, warnings });
    }
    let path = std::path::absolute(base.join(asked)).map_err(|_| absent())?;
    if path.is_dir() {
        return python_of(&path).map(|_| within(&path, why)).ok_or_else(absent);
    }
    if !path.is_file() {
        return Err(absent());
    }
    let root = path.parent().and_then(Path::parent);
    let environment = root.filter(|root| is_environment(root)).map(Path::to_path_buf);
    Ok(Interpreter { program: path, why: why.to_owned(), environment, warnings: Vec::new() })
}

/// A Python of the machine; an environment is made from it when something is missing there.
fn plain(dir: &Path, shell: &Shell) -> Result<Interpreter, DeployError> {
    let mut warnings = Vec::new();
    if let Some(wanted) = pinned(dir) {
        match on_path(&shell.path, &format!("python{wanted}")) {
            Some(program) => {
                let why = ".python-version".to_owned();
                return Ok(Interpreter { program, why, environment: None, warnings });
            }
            None => warnings
                .push(format!(".python-version asks for {wanted}, and there is no python{wanted}")),
        }
    }
    let versions = (OLDEST..=NEWEST).rev().map(|minor| format!("python3.{minor}"));
    let program = std::iter::once("python3".to_owned())
        .chain(versions)
        .filter_map(|name| on_path(&shell.path, &name))
        .find(|program| minor_of(program).is_none_or(|minor| minor >= OLDEST))
        .ok_or_else(|| DeployError::NoInterpreter { asked: String::new() })?;
    let why = "python3 on your PATH".to_owned();
    Ok(Interpreter { program, why, environment: None, warnings })
}

/// The first `MAJOR.MINOR` of the nearest `.python-version`.
fn pinned(dir: &Path) -> Option<String> {
    let file =
        upward(dir).map(|folder| folder.join(".python-version")).find(|file| file.is_file())?;
    let text = std::fs::read_to_string(file).ok()?;
    let word =
        text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let version = word.trim_start_matches(|c: char| !c.is_ascii_digit());
    let mut parts = version.split('.').map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else { return None };
    Some(format!("{major}.{minor}"))
}

fn on_path(path: &str, name: &str) -> Option<PathBuf> {
    let folders = path.split(':').filter(|folder| folder.starts_with('/'));
    folders.map(|folder| Path::new(folder).join(name)).find(|program| program.is_file())
}

/// The minor version that the file behind the links has in its name.
fn minor_of(program: &Path) -> Option<u32> {
    let behind = program.canonicalize().ok()?;
    behind.file_name()?.to_str()?.strip_prefix("python3.")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn program(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    fn venv(at: &Path) {
        program(&at.join("bin/python"));
        fs::write(at.join("pyvenv.cfg"), "").unwrap();
    }

    struct Place {
        root: tempfile::TempDir,
        shell: Shell,
    }

    fn place() -> Place {
        let root = tempfile::tempdir().unwrap();
        program(&root.path().join("usr/python3"));
        fs::create_dir_all(root.path().join("project/app")).unwrap();
        let path = root.path().join("usr").display().to_string();
        let shell = Shell { cwd: root.path().to_owned(), environment: None, path };
        Place { root, shell }
    }

    impl Place {
        fn at(&self, path: &str) -> PathBuf {
            self.root.path().join(path)
        }

        fn found(&self) -> Interpreter {
            let dir = self.at("project/app");
            find(&dir, None, &Settings::default(), &self.shell).unwrap()
        }
    }

    #[test]
    fn the_project_wins_over_the_shell_and_the_shell_over_a_stray_environment() {
        let mut place = place();
        assert_eq!(place.found().program, place.at("usr/python3"));
        assert_eq!(place.found().environment, None);

        venv(&place.at("project/.venv"));
        assert_eq!(place.found().program, place.at("project/.venv/bin/python"));
        venv(&place.at("active"));
        place.shell.environment = Some(place.at("active"));
        assert_eq!(place.found().program, place.at("active/bin/python"));
        fs::write(place.at("project/pyproject.toml"), "").unwrap();
        let found = place.found();
        assert_eq!(found.program, place.at("project/.venv/bin/python"));
        assert!(found.warnings[0].contains("active"), "{:?}", found.warnings);
    }

    #[test]
    fn links_of_an_environment_are_not_resolved() {
        let place = place();
        let venv = place.at("project/.venv");
        fs::create_dir_all(venv.join("bin")).unwrap();
        fs::write(venv.join("pyvenv.cfg"), "").unwrap();
        std::os::unix::fs::symlink(place.at("usr/python3"), venv.join("bin/python")).unwrap();
        assert_eq!(place.found().program, venv.join("bin/python"));
    }

    #[test]
    fn what_is_asked_for_is_taken_or_refused() {
        let place = place();
        let dir = place.at("project/app");
        let asked =
            |path: &str| find(&dir, Some(Path::new(path)), &Settings::default(), &place.shell);
        venv(&place.at("own"));
        assert_eq!(asked("own").unwrap().environment, Some(place.at("own")));
        let found = asked("own/bin/python").unwrap();
        assert_eq!(
            (found.program, found.environment),
            (place.at("own/bin/python"), Some(place.at("own")))
        );
        program(&place.at("usr/python3.12"));
        assert_eq!(asked("3.12").unwrap().program, place.at("usr/python3.12"));
        assert!(asked("nowhere/python").unwrap_err().to_string().contains("nowhere/python"));
    }

    #[test]
    fn a_pinned_version_is_followed_and_an_old_one_passed_over() {
        let place = place();
        program(&place.at("usr/python3.12"));
        fs::write(place.at("project/.python-version"), "3.12.4\n").unwrap();
        assert_eq!(place.found().program, place.at("usr/python3.12"));
        fs::write(place.at("project/.python-version"), "cpython@3.13\n").unwrap();
        let found = place.found();
        assert_eq!(found.program, place.at("usr/python3"));
        assert!(found.warnings[0].contains("python3.13"), "{:?}", found.warnings);

        fs::remove_file(place.at("usr/python3")).unwrap();
        program(&place.at("usr/python3.9"));
        std::os::unix::fs::symlink("python3.9", place.at("usr/python3")).unwrap();
        assert_eq!(place.found().program, place.at("usr/python3.12"));
    }
}
