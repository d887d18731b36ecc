//! Who may look: links that are good once, and the browsers that came in by one.
//!
//! Only digests are kept. Those of browsers lie in a file of the runtime folder, so that an open page
//! goes on after a restart of the daemon; the links do not.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use capsule_core::time::{Span, Timestamp};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// How long a link is good.
const LINK: Span = Span::from_secs(10 * 60);
/// How long a browser stays in.
pub(in crate::web) const STAY: Span = Span::from_secs(7 * 24 * 3600);
/// The most of each: the oldest make room.
pub(crate) const KEPT: usize = 64;

type Digest = [u8; 32];

#[derive(Debug)]
struct Pass {
    digest: Digest,
    until: Timestamp,
}

/// Links and browsers.
#[derive(Debug)]
pub(super) struct Sessions {
    file: PathBuf,
    links: Vec<Pass>,
    browsers: Vec<Pass>,
    /// Where the board was served last.
    pub(super) address: Option<String>,
}

impl Sessions {
    /// Those of a file; none when there is no such file, or it makes no sense.
    pub(super) fn load(file: PathBuf, now: Timestamp) -> Self {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let mut sessions = Self { file, links: Vec::new(), browsers: Vec::new(), address: None };
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("address", address)) => sessions.address = Some(address.to_owned()),
                Some((digest, until)) => {
                    let pass = unhex(digest).zip(until.parse().ok().map(Timestamp));
                    let pass = pass.filter(|(_, until)| *until > now);
                    sessions.browsers.extend(pass.map(|(digest, until)| Pass { digest, until }));
                }
                None => {}
            }
        }
        sessions
    }

    /// Whether any browser is in.
    pub(super) fn any(&self) -> bool {
        !self.browsers.is_empty()
    }

    /// A secret that lets one browser in, and until when.
    pub(super) fn link(&mut self, now: Timestamp) -> Result<(String, Timestamp), getrandom::Error> {
        let (secret, until) = (secret()?, now.plus(LINK));
        keep(&mut self.links, &secret, until);
        Ok((secret, until))
    }

    /// Takes a link's secret; gives the one that the browser shows from now on.
    pub(super) fn enter(&mut self, link: &str, now: Timestamp) -> Option<String> {
        let place = place(&self.links, link, now)?;
        self.links.remove(place);
        let secret = secret().ok()?;
        keep(&mut self.browsers, &secret, now.plus(STAY));
        if let Err(error) = self.save() {
            tracing::warn!(%error, "open pages of the web board end with the daemon");
        }
        Some(secret)
    }

    /// Whether a browser that shows this secret is in.
    pub(super) fn admits(&self, secret: &str, now: Timestamp) -> bool {
        place(&self.browsers, secret, now).is_some()
    }

    /// Lets a browser out.
    pub(super) fn leave(&mut self, secret: &str, now: Timestamp) {
        if let Some(place) = place(&self.browsers, secret, now) {
            self.browsers.remove(place);
        }
        drop(self.save());
    }

    /// Writes what outlives the daemon.
    pub(super) fn save(&self) -> std::io::Result<()> {
        let address = self.address.iter().map(|address| format!("address {address}\n"));
        let browser = |pass: &Pass| format!("{} {}\n", hex(&pass.digest), pass.until.0);
        let text: String = address.chain(self.browsers.iter().map(browser)).collect();
        let new = self.file.with_extension("new");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        fs::rename(new, &self.file)
    }
}

fn keep(passes: &mut Vec<Pass>, secret: &str, until: Timestamp) {
    if passes.len() >= KEPT {
        passes.remove(0);
    }
    passes.push(Pass { digest: digest(secret), until });
}

/// Compares with all of them, and each to its end: how long that takes tells nothing.
fn place(passes: &[Pass], secret: &str, now: Timestamp) -> Option<usize> {
    let shown = digest(secret);
    let mut found = None;
    for (place, pass) in passes.iter().enumerate() {
        let same = bool::from(pass.digest.ct_eq(&shown));
        if same && pass.until > now {
            found = Some(place);
        }
    }
    found
}

/// 256 bits that nobody can guess, as text for an address.
fn secret() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(hex(&bytes))
}

/// What stands in the forms of a browser's pages, so that only those are obeyed.
pub(in crate::web) fn form_mark(secret: &str) -> String {
    hex(&digest(&format!("form:{secret}")))
}

/// Whether two secrets are the same; how long it takes tells nothing.
pub(in crate::web) fn same(one: &str, other: &str) -> bool {
    digest(one).ct_eq(&digest(other)).into()
}

fn digest(secret: &str) -> Digest {
    Sha256::digest(secret).into()
}

/// Bytes as digits.
pub(in crate::web) fn hex(bytes: &[u8]) -> String {
    let halves = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    halves.filter_map(|half| char::from_digit(half.into(), 16)).collect()
}

fn unhex(text: &str) -> Option<Digest> {
    let mut digest = Digest::default();
    if text.len() != 2 * digest.len() {
        return None;
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    #[test]
    fn a_link_is_good_once_and_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let mut sessions = Sessions::load(dir.path().join("web"), NOW);
        let (link, until) = sessions.link(NOW).unwrap();
        assert_eq!(link.len(), 64);
        assert_eq!(sessions.enter("0", NOW), None);
        assert_eq!(sessions.enter(&link, until), None);
        let browser = sessions.enter(&link, NOW).unwrap();
        assert_eq!(sessions.enter(&link, NOW), None);
        assert!(sessions.admits(&browser, NOW));
        assert!(!sessions.admits(&link, NOW));
        assert!(!sessions.admits("", NOW));
        assert!(!sessions.admits(&browser, NOW.plus(STAY)));
        sessions.leave(&browser, NOW);
        assert!(!sessions.admits(&browser, NOW));
    }

    #[test]
    fn browsers_outlive_the_daemon_and_links_do_not() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("web");
        let mut first = Sessions::load(file.clone(), NOW);
        first.address = Some("127.0.0.1:7788".to_owned());
        let (used, _) = first.link(NOW).unwrap();
        let (unused, _) = first.link(NOW).unwrap();
        let browser = first.enter(&used, NOW).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains(&browser), "the secret itself is on disk");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

        let mut second = Sessions::load(file.clone(), NOW);
        assert_eq!(second.address.as_deref(), Some("127.0.0.1:7788"));
        assert!(second.any() && second.admits(&browser, NOW));
        assert_eq!(second.enter(&unused, NOW), None);
        assert!(!Sessions::load(file, NOW.plus(STAY)).any());
    }

    #[test]
    fn the_oldest_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let mut sessions = Sessions::load(dir.path().join("web"), NOW);
        let (first, _) = sessions.link(NOW).unwrap();
        for _ in 0..KEPT {
            sessions.link(NOW).unwrap();
        }
        assert_eq!(sessions.enter(&first, NOW), None);
    }
}
