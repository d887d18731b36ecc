use std::collections::BTreeMap;

use capsule_core::attempt::Verdict;
use capsule_core::command::Command;
use capsule_core::id::TaskId;
use capsule_core::spec::{Dependency, DependencyOn, LockPolicy, TaskSpec};
use capsule_core::time::Span;

use super::super::QueueChange;
use super::{Bench, FAILED, START, locked, spec};
use crate::apps::{Revision, parse};
use crate::work::{Call, Work};

fn gates(bench: &Bench, id: TaskId) -> Vec<(&'static str, String)> {
    let task = bench.task(id);
    let gates = bench.engine.book().gates(&task, bench.engine.now());
    gates.into_iter().map(|gate| (gate.kind.word(), gate.text)).collect()
}

fn first(bench: &Bench, id: TaskId) -> (&'static str, String) {
    gates(bench, id).into_iter().next().unwrap_or(("none", String::new()))
}

fn gate(kind: &'static str, text: &str) -> (&'static str, String) {
    (kind, text.to_owned())
}

#[tokio::test]
async fn the_true_gate_is_named() {
    let mut bench = Bench::new(2).await;
    let holder = bench.created(TaskSpec { retries: 2, ..locked("a", LockPolicy::Wait) }).await;
    let (_, attempt) = bench.start_next().await;
    bench.advance(Span::from_secs(12)).await;
    let waits = bench.created(locked("a", LockPolicy::Wait)).await;
    assert_eq!(first(&bench, waits), gate("lock", "lock owner:acme held by 1 (running 12s)"));

    let at = Some(START.plus(Span::from_secs(102)));
    let later = bench.created(TaskSpec { not_before: at, ..spec("later") }).await;
    assert_eq!(first(&bench, later), gate("not_before", "not before its time, in 1m30s"));

    let held = bench.created(TaskSpec { hold: true, ..spec("held") }).await;
    let text = format!("held back: capsule edit {held} --no-hold");
    assert_eq!(first(&bench, held), gate("hold", &text));

    let after = vec![Dependency { task: holder, on: DependencyOn::Ok }];
    let depends = bench.created(TaskSpec { after, ..spec("depends") }).await;
    assert_eq!(first(&bench, depends), gate("dependency", "after 1 (running)"));

    let note = "upgrade".to_owned();
    let pause = QueueChange { paused: Some(true), note, ..QueueChange::default() };
    bench.engine.set_queue("night".to_owned(), pause).await.unwrap();
    let paused = bench.created(TaskSpec { queue: "night".to_owned(), ..spec("paused") }).await;
    assert_eq!(first(&bench, paused), gate("paused", "queue night is paused: upgrade"));

    let limit = QueueChange { limit: Some(Some(1)), ..QueueChange::default() };
    bench.engine.set_queue("default".to_owned(), limit).await.unwrap();
    let limited = bench.created(spec("limited")).await;
    assert_eq!(first(&bench, limited), gate("limit", "queue default runs 1 of 1"));
    let open = QueueChange { limit: Some(None), ..QueueChange::default() };
    bench.engine.set_queue("default".to_owned(), open).await.unwrap();

    assert_eq!(bench.start_next().await.0, limited);
    let slot = bench.created(spec("no-slot")).await;
    assert_eq!(first(&bench, slot), gate("slot", "all 2 slots are taken, 0 ahead of it"));

    bench.end(holder, attempt, FAILED).await;
    let (kind, text) = first(&bench, holder);
    assert_eq!(kind, "retry");
    assert!(text.starts_with("retry 1 of 2, in "), "{text}");

    bench.engine.drain(true).await.unwrap();
    let drained = bench.created(spec("drained")).await;
    assert_eq!(first(&bench, drained).0, "slot");
    assert!(
        gates(&bench, drained)
            .contains(&gate("draining", "the daemon drains: capsule drain --off"))
    );
}

