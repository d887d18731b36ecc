//! The log of a task on its page, and as a file.

use std::time::Duration;

use capsule_tests::web::{Browser, stream_of};
use capsule_tests::{Home, wait_for};

#[test]
fn a_log_grows_and_goes_on_where_it_was_left() {
    let home = Home::new();
    let _daemon = home.start();
    let mut browser = Browser::enter(&home);
    let gate = home.path("gate");
    let script = format!(
        "echo first; while [ ! -e {0} ]; do sleep 0.02; done; echo '<b>second</b>'; exit 3",
        gate.display()
    );
    let id = home.submit(["--", "sh", "-c", &script]);
    home.running(id);
    let path = format!("/tasks/{id}");
    wait_for("the log begins", || browser.get(&path).text.contains(">first").then_some(()));
    let page = stream_of(&browser.get(&path).text);
    let mut events = browser.stream(&page, None);
    std::fs::write(&gate, "").unwrap();
    // In the state the script stands too, but goes on in the same line.
    let second = "&#60;b&#62;second&#60;/b&#62;\n";
    let failed = "<strong id=\"status\">failed";
    let told = events.until(second);
    assert!(told.data.contains("hx-target=\"#log\" hx-swap=\"beforeend\""), "{}", told.data);
    assert!(!told.data.contains("l-out\">first"), "{}", told.data);
    let ended = if told.data.contains(failed) { told } else { events.until(failed) };
    assert!(ended.data.contains("hx-target=\"#state\" hx-swap=\"outerMorph\""), "{}", ended.data);
    // Who comes back with what it has seen is told nothing again.
    let mut again = browser.stream(&page, Some(&ended.id));
    assert_eq!(again.next_within(Duration::from_millis(300)), None);
    home.capsule(["retry", &id.to_string()]).run().exits(0);
    again.until(second);
    // Also who comes back only when it has ended once more.
    assert_eq!(home.ended(id)["attempt"], 2);
    browser.stream(&page, Some(&ended.id)).until(second);
}

#[test]
fn a_log_that_grows_too_fast_goes_on_at_its_end() {
    let home = Home::new();
    let _daemon = home.start();
    let mut browser = Browser::enter(&home);
    let wait = |gate: &str| format!("while [ ! -e {gate} ]; do sleep 0.02; done");
    let script = format!("{}; seq 1 4000000; {}; echo end", wait("go"), wait("over"));
    let id = home.submit(["--shell", "--", &script]);
    home.running(id);
    let page = stream_of(&browser.get(&format!("/tasks/{id}")).text);
    let mut events = browser.stream(&page, None);
    std::fs::write(home.path("h/go"), "").unwrap();
    let mut shown = 0;
    let mut until = |wanted: &str| loop {
        let told = events.next_within(Duration::from_secs(20)).expect("more of the log");
        shown += told.data.len();
        if told.data.contains(wanted) {
            break told.data;
        }
    };
    let skipped = until("grew too fast");
    assert!(skipped.contains("MiB grew too fast"), "{skipped}");
    if !skipped.contains("\n4000000\n") {
        until("\n4000000\n");
    }
    std::fs::write(home.path("h/over"), "").unwrap();
    until("end\n");
    assert!(shown < 8 << 20, "{shown} bytes were shown of a log of 30 MB");
    assert_eq!(home.ended(id)["status"], "completed");
}

#[test]
fn the_whole_log_is_a_file() {
    let home = Home::new();
    let _daemon = home.start();
    let mut browser = Browser::enter(&home);
    let id = home.submit(["--shell", "--", "seq 1 100000; printf '\\033[31m<b>red'; exit 3"]);
    home.ended(id);
    let page = browser.get(&format!("/tasks/{id}")).has(200).text;
    assert!(page.contains(&format!("href=\"/tasks/{id}/log\"")), "{page}");
    let file = browser.get(&format!("/tasks/{id}/log")).has(200);
    let numbers: Vec<String> = (1..=100_000).map(|number| number.to_string()).collect();
    assert_eq!(file.text, numbers.join("\n") + "\n\u{1b}[31m<b>red");
    assert_eq!(file.header("content-type"), "text/plain; charset=utf-8");
    let name = format!("attachment; filename=\"task-{id}-attempt-1.log\"");
    assert_eq!(file.header("content-disposition"), name);
    home.capsule(["retry", &id.to_string()]).run().exits(0);
    wait_for("it was tried again", || (home.show(id)["attempt"] == 2).then_some(()));
    home.ended(id);
    let first = browser.get(&format!("/tasks/{id}/log?attempt=1")).has(200);
    assert_eq!(first.header("content-disposition"), name);
    drop(browser.get(&format!("/tasks/{id}/log?attempt=9")).has(404));
}
