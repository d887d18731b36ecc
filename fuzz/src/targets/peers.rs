//! What daemon and keeper, and daemon and app hosts, say to each other.

use std::cell::RefCell;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use capsuled::keeper::wire::{Inbox, MAX_MESSAGE, ToDaemon, ToKeeper, decode, encode};
use capsuled::runner::host::{Answer, Call, CallRefused, Door, Event, Hello, Peer, serve};
use capsuled::runner::link::Link;
use prost::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::timeout;
use uuid::Uuid;

use super::disk::scratch;
use crate::rig::nothing_panicked;

/// An end later than this is none.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes between daemon and keeper: as commands, as reports, and as all that a keeper says.
pub fn keeper(data: &[u8]) {
    let (step, data) = data.split_first().map_or((1, data), |(first, rest)| (*first, rest));
    framed::<ToKeeper>(data, step.into());
    framed::<ToDaemon>(data, step.into());
    whole::<ToKeeper>(data);
    whole::<ToDaemon>(data);
    with_peers(|peers| peers.keeper_says(data));
}

/// Arriving in pieces or at once makes no difference.
fn framed<M: Message + Default + PartialEq + std::fmt::Debug>(data: &[u8], step: usize) {
    let mut taken = [Vec::new(), Vec::new()];
    for (step, taken) in [step.max(1), data.len().max(1)].into_iter().zip(&mut taken) {
        let mut inbox = Inbox::default();
        'bytes: for piece in data.chunks(step) {
            inbox.push(piece);
            loop {
                match decode::<M>(&mut inbox) {
                    Ok(Some(message)) => taken.push(message),
                    Ok(None) => break,
                    Err(_) => break 'bytes,
                }
            }
        }
    }
    assert_eq!(taken[0], taken[1], "in pieces of {step}");
}

/// What is a message stays the same when it is sent on.
fn whole<M: Message + Default + PartialEq>(data: &[u8]) {
    let Ok(message) = M::decode(data) else { return };
    let mut bytes = Vec::new();
    encode(&message, &mut bytes);
    assert!(bytes.len() <= MAX_MESSAGE);
    let mut inbox = Inbox::default();
    inbox.push(&bytes);
    assert!(matches!(decode::<M>(&mut inbox), Ok(Some(again)) if again == message));
    assert!(matches!(decode::<M>(&mut inbox), Ok(None)));
}

/// Lines of a host; with the first bit of the first byte behind a good hello.
pub fn host(data: &[u8]) {
    let (flags, data) = data.split_first().map_or((0, data), |(first, rest)| (*first, rest));
    with_peers(|peers| peers.host_says(flags & 1 == 1, data));
}

fn with_peers(test: impl FnOnce(&mut Peers)) {
    thread_local! {
        static PEERS: RefCell<Option<Peers>> = const { RefCell::new(None) };
    }
    PEERS.with_borrow_mut(|peers| test(peers.get_or_insert_with(Peers::new)));
    nothing_panicked();
}

/// The daemon's ends of both sockets.
struct Peers {
    runtime: Runtime,
    keeper: UnixListener,
    events: mpsc::Receiver<Event>,
}

#[derive(Debug)]
struct Open;

impl Door for Open {
    fn admit(&self, hello: &Hello) -> Result<Peer, String> {
        match hello.pid % 3 {
            0 => Err("not today".to_owned()),
            1 => Ok(Peer::Host(1)),
            _ => Ok(Peer::Attempt { task: 1, attempt: 1 }),
        }
    }

    fn call(&self, _peer: Peer, call: Call) -> Answer<'_> {
        Box::pin(async move {
            if call.body.is_empty() {
                return Err(CallRefused { code: 3, message: call.method });
            }
            Ok(call.body)
        })
    }
}

impl Peers {
    fn new() -> Self {
        crate::rig::watch_for_panics();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (tell, events) = mpsc::channel(256);
        let keeper = runtime.block_on(async {
            let hosts = UnixListener::bind(scratch().join("hosts")).unwrap();
            tokio::spawn(serve(hosts, Arc::new(Open), tell));
            UnixListener::bind(scratch().join("keeper")).unwrap()
        });
        Self { runtime, keeper, events }
    }

    fn keeper_says(&self, data: &[u8]) {
        let logs = File::open("/dev/null").unwrap();
        let socket = scratch().join("keeper");
        self.runtime.block_on(async {
            let says = async {
                let (mut stream, _) = self.keeper.accept().await.unwrap();
                drop(stream.write_all(data).await);
            };
            let hears = async {
                let Ok(mut session) = Link::connect(&socket, Uuid::nil(), 1, logs.as_fd()).await
                else {
                    return;
                };
                while let Some(Ok(report)) = session.reports.next().await {
                    let _about = report.key();
                }
            };
            let both = async { tokio::join!(says, hears) };
            assert!(timeout(PATIENCE, both).await.is_ok(), "a keeper that has gone is waited for");
        });
    }

    fn host_says(&mut self, hello: bool, data: &[u8]) {
        let Self { runtime, events, .. } = self;
        runtime.block_on(async {
            let mut stream = UnixStream::connect(scratch().join("hosts")).await.unwrap();
            let mut bytes = Vec::new();
            if hello {
                bytes.extend_from_slice(HELLO);
            }
            bytes.extend_from_slice(data);
            let says = async {
                drop(stream.write_all(&bytes).await);
                drop(stream.shutdown().await);
                let mut said = Vec::new();
                drop(stream.read_to_end(&mut said).await);
                for line in said.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    let answer: Result<serde_json::Value, _> = serde_json::from_slice(line);
                    assert!(answer.is_ok_and(|answer| answer["t"].is_string()), "{line:?}");
                }
            };
            let heard = async { while events.recv().await.is_some() {} };
            let ended = timeout(PATIENCE, async {
                tokio::select! {
                    () = says => {}
                    () = heard => {}
                }
            });
            assert!(ended.await.is_ok(), "a host that has said all is kept");
        });
    }
}

/// A good hello of a host.
const HELLO: &[u8] = b"{\"t\":\"hello\",\"protocol\":1,\"pid\":1}\n";
