//! Apps written for the real SDK, on the whole product.

mod faults;
mod forks;
mod host;
mod seed;
mod stock;
mod ticks;

use std::fs;
use std::path::{Path, PathBuf};

use capsule_tests::python::{root, sdk};
use capsule_tests::{Daemon, Home, wait_for};
use serde_json::Value;

/// A home with a daemon and an app of the real SDK deployed.
struct Deployed {
    /// Ends before its home, or it would start another keeper there.
    daemon: Option<Daemon>,
    home: Home,
    python: PathBuf,
}

impl Deployed {
    /// Deploys this text as `app.py`. `None` where there is no SDK, which was said.
    fn new(code: &str) -> Option<Self> {
        Self::beside(None, code)
    }

    /// The same, run by the SDK's own runner.
    fn stock(code: &str) -> Option<Self> {
        Self::beside(Some("[python]\nrunner = \"stock\"\n"), code)
    }

    fn beside(settings: Option<&str>, code: &str) -> Option<Self> {
        let python = sdk()?;
        let home = Home::new();
        let daemon = home.start();
        fs::create_dir(home.path("app")).unwrap();
        if let Some(settings) = settings {
            fs::write(home.path("app/capsule.toml"), settings).unwrap();
        }
        let deployed = Self { daemon: Some(daemon), home, python };
        deployed.deploy(code).exits(0);
        Some(deployed)
    }

    fn deploy(&self, code: &str) -> capsule_tests::Output {
        fs::write(self.home.path("app/app.py"), code).unwrap();
        let python = self.python.display().to_string();
        let words = ["deploy", "app.py:app", "--python", &python];
        self.home.capsule(words).cwd(self.home.path("app")).run()
    }

    /// Kills the daemon and starts another.
    fn restart(&mut self) {
        self.daemon.take().unwrap().kill();
        self.daemon = Some(self.home.start());
    }

    /// The text that a successful call prints.
    fn says(&self, words: &[&str]) -> String {
        self.home.capsule(words).run().exits(0).text()
    }

    fn json(&self, words: &[&str]) -> Value {
        self.home.capsule(words).run().exits(0).json()
    }

    /// The newest task of this name, once it has this status.
    fn becomes(&self, name: &str, status: &str) -> Value {
        wait_for(&format!("{name} is {status}"), || {
            let words = ["list", "--name", name, "--all", "--json"];
            let listed = self.home.capsule(words).run().exits(0).json();
            let tasks = listed.as_array().or_else(|| listed["tasks"].as_array()).cloned();
            tasks.unwrap().into_iter().next().filter(|task| task["status"] == status)
        })
    }
}

fn seed_app() -> String {
    fs::read_to_string(Path::new(&root()).join("tests/host/seed_app.py")).unwrap()
}
