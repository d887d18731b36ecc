//! Every error says what to do next, by a command that exists and works.

use std::fs;

use super::Queue;

/// A definition for each way to be wrong, and tasks 1 (running, holds `l`), 2 (completed),
/// 3 (failed), 4 (held back), 5 (removed).
fn prepared() -> Queue {
    let queue = Queue::with(
        "[tasks.long]\ncommand = [\"sleep\", \"1000\"]\nlock = \"l\"\nlock_policy = \"reject\"\n\
         timeout = \"10m\"\n\
         [tasks.t]\ncommand = [\"sh\", \"-c\", \"exit $0\", \"{code}\"]\n\
         params.code = { type = \"int\", default = 0 }\nparams.text = { type = \"str\" }\n",
    );
    queue.home.running(queue.submit("long"));
    queue.home.ended(queue.submit("t --key k"));
    queue.home.ended(queue.submit("t --code 1"));
    queue.submit("t --hold");
    queue.home.ended(queue.submit("t"));
    queue.say("rm 5").run().exits(0);
    fs::write(queue.dir().join("big"), "x".repeat(1 << 20)).unwrap();
    fs::create_dir(queue.dir().join("bad")).unwrap();
    fs::write(queue.dir().join("bad/capsule.toml"), "[app]\nname = \"x\"\nfoo = 1\n").unwrap();
    queue
}

/// Words, and the exit code that they end with.
const WRONG: [(&str, i32); 60] = [
    ("submit nope", 2),
    ("submit lon", 2),
    ("submit t --cod 1", 2),
    ("submit t --code one", 2),
    ("submit t --code", 2),
    ("submit t stray", 2),
    ("submit t --text @big", 2),
    ("submit t --text @nowhere", 2),
    ("submit t --payload @nowhere", 2),
    ("submit t --payload [1]", 2),
    ("submit t -p code", 2),
    ("submit t -P code:=x", 2),
    ("submit t --in soon", 2),
    ("submit t --in 1h --at 2099-01-01", 2),
    ("submit t --priority 200", 2),
    ("submit t --after 999", 4),
    ("submit t --after 2:soon", 2),
    ("submit t --retries 1 --delivery at-most-once", 2),
    ("submit t --backoff often", 2),
    ("submit t --no-retry-on rain", 2),
    ("submit t --queue a/b\u{7}", 2),
    ("submit t --code 1 --key k", 5),
    ("submit t --each nowhere", 2),
    ("submit t --shell", 2),
    ("submit long", 5),
    ("submit", 2),
    ("submit --shell -- a b", 2),
    ("run -p a=b -- true", 2),
    ("sumbit t", 2),
    ("list --status gone", 2),
    ("list --statuss failed", 2),
    ("list --json=nope", 2),
    ("list --since whenever", 2),
    ("show 999", 4),
    ("show 5", 4),
    ("show abc", 2),
    ("show @nobody", 2),
    ("show", 2),
    ("cancel", 2),
    ("cancel --status running", 2),
    ("cancel 1 --status running --all", 2),
    ("retry 2", 5),
    ("retry 999", 4),
    ("result 1", 24),
    ("wait 999", 4),
    ("wait --task nobody --all", 4),
    ("tail 2 --attempt 9", 4),
    ("edit 4", 2),
    ("prune", 2),
    ("app show nope", 4),
    ("app rollback demo r9", 4),
    ("deploy nowhere", 2),
    ("deploy bad", 2),
    ("tasks nope", 2),
    ("queue limit q 0", 2),
    ("lock show nope", 4),
    ("help nope", 2),
    ("--socket nowhere.sock list", 3),
    // Their hints do what was not done before.
    ("cancel --status running --all", 7),
    ("app remove demo", 7),
];

/// The commands that a text names, each to be typed as it stands.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with("Usage:")) {
        // The sentence itself may be about capsuled.
        let error = line.starts_with("error:");
        let starts: &[&str] = if error { &[": capsule "] } else { &[" capsule ", " capsuled "] };
        let Some(at) = starts.iter().filter_map(|word| line.find(word)).min() else { continue };
        let before = if error { ": " } else { " " };
        let command = line[at + before.len()..].trim();
        match command.split_once('|') {
            // `capsule help ids|states` is as many commands.
            Some(_) => {
                let (start, last) = command.rsplit_once(' ').unwrap();
                found.extend(last.split('|').map(|word| format!("{start} {word}")));
            }
            None => found.push(command.to_owned()),
        }
    }
    found
}

