//! The keys: one table for what they do, the foot of the screen, its help and the documents.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::deed::Verb;
use super::table::Kind;

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Quit,
    Suspend,
    Help,
    Back,
    Go(Way),
    Open,
    Swap,
    Tab(usize),
    Follow,
    Wrap,
    Filter,
    Sheet,
    Board,
    Table(Kind),
    Do(Verb),
}

/// Where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Left,
    Right,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
}

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) keys: &'static [Key],
    /// As it is shown.
    pub(crate) shown: &'static str,
    pub(crate) action: Action,
    pub(crate) text: &'static str,
    /// A word for it in the foot of the screen; empty = it is not there.
    pub(crate) short: &'static str,
}

/// A key as terminals tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Char(char),
    Ctrl(char),
    Code(KeyCode),
}

impl Key {
    fn is(self, event: KeyEvent) -> bool {
        let ctrl = event.modifiers.contains(KeyModifiers::CONTROL);
        match self {
            Self::Char(character) => !ctrl && event.code == KeyCode::Char(character),
            Self::Ctrl(character) => ctrl && event.code == KeyCode::Char(character),
            Self::Code(code) => event.code == code,
        }
    }
}

const fn binding(
    keys: &'static [Key],
    shown: &'static str,
    action: Action,
    (short, text): (&'static str, &'static str),
) -> Binding {
    Binding { keys, shown, action, text, short }
}

use Key::{Char, Code, Ctrl};

/// All keys, in the order of the help.
pub(crate) const KEYS: [Binding; 32] = [
    binding(
        &[Code(KeyCode::Left), Char('h')],
        "← h",
        Action::Go(Way::Left),
        ("", "column to the left"),
    ),
    binding(
        &[Code(KeyCode::Right), Char('l')],
        "→ l",
        Action::Go(Way::Right),
        ("", "column to the right"),
    ),
    binding(
        &[Code(KeyCode::Up), Char('k')],
        "↑ k",
        Action::Go(Way::Up),
        ("", "card above; scroll up"),
    ),
    binding(
        &[Code(KeyCode::Down), Char('j')],
        "↓ j",
        Action::Go(Way::Down),
        ("", "card below; scroll down"),
    ),
    binding(
        &[Code(KeyCode::PageUp), Ctrl('b')],
        "PgUp",
        Action::Go(Way::PageUp),
        ("", "a page up"),
    ),
    binding(
        &[Code(KeyCode::PageDown), Ctrl('f')],
        "PgDn",
        Action::Go(Way::PageDown),
        ("", "a page down"),
    ),
    binding(
        &[Char('g'), Code(KeyCode::Home)],
        "g Home",
        Action::Go(Way::First),
        ("", "the newest card, and stay with the newest; the beginning"),
    ),
    binding(
        &[Char('G'), Code(KeyCode::End)],
        "G End",
        Action::Go(Way::Last),
        ("", "the oldest card; the end"),
    ),
    binding(
        &[Code(KeyCode::Enter)],
        "Enter",
        Action::Open,
        ("open", "open the task; again: whole screen"),
    ),
    binding(
        &[Code(KeyCode::Esc)],
        "Esc",
        Action::Back,
        ("back", "close what is open; drop the filter"),
    ),
    binding(
        &[Code(KeyCode::Tab)],
        "Tab",
        Action::Swap,
        ("", "between the columns and the open task"),
    ),
    binding(&[Char('1')], "1", Action::Tab(0), ("", "log of the open task, live")),
    binding(&[Char('2')], "2", Action::Tab(1), ("", "payload")),
    binding(&[Char('3')], "3", Action::Tab(2), ("", "attempts and what they used")),
    binding(&[Char('4')], "4", Action::Tab(3), ("", "timeline")),
    binding(&[Char('5')], "5", Action::Tab(4), ("", "error")),
    binding(&[Char('6')], "6", Action::Tab(5), ("", "result")),
    binding(&[Char('7')], "7", Action::Tab(6), ("", "why it waits")),
    binding(&[Char('f')], "f", Action::Follow, ("", "follow the end of the log, or not")),
    binding(&[Char('w')], "w", Action::Wrap, ("", "wrap long lines, or cut them")),
    binding(
        &[Char('/')],
        "/",
        Action::Filter,
        ("filter", "filter: task:sync* owner:acme state:failed age:<1h \"text\""),
    ),
    binding(&[Char('v')], "v", Action::Sheet, ("", "the next board of the app")),
    binding(&[Char('b')], "b", Action::Board, ("", "the board")),
    binding(&[Char('S')], "S", Action::Table(Kind::Schedules), ("", "schedules")),
    binding(&[Char('Q')], "Q", Action::Table(Kind::Queues), ("", "queues")),
    binding(&[Char('L')], "L", Action::Table(Kind::Locks), ("", "locks")),
    binding(&[Char('A')], "A", Action::Table(Kind::Apps), ("", "apps")),
    binding(
        &[Char('C')],
        "C",
        Action::Do(Verb::Cancel),
        ("cancel", "cancel the task; C again: kill it at once"),
    ),
    binding(&[Char('R')], "R", Action::Do(Verb::Retry), ("retry", "retry the task")),
    binding(&[Char('H')], "H", Action::Do(Verb::Hold), ("", "hold the task back, or let it go")),
    binding(&[Char('p')], "p", Action::Do(Verb::Promote), ("", "start it as soon as possible")),
    binding(
        &[Char('P')],
        "P",
        Action::Do(Verb::Pause),
        ("", "pause or resume the task's queue, or the selected queue or schedule"),
    ),
];

/// Those that are always there.
pub(crate) const ALWAYS: [Binding; 3] = [
    binding(&[Char('?')], "?", Action::Help, ("help", "this help")),
    binding(&[Ctrl('z')], "Ctrl-Z", Action::Suspend, ("", "back to the shell; fg comes back")),
    binding(
        &[Char('q'), Ctrl('c')],
        "q Ctrl-C",
        Action::Quit,
        ("quit", "leave the board; the tasks go on"),
    ),
];

/// All rows of the table.
pub(crate) fn all() -> impl Iterator<Item = &'static Binding> {
    KEYS.iter().chain(&ALWAYS)
}

/// What a key does.
pub(crate) fn action(event: KeyEvent) -> Option<Action> {
    all().find(|row| row.keys.iter().any(|key| key.is(event))).map(|row| row.action)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use capsule_proto::query;

    use super::*;

    /// The tables of `docs/board.md`; `REWRITE_HELP=1` writes them there.
    #[test]
    fn the_document_has_these_keys_and_words() {
        let mut tables = "| key | does |\n|---|---|\n".to_owned();
        for row in all() {
            let _ = writeln!(tables, "| `{}` | {} |", row.shown, row.text);
        }
        tables += "\n| filter | lets through |\n|---|---|\n";
        for (_, text, example) in query::WORDS {
            let _ = writeln!(tables, "| `{example}` | {text} |");
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/board.md");
        let document = std::fs::read_to_string(path).unwrap();
        let (before, rest) = document.split_once("| key | does |").unwrap();
        let (_, after) = rest.split_once("\n\n## ").unwrap();
        let wanted = format!("{before}{tables}\n## {after}");
        if std::env::var_os("REWRITE_HELP").is_some() {
            std::fs::write(path, &wanted).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap();
        assert_eq!(kept, wanted, "accept with REWRITE_HELP=1");
    }

    #[test]
    fn no_key_does_two_things() {
        let mut seen = Vec::new();
        for row in all() {
            for key in row.keys {
                assert!(!seen.contains(key), "{key:?}");
                seen.push(*key);
            }
        }
    }
}
