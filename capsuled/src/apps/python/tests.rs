use super::*;
use crate::apps::{Kind, Runner};

fn described(tasks: &str, more: &str) -> Result<Described, DescriptionError> {
    read(&format!(
        r#"{{"format":1,"kind":"python","app":"leads","entry":"app.py:app","tasks":[{tasks}],
        "schedules":[{{"name":"hourly","cron":"0 * * * *"}}]{more}}}"#
    ))
}

const SYNC: &str = r#"{"name":"sync","file":"app.py","line":9,"async":true,"retries":2,
    "timeout":300,"lock":"owner:{owner_id}","params":[{"name":"owner_id","type":"str",
    "required":true},{"name":"limit","type":"int","default":5,"has_default":true}]}"#;

#[test]
fn tasks_and_handlers_become_definitions() {
    let app = described(SYNC, "").expect("it is whole");
    let sync = app.definitions.get("sync").expect("it is described");
    assert_eq!((sync.runner, sync.kind, sync.retries), (Runner::Loop, Kind::Task, 2));
    assert_eq!(sync.timeout.map(|span| span.0), Some(300_000));
    assert_eq!(sync.params.iter().map(|p| p.required).collect::<Vec<_>>(), [true, false]);
    let hourly = app.definitions.get("hourly").expect("it is described");
    assert_eq!((hourly.runner, hourly.kind), (Runner::Loop, Kind::Tick));
    assert_eq!(app.python.schedules.first().map(|s| s.cron.as_str()), Some("0 * * * *"));
}

#[test]
fn who_runs_a_task_follows_from_what_it_is() {
    let runner = |task: &str, more: &str| {
        let app = described(task, more).expect("it is whole");
        app.definitions.get("t").map(|definition| definition.runner)
    };
    let plain = r#"{"name":"t","async":false}"#;
    assert_eq!(runner(plain, ""), Some(Runner::Process));
    assert_eq!(runner(plain, r#","sync_tasks":"thread""#), Some(Runner::Thread));
    let process = r#"{"name":"t","async":true,"process":true}"#;
    assert_eq!(runner(process, r#","sync_tasks":"thread""#), Some(Runner::Process));
    assert_eq!(runner(process, r#","mode":"stock""#), Some(Runner::Stock));
}

#[test]
fn what_makes_no_sense_is_named_with_its_place() {
    let wrong = SYNC.replace("owner:{owner_id}", "owner:{nobody}");
    let error = described(&wrong, "").expect_err("the lock names nothing").to_string();
    assert_eq!(error, "app.py:9: sync: lock: {nobody} is no parameter of it");
    let twice = described(&format!("{SYNC},{SYNC}"), "").expect_err("a name stands once");
    assert_eq!(twice.to_string(), "app.py:9: sync: name: it is there twice");
    let newer = read(r#"{"format":2,"app":"x"}"#).expect_err("it may mean anything");
    assert_eq!(newer, DescriptionError::Newer(2));
}
