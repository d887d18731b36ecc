//! The daemon's end of the socket against a real keeper.

use std::{fs, os::fd::AsFd};

use capsuled::{
    keeper::{
        socket_path,
        wire::{Command, Report, Spawn},
    },
    runner::link::{Link, LinkError, Session},
};
use uuid::Uuid;

use crate::harness::{Keeper, key, modes, output, shell, tempdir};

async fn connect(keeper: &Keeper, epoch: u64) -> Result<Session, LinkError> {
    fs::create_dir_all(keeper.logs()).unwrap();
    let logs = fs::File::open(keeper.logs()).unwrap();
    let socket = socket_path(keeper.dir.path(), keeper.uuid);
    Link::connect(&socket, keeper.uuid, epoch, logs.as_fd()).await
}

#[tokio::test]
async fn commands_and_reports_pass() {
    let keeper = Keeper::start(modes()[0]);
    let mut session = connect(&keeper, 1).await.unwrap();
    assert!(session.inventory.items.is_empty());
    for task in 1..=50 {
        let plan = shell("echo $$; exit 2");
        session.link.send(Command::Spawn(Spawn { key: key(task), plan }));
    }
    let mut ended = 0;
    while ended < 50 {
        if let Report::Ended(verdict) = session.reports.next().await.unwrap().unwrap() {
            assert_eq!(verdict.exit_code, Some(2));
            ended += 1;
        }
    }
    assert!(!output(&keeper.logs(), 50, 1).is_empty());
    let again = connect(&keeper, 2).await.unwrap();
    assert_eq!(again.inventory.items.len(), 50);
    let over = session.reports.next().await.unwrap();
    assert!(matches!(over, Err(LinkError::Closed)), "{over:?}");
    assert!(session.reports.next().await.is_none());
}

#[tokio::test]
async fn refusals_are_told() {
    let keeper = Keeper::start(modes()[0]);
    let _newer = connect(&keeper, 9).await.unwrap();
    let refused = connect(&keeper, 8).await.unwrap_err();
    assert!(matches!(&refused, LinkError::Refused(m) if m.contains("newer")), "{refused}");
    let dir = tempdir();
    let logs = fs::File::open(dir.path()).unwrap();
    let nobody = socket_path(dir.path(), Uuid::nil());
    let absent = Link::connect(&nobody, Uuid::nil(), 1, logs.as_fd()).await.unwrap_err();
    assert!(matches!(absent, LinkError::Absent { .. }), "{absent}");
}
