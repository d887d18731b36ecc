//! Sorts the words of the command line before clap sees them: behind the task's name of `submit`
//! and `run`, Capsule's own flags stand among words that only the daemon understands.

use std::cell::LazyCell;
use std::collections::BTreeSet;

use clap::{Arg, Args as _, Command};

use super::Globals;
use super::submit::{RunArgs, SubmitArgs};
use crate::ui::json;

/// What `submit` and `run` are about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Work {
    /// Neither a task nor a program was named.
    #[default]
    Nothing,
    /// A task by its definition.
    Task(Call),
    /// Any program.
    Program(Vec<String>),
}

/// The words behind a task's name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) task: String,
    /// The words that are the task's.
    pub(crate) raw: Vec<String>,
    /// Long names of Capsule's flags that were taken out of them.
    pub(crate) taken: Vec<String>,
    /// `--help` stood behind the name.
    pub(crate) help: bool,
}

/// The command line, sorted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Split {
    /// What clap parses.
    pub(crate) words: Vec<String>,
    pub(crate) work: Work,
}

/// Flags that are known: their names, and whether they take the next word.
struct Flags(Command);

impl Flags {
    fn globals() -> Self {
        Self(Globals::augment_args(Command::new("capsule")))
    }

    fn of(verb: &str) -> Self {
        let globals = Globals::augment_args(Command::new("capsule"));
        Self(if verb == "run" {
            RunArgs::augment_args(globals)
        } else {
            SubmitArgs::augment_args(globals)
        })
    }

    fn long(&self, name: &str) -> Option<&Arg> {
        self.0.get_arguments().find(|arg| arg.get_long() == Some(name))
    }

    fn short(&self, letter: char) -> Option<&Arg> {
        self.0.get_arguments().find(|arg| arg.get_short() == Some(letter))
    }

    /// Whether the word is a flag of ours, and whether its value is the next word.
    fn reads(&self, word: &str) -> Option<Reads> {
        if let Some(flag) = word.strip_prefix("--") {
            let (name, value) = flag.split_once('=').map_or((flag, None), |(n, v)| (n, Some(v)));
            let arg = self.long(name)?;
            let next = value.is_none() && takes_next(arg);
            return Some(Reads { long: Some(name.to_owned()), next });
        }
        let mut letters = word.strip_prefix('-')?.chars();
        let mut next = false;
        let mut any = false;
        while let Some(letter) = letters.next() {
            let arg = self.short(letter)?;
            any = true;
            if arg.get_action().takes_values() {
                next = letters.as_str().is_empty() && takes_next(arg);
                break;
            }
        }
        any.then_some(Reads { long: None, next })
    }
}

struct Reads {
    long: Option<String>,
    next: bool,
}

fn takes_next(arg: &Arg) -> bool {
    arg.get_action().takes_values() && !arg.is_require_equals_set()
}

/// Sorts the words; flags in `shadowed` are left to the task when they stand behind its name.
pub(crate) fn split(argv: &[String], shadowed: &BTreeSet<String>) -> Split {
    let globals = LazyCell::new(Flags::globals);
    let mut rest = argv.iter();
    let mut words: Vec<String> = rest.next().into_iter().cloned().collect();
    let Some(verb) = head(&globals, &mut rest, &mut words) else {
        return Split { words, work: Work::Nothing };
    };
    if !matches!(verb.as_str(), "submit" | "run" | "exec") {
        words.push(verb);
        words.extend(selecting(rest.cloned().collect()));
        return Split { words, work: Work::Nothing };
    }
    let flags = LazyCell::new(|| Flags::of(&verb));
    let program = verb == "exec";
    words.push(if program { "submit".to_owned() } else { verb.clone() });
    let work = match head(&flags, &mut rest, &mut words) {
        None => {
            let argv: Vec<String> = rest.cloned().collect();
            if argv.is_empty() { Work::Nothing } else { Work::Program(argv) }
        }
        Some(first) if program => {
            Work::Program(std::iter::once(first).chain(rest.cloned()).collect())
        }
        Some(task) => {
            let behind = selecting(rest.cloned().collect());
            Work::Task(behind_name(&flags, task, &behind, shadowed, &mut words))
        }
    };
    Split { words, work }
}

/// Moves flags to `words` up to the first word that is none, which it returns; none behind `--`.
fn head<F: FnOnce() -> Flags>(
    flags: &LazyCell<Flags, F>,
    rest: &mut std::slice::Iter<'_, String>,
    words: &mut Vec<String>,
) -> Option<String> {
    while let Some(word) = rest.next() {
        if word == "--" {
            return None;
        }
        if word == "-" || !word.starts_with('-') {
            return Some(word.clone());
        }
        words.push(word.clone());
        if flags.reads(word).is_some_and(|reads| reads.next) {
            words.extend(rest.next().cloned());
        }
    }
    None
}

