//! Secrets that people set: a file each, for their owner only, outside the store.
//!
//! It must not know who asks. Invariant: a value is read only to be given to an app, and its file
//! is whole: it is written beside and moved into place.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The longest value, in bytes: the kernel takes no longer entry of an environment.
pub const VALUE_MAX: usize = 64 << 10;
/// The longest name, in bytes.
pub const NAME_MAX: usize = 128;
/// The shortest value that is masked, in bytes.
const MASKED_MIN: usize = 6;
/// The longest source that is searched for names, in bytes.
const SOURCE_MAX: u64 = 1 << 20;

/// The secrets of a state directory. Clones are the same.
#[derive(Clone, Debug)]
pub struct Secrets {
    dir: PathBuf,
}

/// Why a secret cannot be set or removed.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// No environment can have it.
    #[error(
        "{0:?} is no name of a secret: letters, digits and _, no digit first, at most {NAME_MAX}"
    )]
    Name(String),
    /// Too long, or with a byte that no environment takes.
    #[error("the value of {name} {why}")]
    Value {
        /// The secret.
        name: String,
        /// What is wrong with the value.
        why: String,
    },
    /// Its file.
    #[error("writing the secret {name}")]
    Io {
        /// The secret.
        name: String,
        /// Why.
        source: io::Error,
    },
}

impl Secrets {
    /// The secrets of the state directory `state`.
    pub fn new(state: &Path) -> Self {
        Self { dir: state.join("secrets") }
    }

    /// Sets a secret.
    ///
    /// # Errors
    /// Its name or value fits no environment, or its file cannot be written.
    pub fn set(&self, name: &str, value: &str) -> Result<(), SecretError> {
        check(name)?;
        let wrong = |why: String| SecretError::Value { name: name.to_owned(), why };
        if value.is_empty() {
            return Err(wrong("is empty".to_owned()));
        }
        if value.len() > VALUE_MAX {
            return Err(wrong(format!("has {} bytes, the limit is {VALUE_MAX}", value.len())));
        }
        if value.contains('\0') {
            return Err(wrong("has a zero byte".to_owned()));
        }
        self.write(name, value).map_err(|source| SecretError::Io { name: name.to_owned(), source })
    }

    fn write(&self, name: &str, value: &str) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        // No secret's name has a dot.
        let beside = self.dir.join(format!(".{name}.new"));
        let mut options = File::options();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(value.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, self.dir.join(name))?;
        File::open(&self.dir)?.sync_all()
    }

    /// The value of a secret.
    pub fn get(&self, name: &str) -> Option<String> {
        check(name).ok()?;
        fs::read_to_string(self.dir.join(name)).ok()
    }

    /// Removes a secret; false = there was none.
    ///
    /// # Errors
    /// Its file cannot be removed.
    pub fn remove(&self, name: &str) -> Result<bool, SecretError> {
        check(name)?;
        match fs::remove_file(self.dir.join(name)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(SecretError::Io { name: name.to_owned(), source }),
        }
    }

    /// The names of all secrets, sorted, each with when it was set, in µs since 1970.
    pub fn list(&self) -> Vec<(String, i64)> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().filter_map(Result::ok);
        let mut found: Vec<(String, i64)> = entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                check(&name).ok()?;
                let set = entry.metadata().ok()?.modified().ok()?;
                let since = set.duration_since(std::time::UNIX_EPOCH).ok()?;
                Some((name, i64::try_from(since.as_micros()).unwrap_or(i64::MAX)))
            })
            .collect();
        found.sort();
        found
    }

    /// Of these names, those that are not set.
    pub fn missing(&self, names: &[String]) -> Vec<String> {
        names.iter().filter(|name| self.get(name).is_none()).cloned().collect()
    }

    /// Names and values of the secrets that an app asks for and that are set.
    pub fn of(&self, names: &[String]) -> Vec<(String, String)> {
        names.iter().filter_map(|name| Some((name.clone(), self.get(name)?))).collect()
    }

    /// A text without the values of secrets; short ones are words that anybody may use.
    pub fn mask(&self, text: &str) -> String {
        let names = self.list().into_iter().map(|(name, _)| name);
        let values = names.filter_map(|name| self.get(&name));
        values
            .filter(|value| value.trim().len() >= MASKED_MIN)
            .fold(text.to_owned(), |text, value| text.replace(value.trim(), "••••••••"))
    }

    /// The secrets whose names stand in quotes in the source of an app that is not imported yet.
    pub fn named_in(&self, dir: &Path, entry: &str) -> Vec<(String, String)> {
        let known = self.list();
        if known.is_empty() {
            return Vec::new();
        }
        let place = entry.rsplit_once(':').map_or(entry, |(place, _)| place);
        let module = place.replace('.', "/");
        let files = [place.to_owned(), format!("{module}.py"), format!("{module}/__init__.py")];
        let short =
            |path: &PathBuf| fs::metadata(path).is_ok_and(|about| about.len() <= SOURCE_MAX);
        let paths = files.iter().map(|file| dir.join(file)).filter(short);
        let text: String = paths.filter_map(|path| fs::read_to_string(path).ok()).collect();
        let quoted = |name: &&String| {
            text.contains(&format!("\"{name}\"")) || text.contains(&format!("'{name}'"))
        };
        let names: Vec<String> =
            known.iter().map(|(name, _)| name).filter(quoted).cloned().collect();
        self.of(&names)
    }
}