/// What an error says to people, also when it was told as JSON.
fn told(errors: &str) -> String {
    let Ok(told) = serde_json::from_str::<serde_json::Value>(errors) else {
        return errors.to_owned();
    };
    let text = |name: &str| told["error"][name].as_str().unwrap_or_default().to_owned();
    format!("error: {}\n  hint: {}\n", text("message"), text("hint"))
}

/// Runs a command that a hint names. One that waits is only asked whether it would; a daemon is
/// not started.
fn works(queue: &Queue, said: &str, command: &str) {
    let mut words: Vec<&str> = command.split_whitespace().collect();
    let placeholder = |word: &&str| {
        *word == "…" || word.chars().all(|c| c.is_ascii_uppercase()) && !word.is_empty()
    };
    let line = match words.iter().position(placeholder) {
        None => {
            match words.as_slice() {
                ["capsule", "wait", ..] => words.extend(["--timeout", "0"]),
                ["capsule", "result", ..] => words.retain(|word| *word != "--wait"),
                ["capsuled", ..] => words.push("--help"),
                _ => {}
            }
            words.join(" ")
        }
        // What is left open is filled in: the held task, or a program.
        Some(_) => command.replace("COMMAND", "true").replace("ID", "4"),
    };
    assert!(!line.contains("PATH"), "{line}");
    let program = queue.home.program("capsule");
    let script = line.replacen("capsule ", &format!("{program} "), 1);
    let script = script.replacen("capsuled ", &format!("{program}d "), 1);
    let run = queue.home.shell(&script).run();
    let code = run.code();
    let fine = [0, 4, 5, 7, 20, 24].contains(&code);
    assert!(fine, "{command:?} ends with {code}: {}\nof: {said}", run.errors());
}

#[test]
fn each_hint_is_a_command_that_works() {
    let queue = prepared();
    for (words, code) in WRONG {
        queue.say(words).run().exits(code);
    }
    assert_eq!(queue.count(), 4, "nothing of it is queued");

    let mut without = Vec::new();
    for (words, code) in WRONG {
        let said = told(&queue.say(words).run().exits(code).errors());
        assert!(said.starts_with("error: ") || said.starts_with("About to"), "{words}: {said}");
        let named = commands(&said);
        let clear = said.contains("tip: ") || said.contains("For more information, try '--help'");
        if named.is_empty()
            && !clear
            && !said.contains("[possible values")
            && !said.contains("--help")
        {
            without.push(format!("{words}: {said}"));
        }
        for command in &named {
            works(&queue, &said, command);
        }
    }
    assert!(without.is_empty(), "these do not say what to do:\n{}", without.join("\n"));
}

#[test]
fn a_hint_of_a_shown_task_and_of_a_gate_works() {
    let queue = prepared();
    let mut seen = 0;
    for id in 1..=4 {
        for verb in ["show", "why"] {
            let said = queue.say(&format!("{verb} {id}")).run().exits(0).text();
            for command in commands(&said) {
                let command = command.replace("capsule tail 1", "capsule tail 1 --no-follow");
                works(&queue, &said, command.trim_end_matches(|c: char| !c.is_alphanumeric()));
                seen += 1;
            }
        }
    }
    assert!(seen >= 5, "{seen}");
    queue.say("drain --no-wait").run().exits(0);
    queue.submit("t");
    let said = queue.say("why @last").run().exits(0).text();
    assert!(commands(&said).contains(&"capsule drain --off".to_owned()), "{said}");
}

#[test]
fn every_topic_and_every_command_has_help() {
    let queue = Queue::bare();
    let all = queue.say("--help").run().exits(0).text();
    let topics = all.lines().last().unwrap().trim().strip_prefix("More: capsule help ").unwrap();
    for topic in topics.split('|') {
        let text = queue.say(&format!("help {topic}")).run().exits(0).text();
        assert!(text.lines().count() > 5, "{topic}: {text}");
    }
    assert!(queue.say("help states").run().text().contains("at_most_once"));
    let verbs = all.lines().skip_while(|line| *line != "Commands:").skip(1);
    for line in verbs.take_while(|line| !line.is_empty()) {
        let verb = line.split_whitespace().next().unwrap();
        let help = queue.say(&format!("help {verb}")).run().exits(0).text();
        assert!(help.contains("Usage: capsule"), "{verb}");
        // Its examples are commands of ours.
        for example in help.lines().filter_map(|line| line.strip_prefix("  capsule ")) {
            let known = example.split_whitespace().next().unwrap();
            assert!(all.contains(&format!("\n  {known} ")), "{verb}: {example}");
        }
    }
}
