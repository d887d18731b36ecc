//! The kept inputs that are no text are made of real messages: `REWRITE_CORPUS=1` writes them anew
//! after a protocol has grown.

use std::fs;
use std::path::Path;

use capsule_fuzz::corpus;
use capsule_proto::{sdk, v1};
use capsuled::jail::{Fork, LogCapsPlan, Plan, Rlimit};
use capsuled::keeper::wire::{
    Cancel, Command, Ended, Hello, Inventory, Item, Key, LogTally, Quit, Receipt, Refresh, Report,
    Spawn, Started, ToDaemon, ToKeeper, Welcome, encode,
};
use capsuled::logs::{LogCaps, LogDir, LogWriter, Stream};
use prost::Message;

#[test]
fn kept_inputs_are_those_of_real_messages() {
    let mut all = vec![("records", "tasks", records()), ("logs", "wrapped", logs())];
    all.extend([("keeper", "commands", commands()), ("keeper", "reports", reports())]);
    all.extend(requests().into_iter().map(|(name, data)| ("rpc", name, data)));
    all.extend(calls().into_iter().map(|(name, data)| ("sdk", name, data)));
    for (target, name, data) in all {
        let path = corpus::folder(target).join(name);
        if std::env::var_os("REWRITE_CORPUS").is_some() {
            fs::write(&path, &data).unwrap();
        }
        let kept = fs::read(&path).unwrap_or_default();
        assert!(
            kept == data,
            "{} is not what is sent today: REWRITE_CORPUS=1 makes it so",
            path.display()
        );
    }
}

/// The records that every version must read, as a start finds them.
fn records() -> Vec<u8> {
    let hex = include_str!("../../../capsule-core/src/task/records.hex");
    let mut all = Vec::new();
    for (id, line) in (1_u64..).zip(hex.lines()) {
        let digits: Vec<u8> = line.bytes().filter(u8::is_ascii_hexdigit).collect();
        let value: Vec<u8> = digits
            .chunks_exact(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        all.push(1);
        all.extend(8_u16.to_le_bytes());
        all.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
        all.extend(id.to_be_bytes());
        all.extend(value);
    }
    all
}

/// A log whose end was written over.
fn logs() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let logs = LogDir::open(dir.path().join("logs")).unwrap();
    let caps = LogCaps { head: 512, tail: 2048 };
    let mut writer = LogWriter::new(logs.handle().unwrap(), 1, 1, caps);
    for line in 0..60_u64 {
        let stream = if line % 3 == 0 { Stream::Err } else { Stream::Out };
        writer.append(1_700_000_000_000_000 + line, stream, format!("line {line}\n").as_bytes());
    }
    writer.append(1_700_000_000_000_060, Stream::Event, b"{\"progress\":0.5}\n");
    let _summary = writer.close();
    let read = |name: &str| fs::read(Path::new(dir.path()).join("logs/0").join(name)).unwrap();
    let mut data = vec![1];
    for name in ["1.1.head", "1.1.t0"] {
        let file = read(name);
        data.extend(u16::try_from(file.len()).unwrap().to_le_bytes());
        data.extend(file);
    }
    data.extend(read("1.1.t1"));
    data
}

const KEY: Key = Key { task: 7, attempt: 1 };

fn commands() -> Vec<u8> {
    let plan = Plan {
        argv: vec![b"sh".to_vec(), b"-c".to_vec(), b"true".to_vec()],
        cwd: b"/".to_vec(),
        env: vec![b"PATH=/bin".to_vec()],
        umask: Some(0o22),
        rlimits: vec![Rlimit { resource: 7, soft: 64, hard: 64 }],
        deadline_ms: 1000,
        stdin: Some(b"in".to_vec()),
        log_caps: Some(LogCapsPlan { head: 1024, tail: 2048 }),
        fork: Some(Fork { server: 9 }),
        ..Plan::default()
    };
    let uuid = "01890000-0000-7000-8000-000000000001".to_owned();
    let mut data = vec![5];
    for command in [
        Command::Hello(Hello { major: 1, minor: 1, uuid, epoch: 3 }),
        Command::Spawn(Spawn { key: KEY, plan }),
        Command::Cancel(Cancel { key: KEY, grace_ms: 100, why: 2 }),
        Command::Refresh(Refresh { key: KEY, deadline_ms: 9 }),
        Command::Ack(KEY),
        Command::Quit(Quit { kill: false }),
    ] {
        encode(&ToKeeper { command: Some(command) }, &mut data);
    }
    data
}

