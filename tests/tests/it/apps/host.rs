//! The Python host's own tests, on the real SDK and a played daemon.

use std::process::Command;

use capsule_tests::python::{root, sdk};

fn suite(module: &str) {
    let Some(python) = sdk() else { return };
    let mut command = Command::new(python);
    command.args(["-m", "unittest", "-q", module]).current_dir(root().join("tests/host"));
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(said.contains("Ran ") && !said.contains("Ran 0 tests"), "{said}");
}

#[test]
fn attempt() {
    suite("test_attempt");
}

#[test]
fn examples() {
    suite("test_examples");
}

#[test]
fn host() {
    suite("test_host");
}

#[test]
fn introspect() {
    suite("test_introspect");
}

#[test]
fn link() {
    suite("test_link");
}

#[test]
fn output() {
    suite("test_output");
}

#[test]
fn tasks() {
    suite("test_tasks");
}
