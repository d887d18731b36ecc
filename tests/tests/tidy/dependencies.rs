//! `deny.toml` against what Cargo would really build. cargo-deny reads the same file; this needs no
//! tool and no network, so it runs with all tests.

use std::process::Command;

use serde_json::Value;
use toml::Table;

use crate::tree::{none, read, root};

#[expect(clippy::disallowed_methods, reason = "a test asks cargo what the project is made of")]
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--filter-platform"])
        .arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    let used: Vec<&Value> =
        all["resolve"]["nodes"].as_array().unwrap().iter().map(|node| &node["id"]).collect();
    let packages = all["packages"].as_array().unwrap();
    packages.iter().filter(|package| used.contains(&&package["id"])).cloned().collect()
}

fn rules() -> Table {
    read("deny.toml").parse().unwrap()
}

fn texts(list: &toml::Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}

fn label(package: &Value) -> String {
    format!("{} {}", package["name"].as_str().unwrap(), package["version"].as_str().unwrap())
}

#[test]
fn licences_are_allowed() {
    let rules = rules();
    let allowed = texts(&rules["licenses"]["allow"]);
    let wrong: Vec<String> = packages()
        .iter()
        .filter(|package| !package["source"].is_null())
        .filter(|package| !package["license"].as_str().is_some_and(|text| fits(text, &allowed)))
        .map(|package| format!("{}: {}", label(package), package["license"]))
        .collect();
    none("licences that deny.toml does not allow", &wrong);
}

#[test]
fn sources_are_known() {
    let rules = rules();
    let known = texts(&rules["sources"]["allow-registry"]);
    let wrong: Vec<String> = packages()
        .iter()
        .filter_map(|package| Some((package, package["source"].as_str()?)))
        .filter(|(_, source)| !known.iter().any(|known| *source == format!("registry+{known}")))
        .map(|(package, source)| format!("{}: {source}", label(package)))
        .collect();
    none("packages from elsewhere", &wrong);
}

#[test]
fn nothing_banned_comes_in() {
    let rules = rules();
    let banned: Vec<&str> = rules["bans"]["deny"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["crate"].as_str().unwrap())
        .collect();
    assert!(banned.contains(&"openssl-sys"));
    let wrong: Vec<String> = packages()
        .iter()
        .filter(|package| banned.contains(&package["name"].as_str().unwrap()))
        .map(label)
        .collect();
    none("banned packages", &wrong);
}

/// Whether a licence expression (SPDX, or the older `A/B`) can be met by `allowed` alone.
fn fits(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let met = either(&mut rest, allowed);
    assert!(rest.is_empty(), "cannot read the licence {expression}");
    met
}

fn either(rest: &mut &[&str], allowed: &[&str]) -> bool {
    let mut met = both(rest, allowed);
    while take(rest, "OR") {
        met |= both(rest, allowed);
    }
    met
}

fn both(rest: &mut &[&str], allowed: &[&str]) -> bool {
    let mut met = one(rest, allowed);
    while take(rest, "AND") {
        met &= one(rest, allowed);
    }
    met
}

fn one(rest: &mut &[&str], allowed: &[&str]) -> bool {
    if take(rest, "(") {
        let met = either(rest, allowed);
        assert!(take(rest, ")"), "a parenthesis stays open");
        return met;
    }
    let mut name = rest[0].to_owned();
    *rest = &rest[1..];
    if take(rest, "WITH") {
        name = format!("{name} WITH {}", rest[0]);
        *rest = &rest[1..];
    }
    allowed.contains(&name.as_str())
}

fn take(rest: &mut &[&str], word: &str) -> bool {
    let found = rest.first() == Some(&word);
    if found {
        *rest = &rest[1..];
    }
    found
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = ["MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"];
    for good in
        ["MIT", "GPL-3.0/MIT", "MIT AND (GPL-3.0 OR Zlib)", "Apache-2.0 WITH LLVM-exception"]
    {
        assert!(fits(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(GPL-3.0 OR LGPL-2.1) AND MIT", "Apache-2.0"] {
        assert!(!fits(bad, &allowed), "{bad}");
    }
}
