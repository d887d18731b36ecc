//! Which app of the SDK is meant: from the words of the command line to a project and its entry.

use std::path::{Path, PathBuf};

use capsule_proto::v1::{DeployRequest, Shell};

use super::deploy::text;
use crate::error::CliError;

/// An app of the SDK in its project.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// `app.py:app` or `package.module:app`, from the project's folder.
    pub(super) entry: String,
    /// The project's folder, absolute.
    pub(super) dir: PathBuf,
}

impl Entry {
    /// The app that a word names; none when it is a path.
    pub(super) fn read(word: &Path) -> Result<Option<Self>, CliError> {
        let Some(word) = word.to_str().filter(|word| !Path::new(word).exists()) else {
            return Ok(None);
        };
        let parts = word.rsplit_once(':').filter(|(place, symbol)| {
            !place.is_empty() && !symbol.is_empty() && !symbol.contains('/')
        });
        let Some((place, symbol)) = parts else { return Ok(None) };
        if Path::new(place).extension().is_none_or(|end| end != "py") {
            let (entry, dir) = (word.to_owned(), std::env::current_dir()?);
            return Ok(Some(Self { entry, dir }));
        }
        let file = std::path::absolute(place)?;
        if !file.is_file() {
            let message = format!("there is no file {}", file.display());
            return Err(CliError::usage(message).hint("what deploy takes    capsule deploy --help"));
        }
        Self::of_file(&file, symbol).map(Some)
    }

    /// A file in a package is imported as a module of it, so that its own imports work.
    fn of_file(file: &Path, symbol: &str) -> Result<Self, CliError> {
        let mut dir = file.parent().unwrap_or(Path::new("/"));
        let mut names = vec![text(Path::new(file.file_stem().unwrap_or_default()))?];
        while let (true, Some(parent), Some(name)) =
            (dir.join("__init__.py").is_file(), dir.parent(), dir.file_name())
        {
            names.push(text(Path::new(name))?);
            dir = parent;
        }
        let entry = match names.as_slice() {
            [name] => format!("{name}.py:{symbol}"),
            names => {
                let names: Vec<&str> = names.iter().rev().map(String::as_str).collect();
                format!("{}:{symbol}", names.join("."))
            }
        };
        let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        Ok(Self { entry, dir })
    }

    /// What is asked of the daemon.
    pub(super) fn request(&self, python: Option<&Path>) -> Result<DeployRequest, CliError> {
        let active = ["VIRTUAL_ENV", "CONDA_PREFIX"]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        let shell = Shell {
            cwd: text(&std::env::current_dir()?)?,
            environment: active.unwrap_or_default(),
            path: std::env::var("PATH").unwrap_or_default(),
        };
        Ok(DeployRequest {
            entry: self.entry.clone(),
            dir: text(&self.dir)?,
            python: python.map(text).transpose()?.unwrap_or_default(),
            shell: Some(shell),
            ..DeployRequest::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_names_its_folder_and_a_package_the_folder_above() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("pkg/inner")).unwrap();
        for file in ["app.py", "pkg/__init__.py", "pkg/inner/__init__.py", "pkg/inner/app.py"] {
            fs::write(root.join(file), "").unwrap();
        }
        let read = |word: &str| Entry::read(Path::new(word)).unwrap();
        let plain = read(&format!("{}/app.py:app", root.display()));
        assert_eq!(plain, Some(Entry { entry: "app.py:app".to_owned(), dir: root.clone() }));
        let inner = read(&format!("{}/pkg/inner/app.py:app", root.display()));
        assert_eq!(inner, Some(Entry { entry: "pkg.inner.app:app".to_owned(), dir: root.clone() }));
        let module = read("leads.app:app").unwrap();
        assert_eq!(module.entry, "leads.app:app");
        assert_eq!(read("leads/capsule.toml"), None);
        assert!(Entry::read(Path::new("nowhere/app.py:app")).is_err());
    }
}