fn reports() -> Vec<u8> {
    let receipt = Receipt {
        started_us: 1,
        ended_us: 5,
        wall_us: 4,
        peak_rss: Some(1 << 20),
        ..Receipt::default()
    };
    let log = LogTally { out: 3, ..LogTally::default() };
    let ended =
        Ended { key: KEY, exit_code: Some(1), tree_gone: true, receipt, log, ..Ended::default() };
    let item =
        Item { key: KEY, pid: 44, started_us: 1, cancelling: true, ended: Some(ended.clone()) };
    let instance = "01890000-0000-7000-8000-000000000002".to_owned();
    let mut data = vec![3];
    for report in [
        Report::Welcome(Welcome { major: 1, minor: 1, instance, attribution: 1, pid: 5, guard: 6 }),
        Report::Inventory(Inventory { items: vec![item], more: false }),
        Report::Started(Started { key: KEY, pid: 44, started_us: 1 }),
        Report::Ended(ended.clone()),
        Report::Gone(ended),
        Report::NoSuch(KEY),
    ] {
        encode(&ToDaemon { report: Some(report) }, &mut data);
    }
    data
}

fn asked(method: &str, message: &impl Message) -> Vec<u8> {
    let mut data = format!("{method}\n").into_bytes();
    data.extend(message.encode_to_vec());
    data
}

fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let program = v1::Program {
        argv: vec!["true".to_owned()],
        cwd: "/".to_owned(),
        env: [("A".to_owned(), "b".to_owned())].into(),
        ..v1::Program::default()
    };
    let submit = v1::SubmitRequest {
        work: Some(v1::submit_request::Work::Program(program)),
        options: Some(v1::Options::default()),
        ..v1::SubmitRequest::default()
    };
    let filter = v1::Filter {
        statuses: vec![2, 4, 7],
        names: vec!["sync*".to_owned()],
        text: "acme".to_owned(),
        since_us: Some(0),
        ..v1::Filter::default()
    };
    let targets = v1::Targets { ids: Vec::new(), filter: Some(filter.clone()), all: true };
    let deploy = v1::DeployRequest {
        manifest: include_str!("../../corpus/manifest/options").to_owned(),
        dir: "/tmp".to_owned(),
        ..v1::DeployRequest::default()
    };
    let batch = v1::SubmitBatchRequest { submits: vec![submit.clone(), submit.clone()] };
    let mut all = vec![
        ("submit", asked("Tasks/Submit", &submit)),
        ("batch", asked("Tasks/SubmitBatch", &batch)),
        (
            "list",
            asked("Tasks/List", &v1::ListRequest { filter: Some(filter), ..Default::default() }),
        ),
        (
            "cancel",
            asked(
                "Tasks/Cancel",
                &v1::CancelRequest { targets: Some(targets), ..Default::default() },
            ),
        ),
        ("deploy", asked("Apps/Deploy", &deploy)),
        ("garbage", b"Daemon/SetQueue\n\xff\xff\xff\xff\x0f\x07".to_vec()),
    ];
    let composed = [
        ("composed_submit", "Tasks/Submit"),
        ("composed_watch", "Tasks/Watch"),
        ("composed_retry", "Tasks/Retry"),
        ("composed_chat", "Chat/OpenChat"),
        ("composed_history", "Schedules/ScheduleHistory"),
    ];
    all.extend(composed.map(|(name, method)| (name, composed_of(method))));
    all
}

/// A request that the target composes of what follows.
fn composed_of(method: &str) -> Vec<u8> {
    let mut data = format!("{method}*\n").into_bytes();
    data.extend((0..96).map(|number: u8| number.wrapping_mul(37)));
    data
}

fn calls() -> Vec<(&'static str, Vec<u8>)> {
    let submit = sdk::SubmitTaskRequest {
        task_name: "sync_leads".to_owned(),
        kwargs_json: br#"{"owner_id":"acme"}"#.to_vec(),
        ..Default::default()
    };
    let result = sdk::SubmitResultRequest {
        request_id: "r".to_owned(),
        text: "hi".to_owned(),
        done: true,
        ..Default::default()
    };
    let deep = sdk::UpdateOneRequest {
        collection: "things".to_owned(),
        filter_json: b"{}".to_vec(),
        update_json: format!(r#"{{"$set":{{"{}":1}}}}"#, "a.".repeat(300)).into_bytes(),
        upsert: true,
        ..Default::default()
    };
    vec![
        ("deep_path", asked("DataService/UpdateOne", &deep)),
        ("submit", asked("TaskService/SubmitTask", &submit)),
        (
            "claim",
            asked(
                "TaskService/ClaimTask",
                &sdk::ClaimTaskRequest { task_id: "2".to_owned(), ..Default::default() },
            ),
        ),
        ("result", asked("RunnerService/SubmitResult", &result)),
        ("composed_find", composed_of("DataService/Find")),
        ("composed_update", composed_of("DataService/UpdateOne")),
        ("composed_tasks", composed_of("TaskService/FindTasks")),
        ("composed_session", composed_of("SessionService/SaveSessionData")),
        ("composed_schema", composed_of("DataService/UpsertCollectionSchema")),
    ]
}
