//! Reads a crontab(5) as schedules.

use std::collections::{BTreeMap, BTreeSet};

/// A line of a crontab, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Its number in the file.
    pub(super) number: usize,
    /// As written.
    pub(super) text: String,
    /// What it becomes, or why it does not.
    pub(super) becomes: Result<Entry, String>,
}

/// A schedule of a crontab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) cron: String,
    /// For `/bin/sh -c`, or the shell that `SHELL` names.
    pub(super) command: String,
    pub(super) shell: Option<String>,
    pub(super) stdin: Option<String>,
    /// Of `flock -n FILE COMMAND`.
    pub(super) lock: Option<String>,
    /// What the crontab sets above it.
    pub(super) env: BTreeMap<String, String>,
    /// Of `CRON_TZ`; `None` = the machine's.
    pub(super) zone: Option<String>,
    /// What is not as it was.
    pub(super) notes: Vec<String>,
}

/// Reads all of a crontab; blank lines and comments are left out.
pub(super) fn read(text: &str) -> Vec<Line> {
    let mut env = BTreeMap::new();
    let mut names = BTreeSet::new();
    let mut lines = Vec::new();
    for (number, text) in (1..).zip(text.lines()) {
        let line = text.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some((name, value)) = setting(line) {
            env.insert(name, value);
            continue;
        }
        let becomes = entry(line, &env, &mut names);
        lines.push(Line { number, text: line.to_owned(), becomes });
    }
    lines
}

/// `NAME = value`, perhaps in quotes.
fn setting(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim_end();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(plain)
    {
        return None;
    }
    let value = value.trim();
    let unquoted = ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)));
    Some((name.to_owned(), unquoted.unwrap_or(value).to_owned()))
}

fn entry(
    line: &str,
    env: &BTreeMap<String, String>,
    names: &mut BTreeSet<String>,
) -> Result<Entry, String> {
    let fields = if line.starts_with('@') { 1 } else { 5 };
    let (cron, command) = split_fields(line, fields)
        .ok_or_else(|| "five fields and a command are wanted".to_owned())?;
    if cron == "@reboot" {
        return Err(
            "nothing fires at a reboot: make a service of it, or submit it by one".to_owned()
        );
    }
    if command.split_whitespace().next() == Some("root") {
        return Err(
            "a user stands before the command, as in /etc/crontab: take that column out".to_owned()
        );
    }
    let mut env = env.clone();
    let mut notes = Vec::new();
    if let Some(to) = env.remove("MAILTO")
        && !to.is_empty()
    {
        notes.push(format!("no mail goes to {to}: what it writes is in `capsule tail`"));
    }
    let shell = env.remove("SHELL").filter(|shell| shell != "/bin/sh");
    let zone = env.remove("CRON_TZ");
    let (command, stdin) = percents(command);
    let (command, lock) = match without_flock(&command) {
        Some((lock, rest)) => {
            notes.push(format!("flock becomes the lock {lock}"));
            (rest, Some(lock))
        }
        None => (command, None),
    };
    let name = unique(&name_of(&command), names);
    Ok(Entry { name, cron, command, shell, stdin, lock, env, zone, notes })
}

/// The first fields with single blanks between them, and the rest.
fn split_fields(line: &str, count: usize) -> Option<(String, &str)> {
    let mut rest = line;
    let mut fields = Vec::with_capacity(count);
    for _ in 0..count {
        let end = rest.find(char::is_whitespace)?;
        let (field, tail) = rest.split_at_checked(end)?;
        fields.push(field);
        rest = tail.trim_start();
    }
    (!rest.is_empty()).then(|| (fields.join(" "), rest))
}

/// crontab(5): the first `%` begins the command's stdin, each other one is a new line in it; `\%` is
/// the sign itself.
fn percents(command: &str) -> (String, Option<String>) {
    let mut parts = vec![String::new()];
    let mut chars = command.chars().peekable();
    while let Some(c) = chars.next() {
        let last = parts.last_mut();
        match (c, last) {
            ('\\', Some(part)) if chars.peek() == Some(&'%') => {
                chars.next();
                part.push('%');
            }
            ('%', _) => parts.push(String::new()),
            (c, Some(part)) => part.push(c),
            (_, None) => {}
        }
    }
    let command = parts.remove(0).trim_end().to_owned();
    let stdin = (!parts.is_empty()).then(|| parts.join("\n") + "\n");
    (command, stdin)
}

