//! Secrets: one file each in a folder of their own, readable by nobody else. Their values are in
//! no record and no log.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use capsule_proto::sdk;

use super::{Answer, Gateway, answer, read};

/// The longest value, in bytes.
const SECRET_MAX: u64 = 64 << 10;
/// The longest name, in bytes.
const NAME_MAX: usize = 128;

/// A secret's value; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why a secret cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// No environment variable has such a name.
    #[error("{0:?} is no name of a secret: letters, digits and _")]
    Name(String),
    /// It was never set.
    #[error("there is no secret {0}; set it with capsule secret set {0}")]
    Missing(String),
    /// The file cannot be read, is too long or no text.
    #[error("reading the secret {0}")]
    Read(String, #[source] std::io::Error),
}

impl Secret {
    /// Reads a secret from the folder `dir`.
    ///
    /// # Errors
    /// The name makes no sense, it is not set, or its file cannot be read.
    pub fn read(dir: &Path, name: &str) -> Result<Self, SecretError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts || name.len() > NAME_MAX || !name.chars().all(fits) {
            return Err(SecretError::Name(name.to_owned()));
        }
        let opened =
            OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(dir.join(name));
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(SecretError::Missing(name.to_owned()));
            }
            Err(error) => return Err(SecretError::Read(name.to_owned(), error)),
        };
        let mut value = String::new();
        match file.take(SECRET_MAX + 1).read_to_string(&mut value) {
            Ok(length) if length as u64 <= SECRET_MAX => Ok(Self(value)),
            Ok(_) => Err(SecretError::Read(name.to_owned(), ErrorKind::FileTooLarge.into())),
            Err(error) => Err(SecretError::Read(name.to_owned(), error)),
        }
    }
}

impl Gateway {
    pub(super) fn secret_call(&self, name: &str, body: &[u8]) -> Answer {
        if name != "GetSecret" {
            return Ok(None);
        }
        let request: sdk::GetSecretRequest = read(body)?;
        let name = request.name;
        answer(&match Secret::read(&self.inner.secrets, &name) {
            Ok(Secret(value)) => {
                sdk::GetSecretResponse { ok: true, name, value, err_msg: String::new() }
            }
            Err(error) => {
                let err_msg = error.to_string();
                sdk::GetSecretResponse { ok: false, name, value: String::new(), err_msg }
            }
        })
    }
}