fn behind_name(
    flags: &Flags,
    task: String,
    behind: &[String],
    shadowed: &BTreeSet<String>,
    words: &mut Vec<String>,
) -> Call {
    let mut call = Call { task, ..Call::default() };
    let mut rest = behind.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            call.raw.push(word.clone());
            call.raw.extend(rest.cloned());
            break;
        }
        if word == "-h" || (word == "--help" && !shadowed.contains("help")) {
            call.help = true;
            call.taken.extend((word == "--help").then(|| "help".to_owned()));
            continue;
        }
        match flags.reads(word) {
            Some(reads) if !reads.long.as_ref().is_some_and(|name| shadowed.contains(name)) => {
                call.taken.extend(reads.long);
                words.push(word.clone());
                if reads.next {
                    words.extend(rest.next().cloned());
                }
            }
            Some(_) | None => call.raw.push(word.clone()),
        }
    }
    call
}

/// Joins `--json id,status` to one word, which is how clap tells fields from an id or a verb.
fn selecting(words: Vec<String>) -> Vec<String> {
    let mut joined: Vec<String> = Vec::with_capacity(words.len());
    let mut literal = false;
    for word in words {
        literal |= word == "--";
        match joined.last_mut() {
            Some(last) if !literal && last == "--json" && json::are_fields(&word) => {
                last.push('=');
                last.push_str(&word);
            }
            _ => joined.push(word),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(line: &str) -> (String, Work) {
        sorted_without(line, &[])
    }

    fn sorted_without(line: &str, shadowed: &[&str]) -> (String, Work) {
        let argv: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let shadowed = shadowed.iter().map(|name| (*name).to_owned()).collect();
        let Split { words, work } = split(&argv, &shadowed);
        (words.join(" "), work)
    }

    fn task(name: &str, raw: &str, taken: &str) -> Work {
        let list = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        Work::Task(Call { task: name.to_owned(), raw: list(raw), taken: list(taken), help: false })
    }

    fn program(argv: &str) -> Work {
        Work::Program(argv.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn flags_of_the_task_are_left_alone() {
        assert_eq!(
            sorted("capsule submit sync --owner-id acme --limit=5 -3"),
            ("capsule submit".into(), task("sync", "--owner-id acme --limit=5 -3", ""))
        );
    }

    #[test]
    fn own_flags_are_taken_before_and_behind_the_name() {
        assert_eq!(
            sorted("capsule -q submit --in 5m sync --x 1 --wait --queue slow -lk=v --json"),
            (
                "capsule -q submit --in 5m --wait --queue slow -lk=v --json".into(),
                task("sync", "--x 1", "wait queue json")
            )
        );
    }

    #[test]
    fn shadowed_flags_stay_with_the_task() {
        assert_eq!(
            sorted_without("capsule submit --wait sync --wait 5 --queue q", &["wait"]),
            ("capsule submit --wait --queue q".into(), task("sync", "--wait 5", "queue"))
        );
    }

    #[test]
    fn programs_stand_behind_two_dashes() {
        assert_eq!(
            sorted("capsule run -q -- echo --wait -- x"),
            ("capsule run -q".into(), program("echo --wait -- x"))
        );
        assert_eq!(sorted("capsule exec ls -q"), ("capsule submit".into(), program("ls -q")));
        assert_eq!(sorted("capsule exec -- ls"), ("capsule submit".into(), program("ls")));
        assert_eq!(sorted("capsule submit --"), ("capsule submit".into(), Work::Nothing));
    }

    #[test]
    fn help_behind_the_name_is_the_tasks() {
        let (words, work) = sorted("capsule submit sync --help");
        assert_eq!(words, "capsule submit");
        assert!(matches!(work, Work::Task(Call { help: true, .. })));
        let (words, work) = sorted("capsule submit --help");
        assert_eq!((words.as_str(), work), ("capsule submit --help", Work::Nothing));
    }

    #[test]
    fn fields_are_joined_to_json() {
        let line = |text| sorted(text).0;
        assert_eq!(line("capsule list --json id,status"), "capsule list --json=id,status");
        assert_eq!(line("capsule show --json 1842"), "capsule show --json 1842");
        assert_eq!(line("capsule --json status"), "capsule --json status");
    }

    #[test]
    fn a_value_that_looks_like_a_flag_stays_a_value() {
        assert_eq!(sorted("capsule --socket -q submit t").0, "capsule --socket -q submit");
    }
}
