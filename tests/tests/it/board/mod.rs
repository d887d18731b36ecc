//! The board on a real terminal, over a real daemon.

mod delay;
mod terminal;
mod windows;

use capsule_proto::v1::Options;
use capsule_tests::{Home, processes, wait_for};
use nix::sys::signal::Signal;

use self::terminal::Terminal;

const SIZE: (u16, u16) = (120, 40);

#[test]
fn a_task_is_followed_opened_and_cancelled() {
    let home = Home::new();
    let _daemon = home.start();
    let Some(terminal) = Terminal::open(&home, SIZE) else { return };
    terminal.until(&["● live", "RUNNING 0"]);
    let id = home.submit([
        "--shell",
        "--",
        "echo first; while :; do sleep 0.1; [ ! -e more ] || echo second; done",
    ]);
    terminal.until(&["RUNNING 1", &format!("▶ {id} ")]);
    terminal.press("Enter");
    terminal.until(&["out first", "queue default", "following"]);
    std::fs::write(home.path("h/more"), "").unwrap();
    terminal.until(&["out second"]);
    terminal.press("7");
    terminal.until(&["is running"]);
    terminal.press("C");
    terminal.until(&[&format!("Cancel {id} ")]);
    terminal.press("n");
    terminal.until(&["nothing was done", "RUNNING 1"]);
    terminal.press("C y");
    terminal.until(&["RUNNING 0", "FAILED 1", "cancelled"]);
    assert_eq!(home.ended(id)["status"], "cancelled");
    terminal.press("R");
    terminal.until(&["RUNNING 1"]);
    terminal.press("C C");
    terminal.until(&["RUNNING 0", "FAILED 1"]);
    terminal.press("q");
    let screen = terminal.until(&["before", "code 0"]);
    assert!(!screen.contains("RUNNING"), "the screen from before is back: {screen}");
}

#[test]
fn it_outlives_the_daemon_and_narrow_terminals() {
    let home = Home::new();
    let daemon = home.start();
    let held = home.submit(["--hold", "--", "true"]);
    let Some(terminal) = Terminal::open(&home, SIZE) else { return };
    terminal.until(&["● live", "PENDING 1", "held back"]);
    daemon.kill();
    terminal.until(&["reconnecting", "PENDING 1", "held back"]);
    let _daemon = home.start();
    terminal.until(&["● live", "PENDING 1"]);
    terminal.press("Left");
    terminal.press("p");
    terminal.until(&["as soon as possible?"]);
    terminal.press("n H");
    terminal.until(&[&format!("Let {held} true go?")]);
    terminal.press("y");
    terminal.until(&["PENDING 0", "COMPLETED 1"]);
    terminal.resize(30, 10);
    terminal.until(&["WAITING 0"]);
    terminal.resize(29, 7);
    terminal.until(&["too small for a board"]);
    terminal.resize(200, 50);
    terminal.until(&["COMPLETED 1", "WAITING 0", "FAILED 0"]);
}

#[test]
fn filters_and_lists() {
    let home = Home::new();
    let _daemon = home.start();
    for (name, owner) in [("alpha", "acme"), ("beta", "initech")] {
        home.submit(["--hold", "--name", name, "--owner", owner, "--", "true"]);
    }
    let Some(terminal) = Terminal::open(&home, SIZE) else { return };
    terminal.until(&["PENDING 2", "alpha", "beta"]);
    terminal.write("/owner:initech");
    let screen = terminal.until(&["PENDING 1", "beta"]);
    assert!(!screen.contains("alpha"), "{screen}");
    terminal.press("Enter");
    terminal.press("Q");
    terminal.until(&["QUEUE", "default", "open"]);
    terminal.press("P y");
    terminal.until(&["default", "paused"]);
    terminal.press("b Escape");
    terminal.until(&["PENDING 2", "alpha"]);
    terminal.press("?");
    terminal.until(&["Keys", "cancel the task"]);
    terminal.press("Escape");
    terminal.press("C-c");
    terminal.until(&["code 0"]);
}

#[test]
fn it_ends_with_its_terminal_and_gives_it_back_when_told_to_go() {
    let home = Home::new();
    let _daemon = home.start();
    let Some(terminal) = Terminal::open(&home, SIZE) else { return };
    terminal.until(&["● live"]);
    processes::send(terminal.program("capsule"), Signal::SIGTERM);
    terminal.until(&["before", "code 0"]);
    let Some(terminal) = Terminal::open(&home, SIZE) else { return };
    terminal.until(&["● live"]);
    let board = terminal.program("capsule");
    terminal.close();
    wait_for("the board ends", || {
        let gone = !std::path::Path::new(&format!("/proc/{board}")).exists();
        gone.then_some(())
    });
}

/// How many tasks are scrolled over: `CAPSULE_BOARD_TASKS=100000` takes its time to submit.
fn many() -> u64 {
    std::env::var("CAPSULE_BOARD_TASKS").ok().and_then(|text| text.parse().ok()).unwrap_or(5000)
}

#[test]
fn very_many_tasks_scroll() {
    let home = Home::new();
    let _daemon = home.start();
    let hold = || Options { hold: true, ..Options::default() };
    windows::submit(&home, many(), hold);
    let Some(terminal) = Terminal::open(&home, SIZE) else { return };
    let first = many();
    terminal.until(&[&format!("‖ {first} ")]);
    terminal.press("Left End");
    terminal.until(&["‖ 1 "]);
    terminal.press("PageUp PageUp PageUp");
    let screen = terminal.until(&["‖ 40 "]);
    assert!(!screen.contains("..."), "every card in sight is there: {screen}");
    terminal.press("g");
    terminal.until(&[&format!("‖ {first} ")]);
}