fn check(name: &str) -> Result<(), SecretError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts && name.len() <= NAME_MAX && name.chars().all(fits) {
        return Ok(());
    }
    Err(SecretError::Name(crate::text::bounded(name, NAME_MAX)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_secret_is_set_replaced_listed_and_removed() {
        let state = tempfile::tempdir().unwrap();
        let secrets = Secrets::new(state.path());
        assert!(secrets.list().is_empty());
        secrets.set("API_KEY", "one").unwrap();
        secrets.set("API_KEY", "two\n").unwrap();
        assert_eq!(secrets.get("API_KEY").as_deref(), Some("two\n"));
        let about = fs::metadata(state.path().join("secrets/API_KEY")).unwrap();
        assert_eq!(about.mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(state.path().join("secrets")).unwrap().mode() & 0o777, 0o700);
        let names: Vec<String> = secrets.list().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["API_KEY"]);
        assert_eq!(secrets.missing(&["API_KEY".into(), "OTHER".into()]), ["OTHER"]);
        assert!(secrets.remove("API_KEY").unwrap());
        assert!(!secrets.remove("API_KEY").unwrap());
        assert_eq!(secrets.get("API_KEY"), None);
    }

    #[test]
    fn what_no_environment_takes_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let secrets = Secrets::new(state.path());
        for name in ["", "1A", "../x", "A-B", ".A.new"] {
            assert!(matches!(secrets.set(name, "x"), Err(SecretError::Name(_))), "{name}");
        }
        for value in ["", "a\0b", &"x".repeat(VALUE_MAX + 1)] {
            let error = secrets.set("A", value).unwrap_err();
            assert!(matches!(error, SecretError::Value { .. }));
        }
        assert!(secrets.list().is_empty());
    }

    #[test]
    fn values_are_masked_wherever_they_stand() {
        let state = tempfile::tempdir().unwrap();
        let secrets = Secrets::new(state.path());
        secrets.set("KEY", "sk-12345\n").unwrap();
        secrets.set("SHORT", "on").unwrap();
        assert_eq!(secrets.mask("on sk-12345!"), "on ••••••••!");
    }

    #[test]
    fn an_app_gets_the_secrets_its_source_names() {
        let (state, app) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secrets = Secrets::new(state.path());
        secrets.set("API_KEY", "k").unwrap();
        secrets.set("OTHER", "o").unwrap();
        fs::write(app.path().join("app.py"), "app = App(secrets=['API_KEY'])  # OTHER").unwrap();
        let given = secrets.named_in(app.path(), "app.py:app");
        assert_eq!(given, [("API_KEY".to_owned(), "k".to_owned())]);
    }
}
