//! What documents claim is there.

use std::fs;

use crate::tree::{files, none, read, root};

#[test]
fn the_map_names_every_module_and_stays_short() {
    let map = read("ARCHITECTURE.md");
    assert!(map.lines().count() <= 200, "ARCHITECTURE.md has {} lines", map.lines().count());
    let mut missing = Vec::new();
    for source in
        ["capsule-core/src", "capsuled/src", "capsule-cli/src", "capsule-cli/src/commands"]
    {
        let (member, _) = source.split_once('/').unwrap();
        let map = section(&map, member);
        for entry in fs::read_dir(root().join(source)).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            let known = if entry.file_type().unwrap().is_dir() {
                map.contains(&format!("`{name}/`"))
            } else {
                ["lib.rs", "mod.rs"].contains(&name.as_str()) || map.contains(&format!("`{name}`"))
            };
            if !known {
                missing.push(format!("{source}/{name}"));
            }
        }
    }
    none("modules that ARCHITECTURE.md does not name", &missing);
}

#[test]
fn paths_on_the_map_lead_somewhere() {
    let map = read("ARCHITECTURE.md");
    let paths: Vec<String> =
        files().into_iter().map(|source| format!("/{}", source.path)).collect();
    let missing: Vec<String> = map
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.contains('/') && !word.contains([' ', '<', '*', '$', ':']))
        .filter(|word| !paths.iter().any(|path| path.contains(&format!("/{word}"))))
        .map(str::to_owned)
        .collect();
    none("paths in ARCHITECTURE.md that are nowhere", &missing);
}

/// What the code map says of one member.
fn section<'a>(map: &'a str, member: &str) -> &'a str {
    let start = map.find(&format!("### `{member}/`")).unwrap_or(map.len());
    map[start..].split("\n### ").next().unwrap_or_default()
}

#[test]
fn commands_in_documents_exist() {
    let makefile = read("Makefile");
    let mut missing = Vec::new();
    for document in ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        for target in targets(&read(document)) {
            if !makefile.lines().any(|line| line.starts_with(&format!("{target}:"))) {
                missing.push(format!("{document}: make {target}"));
            }
        }
    }
    none("targets that the Makefile does not have", &missing);
}

/// The targets of `make X` written as code.
fn targets(text: &str) -> Vec<&str> {
    let code = |before: &str| before.is_empty() || before.ends_with(['`', '\n', ' ']);
    text.match_indices("make ")
        .filter(|(at, _)| {
            let before = &text[..*at];
            code(before)
                && (before.ends_with('`') || before.ends_with("\n    ") || before.ends_with("$ "))
        })
        .filter_map(|(at, found)| {
            let rest = &text[at + found.len()..];
            rest.split(|letter: char| !letter.is_ascii_lowercase()).next()
        })
        .filter(|target| !target.is_empty())
        .collect()
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut missing = Vec::new();
    for document in ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        for part in read(document).split("](").skip(1) {
            let target = part.split([')', '#']).next().unwrap_or_default();
            let outside = target.is_empty() || target.starts_with("http");
            if !outside && !root().join(target).exists() {
                missing.push(format!("{document}: {target}"));
            }
        }
    }
    none("links to nothing", &missing);
}

#[test]
fn decisions_are_numbered_and_short() {
    let mut names: Vec<String> = fs::read_dir(root().join("docs/decisions"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for (at, name) in names.iter().enumerate() {
        let number = format!("{:03}-", at + 1);
        assert!(name.starts_with(&number), "{name} should begin with {number}");
        let text = read(&format!("docs/decisions/{name}"));
        assert!(text.starts_with("# "), "{name} needs a title");
        assert!(text.lines().count() <= 20, "{name} is longer than 20 lines");
    }
}
