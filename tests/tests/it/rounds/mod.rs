//! `kill -9` of the daemon at random moments, while tasks are submitted, run, end, fail, wait for
//! locks and are cancelled. What the daemon acknowledged is the oracle: nothing of it is lost,
//! nothing runs twice, no id is used again.
//!
//! `CAPSULE_ROUNDS` says how often it is killed, `CAPSULE_SEED` repeats a run's choices.

mod oracle;
mod plan;

use std::path::PathBuf;
use std::time::Duration;

use capsule_proto::v1::tasks_client::TasksClient;
use capsule_proto::v1::{CancelRequest, ListRequest, TaskView};
use capsule_tests::{Home, rpc, wait_for};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use oracle::{Acknowledged, Cancel};
use plan::{Plan, Random};

const SLOTS: &[&str] = &["--slots", "8"];
/// How many clients submit at once, and how much each of them at the most in one round.
const CLIENTS: usize = 3;
const SUBMITS: usize = 6;

#[test]
fn nothing_acknowledged_is_lost_or_run_twice() {
    let rounds = number("CAPSULE_ROUNDS").unwrap_or(12);
    let seed = number("CAPSULE_SEED").unwrap_or_else(plan::any_seed);
    eprintln!("CAPSULE_ROUNDS={rounds} CAPSULE_SEED={seed}");
    let mut random = Random(seed);
    let home = Home::new();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    drop(home.start_with(SLOTS));
    let mut acknowledged = Vec::new();
    for _ in 0..rounds {
        let mut daemon = home.launch(SLOTS);
        if random.one_in(4) {
            // While it opens the store and settles with the keeper.
            pass(&runtime, random.millis(60));
        } else {
            home.ready(&mut daemon);
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    runtime.spawn(submit(home.socket(), Random(random.next()), home.path("h")))
                })
                .collect();
            pass(&runtime, random.millis(300));
            daemon.kill();
            for client in clients {
                acknowledged.extend(runtime.block_on(client).unwrap());
            }
        }
    }
    let _daemon = home.start_with(SLOTS);
    let tasks = all_ended(&home, &runtime);
    eprintln!("{} tasks were acknowledged, {} are known", acknowledged.len(), tasks.len());
    assert!(acknowledged.len() as u64 >= rounds, "hardly anything was tried");
    oracle::judge(&home, &tasks, &acknowledged);
    runtime.block_on(oracle::judge_logs(&home, &tasks, &acknowledged));
}

/// The random moment itself: no condition tells when it has come.
fn pass(runtime: &Runtime, time: Duration) {
    runtime.block_on(async { tokio::time::sleep(time).await });
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Submits and cancels until the daemon is gone; gives what was acknowledged.
async fn submit(socket: PathBuf, mut random: Random, folder: PathBuf) -> Vec<Acknowledged> {
    let mut acknowledged: Vec<Acknowledged> = Vec::new();
    let Ok(mut client) = rpc::connect(&socket).await else { return acknowledged };
    for _ in 0..SUBMITS {
        let plan = Plan::any(&mut random);
        let Ok(reply) = client.submit(plan.request(&folder)).await else { return acknowledged };
        let task = reply.into_inner().task.unwrap();
        acknowledged.push(Acknowledged { id: task.id, uuid: task.uuid, plan, cancel: None });
        if random.one_in(4) {
            let chosen = random.below(acknowledged.len() as u64);
            let chosen = &mut acknowledged[usize::try_from(chosen).unwrap()];
            if chosen.cancel.is_none() && chosen.plan.may_be_cancelled() {
                chosen.cancel = Some(cancel(&mut client, chosen.id).await);
            }
        }
        tokio::time::sleep(random.millis(30)).await;
    }
    acknowledged
}

async fn cancel(client: &mut TasksClient<Channel>, id: u64) -> Cancel {
    let request = CancelRequest {
        targets: rpc::targets([id]),
        grace_ms: Some(0),
        ..CancelRequest::default()
    };
    match client.cancel(request).await {
        Ok(reply) => match reply.into_inner().results[0].outcome.as_str() {
            "cancelled" => Cancel::Done,
            "already_ended" => Cancel::TooLate,
            "cancelling" => Cancel::Asked,
            other => panic!("an outcome that is not known: {other}"),
        },
        Err(_) => Cancel::Asked,
    }
}

/// Waits until nothing goes on, and gives all tasks.
fn all_ended(home: &Home, runtime: &Runtime) -> Vec<TaskView> {
    wait_for("all tasks end", || {
        let counts = &home.status()["by_status"];
        let waiting = ["scheduled", "pending", "claimed", "running", "retry"];
        waiting.iter().all(|status| counts[status] == 0).then_some(())
    });
    runtime.block_on(async {
        let mut client = rpc::connect(&home.socket()).await.unwrap();
        let mut tasks = Vec::new();
        let mut before = None;
        loop {
            let request = ListRequest { limit: 500, before, ..ListRequest::default() };
            let reply = client.list(request).await.unwrap().into_inner();
            tasks.extend(reply.tasks);
            before = reply.next_before;
            if before.is_none() {
                return tasks;
            }
        }
    })
}
