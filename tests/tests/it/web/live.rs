//! What streams tell of what changes.

use std::time::Duration;

use capsule_tests::Home;
use capsule_tests::web::{Browser, stream_of};
use nix::sys::signal::Signal;

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
    // The usual port, free while the daemon is away, could become another test's.
    let daemon = home.start_with(&["--web", "127.0.0.1:0"]);
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
