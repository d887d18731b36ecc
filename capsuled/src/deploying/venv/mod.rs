//! An environment for an app that has none: the SDK, what its `Image` names, its requirements.
//!
//! Kept by the digest of what it consists of, so that the next deploy finds it. Invariant: one
//! with its mark is complete; without it, it is made anew.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::children::{Children, End};
use super::interpreter::Interpreter;
use super::introspect::plan;
use super::snapshot::{digest_of, remove};
use super::{DeployError, KNOWN_SDK};

/// Reads an app's source for the packages it names.
const PACKAGES: &str = include_str!("packages.py");
/// Stands in a complete environment.
const MARK: &str = ".capsule-complete";
/// How long one step may take: downloads of large packages.
const LONGEST_MS: u64 = 1_800_000;
/// Of our own environment, what pip goes by, besides `PIP_*`.
const NETWORK: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
];

/// An environment of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Made {
    /// Its root.
    pub root: PathBuf,
    /// Its interpreter.
    pub program: PathBuf,
    /// What was asked for.
    pub packages: Vec<String>,
}

/// What goes into an environment.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// The folder of all environments.
    pub all: &'a Path,
    /// The Python that it is made from.
    pub base: &'a Interpreter,
    /// The project.
    pub dir: &'a Path,
    /// The app's file, from the project's folder.
    pub file: Option<PathBuf>,
    /// A folder for what passes between us and children.
    pub scratch: &'a Path,
}

/// Makes the environment, or finds it made.
pub(super) async fn make(
    children: &dyn Children,
    wanted: &Wanted<'_>,
) -> Result<Made, DeployError> {
    let Wanted { all, base, dir, .. } = wanted;
    let mut packages = named_by_image(children, wanted).await?;
    let mut requirements = Vec::new();
    // What has an environment of its own has installed its requirements there.
    let own = base.environment.as_deref().and_then(site_packages);
    if own.is_none() {
        packages.extend(of_project(dir));
        packages
            .extend(wanted.file.as_ref().map(|file| inline(&dir.join(file))).unwrap_or_default());
        requirements = std::fs::read(dir.join("requirements.txt")).unwrap_or_default();
    }
    let asks_for_sdk = |text: &str| {
        let rest = text.trim_start().strip_prefix("cpsl");
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '-'))
    };
    let listed = String::from_utf8_lossy(&requirements).into_owned();
    if !packages.iter().any(|text| asks_for_sdk(text)) && !listed.lines().any(asks_for_sdk) {
        packages.insert(0, format!("cpsl=={KNOWN_SDK}"));
    }
    let program = base.program.display().to_string();
    let site = own.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let mut texts = vec![program.as_str(), site.as_str(), listed.as_str()];
    texts.extend(packages.iter().map(String::as_str));
    let root = all.join(digest_of(&texts));
    let made = Made { program: root.join("bin/python"), root, packages };
    if !made.root.join(MARK).is_file() {
        let built = build(children, wanted, &made, (own.as_deref(), !requirements.is_empty()));
        if let Err(error) = built.await {
            // Half an environment is of no use; that it cannot go either is not the news.
            drop(remove(&made.root));
            return Err(error);
        }
    }
    Ok(made)
}

