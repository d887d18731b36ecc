//! The whole path: real binaries, a real socket, real processes.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is a test module")]
#![expect(unused_crate_dependencies, reason = "the harness uses them")]

mod adoption;
mod kill;
mod queue;
mod rounds;
mod run;
