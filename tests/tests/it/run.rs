//! `capsule run`: one program from the command line to its exit code.

use std::fs;

use capsule_tests::{Home, wait_for};
use nix::sys::signal::Signal;
use serde_json::Value;

#[test]
fn a_program_is_run_and_its_receipt_is_kept() {
    let home = Home::new();
    let _daemon = home.start();
    let run = home.capsule(["run", "--", "sh", "-c", "echo hi; echo oops >&2; exit 3"]).run();
    let run = run.exits(3);
    assert_eq!((run.text(), run.errors()), ("hi\n".to_owned(), "oops\n".to_owned()));

    let task = home.show(1);
    assert_eq!(task["status"], "failed");
    assert_eq!(task["reason"], "exit 3");
    assert_eq!(task["exit_code"], 3);
    assert_eq!(task["attempt"], 1);
    let receipt = &task["attempts"][0]["receipt"];
    for figure in ["wall_ms", "cpu_user_ms", "cpu_system_ms", "peak_memory_bytes"] {
        assert!(receipt[figure].is_number(), "{figure}: {receipt}");
    }
    assert!(receipt["wall_ms"].as_f64() > Some(0.0), "{receipt}");
    assert!(receipt["peak_memory_bytes"].as_u64() > Some(0), "{receipt}");
    for source in ["cpu_source", "memory_source", "io_source"] {
        let named = receipt[source].as_str();
        assert!(matches!(named, Some("cgroup" | "rusage")), "{source}: {receipt}");
    }
    assert_eq!(receipt["output_bytes"], 3);
    assert_eq!(receipt["error_bytes"], 5);
}

#[test]
fn a_signal_is_told_as_a_shell_tells_it() {
    let home = Home::new();
    let _daemon = home.start();
    for (name, number) in [("TERM", 15), ("KILL", 9), ("SEGV", 11)] {
        let script = format!("kill -{name} $$");
        home.capsule(["run", "--", "sh", "-c", &script]).run().exits(128 + number);
        let task = home.capsule(["show", "@last", "--json"]).run().exits(0).json();
        assert_eq!(task["signal"], number);
        assert_eq!(task["exit_code"], Value::Null);
        assert_eq!(task["reason"], format!("killed by SIG{name}"));
    }
}

#[test]
fn stdin_comes_from_us_or_from_a_file_or_is_empty() {
    let home = Home::new();
    let _daemon = home.start();
    let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let run = home.capsule(["run", "--stdin", "-", "--", "cat"]).stdin(bytes.clone()).run();
    assert_eq!(run.exits(0).out, bytes);
    fs::write(home.path("in"), "from a file").unwrap();
    let file = home.path("in").display().to_string();
    assert_eq!(home.capsule(["run", "--stdin", &file, "--", "cat"]).run().text(), "from a file");
    assert!(
        home.capsule(["run", "--", "cat"]).stdin("not asked for").run().exits(0).out.is_empty()
    );
}

#[test]
fn output_is_byte_exact() {
    let home = Home::new();
    let _daemon = home.start();
    let script = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 1000)";
    let run = home.capsule(["run", "--", "python3", "-c", script]).run().exits(0);
    let wanted: Vec<u8> = (0..=255).cycle().take(256_000).collect();
    assert!(run.out == wanted, "{} bytes came, or others", run.out.len());
    assert!(home.capsule(["run", "--", "true"]).run().exits(0).out.is_empty());
    let no_newline = home.capsule(["run", "--", "printf", "abc"]).run().exits(0);
    assert_eq!(no_newline.text(), "abc");
}

#[test]
fn words_arrive_as_they_were_given() {
    let home = Home::new();
    let _daemon = home.start();
    let words =
        ["a b", "", "line\nbreak", "tab\t", "snow ☃", "--flag", "-", "'\"$HOME`id`\\", "{x}"];
    let run = home.capsule(["run", "--", "printf", "%s\\0"]).args(words).run().exits(0);
    let wanted = words.join("\0") + "\0";
    assert_eq!(run.text(), wanted);
}

#[test]
fn a_shell_runs_one_string_only_when_asked() {
    let home = Home::new();
    let _daemon = home.start();
    let line = "echo one | tr a-z A-Z; exit 4";
    assert_eq!(home.capsule(["run", "--shell", "--", line]).run().exits(4).text(), "ONE\n");
    home.capsule(["run", "--", line]).run().exits(127);
    home.capsule(["run", "--shell", "--", "echo", "two"]).run().exits(2);
}

#[test]
fn the_folder_and_the_environment_are_those_of_the_caller() {
    let home = Home::new();
    let _daemon = home.start();
    fs::create_dir(home.path("h/läger")).unwrap();
    let here = home.path("h/läger").canonicalize().unwrap();
    let pwd = home.capsule(["run", "--", "/bin/pwd"]).cwd(&here).run().exits(0);
    assert_eq!(pwd.text().trim_end(), here.display().to_string());
    let root = home.capsule(["run", "--cwd", "/", "--", "/bin/pwd"]).run().exits(0);
    assert_eq!(root.text(), "/\n");

    let seen = |flags: &[&str]| {
        let words = [&["run"], flags, &["--", "env"]].concat();
        let call = home.capsule(words).env("SECRET", "s3cret").env("TZ", "Asia/Tokyo");
        call.env("GIVEN", "two\nlines").run().exits(0).text()
    };
    let plain = seen(&[]);
    assert!(plain.contains("TZ=Asia/Tokyo\n") && plain.contains("LANG=C.UTF-8\n"), "{plain}");
    assert!(plain.contains("CAPSULE_TASK_ID=") && plain.contains("CAPSULE_ATTEMPT=1\n"));
    assert!(!plain.contains("s3cret") && !plain.contains("GIVEN"), "{plain}");
    let given = seen(&["--env", "GIVEN", "--env", "OTHER=x=y"]);
    assert!(given.contains("GIVEN=two\nlines\n") && given.contains("OTHER=x=y\n"), "{given}");
    assert!(!given.contains("s3cret"), "{given}");
    assert!(seen(&["--env-all"]).contains("SECRET=s3cret\n"));
}

