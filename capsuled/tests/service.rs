//! Daemon and keeper as two units of a service manager would start them.

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Killed when the test ends, however it ends. A keeper goes with its guard.
    struct Running(Child);

    impl Drop for Running {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    impl Running {
        fn pid(&self) -> Pid {
            Pid::from_raw(i32::try_from(self.0.id()).unwrap())
        }

        fn exit_code(&mut self) -> Option<i32> {
            let deadline = Instant::now() + PATIENCE;
            while Instant::now() < deadline {
                if let Some(status) = self.0.try_wait().unwrap() {
                    return status.code();
                }
                nix::poll::poll(&mut [], 10_u8).unwrap();
            }
            panic!("it does not end");
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the test starts the program that it tests")]
    fn capsuled(dir: &Path, args: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_capsuled"));
        command.args(args).env("XDG_RUNTIME_DIR", dir).env("CAPSULE_STATE_DIR", dir.join("state"));
        command.env("CAPSULE_SOCKET", dir.join("socket")).env("CAPSULE_LOG", "info");
        Running(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Waits for a log line of the daemon and returns the number in its field `keeper.pid`.
    fn keeper_pid(daemon: &mut Running) -> Pid {
        let log = BufReader::new(daemon.0.stderr.take().unwrap());
        let (told, lines) = mpsc::channel();
        thread::spawn(move || {
            log.lines().map_while(Result::ok).try_for_each(|line| told.send(line))
        });
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = lines.recv_timeout(left).expect("the daemon finds the keeper in time");
            if line.contains("the keeper is connected") {
                let line: serde_json::Value = serde_json::from_str(&line).unwrap();
                return Pid::from_raw(i32::try_from(line["keeper.pid"].as_i64().unwrap()).unwrap());
            }
        }
    }

    #[test]
    fn a_keeper_that_is_started_first_serves_the_daemon_that_comes() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = dir.path().join("capsule");
        std::fs::create_dir(&runtime).unwrap();
        let only_us = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&runtime, only_us).unwrap();
        let place = runtime.to_str().unwrap();
        let mut guard = capsuled(dir.path(), &["keeper", "--foreground", "--runtime-dir", place]);
        let mut daemon = capsuled(dir.path(), &["run", "--keeper", "external"]);
        let keeper = keeper_pid(&mut daemon);

        let parent = std::fs::read_to_string(format!("/proc/{keeper}/status")).unwrap();
        let line = parent.lines().find(|line| line.starts_with("PPid:")).unwrap();
        assert_eq!(line, format!("PPid:\t{}", guard.pid()), "the unit's main process is the guard");

        kill(daemon.pid(), Signal::SIGKILL).unwrap();
        drop(daemon);
        let mut next = capsuled(dir.path(), &["run", "--keeper", "external"]);
        assert_eq!(keeper_pid(&mut next), keeper, "the daemon came back to the same keeper");

        // A service manager stops a unit by signalling all of its processes.
        kill(keeper, Signal::SIGTERM).unwrap();
        assert_eq!(guard.exit_code(), Some(0));
    }

    #[test]
    fn a_keeper_must_know_its_store() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        std::fs::create_dir(&state).unwrap();
        std::fs::write(state.join("MANIFEST"), "no manifest\n").unwrap();
        let place = dir.path().to_str().unwrap();
        let mut refused = capsuled(dir.path(), &["keeper", "--foreground", "--runtime-dir", place]);
        assert_eq!(refused.exit_code(), Some(65));
    }
}