fn revision(manifest: &str) -> Revision {
    let parsed = parse(manifest).unwrap();
    Revision {
        number: 0,
        deployed: START,
        by: "ann".to_owned(),
        uid: 1000,
        dir: "/".to_owned(),
        manifest: manifest.to_owned(),
        python: None,
        definitions: parsed.definitions,
        schedules: parsed.schedules,
    }
}

fn manifest(params: &str) -> String {
    format!("[app]\nname = \"x\"\n[tasks.t]\ncommand = [\"true\"]\n[tasks.t.params]\n{params}\n")
}

#[tokio::test]
async fn a_task_that_its_definition_no_longer_fits_waits_until_it_does() {
    let mut bench = Bench::without_keeper(2);
    let one = revision(&manifest("a = \"str\""));
    assert_eq!(bench.engine.deploy("x".to_owned(), one.clone()).await.unwrap(), 1);
    let call = Work::Call(Call { arguments: "{\"a\": \"1\"}".to_owned() }).encode();
    let spec = TaskSpec { app: "x".to_owned(), revision: 1, ..spec("t") };
    let new = super::NewTask { spec, payload: call, parent: None, dry_run: false };
    let id = bench.engine.submit(vec![new]).await.unwrap().pop().unwrap().unwrap().task.id;
    let two = revision(&manifest("b = \"int\""));
    assert_eq!(bench.engine.deploy("x".to_owned(), two).await.unwrap(), 2);
    bench.connect(Vec::new()).await;
    bench.nothing_starts().await;
    let text = "definition changed (r1→r2): t has no parameter a; did you mean --b?";
    assert_eq!(first(&bench, id), gate("definition_changed", text));
    bench.restart().await;
    bench.connect(Vec::new()).await;
    bench.nothing_starts().await;
    assert_eq!(first(&bench, id).0, "definition_changed");
    bench.engine.remove_app("x".to_owned()).await.unwrap();
    bench.nothing_starts().await;
    assert_eq!(first(&bench, id).1, "definition changed (r1, app x is removed)");
    bench.engine.deploy("x".to_owned(), one).await.unwrap();
    let (started, attempt) = bench.start_next().await;
    assert_eq!(started, id);
    bench.end(id, attempt, Verdict::Completed).await;
}

#[tokio::test]
async fn a_definition_limits_how_many_of_it_run() {
    let mut bench = Bench::new(4).await;
    let limited =
        format!("{}\n", manifest("a = {}")).replace("[tasks.t]", "[tasks.t]\nconcurrency = 1");
    bench.engine.deploy("x".to_owned(), revision(&limited)).await.unwrap();
    let call = || {
        let payload = Work::Call(Call { arguments: "{}".to_owned() }).encode();
        let spec = TaskSpec { app: "x".to_owned(), revision: 1, ..spec("t") };
        super::NewTask { spec, payload, parent: None, dry_run: false }
    };
    bench.engine.submit(vec![call(), call()]).await.unwrap();
    let (id, attempt) = bench.start_next().await;
    bench.nothing_starts().await;
    assert_eq!(first(&bench, TaskId(2)), gate("limit", "t runs 1 of 1"));
    bench.end(id, attempt, Verdict::Completed).await;
    assert_eq!(bench.start_next().await.0, TaskId(2));
}

#[tokio::test]
async fn an_edit_moves_a_task_to_the_front() {
    let mut bench = Bench::new(1).await;
    bench.created(spec("runs")).await;
    let (running, attempt) = bench.start_next().await;
    bench.created(spec("first")).await;
    let last = bench.created(spec("last")).await;
    let edit = capsule_core::command::Edit {
        priority: Some(50),
        labels: BTreeMap::from([("k".to_owned(), "v".to_owned())]).into_iter().collect(),
        ..Default::default()
    };
    bench.act(last, Command::Edit(Box::new(edit))).await.result.unwrap();
    bench.end(running, attempt, Verdict::Completed).await;
    assert_eq!(bench.start_next().await.0, last);
    assert_eq!(bench.task(last).spec.labels.get("k").map(String::as_str), Some("v"));
}
