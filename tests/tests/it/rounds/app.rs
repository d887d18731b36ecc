//! An app whose schedules fire all the while, played by a script, and what becomes of their ticks.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt;

use capsule_proto::v1::schedules_client::SchedulesClient;
use capsule_proto::v1::{
    EndScheduleRequest, ListSchedulesRequest, ScheduleHistoryRequest, ScheduleView, TaskView,
    TickView,
};
use capsule_tests::{Home, rpc, wait_for};
use serde_json::json;

/// Plays the interpreter of an app: what the daemon has it run.
const INTERPRETER: &str = r#"#!/bin/sh
for role; do :; done
[ "$role" = host ] && exec python3 host.py host
[ "$role" = attempt ] || exit 1
[ "$CAPSULE_TASK" = begin ] && exec python3 recur.py
me="$CAPSULE_TASK_ID $CAPSULE_ATTEMPT"
echo "begin $me" >> ../notes
echo "end $me" >> ../notes
"#;

/// Its host, in which the handlers of its schedules run: `quick` is one that it knows.
const HOST: &str = include_str!("../hosts/fake_host.py");

/// Submits the task `beat` to be run each second.
const RECUR: &str = r#"
import base64, json, os, socket
to = socket.socket(socket.AF_UNIX)
to.connect(os.environ["CAPSULE_HOST_SOCKET"])
task, attempt = int(os.environ["CAPSULE_TASK_ID"]), int(os.environ["CAPSULE_ATTEMPT"])
body = b"\x0a\x03app\x12\x04beat\x22\x02{}\x58\x01"
for frame in [
    {"t": "hello", "protocol": 1, "role": "attempt", "token": os.environ["CAPSULE_HOST_TOKEN"],
     "pid": os.getpid(), "task": task, "attempt": attempt},
    {"t": "call", "id": 1, "method": "TaskService/SubmitTask", "task": task, "attempt": attempt,
     "key": "1", "body": base64.b64encode(body).decode()},
]:
    to.sendall(json.dumps(frame).encode() + b"\n")
for line in to.makefile():
    print(line, flush=True)
    frame = json.loads(line)
    if frame["t"] == "reply":
        raise SystemExit(0 if "body" in frame else 1)
"#;

/// Deploys it; from then on something fires each second, something each minute, and what fires
/// each minute can be triggered.
pub(super) fn deploy(home: &Home) {
    let folder = home.path("h/app");
    fs::create_dir(&folder).unwrap();
    let interpreter = folder.join("python");
    fs::write(&interpreter, INTERPRETER).unwrap();
    fs::set_permissions(&interpreter, PermissionsExt::from_mode(0o700)).unwrap();
    fs::write(folder.join("recur.py"), RECUR).unwrap();
    fs::write(folder.join("host.py"), HOST).unwrap();
    let task = |name| json!({"name": name, "async": false, "params": []});
    let text = json!({
        "format": 1, "kind": "python", "app": "app", "entry": "app.py:app",
        "interpreter": interpreter, "dir": folder, "source": folder, "mode": "host",
        "tasks": [task("beat"), task("begin")],
        "schedules": [{"name": "quick", "cron": "* * * * *"}],
    });
    fs::write(home.path("h/capsule.toml"), text.to_string()).unwrap();
    home.capsule(["deploy"]).run().exits(0);
    let begin = home.ended(home.submit(["begin"]));
    assert_eq!(begin["status"], "completed", "{begin} {}", home.log());
    wait_for("it beats", || {
        let schedules = home.capsule(["schedule", "list", "--json"]).run().exits(0).json();
        let mut last = schedules.as_array().unwrap().iter().map(|it| &it["last"]);
        last.any(|last| !last.is_null()).then_some(())
    });
}

/// Ends what fires each second. Gives the schedules.
pub(super) async fn still(home: &Home) -> Vec<ScheduleView> {
    let mut calls = SchedulesClient::new(rpc::channel(&home.socket()).await.unwrap());
    let all = ListSchedulesRequest { app: "app".to_owned(), all: true };
    let schedules = calls.list_schedules(all).await.unwrap().into_inner().schedules;
    assert_eq!(schedules.len(), 2, "{schedules:#?}");
    for schedule in &schedules {
        assert_eq!((schedule.generation, schedule.ended_us), (1, None), "{schedule:?}");
        if schedule.origin == "sdk" {
            let schedule = schedule.id.to_string();
            let request = EndScheduleRequest { schedule, ..EndScheduleRequest::default() };
            calls.end_schedule(request).await.unwrap();
        }
    }
    schedules
}

/// Each tick made one task at the most, each task of a schedule is of one tick, and what was
/// triggered is among them.
pub(super) async fn judge(
    home: &Home,
    schedules: &[ScheduleView],
    tasks: &[TaskView],
    triggered: &[u64],
) -> usize {
    let mut calls = SchedulesClient::new(rpc::channel(&home.socket()).await.unwrap());
    let mut made: HashMap<u64, TickView> = HashMap::new();
    let mut first = u64::MAX;
    for schedule in schedules {
        let (name, limit) = (schedule.id.to_string(), 1000);
        let request =
            ScheduleHistoryRequest { schedule: name, limit, ..ScheduleHistoryRequest::default() };
        let ticks = calls.schedule_history(request).await.unwrap().into_inner().ticks;
        judge_order(&ticks);
        let fired = ticks.iter().filter(|tick| tick.outcome != "skipped");
        let ids: Vec<_> = fired.filter_map(|tick| Some((tick.task?, tick.clone()))).collect();
        if ticks.len() < 900 {
            first = 0;
        } else {
            // Older ticks are swept.
            first = first.min(ids.last().map_or(0, |(id, _)| *id));
        }
        for (id, tick) in ids {
            let former = made.insert(id, tick);
            assert!(former.is_none(), "task {id} is of two ticks: {former:?} {:?}", made[&id]);
        }
    }
    let of_schedules: BTreeMap<u64, &TaskView> = tasks
        .iter()
        .filter(|task| task.app == "app" && task.name != "begin")
        .map(|task| (task.id, task))
        .collect();
    for (id, task) in of_schedules.range(first..) {
        assert!(made.contains_key(id), "no tick made {task:?}");
    }
    // Another minute may have come since the tasks were listed.
    let listed = tasks.iter().map(|task| task.id).max().unwrap_or(0);
    for (id, tick) in made.iter().filter(|(id, _)| **id <= listed) {
        assert!(of_schedules.contains_key(id), "there is no task of {tick:?}");
    }
    for id in triggered {
        let tick = made.get(id).unwrap_or_else(|| panic!("the run {id} by hand is lost"));
        assert_eq!(tick.outcome, "manual", "{tick:?}");
    }
    made.len()
}

/// No instant has two ticks, and none has one that is told to be missed.
fn judge_order(ticks: &[TickView]) {
    let mut planned: Vec<&TickView> = ticks.iter().filter(|it| it.outcome != "manual").collect();
    planned.sort_by_key(|tick| tick.planned_us);
    for pair in planned.windows(2) {
        let until = pair[0].until_us.unwrap_or(pair[0].planned_us);
        assert!(until < pair[1].planned_us, "two ticks for one instant: {pair:?}");
    }
}
