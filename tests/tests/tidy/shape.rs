//! Sizes, folders, lints and words.

use std::collections::BTreeMap;

use crate::tree::{files, none, read, rust};

/// Files over 400 lines, each with the reason why it is not cut. Nothing may pass 600.
const LARGE: [(&str, &str); 3] = [
    (
        "capsule-cli/tests/cli/daemon.rs",
        "a daemon played by the tests: one service, one handler a call",
    ),
    ("capsuled/src/keeper/control.rs", "one event loop; each arm is short"),
    ("capsuled/src/keeper/wire.rs", "all messages of one protocol, side by side"),
];

const SIZE_MAX: usize = 600;
const SIZE_ASKED: usize = 400;
const FOLDER_MAX: usize = 10;

#[test]
fn files_stay_small() {
    let mut wrong = Vec::new();
    for source in rust() {
        let lines = source.text.lines().count();
        let reason = LARGE.iter().any(|(path, _)| *path == source.path);
        if lines > SIZE_MAX || (lines > SIZE_ASKED && !reason) {
            wrong.push(format!("{}: {lines} lines", source.path));
        }
    }
    none("files over 600 lines, or over 400 without a reason", &wrong);
}

#[test]
fn reasons_for_size_are_still_needed() {
    let sources = rust();
    let needed = |path: &str| {
        sources.iter().any(|file| file.path == path && file.text.lines().count() > SIZE_ASKED)
    };
    let idle: Vec<String> = LARGE
        .iter()
        .filter(|(path, _)| !needed(path))
        .map(|(path, _)| (*path).to_owned())
        .collect();
    none("these are not over 400 lines any more", &idle);
}

#[test]
fn functions_stay_small() {
    let clippy: toml::Table = read("clippy.toml").parse().unwrap();
    let limit = |name: &str| clippy[name].as_integer().unwrap();
    assert!(limit("too-many-lines-threshold") <= 70);
    assert!(limit("too-many-arguments-threshold") <= 5);
}

#[test]
fn folders_stay_small() {
    let mut folders: BTreeMap<String, usize> = BTreeMap::new();
    for source in files() {
        let counted = [".rs", ".proto", ".py", ".sh"].iter().any(|end| source.path.ends_with(end));
        if let Some((folder, _)) = source.path.rsplit_once('/').filter(|_| counted) {
            *folders.entry(folder.to_owned()).or_default() += 1;
        }
    }
    // The roots of the crates list their modules; everything else is a folder of one thing.
    let wrong: Vec<String> = folders
        .iter()
        .filter(|(folder, count)| **count > FOLDER_MAX && !folder.ends_with("/src"))
        .map(|(folder, count)| format!("{folder}: {count} files"))
        .collect();
    none("folders with more than ten files", &wrong);
}

#[test]
fn every_member_has_the_lints() {
    let workspace: toml::Table = read("Cargo.toml").parse().unwrap();
    for member in workspace["workspace"]["members"].as_array().unwrap() {
        let path = format!("{}/Cargo.toml", member.as_str().unwrap());
        let manifest: toml::Table = read(&path).parse().unwrap();
        let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
        assert_eq!(lints, Some(&toml::Value::Boolean(true)), "{path} needs [lints] workspace");
    }
}

#[test]
fn one_word_for_each_thing() {
    let mut wrong = Vec::new();
    for source in files() {
        let module = source.path.rsplit('/').next().unwrap();
        if ["util", "helper", "manager", "common", "misc"].iter().any(|bad| module.contains(bad)) {
            wrong.push(format!("{}: says nothing", source.path));
        }
        if source.is_in(&["tests/tests/tidy/", "Cargo.lock", "LICENSE"]) {
            continue;
        }
        for (at, line) in source.text.lines().enumerate() {
            if words(line).any(|word| ["job", "jobs"].contains(&word.as_str())) {
                wrong.push(format!("{}:{}: a task is no job", source.path, at + 1));
            }
        }
    }
    none("words", &wrong);
}

/// The words of a line, also those inside `names_like_this` and `NamesLikeThis`.
fn words(line: &str) -> impl Iterator<Item = String> {
    let mut spaced = String::new();
    for letter in line.chars() {
        if letter.is_uppercase() {
            spaced.push(' ');
        }
        spaced.extend(letter.to_lowercase());
    }
    let split = |letter: char| !letter.is_alphabetic();
    spaced.split(split).map(str::to_owned).collect::<Vec<_>>().into_iter()
}

#[test]
fn nothing_is_left_for_later_and_no_machine_is_named() {
    let mut wrong = Vec::new();
    for source in files() {
        if source.path.starts_with("tests/tests/tidy/") || source.path == "Cargo.lock" {
            continue;
        }
        for (at, line) in source.text.lines().enumerate() {
            let later = ["TODO", "FIXME", "XXX"]
                .iter()
                .any(|mark| line.split(|c: char| !c.is_alphanumeric()).any(|word| word == *mark));
            let machine = ["/root/", "/work/", "/home/runner"].iter().any(|dir| line.contains(dir));
            if later || machine {
                wrong.push(format!("{}:{}: {}", source.path, at + 1, line.trim()));
            }
        }
    }
    none("left for later, or a path of one machine", &wrong);
}
