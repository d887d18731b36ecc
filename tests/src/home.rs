//! A home for one test: its folders, its environment, and the end of everything that lives in it.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::processes::{self, Process};
use crate::{Cli, Daemon, wait_for, wait_for_within};

/// How long what a killed keeper leaves may still be seen. The product promises one second; a machine
/// may stand still for longer.
const AFTERLIFE: Duration = Duration::from_secs(20);

/// A private folder with a state directory, a runtime folder and a home folder. Its path stands in
/// the environment of every process that is started in it, and so tells them from all others.
#[derive(Debug)]
pub struct Home {
    dir: TempDir,
    programs: PathBuf,
}

impl Home {
    /// Makes one.
    ///
    /// # Panics
    /// The programs are not built.
    #[expect(clippy::new_without_default, reason = "it makes folders")]
    pub fn new() -> Self {
        // Short, because a socket's path is.
        let dir = tempfile::Builder::new().prefix("cps-").tempdir_in("/tmp").unwrap();
        let home = Self { dir, programs: programs() };
        for folder in [home.runtime_dir(), home.path("h")] {
            fs::create_dir(&folder).unwrap();
            fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).unwrap();
        }
        home
    }

    /// A path in it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The runtime folder, `XDG_RUNTIME_DIR`.
    pub fn runtime_dir(&self) -> PathBuf {
        self.path("r")
    }

    /// The daemon's state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.path("s/capsule")
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.path("r/capsule/capsuled.sock")
    }

    /// A call of one of our programs, with nothing of this process's environment but the path.
    ///
    /// # Panics
    /// There is no such program.
    pub fn command(&self, program: &str) -> Command {
        self.furnish(Command::new(self.programs.join(program)))
    }

    /// Gives a call the environment of this home.
    fn furnish(&self, mut command: Command) -> Command {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path("h"))
            .env("USER", "tester")
            .env("LANG", "C.UTF-8")
            .env("XDG_RUNTIME_DIR", self.runtime_dir())
            .env("XDG_STATE_HOME", self.path("s"))
            .env("RUST_BACKTRACE", "0")
            .current_dir(self.path("h"));
        command
    }

    /// The path of one of our programs.
    pub fn program(&self, name: &str) -> String {
        self.programs.join(name).display().to_string()
    }

    /// A call of a shell script.
    pub fn shell(&self, script: &str) -> Cli {
        Cli::new(self.furnish(Command::new("/bin/sh"))).args(["-c", script])
    }

    /// A call of `capsule`.
    pub fn capsule<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Cli {
        Cli::new(self.command("capsule")).args(words)
    }

    /// A call of `capsuled` that ends by itself.
    pub fn capsuled<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Cli {
        Cli::new(self.command("capsuled")).args(words)
    }

    /// Starts the daemon with eight slots and waits until it starts tasks.
    pub fn start(&self) -> Daemon {
        self.start_with(&["--slots", "8"])
    }

    /// Starts the daemon with these flags and waits until it starts tasks.
    pub fn start_with(&self, flags: &[&str]) -> Daemon {
        let mut daemon = self.launch(flags);
        self.ready(&mut daemon);
        daemon
    }

    /// Starts the daemon with these flags; it may or may not come up.
    ///
    /// # Panics
    /// It cannot even be executed.
    pub fn launch(&self, flags: &[&str]) -> Daemon {
        self.launch_told(flags, &[])
    }

    /// As [`Self::launch`], with these variables in its environment.
    ///
    /// # Panics
    /// It cannot even be executed.
    pub fn launch_told(&self, flags: &[&str], variables: &[(&str, String)]) -> Daemon {
        let log = OpenOptions::new().append(true).create(true).open(self.path("log")).unwrap();
        let mut command = self.command("capsuled");
        command.arg("run").args(flags).envs(variables.iter().map(|(name, value)| (name, value)));
        Daemon::spawn(command, log)
    }

    /// Waits until the daemon answers and has its keeper.
    ///
    /// # Panics
    /// It ends, or does not come up.
    pub fn ready(&self, daemon: &mut Daemon) {
        wait_for("the daemon is ready", || {
            assert_eq!(daemon.ended(), None, "the daemon ended: {}", self.log());
            let status = self.capsule(["status", "--json"]).run();
            (status.code() == 0 && status.json()["keeper"]["connected"] == true).then_some(())
        });
    }

    /// What the daemons of this home said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// What `capsule status` says.
    pub fn status(&self) -> Value {
        self.capsule(["status", "--json"]).run().exits(0).json()
    }

    /// What `capsule show` says about a task.
    pub fn show(&self, id: u64) -> Value {
        self.capsule(["show", &id.to_string(), "--json"]).run().exits(0).json()
    }

    /// What `capsule show` says about a task that may not be there.
    fn look(&self, id: u64) -> Option<Value> {
        let shown = self.capsule(["show", &id.to_string(), "--json"]).run();
        (shown.code() == 0).then(|| shown.json())
    }

    /// Submits by these words of `capsule submit` and gives the id.
    ///
    /// # Panics
    /// It is refused.
    #[track_caller]
    pub fn submit<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> u64 {
        let reply = self.capsule(["submit", "--json"]).args(words).run().exits(0).json();
        reply["id"].as_u64().unwrap()
    }

    /// Waits until a task has ended and gives what `capsule show` says then.
    pub fn ended(&self, id: u64) -> Value {
        self.capsule(["wait", &id.to_string(), "--for", "done"]).run().exits(0);
        self.show(id)
    }

    /// What a task wrote to its stdout, over all that is kept.
    ///
    /// # Panics
    /// The log cannot be read.
    pub fn output(&self, id: u64) -> Vec<u8> {
        let words = ["tail", &id.to_string(), "--lines", "all", "--no-follow", "--stream", "out"];
        self.capsule(words).run().exits(0).out
    }

    /// Waits until a task is there.
    pub fn known(&self, id: u64) {
        wait_for(&format!("task {id} is there"), || self.look(id).map(drop));
    }

    /// Waits until a task is there and runs, and gives its process id.
    ///
    /// # Panics
    /// It does not run.
    pub fn running(&self, id: u64) -> i32 {
        wait_for(&format!("task {id} runs"), || {
            let task = self.look(id)?;
            if task["status"] == "running" { task["pid"].as_i64() } else { None }
        })
        .try_into()
        .unwrap()
    }

    /// All processes of this home.
    pub fn processes(&self) -> Vec<Process> {
        processes::marked(&self.dir.path().display().to_string())
    }

    /// The process id of the keeper, and of its guard.
    ///
    /// # Panics
    /// The daemon has no keeper.
    pub fn keeper(&self) -> (i32, i32) {
        let status = self.status();
        let keeper = i32::try_from(status["keeper"]["pid"].as_i64().unwrap()).unwrap();
        let guard = processes::parent(keeper).unwrap();
        (keeper, guard)
    }

    /// Ends what lives here. Only the daemons and the keepers are killed: what is left a while
    /// later broke the promise that nothing outlives its keeper.
    fn leftovers(&self) -> Vec<Process> {
        let mut left = Vec::new();
        let deadline = std::time::Instant::now() + AFTERLIFE;
        wait_for_within("everything ends or the time is up", AFTERLIFE * 2, || {
            left = self.processes();
            // The daemons first, and again: one that misses its keeper starts another.
            for name in ["capsuled", "capsule-keeper", "capsule"] {
                for process in left.iter().filter(|process| process.name == name) {
                    processes::send(process.pid, Signal::SIGKILL);
                }
            }
            (left.is_empty() || std::time::Instant::now() > deadline).then_some(())
        });
        left
    }

    /// The folders of attempts that the keepers noted.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.path("r/capsule")).into_iter().flatten().flatten();
        let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
        let lines = texts.filter_map(|text| {
            text.lines().find_map(|line| line.strip_prefix("cgroup /").map(str::to_owned))
        });
        lines.map(|path| Path::new("/").join(path)).collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let left = self.leftovers();
        for process in &left {
            processes::send(process.pid, Signal::SIGKILL);
        }
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
            return;
        }
        assert!(left.is_empty(), "these outlived their keeper: {left:#?}");
        let cgroups = self.cgroups();
        wait_for("the keeper's cgroup is gone", || {
            cgroups.iter().all(|cgroup| !cgroup.exists()).then_some(())
        });
    }
}

/// Where the programs under test are: `CAPSULE_BIN_DIR`, or beside the folder of this executable.
fn programs() -> PathBuf {
    let folder = std::env::var_os("CAPSULE_BIN_DIR").map_or_else(
        || {
            let test = std::env::current_exe().unwrap();
            test.ancestors().nth(2).unwrap().to_owned()
        },
        PathBuf::from,
    );
    for program in ["capsuled", "capsule"] {
        assert!(
            folder.join(program).is_file(),
            "there is no {program} in {}: run `cargo build --bins` first (make test does)",
            folder.display()
        );
    }
    folder
}
