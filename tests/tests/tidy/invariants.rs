//! The eight invariants of `ARCHITECTURE.md`, in its order.

use crate::tree::{none, read, shipped};

/// What shipped code outside `places` says of `words`.
fn outside(places: &[&str], words: &[&str]) -> Vec<String> {
    let sources = shipped();
    sources.iter().filter(|file| !file.is_in(places)).flat_map(|file| file.naming(words)).collect()
}

/// What shipped code inside `places` says of `words`.
fn inside(places: &[&str], words: &[&str]) -> Vec<String> {
    let sources = shipped();
    sources.iter().filter(|file| file.is_in(places)).flat_map(|file| file.naming(words)).collect()
}

#[test]
fn the_core_does_no_io_and_asks_for_no_time() {
    let manifest: toml::Table = read("capsule-core/Cargo.toml").parse().unwrap();
    let wanted: Vec<&String> = manifest["dependencies"].as_table().unwrap().keys().collect();
    assert_eq!(wanted, ["minicbor", "thiserror"], "dependencies of capsule-core");
    let io = ["std::fs", "std::net", "std::process", "std::thread", "std::env", "std::io"];
    none("I/O in the core", &inside(&["capsule-core/src/"], &io));
    let rest = ["SystemTime", "Instant", "async ", ".await", "println!", "rand::"];
    none("a clock, async or output in the core", &inside(&["capsule-core/src/"], &rest));
}

#[test]
fn only_the_engine_writes_to_the_store() {
    let engine = ["capsuled/src/engine/", "capsuled/src/store/"];
    none("a commit outside the engine", &outside(&engine, &["store.commit(", "Batch::"]));
    let opening = ["capsuled/src/daemon.rs", "capsuled/src/database/", "capsuled/src/store/"];
    none("a store opened elsewhere", &outside(&opening, &["SledStore", "StateDir"]));
    none(
        "the wire names the store",
        &inside(&["capsuled/src/rpc/"], &["store::Store", "SideFiles"]),
    );
}

#[test]
fn only_its_folder_names_the_database() {
    none(
        "sled outside store/sled",
        &outside(
            &["capsuled/src/store/sled/"],
            &["sled::Db", "sled::Tree", "sled::Batch", "sled::Config", "sled::open"],
        ),
    );
    let store = ["capsuled/src/store/"];
    none(
        "the store knows tasks",
        &inside(&store, &["capsule_core::task", "capsule_core::transition", "Status::"]),
    );
}

#[test]
fn only_the_edges_name_the_wire() {
    let ours = ["capsuled/src/rpc/", "capsuled/src/web/", "capsule-cli/", "proto/"];
    none("our wire behind the edge", &outside(&ours, &["capsule_proto::v1"]));
    let sdks = ["capsuled/src/gateway/", "proto/"];
    none("the SDK's wire behind the edge", &outside(&sdks, &["capsule_proto::sdk"]));
    let edges = [
        "capsuled/src/rpc/",
        "capsuled/src/gateway/",
        "capsuled/src/web/",
        "capsule-cli/",
        "proto/",
    ];
    none("capsule_proto behind the edge", &outside(&edges, &["capsule_proto"]));
    none("tonic behind the edge", &outside(&edges, &["tonic::"]));
}

#[test]
fn only_keeper_and_jail_are_unsafe_and_start_processes() {
    let owners = ["capsuled/src/keeper/", "capsuled/src/jail/"];
    none("unsafe elsewhere", &outside(&owners, &["unsafe ", "unsafe_code"]));
    let starters = [owners[0], owners[1], "capsuled/src/daemon.rs"];
    let starting = ["process::Command", "posix_spawn", "fork()", "execve", "clone3"];
    none("a process is started elsewhere", &outside(&starters, &starting));
    let daemon = inside(&["capsuled/src/daemon.rs"], &["Command::new("]);
    assert_eq!(daemon.len(), 1, "daemon.rs starts the keeper and nothing else: {daemon:?}");
}

