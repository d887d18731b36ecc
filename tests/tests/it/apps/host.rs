//! The Python host's own tests, on the real SDK and a played daemon.

use std::time::Duration;

use capsule_tests::Home;
use capsule_tests::python::{root, sdk};

/// A whole suite of Python tests, with a host of its own for each case, on a busy machine.
const LONG: Duration = Duration::from_secs(240);

fn suite(module: &str) {
    let Some(python) = sdk() else { return };
    let home = Home::new();
    let script = format!("exec {} -m unittest -q {module}", python.display());
    let ran = home.shell(&script).cwd(root().join("tests/host")).within(LONG).run().exits(0);
    let said = ran.errors();
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
