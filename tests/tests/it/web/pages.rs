//! What pages show, and what their forms do.

use capsule_tests::web::Browser;
use capsule_tests::{Home, wait_for};

const HOSTILE: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u{202e}\u{1b}[2J";

#[test]
fn tasks_stand_in_the_column_of_their_status() {
    let home = Home::new();
    let _daemon = home.start();
    let mut browser = Browser::enter(&home);
    let good = home.submit(["--name", "fine", "--", "true"]);
    let bad = home.submit(["--name", "broken", "--", "false"]);
    let held = home.submit(["--name", "later", "--in", "1h", "--", "true"]);
    let runs = home.submit(["--name", "long", "--", "sleep", "1000"]);
    home.ended(good);
    home.ended(bad);
    home.running(runs);
    let page = browser.get("/").has(200).text;
    for (label, id) in [("Completed", good), ("Failed", bad), ("Waiting", held), ("Running", runs)]
    {
        let column = page
            .split("<section class=\"column\"")
            .find(|it| it.contains(&format!("<span>{label}</span>")));
        let column = column.unwrap();
        assert!(column.contains(&format!("id=\"b0-{id}\"")), "{label}: {column}");
        assert_eq!(column.matches("<li ").count(), 1, "{label}: {column}");
    }
}

#[test]
fn a_task_is_cancelled_and_tried_again_by_forms() {
    let home = Home::new();
    let _daemon = home.start();
    let mut browser = Browser::enter(&home);
    let id = home.submit(["--", "sleep", "1000"]);
    home.running(id);
    let page = browser.get(&format!("/tasks/{id}")).has(200);
    assert!(page.text.contains("id=\"do-cancel\""), "{}", page.text);
    let ask = browser.get(&format!("/tasks/{id}/cancel")).has(200);
    assert!(ask.text.contains(&format!("Cancel task {id}?")), "{}", ask.text);
    let mark = ask.mark();
    let fields = [("mark", mark.as_str()), ("at-once", "yes")];
    drop(browser.post(&format!("/tasks/{id}/cancel"), &fields).has(303));
    assert_eq!(home.ended(id)["status"], "cancelled");
    drop(browser.post(&format!("/tasks/{id}/retry"), &[("mark", &mark)]).has(303));
    home.running(id);
    // What cannot be done is said in the daemon's words.
    let refused = browser.post(&format!("/tasks/{id}/remove"), &[("mark", &mark)]).has(409);
    assert!(refused.text.contains("running"), "{}", refused.text);
    drop(browser.post(&format!("/tasks/{id}/explode"), &[("mark", &mark)]).has(404));
    drop(browser.get("/tasks/999999").has(404));
}

#[test]
fn what_a_task_wrote_is_text() {
    let home = Home::new();
    let _daemon = home.start();
    let mut browser = Browser::enter(&home);
    let script = "printf '%s\\n' \"$1\"; exit 3";
    let id = home.submit([
        "--name",
        "echo",
        "--label",
        &format!("x={HOSTILE}"),
        "--owner",
        HOSTILE,
        "--",
        "sh",
        "-c",
        script,
        "sh",
        HOSTILE,
    ]);
    home.ended(id);
    let task = browser.get(&format!("/tasks/{id}")).has(200).text;
    let board = browser.get("/").has(200).text;
    for page in [&task, &board] {
        assert!(!page.contains("<script>alert") && !page.contains("<img src=x"), "{page}");
        assert!(!page.contains('\u{1b}') && !page.contains('\u{202e}'), "{page}");
        assert!(page.contains("alert(1)"), "it is shown as text: {page}");
    }
}

#[test]
fn a_theme_is_kept() {
    let home = Home::new();
    let _daemon = home.start();
    let mut browser = Browser::enter(&home);
    let page = browser.get("/").has(200);
    assert!(page.text.contains("data-theme=\"system\""));
    let back = browser.post("/theme", &[("mark", &page.mark()), ("theme", "dark")]).has(303);
    assert_eq!(back.header("location"), "/");
    assert!(browser.get("/").text.contains("data-theme=\"dark\""));
    wait_for("it is still so", || {
        browser.get("/").text.contains("data-theme=\"dark\"").then_some(())
    });
}
