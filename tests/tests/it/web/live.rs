//! What streams tell of what changes.

use std::time::Duration;

use capsule_tests::Home;
use capsule_tests::web::Browser;
use nix::sys::signal::Signal;

/// The address of a page's stream.
pub(super) fn stream_of(page: &str) -> String {
    let (_, rest) = page.split_once("hx-sse:connect=\"").expect("the page is live");
    rest.split('"').next().unwrap().replace("&amp;", "&").replace("&#38;", "&")
}

#[test]
fn a_card_appears_moves_and_goes() {
    let home = Home::new();
    let _daemon = home.start();
    let mut browser = Browser::enter(&home);
    let mut events = browser.stream(&stream_of(&browser.clone().get("/").text), None);
    let id = home.submit(["--hold", "--", "sleep", "1000"]);
    let told = events.until(&format!("id=\"b0-{id}\""));
    assert!(told.data.contains("hx-target=\"#b0c1\" hx-swap=\"afterbegin\""), "{}", told.data);
    home.capsule(["edit", &id.to_string(), "--no-hold"]).run().exits(0);
    home.running(id);
    let told = events.until("hx-target=\"#b0c2\"");
    assert!(
        told.data.contains(&format!("hx-target=\"#b0-{id}\" hx-swap=\"delete\"")),
        "{}",
        told.data
    );
    home.capsule(["cancel", &id.to_string(), "--now"]).run();
    events.until("hx-target=\"#b0c4\"");
    home.capsule(["rm", &id.to_string(), "--yes"]).run();
    let told = events.until(&format!("hx-target=\"#b0-{id}\" hx-swap=\"delete\""));
    assert!(told.data.contains("hx-target=\"#b0c4n\""), "{}", told.data);
}

#[test]
fn who_was_away_gets_the_newest_state_and_who_was_not_gets_nothing() {
    let home = Home::new();
    let daemon = home.start();
    let mut browser = Browser::enter(&home);
    let page = stream_of(&browser.get("/").text);
    let mut events = browser.stream(&page, None);
    let id = home.submit(["--hold", "--", "true"]);
    let seen = events.until(&format!("id=\"b0-{id}\"")).id;
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.end().success());
    assert_eq!(events.next_within(Duration::from_secs(40)), None, "the daemon ends its streams");
    let _daemon = home.start();
    let mut events = browser.stream(&page, Some(&seen));
    assert_eq!(events.next_within(Duration::from_millis(300)), None, "nothing has changed");
    let mut events = browser.stream(&page, Some(&seen));
    let next = home.submit(["--hold", "--", "true"]);
    let told = events.until(&format!("id=\"b0-{next}\""));
    assert!(!told.data.contains("innerMorph"), "{}", told.data);
    let mut events = browser.stream(&page, Some(&seen));
    let told = events.until(&format!("id=\"b0-{next}\""));
    assert!(told.data.contains("hx-target=\"#boards\" hx-swap=\"innerMorph\""), "{}", told.data);
}

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
    capsule_tests::wait_for("the log begins", || {
        browser.get(&path).text.contains(">first").then_some(())
    });
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