#[test]
fn what_cannot_start_has_the_codes_of_a_shell() {
    let home = Home::new();
    let _daemon = home.start();
    let missing = home.capsule(["run", "--", "no-such-program-anywhere"]).run().exits(127);
    assert!(missing.errors().contains("no-such-program-anywhere"), "{}", missing.errors());
    fs::write(home.path("h/plain"), "text").unwrap();
    home.capsule(["run", "--", "./plain"]).run().exits(126);
    home.capsule(["run", "--", "/"]).run().exits(126);
    let gone = home.capsule(["run", "--cwd", "/no/such/folder", "--", "true"]).run().exits(125);
    assert!(gone.errors().contains("/no/such/folder"), "{}", gone.errors());
    let task = home.capsule(["show", "@last", "--json"]).run().exits(0).json();
    assert_eq!(task["status"], "failed");
    assert!(task["reason"].as_str().unwrap().starts_with("cannot start"), "{task}");
}

#[test]
fn a_result_file_becomes_the_result() {
    let home = Home::new();
    let _daemon = home.start();
    let write = |text: &str| format!("printf '%s' '{text}' > \"$CAPSULE_RESULT_FILE\"");
    home.capsule(["run", "--", "sh", "-c", &write(r#"{"synced": 10}"#)]).run().exits(0);
    let result = home.capsule(["result", "@last"]).run().exits(0).json();
    assert_eq!(result, serde_json::json!({"synced": 10}));
    home.capsule(["run", "--", "sh", "-c", &write("plain words")]).run().exits(0);
    let raw = home.capsule(["result", "@last", "--raw"]).run().exits(0);
    assert_eq!(raw.text().trim_end(), "plain words");
    home.capsule(["run", "--", "true"]).run().exits(0);
    assert!(home.capsule(["result", "@last"]).run().exits(0).out.is_empty());
    home.capsule(["run", "--", "false"]).run().exits(1);
    home.capsule(["result", "@last"]).run().exits(20);
    let big = "head -c 900000 /dev/zero | tr '\\0' x > \"$CAPSULE_RESULT_FILE\"";
    home.capsule(["run", "--", "sh", "-c", big]).run().exits(0);
    let raw = home.capsule(["result", "@last", "--raw"]).run().exits(0);
    assert_eq!(raw.text().trim_end().len(), 900_000);
}

#[test]
fn a_program_starts_clean() {
    let home = Home::new();
    let _daemon = home.start();
    let run = |words: &[&str]| home.capsule(["run", "--"]).args(words).run().exits(0).text();
    assert_eq!(run(&["sh", "-c", "umask"]), "0022\n");
    let none = "0000000000000000";
    let signals = run(&["grep", "-E", "SigBlk|SigIgn", "/proc/self/status"]);
    assert_eq!(signals, format!("SigBlk:\t{none}\nSigIgn:\t{none}\n"));
    // 3 is for events, 4 is the folder being listed.
    assert_eq!(run(&["ls", "/proc/self/fd"]), "0\n1\n2\n3\n4\n");
    let stat = run(&["cut", "-d", " ", "-f", "1,5,6", "/proc/self/stat"]);
    let ids: Vec<&str> = stat.split_whitespace().collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "it leads its group and session: {stat}");
}

#[test]
fn a_reader_that_goes_away_does_not_harm_the_task() {
    let home = Home::new();
    let _daemon = home.start();
    let line = "yes | head -c 3000000; echo the end > done; exit 6";
    let shell = format!("{} run --shell -- '{line}' | head -n 1", home.program("capsule"));
    let reader = home.shell(&shell).run().exits(0);
    assert_eq!((reader.text(), reader.errors()), ("y\n".to_owned(), String::new()));
    let task = home.ended(1);
    assert_eq!(task["reason"], "exit 6", "the program never learns who reads");
    assert!(home.path("h/done").exists());
}

#[test]
fn ctrl_c_cancels_and_a_second_one_leaves() {
    let home = Home::new();
    let _daemon = home.start();
    let run = home.capsule(["run", "--", "sleep", "1000"]).start();
    home.running(1);
    run.signal(Signal::SIGINT);
    run.end().exits(143);
    assert_eq!(home.show(1)["status"], "cancelled");

    for id in 2..6 {
        let run = home.capsule(["run", "--", "sleep", "1000"]).start();
        home.known(id);
        run.signal(Signal::SIGINT);
        run.end();
        assert_eq!(home.show(id)["status"], "cancelled", "also in the first moment");
    }

    let stubborn = "trap '' TERM; touch armed; while :; do sleep 0.1; done";
    let run = home.capsule(["run", "--shell", "--", stubborn]).start();
    wait_for("the trap is set", || home.path("h/armed").exists().then_some(()));
    run.signal(Signal::SIGINT);
    wait_for("the cancel is known", || (home.show(6)["cancelling"] == true).then_some(()));
    run.signal(Signal::SIGINT);
    let left = run.end().exits(130);
    assert!(left.errors().contains("6 goes on: capsule tail 6"), "{}", left.errors());
    assert_eq!(home.show(6)["status"], "running");

    let run = home.capsule(["run", "--detach-on-interrupt", "--", "sleep", "1000"]).start();
    home.running(7);
    run.signal(Signal::SIGINT);
    run.end().exits(130);
    assert_eq!(home.show(7)["status"], "running");
    assert_eq!(home.show(7)["cancelling"], false);
}
