//! Lists, queues, schedules and locks as they change, and what is done with many tasks.

use std::time::Duration;

use capsule_tests::Home;
use capsule_tests::web::{Browser, stream_of};

#[test]
fn a_list_shows_what_its_filter_finds_as_it_changes() {
    let home = Home::new();
    let _daemon = home.start();
    let mut browser = Browser::enter(&home);
    let page = browser.get("/tasks?q=task:mine").has(200).text;
    let mut events = browser.stream(&stream_of(&page), None);
    assert_eq!(events.next_within(Duration::from_millis(300)), None, "the page has it all");
    home.submit(["--name", "other", "--hold", "--", "true"]);
    let id = home.submit(["--name", "mine", "--hold", "--", "true"]);
    let told = events.until(&format!("id=\"t{id}\""));
    assert!(told.data.contains("hx-target=\"#shown\" hx-swap=\"innerMorph\""), "{}", told.data);
    assert!(told.data.contains("1 tasks") && !told.data.contains("other"), "{}", told.data);
    home.capsule(["cancel", &id.to_string()]).run().exits(0);
    let told = events.until("s-cancelled");
    home.submit(["--name", "other", "--hold", "--", "true"]);
    assert_eq!(events.next_within(Duration::from_millis(600)), None, "nothing of it has changed");
    let mut again = browser.stream(&stream_of(&page), Some(&told.id));
    assert_eq!(again.next_within(Duration::from_millis(300)), None, "it was seen");
}

#[test]
fn queues_schedules_and_locks_are_told_as_they_change() {
    let home = Home::new();
    let _daemon = home.start();
    let mut browser = Browser::enter(&home);
    let mut open = |place: &str| {
        let page = browser.get(place).has(200).text;
        browser.stream(&stream_of(&page), None)
    };
    let (mut queues, mut schedules, mut locks) =
        (open("/queues"), open("/schedules"), open("/locks"));
    home.capsule(["queue", "pause", "night", "--note", "moving"]).run().exits(0);
    let told = queues.until("night");
    assert!(told.data.contains("paused moving"), "{}", told.data);
    home.capsule(["schedule", "add", "nightly", "--cron", "0 3 * * *", "--", "true"])
        .run()
        .exits(0);
    let told = schedules.until("nightly");
    let (_, rest) = told.data.split_once("href=\"/schedules/").unwrap();
    let id = rest.split('"').next().unwrap().to_owned();
    let mut one = open(&format!("/schedules/{id}"));
    home.capsule(["schedule", "pause", "nightly"]).run().exits(0);
    schedules.until("paused by");
    one.until("paused by");
    home.capsule(["schedule", "trigger", "nightly"]).run().exits(0);
    one.until("completed");
    let task = home.submit(["--lock", "owner:acme", "--", "sleep", "1000"]);
    let told = locks.until("owner:acme");
    assert!(told.data.contains(&format!("/tasks/{task}")), "{}", told.data);
    home.capsule(["cancel", &task.to_string(), "--now"]).run().exits(0);
    locks.until("Nobody holds a lock");
}

