//! The five blocks of the SDK's tutorial, as printed there.

use capsule_tests::web::{Browser, stream_of};
use serde_json::json;

use super::{Deployed, seed_app};

#[test]
fn a_message_submits_a_task_and_its_card_completes() {
    let Some(app) = Deployed::new(&seed_app()) else { return };
    let said = app.says(&["chat", "seed", "--as", "ann", "--once", "go", "--wait"]);
    assert!(said.contains("Lead sync started"), "{said}");
    let task = app.becomes("sync_leads", "completed");
    let id = task["id"].to_string();
    let result = app.json(&["result", &id]);
    assert_eq!(result, json!({"synced": 10, "owner_id": "ann"}));
    let said =
        app.says(&["chat", "seed", "--as", "ann", "--org", "acme", "--once", "go", "--wait"]);
    assert!(said.contains("org:acme"), "{said}");
}

#[test]
fn the_command_line_has_typed_flags_for_its_tasks() {
    let Some(app) = Deployed::new(&seed_app()) else { return };
    let told = app.says(&["tasks", "sync_leads"]);
    assert!(told.contains("--owner-id str (required)"), "{told}");
    app.says(&["submit", "sync_leads", "--owner-id", "acme", "--wait"]);
    let result = app.json(&["result", "@last"]);
    assert_eq!(result, json!({"synced": 10, "owner_id": "acme"}));
    let refused = app.home.capsule(["submit", "sync_leads", "--owner", "acme"]).run();
    assert_ne!(refused.code(), 0, "nothing is queued without its owner_id");
    assert!(refused.errors().contains("owner-id"), "{}", refused.errors());
}

#[test]
fn a_task_with_process_true_has_a_process_of_its_own_under_its_lock() {
    let Some(app) = Deployed::new(&seed_app()) else { return };
    app.says(&["submit", "rebuild_index", "--owner-id", "u1", "--wait"]);
    let task = app.json(&["show", "@last", "--json"]);
    assert_eq!(task["status"], "completed");
    assert_eq!(task["lock"], "owner:u1");
    assert_eq!(task["exit_code"], 0, "a process of its own ended: {task}");
}

#[test]
fn its_page_is_a_board_and_its_schedule_submits_for_the_system() {
    let Some(app) = Deployed::new(&seed_app()) else { return };
    let board = app.says(&["board", "--page", "Tasks", "--once"]);
    assert!(board.contains("Background work"), "{board}");
    app.says(&["schedule", "trigger", "hourly_sync"]);
    let task = app.becomes("sync_leads", "completed");
    let id = task["id"].to_string();
    assert_eq!(app.json(&["result", &id])["owner_id"], "system");
    let board = app.says(&["board", "--page", "Tasks", "--once"]);
    assert!(board.contains("sync_leads") && !board.contains("hourly_sync"), "{board}");
    let history = app.says(&["schedule", "history", "hourly_sync"]);
    assert!(history.contains("completed"), "{history}");
}

const OWN_BOARD: &str = r#"

@app.page("Failures", icon="x")
def failures():
    broken = cpsl.ui.TaskBoardColumn("Broken", statuses=["failed", "timeout"])
    wanted = {"task_name": "sync_leads"}
    return cpsl.ui.Page([cpsl.ui.TaskBoard(title="What <failed>", filter=wanted, columns=[broken])])
"#;

#[test]
fn its_pages_are_boards_in_a_browser_too() {
    let Some(app) = Deployed::new(&(seed_app() + OWN_BOARD)) else { return };
    app.says(&["submit", "sync_leads", "--owner-id", "acme", "--wait"]);
    app.says(&["submit", "rebuild_index", "--owner-id", "u1", "--wait"]);
    app.says(&["schedule", "trigger", "hourly_sync"]);
    let mut browser = Browser::enter(&app.home);
    let page = browser.get("/?app=seed&page=Tasks").has(200).text;
    assert!(page.contains("<h2>Background work</h2>"), "{page}");
    for column in ["Pending", "Running", "Completed", "Failed"] {
        assert!(page.contains(&format!("<span>{column}</span>")), "{column}: {page}");
    }
    assert!(page.contains("rebuild_index") && !page.contains("</span> hourly_sync"), "{page}");
    let page = browser.get("/?app=seed&page=Failures").has(200).text;
    assert!(page.contains("<h2>What &#60;failed&#62;</h2>"), "{page}");
    let columns: Vec<&str> = page.split("<h3 id=").skip(1).collect();
    assert_eq!(columns.len(), 2, "{page}");
    assert!(columns[0].contains("<span>Broken</span>") && !columns[0].contains("<li "), "{page}");
    assert!(columns[1].contains("<span>Other</span>"), "{page}");
    assert!(columns[1].contains("sync_leads") && !columns[1].contains("rebuild_index"), "{page}");
    assert!(page.contains("href=\"/?app=seed&#38;page=Failures\" aria-current=\"page\""), "{page}");
    drop(browser.get("/?app=seed&page=Nowhere").has(404));
}

#[test]
fn an_open_board_becomes_another_one_by_a_deploy() {
    let Some(app) = Deployed::new(&(seed_app() + OWN_BOARD)) else { return };
    let mut browser = Browser::enter(&app.home);
    let place = "/?app=seed&page=Failures";
    let page = browser.get(place).has(200).text;
    let mut events = browser.stream(&stream_of(&page), None);
    let other = OWN_BOARD.replace("\"Broken\"", "\"Out of order\"")
        + &OWN_BOARD.replace("Failures", "More");
    app.deploy(&(seed_app() + &other)).exits(0);
    let told = events.until("<span>Out of order</span>");
    assert!(told.data.contains("hx-target=\"#boards\" hx-swap=\"innerMorph\""), "{}", told.data);
    let places = &told.data;
    assert!(places.contains("hx-target=\"#places\"") && places.contains("page=More"), "{places}");
    app.says(&["submit", "sync_leads", "--owner-id", "acme", "--wait"]);
    events.until("sync_leads");
    app.deploy(&seed_app()).exits(0);
    events.until("has no page");
    drop(browser.get(place).has(404));
}

const SLOW: &str = r#"
import asyncio
import cpsl

app = cpsl.App("slow", image=cpsl.Image())

@app.task()
async def five():
    await asyncio.sleep(5)
    return "done"

@app.message()
async def handle(session: cpsl.Session, msg: cpsl.Message):
    if msg.text == "go":
        handle = await five.submit()
        await session.show_task(handle, message="It runs")
    else:
        await session.reply("still here")
"#;

#[test]
fn a_turn_is_over_while_its_task_runs_and_the_next_one_is_answered() {
    let Some(app) = Deployed::new(SLOW) else { return };
    let said = app.says(&["chat", "slow", "--as", "ann", "--once", "go"]);
    assert!(said.contains("It runs"), "{said}");
    let task = app.becomes("five", "running");
    let said = app.says(&["chat", "slow", "--as", "ann", "--session", "last", "--once", "hello"]);
    assert!(said.trim_end().ends_with("still here"), "{said}");
    let id = task["id"].to_string();
    let now = app.json(&["show", &id, "--json"]);
    assert_eq!(now["status"], "running", "both turns were over before the task: {now}");
    let ended = app.becomes("five", "completed");
    assert_eq!(app.json(&["result", &ended["id"].to_string()]), "done");
}
