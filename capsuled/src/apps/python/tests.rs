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

fn given(raw: &str, payload: &str) -> crate::apps::Given {
    let raw = raw.split_whitespace().map(str::to_owned).collect();
    crate::apps::Given { raw, payload: payload.to_owned(), ..Default::default() }
}

const OPEN: &str = r#"{"name":"t","var_kwargs":true,"params":[
    {"name":"owner","type":"str","has_default":true,"default":null},
    {"name":"level","type":"int","choices":[1,2],"default":1,"has_default":true},
    {"name":"any","type":"json","annotated":false,"default":null,"has_default":true}]}"#;

#[test]
fn other_names_are_taken_as_text_or_json() {
    let app = described(OPEN, "").expect("it is whole");
    let task = app.definitions.get("t").expect("it is described");
    let made = |raw: &str, payload: &str| {
        let arguments = task.arguments(&given(raw, payload));
        arguments.map(|arguments| Value::Object(arguments).to_string()).map_err(|e| e.to_string())
    };
    assert_eq!(made("", ""), Ok(r#"{"level":1}"#.to_owned()));
    assert_eq!(made("", r#"{"owner":null}"#), Ok(r#"{"level":1}"#.to_owned()));
    let all = r#"{"owner":"a","level":2,"any":"plain","dry_run":true,"tag":"x y"}"#;
    let payload = r#"{"tag":"x y"}"#;
    let order = r#"{"owner":"a","level":2,"any":"plain","tag":"x y","dry_run":true}"#;
    let told = made("--owner a --level 2 --any plain --dry-run true", payload);
    assert!(told == Ok(all.to_owned()) || told == Ok(order.to_owned()), "{told:?}");
    assert_eq!(made("--any [1]", ""), Ok(r#"{"level":1,"any":[1]}"#.to_owned()));
    assert_eq!(made("--level 3", ""), Err("--level wants one of 1, 2, not \"3\"".to_owned()));
    assert_eq!(made("--x 1 --x 2", ""), Err("--x is given twice".to_owned()));
    assert_eq!(made("--x", ""), Err("--x needs a value: text or JSON".to_owned()));
    let arguments = task.arguments(&given("--extra 5", "")).expect("it takes any");
    assert_eq!(task.refit(&arguments), Ok(()));
    let strict = described(&OPEN.replace("true,\"params", "false,\"params"), "").expect("whole");
    let task = strict.definitions.get("t").expect("it is described");
    assert!(task.arguments(&given("--extra 5", "")).is_err());
    assert!(task.refit(&arguments).is_err());
}