#[test]
fn what_is_done_with_many_is_what_was_named() {
    let home = Home::new();
    let _daemon = home.start();
    let mut browser = Browser::enter(&home);
    let ids: Vec<u64> =
        (0..30).map(|_| home.submit(["--name", "mine", "--hold", "--", "true"])).collect();
    let other = home.submit(["--name", "other", "--hold", "--", "true"]);
    let page = browser.get("/tasks?q=task:mine").text;
    assert!(page.contains("href=\"/tasks/each/cancel?q=task%3Amine\""), "{page}");
    let ask = browser.get("/tasks/each/cancel?q=task%3Amine").has(200);
    assert!(ask.text.contains("<h1>Cancel 30 tasks?</h1>"), "{}", ask.text);
    assert!(ask.text.contains(&format!("<span class=\"id\">{}</span> mine", ids[29])));
    assert!(ask.text.contains("and 10 more"), "{}", ask.text);
    let (_, rest) = ask.text.split_once("name=\"ids\" value=\"").unwrap();
    let named = rest.split('"').next().unwrap().to_owned();
    // One that came later was not named, one that has gone meanwhile is told of.
    let late = home.submit(["--name", "mine", "--hold", "--", "true"]);
    home.capsule(["cancel", &ids[0].to_string()]).run().exits(0);
    home.capsule(["rm", &ids[0].to_string(), "--yes"]).run().exits(0);
    let mark = ask.mark();
    let fields = [("mark", mark.as_str()), ("q", "task:mine"), ("ids", named.as_str())];
    let done = browser.post("/tasks/each/cancel", &fields).has(200);
    assert!(done.text.contains("29 done"), "{}", done.text);
    assert!(
        done.text.contains(&format!("<a href=\"/tasks/{0}\">{0}</a> it is gone", ids[0])),
        "{}",
        done.text
    );
    assert_eq!(home.show(ids[29])["status"], "cancelled");
    for left in [late, other] {
        assert_eq!(home.show(left)["status"], "pending");
    }
    let again = browser.get("/tasks/each/cancel?q=task%3Amine%20owner%3Anobody").has(200);
    assert!(!again.text.contains("name=\"ids\""), "{}", again.text);
    let retry = browser.get("/tasks/each/retry?q=task%3Amine").has(200);
    assert!(retry.text.contains("Retry 29 tasks?"), "{}", retry.text);
    let many = "1 ".repeat(501);
    let fields = [("mark", mark.as_str()), ("q", ""), ("ids", many.as_str())];
    let refused = browser.post("/tasks/each/remove", &fields).has(400);
    assert!(refused.text.contains("500 tasks at once"), "{}", refused.text);
    drop(browser.get("/tasks/each/promote").has(404));
}

#[test]
fn a_board_that_only_shows_changes_nothing() {
    let home = Home::new();
    let _daemon = home.start_with(&["--slots", "8", "--web-read-only"]);
    let mut browser = Browser::enter(&home);
    let id = home.submit(["--", "sleep", "1000"]);
    home.running(id);
    let mut mark = String::new();
    for place in ["/", "/tasks", &format!("/tasks/{id}"), "/queues", "/schedules"] {
        let page = browser.get(place).has(200);
        mark = page.mark();
        let forms: Vec<&str> = page.text.split("<form").skip(1).collect();
        let posts = forms.iter().filter(|form| form.contains("method=\"post\"")).count();
        assert_eq!(posts, 1, "only the theme is set on {place}: {}", page.text);
        assert!(!page.text.contains("/cancel"), "{place}: {}", page.text);
    }
    let refused = browser.post(&format!("/tasks/{id}/cancel"), &[("mark", &mark)]).has(403);
    assert!(refused.text.contains("changes nothing"), "{}", refused.text);
    assert_eq!(home.show(id)["status"], "running");
    drop(browser.post("/theme", &[("mark", &mark), ("theme", "dark")]).has(303));
}

#[test]
fn hidden_arguments_are_nowhere() {
    let home = Home::new();
    let _daemon = home.start_with(&["--slots", "8", "--web-hide-arguments"]);
    let mut browser = Browser::enter(&home);
    let mut events = browser.stream(&stream_of(&browser.clone().get("/").text), None);
    let id = home.submit(["--", "sh", "-c", "exit 3", "hush-hush"]);
    let told = events.until("s-failed");
    assert!(!told.data.contains("hush"), "{}", told.data);
    for place in ["/", "/tasks", &format!("/tasks/{id}"), "/tasks/each/retry"] {
        let page = browser.get(place).has(200).text;
        assert!(page.contains(&id.to_string()) && !page.contains("hush"), "{place}: {page}");
    }
    let page = browser.get("/tasks?q=hush-hush").has(200).text;
    assert!(page.contains("arguments are not shown"), "{page}");
}
