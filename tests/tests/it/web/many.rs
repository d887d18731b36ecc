//! Very many tasks, and pages on which nothing happens.

use std::fs;
use std::time::{Duration, Instant};

use capsule_proto::v1::{Options, SubmitBatchRequest};
use capsule_tests::web::{Browser, stream_of};
use capsule_tests::{Home, rpc, wait_for_within};

const TASKS: usize = 100_000;
const BATCH: usize = 2000;
/// The largest page: five columns of 50 cards.
const PAGE_MAX: usize = 512 << 10;

fn fill(home: &Home) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut tasks = rpc::connect(&home.socket()).await.unwrap();
        for _ in 0..TASKS / BATCH {
            let options = Options { hold: true, ..Options::default() };
            let submits = vec![rpc::script("true", options); BATCH];
            let reply = tasks.submit_batch(SubmitBatchRequest { submits }).await.unwrap();
            assert!(reply.into_inner().results.iter().all(|it| it.error.is_empty()));
        }
    });
}

#[test]
fn a_page_over_a_hundred_thousand_tasks_holds_a_window_of_them() {
    let home = Home::new();
    let _daemon = home.start();
    let mut browser = Browser::enter(&home);
    fill(&home);
    let began = Instant::now();
    let board = browser.get("/").has(200).text;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(board.len() < PAGE_MAX, "{} bytes", board.len());
    assert_eq!(board.matches("<li id=\"b0-").count(), 50);
    assert!(board.contains("100\u{202f}000"), "it says how many there are");
    assert!(board.contains("and 99\u{202f}950 more"), "it says how many have no card");

    let list = browser.get("/tasks?q=state:pending").has(200).text;
    assert!(list.len() < PAGE_MAX && list.contains("100\u{202f}000 tasks"));
    assert_eq!(list.matches("<tr id=\"t").count(), 100);
    let next = list.split("rel=\"next\" href=\"").nth(1).unwrap().split('"').next().unwrap();
    let older = browser.get(&next.replace("&#38;", "&")).has(200).text;
    assert!(older.contains("/tasks/99900\"") && !older.contains("/tasks/99901\""), "{next}");

    // One change is told as one change.
    let mut events = browser.stream(&stream_of(&board), None);
    let began = Instant::now();
    let id = home.submit(["--hold", "--", "true"]);
    let told = events.until(&format!("id=\"b0-{id}\""));
    eprintln!("a page of {} KiB in {took:?}; a change in {:?}", board.len() >> 10, began.elapsed());
    assert!(told.data.len() < 4096, "{}", told.data);
    assert!(told.data.contains("hx-target=\"#b0-99951\" hx-swap=\"delete\""), "{}", told.data);
}

/// How often the threads of a process were put on a core.
fn switches(pid: i32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let told = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    let count = |status: String| -> u64 {
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        lines.map(|line| line.rsplit('\t').next().unwrap().trim().parse::<u64>().unwrap()).sum()
    };
    told.map(count).sum()
}

#[test]
fn open_pages_on_which_nothing_happens_wake_nobody() {
    let home = Home::new();
    let daemon = home.start();
    let mut browser = Browser::enter(&home);
    let held = home.submit(["--hold", "--", "true"]);
    let runs = home.submit(["--", "sleep", "1000"]);
    home.running(runs);
    let places = ["/".to_owned(), format!("/tasks/{held}"), format!("/tasks/{runs}")];
    let pages: Vec<_> = places
        .iter()
        .map(|place| {
            let page = browser.get(place).has(200).text;
            browser.stream(&stream_of(&page), None)
        })
        .collect();
    let (mut seen, mut since) = (switches(daemon.pid()), Instant::now());
    wait_for_within("the daemon is calm for three seconds", Duration::from_secs(40), || {
        let now = switches(daemon.pid());
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        (since.elapsed() >= Duration::from_secs(3)).then_some(())
    });
    drop(pages);
}
