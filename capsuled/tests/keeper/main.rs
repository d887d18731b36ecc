//! The keeper with real children, through its socket.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is a test module")]
#![expect(unused_crate_dependencies, reason = "the package's other parts use them")]

mod attempts;
mod harness;
mod survival;