#[test]
fn tasks_and_threads_start_at_known_places() {
    let places = [
        "capsuled/src/appdata/mod.rs",
        "capsuled/src/backup/mod.rs",
        "capsuled/src/callback.rs",
        "capsuled/src/daemon.rs",
        "capsuled/src/deploying/mod.rs",
        "capsuled/src/dispatcher/forks.rs",
        "capsuled/src/dispatcher/mod.rs",
        "capsuled/src/dispatcher/hosts/",
        "capsuled/src/dispatcher/stock/",
        "capsuled/src/engine/mod.rs",
        "capsuled/src/gateway/stock.rs",
        "capsuled/src/jail/pool.rs",
        "capsuled/src/keeper/life/fork/mover.rs",
        "capsuled/src/keeper/writer.rs",
        "capsuled/src/logs/ledger.rs",
        "capsuled/src/rpc/stream/",
        "capsuled/src/runner/host/",
        "capsuled/src/runner/link.rs",
        "capsuled/src/store/sled/compact/thread.rs",
        "capsuled/src/web/live/",
        "capsule-cli/",
    ];
    let starting = ["tokio::spawn", "spawn_blocking", "thread::spawn", "thread::Builder"];
    none("a task or thread without a named owner", &outside(&places, &starting));
}

#[test]
fn neighbours_do_not_know_each_other() {
    let rules: [(&str, &[&str]); 7] = [
        ("capsuled/src/dispatcher/", &["crate::rpc", "capsule_proto", "Queue"]),
        ("capsuled/src/runner/", &["crate::engine", "crate::book", "crate::store", "capsule_core"]),
        ("capsuled/src/book/", &["crate::store", "crate::rpc", "crate::keeper", "crate::engine"]),
        ("capsuled/src/engine/", &["crate::rpc", "crate::keeper", "crate::runner", "crate::jail"]),
        (
            "capsuled/src/gateway/",
            &["store::Store", "SideFiles", "crate::keeper", "crate::runner", "crate::jail"],
        ),
        (
            "capsuled/src/appdata/",
            &["crate::engine", "crate::book", "crate::store", "crate::gateway", "capsule_proto"],
        ),
        (
            "capsuled/src/web/",
            &["crate::engine", "crate::book", "crate::store", "crate::keeper", "crate::dispatcher"],
        ),
    ];
    for (place, words) in rules {
        none(&format!("{place} knows too much"), &inside(&[place], words));
    }
}

#[test]
fn the_keepers_side_stands_alone() {
    let side = ["capsuled/src/keeper/", "capsuled/src/jail/", "capsuled/src/logs/"];
    let rest = [
        "crate::engine",
        "crate::book",
        "crate::store",
        "crate::dispatcher",
        "crate::rpc",
        "crate::daemon",
        "capsule_core",
    ];
    none("the keeper's side knows the daemon's", &inside(&side, &rest));
    none("async in the keeper", &inside(&side[..2], &["tokio", ".await"]));
}

#[test]
fn only_debug_builds_can_be_told_to_die() {
    let place = ["capsuled/src/failpoint.rs"];
    none("the fail points' variables elsewhere", &outside(&place, &["CAPSULE_FAIL"]));
    // Each item of the file but the empty function is left out of a release build.
    let text = read(place[0]);
    let begins = |item: &&str| !item.starts_with("//!") && !item.starts_with(' ');
    let items: Vec<&str> = text.trim_end().split("\n\n").filter(begins).collect();
    let debug = |item: &&&str| item.lines().any(|line| line == "#[cfg(debug_assertions)]");
    let kept: Vec<&&str> = items.iter().filter(|item| !debug(item)).collect();
    let [empty] = kept[..] else { panic!("in release builds too: {kept:#?}") };
    assert!(empty.ends_with("pub(crate) const fn pass(_: &'static str) {}"), "{empty}");
}