/// `flock -n FILE COMMAND` or `flock --nonblock FILE -c 'COMMAND'`: the lock, and the command.
fn without_flock(command: &str) -> Option<(String, String)> {
    let rest = command.strip_prefix("/usr/bin/").unwrap_or(command);
    let rest = rest.strip_prefix("flock ")?.trim_start();
    let (flag, rest) = rest.split_once(char::is_whitespace)?;
    if !matches!(flag, "-n" | "-xn" | "--nb" | "--nonblock" | "-nx") {
        return None;
    }
    let (file, rest) = rest.trim_start().split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let stem = file.rsplit('/').next().unwrap_or(file).trim_end_matches(".lock");
    let stem = stem.trim_end_matches(".lck");
    let rest = match rest.strip_prefix("-c ") {
        None => rest.to_owned(),
        Some(quoted) => {
            let quoted = quoted.trim();
            let inner = ['"', '\''].into_iter().find_map(|quote| {
                quoted.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote))
            });
            inner.unwrap_or(quoted).to_owned()
        }
    };
    let is_plain = !stem.is_empty() && !rest.is_empty() && !rest.starts_with('-');
    is_plain.then(|| (stem.to_owned(), rest))
}

/// A name made of the program that a command starts.
fn name_of(command: &str) -> String {
    let is_assignment = |word: &&str| word.contains('=') && !word.starts_with(['/', '.']);
    let mut words = command.split_whitespace().filter(|word| *word != "cd" && *word != "&&");
    let word = words.find(|word| !is_assignment(word)).unwrap_or("cron");
    let base = word.rsplit('/').find(|part| !part.is_empty()).unwrap_or("cron");
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' };
    let name: String = base.chars().map(plain).take(48).collect();
    let name = name.trim_start_matches(['.', '-', '_']);
    if name.is_empty() || name.parse::<u64>().is_ok() { "cron".to_owned() } else { name.to_owned() }
}

fn unique(name: &str, names: &mut BTreeSet<String>) -> String {
    let mut found = name.to_owned();
    let mut number = 2;
    while !names.insert(found.clone()) {
        found = format!("{name}-{number}");
        number += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> Result<Entry, String> {
        let mut lines = read(text);
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines.remove(0).becomes
    }

    #[test]
    fn settings_above_an_entry_go_with_it() {
        let text = "# nightly\nPATH=/usr/bin:/bin\nMAILTO = \"ops@example.org\"\n\
                    CRON_TZ=Europe/Berlin\n\n*/5  *\t* * *   /srv/bin/poll.sh --all\n";
        let entry = only(text).unwrap();
        assert_eq!((entry.cron.as_str(), entry.name.as_str()), ("*/5 * * * *", "poll.sh"));
        assert_eq!(entry.command, "/srv/bin/poll.sh --all");
        assert_eq!(entry.env, BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]));
        assert_eq!(entry.zone.as_deref(), Some("Europe/Berlin"));
        assert!(entry.notes[0].contains("ops@example.org"), "{:?}", entry.notes);
    }

    #[test]
    fn percents_make_the_input() {
        let entry = only("0 9 * * 1 mail -s \"100\\%\" bob%Hello%bye").unwrap();
        assert_eq!(entry.command, "mail -s \"100%\" bob");
        assert_eq!(entry.stdin.as_deref(), Some("Hello\nbye\n"));
    }

    #[test]
    fn flock_becomes_a_lock() {
        let entry = only("* * * * * flock -n /var/lock/sync.lock /srv/sync --fast").unwrap();
        assert_eq!(entry.lock.as_deref(), Some("sync"));
        assert_eq!((entry.command.as_str(), entry.name.as_str()), ("/srv/sync --fast", "sync"));
        let entry = only("@daily /usr/bin/flock --nonblock /tmp/a.lck -c 'a; b'").unwrap();
        assert_eq!((entry.lock.as_deref(), entry.command.as_str()), (Some("a"), "a; b"));
        // One that waits is something else.
        let entry = only("* * * * * flock /tmp/x ls").unwrap();
        assert_eq!((entry.lock, entry.command.as_str()), (None, "flock /tmp/x ls"));
    }

    #[test]
    fn what_cannot_be_is_told() {
        assert!(only("@reboot /srv/start").unwrap_err().contains("reboot"));
        assert!(only("* * * *").unwrap_err().contains("five fields"));
        assert!(only("17 * * * * root run-parts /etc/x").unwrap_err().contains("a user"));
    }

    #[test]
    fn names_are_told_apart() {
        let text = "0 1 * * * cd /srv && ./run.sh\n0 2 * * * A=1 /x/run.sh\n0 3 * * * 7\n";
        let names: Vec<String> =
            read(text).into_iter().map(|line| line.becomes.unwrap().name).collect();
        assert_eq!(names, ["srv", "run.sh", "cron"]);
    }
}
