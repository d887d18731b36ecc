//! Whatever reads bytes from outside, as functions of those bytes: [`TARGETS`].
//!
//! Each target is run twice: in CI for a moment, by `tests/it/short.rs` with the small [`mutate`], and
//! by `make fuzz` for as long as one likes, by libFuzzer with coverage. A target panics when a
//! promise is broken: a panic anywhere, an answer that does not come, a round trip that changes
//! something.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a target says that it found something"
)]

pub mod corpus;
pub mod describe;
pub mod mutate;
pub mod rig;
pub mod targets;

/// One reader of bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in `fuzz/corpus/`.
    pub name: &'static str,
    /// Reads the bytes; panics when it finds something.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: [Target; 14] = [
    Target { name: "lock", run: targets::words::lock },
    Target { name: "spans", run: targets::words::spans },
    Target { name: "cron", run: targets::words::cron },
    Target { name: "manifest", run: targets::apps::manifest },
    Target { name: "description", run: targets::apps::description },
    Target { name: "fault", run: targets::apps::fault },
    Target { name: "store", run: targets::disk::store_manifest },
    Target { name: "records", run: targets::disk::records },
    Target { name: "logs", run: targets::logs::logs },
    Target { name: "keeper", run: targets::peers::keeper },
    Target { name: "host", run: targets::peers::host },
    Target { name: "rpc", run: targets::rpc::capsule },
    Target { name: "sdk", run: targets::rpc::sdk },
    Target { name: "http", run: targets::rpc::http },
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
