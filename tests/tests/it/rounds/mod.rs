//! `kill -9` of the daemon, and now and then of its keeper, at random moments and at named places,
//! while tasks are submitted, run, end, fail, wait for locks, are cancelled, retried, held and
//! removed, queues are paused and schedules fire. What the daemon acknowledged or showed is the
//! oracle: nothing of it is lost or undone, nothing runs twice, no id is used again.
//!
//! `CAPSULE_ROUNDS` says how often it is killed, `CAPSULE_SEED` repeats a run's choices.

mod app;
mod ask;
mod client;
mod kills;
mod model;
mod oracle;
mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use capsule_proto::v1::daemon_client::DaemonClient;
use capsule_proto::v1::{ListLocksRequest, ListRequest, TaskView};
use capsule_tests::{Home, rpc, wait_for_within};
use nix::sys::signal::Signal;
use tokio::runtime::Runtime;

use client::Client;
use kills::{Killer, SLOTS};
use oracle::{Judge, Notes};
use plan::Random;

/// How many clients ask at once.
const CLIENTS: usize = 3;
/// After so many rounds the state directory is verified as it was left.
const VERIFY: u64 = 10;

#[test]
fn nothing_acknowledged_is_lost_undone_or_run_twice() {
    let rounds = number("CAPSULE_ROUNDS").unwrap_or(50);
    let seed = number("CAPSULE_SEED").unwrap_or_else(plan::any_seed);
    eprintln!("CAPSULE_ROUNDS={rounds} CAPSULE_SEED={seed}");
    let mut random = Random(seed);
    let home = Home::new();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let daemon = home.start_with(SLOTS);
    app::deploy(&home);
    daemon.kill();
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|number| Client::new(number, random.next(), home.socket(), home.path("h")))
        .collect();
    let mut killer = Killer::new(&home, Random(random.next()));
    for round in 1..=rounds {
        let over = Arc::new(AtomicBool::new(false));
        let mut busy = Vec::new();
        killer.round(|| {
            let work = |client: Client| runtime.spawn(client.work(Arc::clone(&over)));
            busy.extend(clients.drain(..).map(work));
        });
        over.store(true, Ordering::Relaxed);
        clients.extend(busy.into_iter().map(|client| runtime.block_on(client).unwrap()));
        if round.is_multiple_of(VERIFY) {
            verify(&home);
        }
    }
    killer.tell();
    judge(&home, &runtime, &mut clients, &killer);
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn verify(home: &Home) {
    let dir = home.state_dir().display().to_string();
    let verified = home.capsuled(["db", "verify", "--state-dir", &dir]).run().exits(0);
    assert!(verified.text().contains("the store is whole"), "{}", verified.text());
}

/// Lets everything end and judges all that was told.
fn judge(home: &Home, runtime: &Runtime, clients: &mut [Client], killer: &Killer<'_>) {
    let daemon = home.start_with(SLOTS);
    for client in &mut *clients {
        runtime.block_on(finish(client));
    }
    let schedules = runtime.block_on(app::still(home));
    let tasks = all_ended(home, runtime);
    let notes = Notes::read(home);
    let judge = Judge { tasks: &tasks, notes: &notes, deaths: &killer.deaths };
    judge.all();
    judge.locks(home);
    let mut done: BTreeMap<&str, u64> = BTreeMap::new();
    let mut triggered = Vec::new();
    for client in &*clients {
        judge.client(client);
        runtime.block_on(judge.logs(home, client));
        triggered.extend(&client.triggered);
        for (what, count) in &client.done {
            *done.entry(what).or_default() += count;
        }
    }
    let ticks = runtime.block_on(app::judge(home, &schedules, &tasks, &triggered));
    eprintln!("answered: {done:?}");
    let told: usize = clients.iter().map(|client| client.known.len()).sum();
    eprintln!("{told} tasks acknowledged, {} there, {ticks} of ticks", tasks.len());
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.end().success(), "{}", home.log());
    verify(home);
}

/// Looks a last time, and lets go on what was held up.
async fn finish(client: &mut Client) {
    let mut calls = client.connect(&AtomicBool::new(false)).await.unwrap();
    client.look(&mut calls).await.unwrap();
    client.pause(&mut calls, false).await.unwrap();
    // Also those whose submit was not answered.
    let held = client.list(&mut calls).await.unwrap().into_values().filter(|task| task.hold);
    for task in held.filter(|task| task.ended_us.is_none()) {
        client.release(&mut calls, task.id).await.unwrap();
    }
    for number in 0..client.keys.len() {
        client.submit_key(&mut calls, number).await.unwrap();
    }
}

/// Waits until nothing goes on and all locks are free, and gives all tasks.
fn all_ended(home: &Home, runtime: &Runtime) -> Vec<TaskView> {
    wait_for_within("all tasks end", capsule_tests::PATIENCE * 3, || {
        let counts = &home.status()["by_status"];
        let waiting = ["scheduled", "pending", "claimed", "running", "retry"];
        waiting.iter().all(|status| counts[status] == 0).then_some(())
    });
    runtime.block_on(async {
        let channel = rpc::channel(&home.socket()).await.unwrap();
        let locks = DaemonClient::new(channel).list_locks(ListLocksRequest::default()).await;
        assert_eq!(locks.unwrap().into_inner().locks, [], "a lock is stuck");
        let mut client = rpc::connect(&home.socket()).await.unwrap();
        let mut tasks = Vec::new();
        let mut before = None;
        loop {
            let request = ListRequest { limit: 10_000, before, ..ListRequest::default() };
            let reply = client.list(request).await.unwrap().into_inner();
            tasks.extend(reply.tasks);
            before = reply.next_before;
            if before.is_none() {
                return tasks;
            }
        }
    })
}
