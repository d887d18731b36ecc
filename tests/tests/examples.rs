//! The demo and the programs in `examples/`, run as a reader would run them.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output};

    use serde_json::Value;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
    }

    /// The folder of the binaries that were built with these tests.
    fn programs() -> PathBuf {
        let test = std::env::current_exe().unwrap();
        test.ancestors().nth(2).unwrap().to_owned()
    }

    #[expect(clippy::disallowed_methods, reason = "examples are programs")]
    fn run(program: &str, args: &[&str], env: &[(&str, &Path)]) -> Output {
        let mut command = Command::new(program);
        command.args(args).current_dir(root()).envs(env.iter().copied());
        command.env_remove("CAPSULE_PAYLOAD_FILE").env_remove("CAPSULE_EVENT_FD");
        command.output().unwrap_or_else(|error| panic!("starting {program}: {error}"))
    }

    fn said(output: &Output) -> String {
        let texts = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        texts.concat()
    }

    fn has_python() -> bool {
        #[expect(clippy::disallowed_methods, reason = "looks whether there is a Python")]
        let found = Command::new("python3").args(["-c", "import sqlite3"]).output();
        let found = found.is_ok_and(|output| output.status.success());
        if !found {
            eprintln!("SKIPPED: python3 with sqlite3 is not installed");
        }
        found
    }

    #[test]
    fn the_demo_shows_what_it_says() {
        if !has_python() {
            return;
        }
        let output = run("scripts/demo", &["--no-build"], &[]);
        let text = said(&output);
        assert!(output.status.success(), "{text}");
        for line in [
            "\"merged\":true",
            "lock owner:acme held by 3",
            "cannot start: program: no-such-program",
            "   task 7 has 0 processes",
            "without a daemon the sync has 1 process",
            "\"broken\":85",
            "ran over its timeout 2s, killed",
        ] {
            assert!(text.contains(line), "{line:?} is missing in:\n{text}");
        }
        let place = text.split("a private daemon runs in ").nth(1).unwrap().lines().next().unwrap();
        assert!(!Path::new(place).exists(), "{place} is left behind");
        for process in fs::read_dir("/proc").unwrap().map(Result::unwrap) {
            let environment = fs::read(process.path().join("environ")).unwrap_or_default();
            let found = String::from_utf8_lossy(&environment).contains(place);
            assert!(!found, "process {:?} is left behind", process.file_name());
        }
    }

    #[test]
    fn the_session_in_the_readme_works_as_printed() {
        let readme = fs::read_to_string(root().join("README.md")).unwrap();
        let session = readme.split("## A session").nth(1).unwrap().split("\n## ").next().unwrap();
        let lines: Vec<&str> =
            session.lines().filter_map(|line| line.strip_prefix("    $ ")).collect();
        assert!(lines.len() >= 8, "{lines:?}");
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("try");
        // `set -m` is what an interactive shell does; the building was done before the tests.
        let script = format!("set -m\n{}\nwait\n", lines.join("\n"))
            .replace("make build", "true")
            .replace("$PWD/target/debug", programs().to_str().unwrap())
            .replace("/tmp/capsule-try", place.to_str().unwrap());
        let output = run("bash", &["-c", &script], &[("XDG_RUNTIME_DIR", dir.path())]);
        let text = said(&output);
        for line in ["hello", "exit code 3", "2  failed  ls", "cancelled (killed)", "capsuled "] {
            assert!(text.contains(line), "{line:?} is missing in:\n{text}");
        }
    }

    #[test]
    fn a_second_sync_changes_nothing() {
        if !has_python() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let result = dir.path().join("result");
        let mut counts = Vec::new();
        for _ in 0..2 {
            let args = ["examples/leads/sync_leads.py", "--owner-id", "acme", "--db-dir"];
            let args = [&args[..], &[dir.path().to_str().unwrap()]].concat();
            let output = run("python3", &args, &[("CAPSULE_RESULT_FILE", &result)]);
            assert!(output.status.success(), "{}", said(&output));
            let text = fs::read_to_string(&result).unwrap();
            let value: Value = serde_json::from_str(&text).unwrap();
            counts.push(
                ["inserted", "updated", "unchanged", "broken"]
                    .map(|name| value[name].as_u64().unwrap()),
            );
        }
        assert_eq!(counts, [[913, 37, 18, 85], [0, 0, 968, 85]]);
    }

    #[test]
    fn the_leads_are_those_that_the_script_writes() {
        if !has_python() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("make_leads.py");
        fs::copy(root().join("examples/leads/make_leads.py"), &script).unwrap();
        let output = run("python3", &[script.to_str().unwrap()], &[]);
        assert!(output.status.success(), "{}", said(&output));
        let made = fs::read(dir.path().join("leads.csv")).unwrap();
        assert!(made == fs::read(root().join("examples/leads/leads.csv")).unwrap(), "they differ");
    }
}
