//! The task queue from outside: definitions from a manifest, options, locks, retries, limits, and
//! every verb that steers them.

mod deploy;
mod flags;
mod hints;
mod lists;
mod locks;
mod program;
mod retry;
mod waits;

use std::fs;
use std::path::PathBuf;

use capsule_tests::{Cli, Daemon, Home, Output, wait_for};
use serde_json::Value;

/// A daemon, and the app `demo` that its tests deploy.
pub(super) struct Queue {
    pub(super) home: Home,
    daemon: Option<Daemon>,
    slots: &'static str,
}

impl Queue {
    /// A daemon with eight slots and nothing deployed.
    pub(super) fn bare() -> Self {
        let home = Home::new();
        let daemon = Some(home.start());
        Self { home, daemon, slots: "8" }
    }

    /// A daemon with eight slots, and the app `demo` with these tables.
    pub(super) fn with(tasks: &str) -> Self {
        Self::with_slots("8", tasks)
    }

    /// A daemon with so many slots, and the app `demo` with these tables.
    pub(super) fn with_slots(slots: &'static str, tasks: &str) -> Self {
        let home = Home::new();
        let daemon = Some(home.start_with(&["--slots", slots]));
        let queue = Self { home, daemon, slots };
        queue.deploy(tasks).exits(0);
        queue
    }

    /// The folder of the app.
    pub(super) fn dir(&self) -> PathBuf {
        self.home.path("h")
    }

    /// Writes the manifest.
    pub(super) fn manifest(&self, text: &str) {
        fs::write(self.dir().join("capsule.toml"), text).unwrap();
    }

    /// Deploys the app `demo` with these tables.
    pub(super) fn deploy(&self, tasks: &str) -> Output {
        self.manifest(&format!("[app]\nname = \"demo\"\n{tasks}"));
        self.say("deploy").run()
    }

    /// A call of `capsule` with words that hold no spaces.
    pub(super) fn say(&self, line: &str) -> Cli {
        self.home.capsule(line.split_whitespace())
    }

    /// What such a call prints as JSON when all goes well.
    #[track_caller]
    pub(super) fn json(&self, line: &str) -> Value {
        self.say(&format!("--format=json {line}")).run().exits(0).json()
    }

    /// Submits by such words and gives the reply.
    #[track_caller]
    pub(super) fn submitted(&self, line: &str) -> Value {
        self.json(&format!("submit {line}"))
    }

    /// Submits by such words and gives the id.
    #[track_caller]
    pub(super) fn submit(&self, line: &str) -> u64 {
        self.submitted(line)["id"].as_u64().unwrap()
    }

    /// Waits until a task has this status, and gives what `capsule show` says then.
    #[track_caller]
    pub(super) fn until(&self, id: u64, status: &str) -> Value {
        wait_for(&format!("task {id} is {status}"), || {
            let task = self.home.show(id);
            (task["status"] == status).then_some(task)
        })
    }

    /// How many tasks there are.
    pub(super) fn count(&self) -> u64 {
        let text = self.say("list --all --count").run().exits(0).text();
        text.trim().parse().unwrap()
    }

    /// Kills the daemon and starts it again.
    pub(super) fn crash(&mut self) {
        self.daemon.take().unwrap().kill();
        self.daemon = Some(self.home.start_with(&["--slots", self.slots]));
    }
}

/// The kinds of the gates of a task as `show` or `why` gives it.
fn gates(task: &Value) -> Vec<&str> {
    task["gates"].as_array().unwrap().iter().map(|gate| gate["kind"].as_str().unwrap()).collect()
}
