//! Processes of no task, with a real keeper.

use std::{fs, os::fd::AsFd, sync::Arc, time::Duration};

use capsuled::{
    keeper::{
        socket_path,
        wire::{Item, Key},
    },
    logs::LogDir,
    runner::{
        link::{Link, Reports},
        process::{BIT, Processes},
    },
};

use crate::harness::{Keeper, alive, eventually, modes, plan, shell};

/// A daemon that has nothing but processes.
async fn connect(keeper: &Keeper, epoch: u64, processes: &Processes) -> Vec<Item> {
    fs::create_dir_all(keeper.logs()).unwrap();
    let logs = fs::File::open(keeper.logs()).unwrap();
    let socket = socket_path(keeper.dir.path(), keeper.uuid);
    let session = Link::connect(&socket, keeper.uuid, epoch, logs.as_fd()).await.unwrap();
    processes.connected(session.link, &session.inventory.items);
    tokio::spawn(hear(session.reports, processes.clone()));
    session.inventory.items
}

async fn hear(mut reports: Reports, processes: Processes) {
    while let Some(Ok(report)) = reports.next().await {
        processes.hear(&report);
    }
}

fn processes(keeper: &Keeper) -> Processes {
    Processes::new(Arc::new(LogDir::open(keeper.logs()).unwrap()))
}

#[tokio::test]
async fn a_process_runs_and_its_end_says_how_and_what_it_wrote() {
    for mode in modes() {
        let keeper = Keeper::start(mode);
        let processes = processes(&keeper);
        let early = processes.begin(shell("echo before the keeper"), "early");
        connect(&keeper, 1, &processes).await;
        let plan_of = shell("seq 100; echo broken >&2; exit 3");
        let mut process = processes.start(plan_of, "three").await.unwrap();
        assert!(process.key & BIT != 0);
        let end = process.ended().await;
        assert_eq!((end.exit_code, end.signal, end.lost), (Some(3), None, false));
        assert_eq!(end.tail.last().map(String::as_str), Some("broken"));
        assert_eq!(end.tail.len(), 20, "{:?}", end.tail);
        assert_eq!(early.clone().ended().await.tail, ["before the keeper"]);
        let refused = processes.start(plan(&["/no/such/program"]), "nothing").await.unwrap_err();
        assert!(refused.to_string().starts_with("starting nothing: "), "{refused}");
        let mut long = processes.start(shell("sleep 1000"), "long").await.unwrap();
        long.stop(Duration::from_secs(5));
        assert_eq!(long.ended().await.signal, Some(15));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_daemon_gets_back_what_it_expects_and_the_rest_is_killed() {
    let keeper = Keeper::start(modes()[0]);
    let first = processes(&keeper);
    connect(&keeper, 1, &first).await;
    let kept = first.start(shell("sleep 1000"), "kept").await.unwrap();
    let mut unwanted = first.start(shell("sleep 1000"), "unwanted").await.unwrap();
    let unwanted_pid = i32::try_from(unwanted.runs().await.unwrap()).unwrap();
    let second = processes(&keeper);
    let mut back = second.expect(kept.key, "kept");
    let mut gone = second.expect(BIT | 7, "gone");
    let items = connect(&keeper, 2, &second).await;
    assert!(items.iter().any(|item| item.key == Key { task: kept.key, attempt: 1 }));
    assert_eq!(back.runs().await.unwrap(), kept.pid().unwrap());
    assert!(gone.ended().await.lost);
    eventually("the unwanted one is killed", || (!alive(unwanted_pid)).then_some(()));
    back.stop(Duration::ZERO);
    assert_eq!(back.ended().await.signal, Some(9));
}