async fn build(
    children: &dyn Children,
    wanted: &Wanted<'_>,
    made: &Made,
    (own, has_requirements): (Option<&Path>, bool),
) -> Result<(), DeployError> {
    let io = |path: &Path, source| DeployError::Io { path: path.to_owned(), source };
    std::fs::create_dir_all(wanted.all).map_err(|error| io(wanted.all, error))?;
    remove(&made.root).map_err(|error| io(&made.root, error))?;
    let text = |path: &Path| path.display().to_string();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut argv = words(&[&text(&wanted.base.program), "-m", "venv"]);
    argv.push(text(&made.root));
    step(children, wanted.dir, argv, "making an environment").await?;
    let mut argv = words(&[&text(&made.program), "-m", "pip", "install", "--no-input"]);
    argv.extend(words(&["--disable-pip-version-check", "--progress-bar", "off"]));
    if has_requirements {
        argv.extend(words(&["-r", "requirements.txt"]));
    }
    // Behind `--`, a package is never read as an option.
    argv.push("--".to_owned());
    argv.extend(made.packages.iter().cloned());
    step(children, wanted.dir, argv, "installing packages").await?;
    if let (Some(own), Some(site)) = (own, site_packages(&made.root)) {
        let link = site.join("project.pth");
        std::fs::write(&link, format!("{}\n", own.display())).map_err(|error| io(&link, error))?;
    }
    let mark = made.root.join(MARK);
    std::fs::write(&mark, made.packages.join("\n")).map_err(|error| io(&mark, error))
}

async fn step(
    children: &dyn Children,
    dir: &Path,
    argv: Vec<String>,
    what: &str,
) -> Result<End, DeployError> {
    let fits = |name: &str| name.starts_with("PIP_") || NETWORK.contains(&name);
    let env = std::env::vars().filter(|(name, _)| fits(name)).collect();
    let end = children.run(plan(&argv, dir, env, LONGEST_MS), what).await?;
    if end.is_good() {
        return Ok(end);
    }
    Err(DeployError::Crashed { what: what.to_owned(), how: end.how(), output: end.output })
}

/// What the `Image` of the app names, read from its source: it cannot be imported yet.
async fn named_by_image(
    children: &dyn Children,
    wanted: &Wanted<'_>,
) -> Result<Vec<String>, DeployError> {
    let Some(file) = &wanted.file else { return Ok(Vec::new()) };
    let result = wanted.scratch.join("packages.json");
    let program = wanted.base.program.display().to_string();
    let mut argv = vec![program, "-I".to_owned(), "-c".to_owned(), PACKAGES.to_owned()];
    argv.extend([file.display().to_string(), result.display().to_string()]);
    step(children, wanted.dir, argv, "reading the app's Image").await?;
    let text = std::fs::read_to_string(&result).unwrap_or_default();
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PyProject {
    project: Project,
    dependencies: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Project {
    dependencies: Vec<String>,
}

/// `[project] dependencies` of the nearest `pyproject.toml`.
fn of_project(dir: &Path) -> Vec<String> {
    let mut texts =
        dir.ancestors().map(|folder| std::fs::read_to_string(folder.join("pyproject.toml")));
    let Some(text) = texts.find_map(Result::ok) else { return Vec::new() };
    toml::from_str::<PyProject>(&text).unwrap_or_default().project.dependencies
}

/// The dependencies in a `# /// script` block (PEP 723).
fn inline(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines().skip_while(|line| line.trim_end() != "# /// script").skip(1);
    let block: Vec<&str> = lines
        .take_while(|line| line.starts_with('#') && line.trim_end() != "# ///")
        .map(|line| line.trim_start_matches('#'))
        .collect();
    toml::from_str::<PyProject>(&block.join("\n")).unwrap_or_default().dependencies
}

/// Where an environment keeps its packages.
fn site_packages(root: &Path) -> Option<PathBuf> {
    let folders = std::fs::read_dir(root.join("lib")).ok()?;
    let found = folders.filter_map(Result::ok).map(|entry| entry.path().join("site-packages"));
    found.filter(|path| path.is_dir()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_stand_in_the_project_or_in_the_script() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("app")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("pyproject.toml", "[project]\nname='x'\ndependencies=['httpx>=0.27','rich']\n");
        assert_eq!(of_project(&dir.path().join("app")), ["httpx>=0.27", "rich"]);
        write("s.py", "# /// script\n# dependencies = [\n#   'numpy',\n# ]\n# ///\nimport numpy\n");
        assert_eq!(inline(&dir.path().join("s.py")), ["numpy"]);
        write("t.py", "import numpy\n");
        assert!(inline(&dir.path().join("t.py")).is_empty());
    }
}
