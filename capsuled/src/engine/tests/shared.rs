//! Attempts inside app hosts: their places, their time, and who is told of their end.

use capsule_core::attempt::{Loss, Verdict};
use capsule_core::spec::TaskSpec;
use capsule_core::task::Status;
use capsule_core::time::Span;

use super::super::Effect;
use super::{Bench, FAILED, START, spec};
use crate::apps::{Revision, parse};
use crate::book::SHARED_MAX;
use crate::work::{Call, Work};

/// An app with an async task, which is told of at its end, and a plain one.
async fn deploy(bench: &Bench, sync_is_async: bool) {
    let text = format!(
        r#"{{"format":1,"kind":"python","app":"leads","tasks":[
        {{"name":"sync","async":{sync_is_async},"callback_url":"http://localhost/done"}},
        {{"name":"plain"}}]}}"#
    );
    let parsed = parse(&text).unwrap();
    let revision = Revision {
        number: 0,
        deployed: START,
        by: "ann".to_owned(),
        uid: 1000,
        dir: "/".to_owned(),
        manifest: text,
        python: parsed.python,
        definitions: parsed.definitions,
        schedules: parsed.schedules,
    };
    bench.engine.deploy("leads".to_owned(), revision).await.unwrap();
}

fn call(name: &str) -> TaskSpec {
    TaskSpec { app: "leads".to_owned(), revision: 1, ..spec(name) }
}

async fn created(bench: &Bench, spec: TaskSpec) -> capsule_core::id::TaskId {
    let payload = Work::Call(Call { arguments: "{}".to_owned() }).encode();
    let new = super::NewTask { spec, payload, parent: None, dry_run: false };
    bench.engine.submit(vec![new]).await.unwrap().pop().unwrap().unwrap().task.id
}

/// Which other effects are there.
async fn rest(bench: &mut Bench) -> Vec<Effect> {
    bench.settle().await;
    let mut effects = Vec::new();
    while let Ok(effect) = bench.effects.try_recv() {
        effects.push(effect);
    }
    effects
}

#[tokio::test]
async fn they_take_no_slot_and_have_a_bound_of_their_own() {
    let mut bench = Bench::new(1).await;
    deploy(&bench, true).await;
    let plain = created(&bench, call("plain")).await;
    for _ in 0..=SHARED_MAX {
        created(&bench, call("sync")).await;
    }
    let next = created(&bench, call("plain")).await;
    bench.settle().await;
    let used = |bench: &Bench| {
        let book = bench.engine.book();
        (book.slots_used(), book.shared_used(), book.running())
    };
    assert_eq!(used(&bench), (1, SHARED_MAX, SHARED_MAX + 1));
    let last = bench.task(capsule_core::id::TaskId(plain.0 + u64::from(SHARED_MAX) + 1));
    let gates = bench.engine.book().gates(&last, bench.engine.now());
    assert_eq!(gates[0].text, "all 64 places inside app hosts are taken");
    let waits = bench.engine.book().gates(&bench.task(next), bench.engine.now());
    assert!(waits[0].text.starts_with("all 1 slots are taken"), "{waits:?}");
    // A redeploy that makes the task another thing leaves what runs as it began.
    deploy(&bench, false).await;
    assert_eq!(used(&bench), (1, SHARED_MAX, SHARED_MAX + 1));
    deploy(&bench, true).await;
    bench.restart().await;
    assert_eq!(used(&bench), (1, SHARED_MAX, SHARED_MAX + 1), "counted again after a start");
    let (first, attempt) = (capsule_core::id::TaskId(plain.0 + 1), bench.task(plain).attempts);
    bench.connect(Vec::new()).await;
    bench.end(first, attempt, Verdict::Lost(Loss::HostDied)).await;
    assert_eq!(used(&bench).1, SHARED_MAX, "another one has its place");
    bench.end(plain, attempt, Verdict::Completed).await;
    assert_eq!(bench.status(next), Status::Claimed);
}

#[tokio::test]
async fn an_end_is_told_once_and_not_before_the_last_attempt() {
    let mut bench = Bench::new(1).await;
    deploy(&bench, true).await;
    let id = created(&bench, TaskSpec { retries: 1, ..call("sync") }).await;
    let (_, attempt) = bench.start_next().await;
    bench.end(id, attempt, FAILED).await;
    let told = |effects: &[Effect]| {
        let is = |effect: &&Effect| matches!(effect, Effect::Callback { .. });
        effects.iter().filter(is).count()
    };
    assert_eq!(told(&rest(&mut bench).await), 0, "it is tried again");
    bench.advance(Span::from_secs(3600)).await;
    let (_, attempt) = bench.start_next().await;
    bench.end(id, attempt, FAILED).await;
    bench.end(id, attempt, FAILED).await;
    let effects = rest(&mut bench).await;
    assert_eq!(told(&effects), 1, "{effects:?}");
    let Some(Effect::Callback { task, url }) =
        effects.into_iter().find(|effect| matches!(effect, Effect::Callback { .. }))
    else {
        panic!("it is told");
    };
    assert_eq!((task.status(), url.as_str()), (Status::Failed, "http://localhost/done"));
    // Whoever has no callback is told of to nobody.
    let plain = created(&bench, call("plain")).await;
    bench.cancel(plain).await;
    assert_eq!(told(&rest(&mut bench).await), 0);
}

#[tokio::test]
async fn only_a_live_attempt_with_a_time_limit_gets_its_time_anew() {
    let mut bench = Bench::new(1).await;
    let timeout = Some(Span::from_secs(5));
    let id = bench.created(TaskSpec { timeout, ..spec("a") }).await;
    let (_, attempt) = bench.start_next().await;
    let waits = bench.created(TaskSpec { timeout, ..spec("b") }).await;
    assert!(!bench.engine.refresh(waits).await.unwrap());
    assert!(bench.engine.refresh(id).await.unwrap());
    let effects = rest(&mut bench).await;
    let refreshed = effects.iter().filter(|effect| {
        matches!(effect, Effect::Refresh { task, attempt: of, timeout }
            if (*task, *of, *timeout) == (id, attempt, Span::from_secs(5)))
    });
    assert_eq!(refreshed.count(), 1, "{effects:?}");
}
