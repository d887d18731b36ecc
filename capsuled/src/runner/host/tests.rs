//! The socket, with hosts played by the test.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::*;

/// Admits the token `good` as host 7 and `one` as an attempt; echoes calls, `Slow` ones when let.
#[derive(Debug)]
struct Echo(Arc<Semaphore>);

impl Door for Echo {
    fn admit(&self, hello: &Hello) -> Result<Peer, String> {
        match hello.token.as_str() {
            "good" => Ok(Peer::Host(7)),
            "one" => Ok(Peer::Attempt { task: hello.task, attempt: hello.attempt }),
            _ => Err("who is that".to_owned()),
        }
    }

    fn call(&self, peer: Peer, call: Call) -> Answer<'_> {
        Box::pin(async move {
            if call.method == "Slow" {
                drop(self.0.acquire().await);
            }
            if call.method == "Bad" {
                return Err(CallRefused { code: 5, message: format!("{peer:?} {:?}", call.from) });
            }
            Ok(call.body)
        })
    }
}

struct Side {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl Side {
    async fn say(&mut self, text: &str) {
        self.write.write_all(text.as_bytes()).await.unwrap();
        self.write.write_all(b"\n").await.unwrap();
    }

    async fn hear(&mut self) -> Option<serde_json::Value> {
        let line = timeout(Duration::from_secs(10), self.lines.next_line()).await.unwrap();
        line.unwrap().map(|line| serde_json::from_str(&line).unwrap())
    }
}

struct Bench {
    dir: tempfile::TempDir,
    events: mpsc::Receiver<Event>,
    slow: Arc<Semaphore>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let (sender, events) = mpsc::channel(EVENTS);
        let slow = Arc::new(Semaphore::new(0));
        tokio::spawn(serve(listener, Arc::new(Echo(Arc::clone(&slow))), sender));
        Self { dir, events, slow }
    }

    async fn connect(&self) -> Side {
        let stream = UnixStream::connect(self.dir.path().join("s")).await.unwrap();
        let (read, write) = stream.into_split();
        Side { lines: BufReader::new(read).lines(), write }
    }

    async fn event(&mut self) -> Event {
        timeout(Duration::from_secs(10), self.events.recv()).await.unwrap().unwrap()
    }
}

const HELLO: &str = r#"{"t":"hello","protocol":1,"role":"host","token":"good","pid":5,
    "attempts":[{"task":1,"attempt":2,"started_us":3,"ended":null}]}"#;

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

#[tokio::test]
async fn what_a_host_says_is_told_in_order_between_its_opening_and_its_closing() {
    let mut bench = Bench::new();
    let mut host = bench.connect().await;
    host.say(&one_line(HELLO)).await;
    assert_eq!(host.hear().await.unwrap()["t"], "welcome");
    let Event::Opened { key: 7, sender, hello } = bench.event().await else { panic!("not open") };
    assert_eq!((hello.attempts[0].task, hello.attempts[0].attempt), (1, 2));
    for text in [
        r#"{"t":"ready"}"#,
        r#"{"t":"log","task":1,"attempt":2,"stream":"out","at_us":4,"text":"hi"}"#,
        r#"{"t":"from the future","x":1}"#,
        r#"{"t":"ended","task":1,"attempt":2,"verdict":"completed","result":{"a":1},"error":null}"#,
    ] {
        host.say(text).await;
    }
    let mut frames = Vec::new();
    while frames.len() < 4 {
        let Event::Said { key: 7, frames: said, .. } = bench.event().await else { panic!("gone") };
        frames.extend(said);
    }
    assert!(matches!(frames[0], FromHost::Ready));
    assert!(matches!(&frames[1], FromHost::Log(log) if log.text == "hi"));
    assert!(matches!(frames[2], FromHost::Unknown));
    assert!(matches!(&frames[3], FromHost::Ended(ended) if ended.result["a"] == 1));
    sender.send(ToHost::Ack { task: 1, attempt: 2 });
    assert_eq!(host.hear().await.unwrap(), serde_json::json!({"t":"ack","task":1,"attempt":2}));
    drop(host);
    assert!(matches!(bench.event().await, Event::Closed { key: 7, .. }));
}

#[tokio::test]
async fn calls_are_answered_each_by_its_id_and_a_slow_one_holds_up_nothing() {
    let mut bench = Bench::new();
    let mut host = bench.connect().await;
    host.say(&one_line(HELLO)).await;
    host.hear().await.unwrap();
    let body = STANDARD.encode(b"\x00body");
    host.say(&format!(r#"{{"t":"call","id":1,"method":"Slow","body":"{body}"}}"#)).await;
    host.say(&format!(
        r#"{{"t":"call","id":2,"method":"Echo","body":"{body}","task":9,"attempt":1}}"#
    ))
    .await;
    let quick = host.hear().await.unwrap();
    assert_eq!((quick["id"].as_u64(), quick["body"].as_str()), (Some(2), Some(body.as_str())));
    bench.slow.add_permits(1);
    assert_eq!(host.hear().await.unwrap()["id"], 1);
    host.say(r#"{"t":"call","id":3,"method":"Bad","body":"","task":9,"attempt":1}"#).await;
    let refused = host.hear().await.unwrap();
    assert_eq!((refused["code"].as_i64(), refused.get("body")), (Some(5), None));
    assert_eq!(refused["message"], "Host(7) Some((9, 1))");
    host.say(r#"{"t":"call","id":4,"method":"Echo","body":"?"}"#).await;
    assert_eq!(host.hear().await.unwrap()["code"], 3);
    assert!(matches!(bench.event().await, Event::Opened { .. }));
}

#[tokio::test]
async fn an_attempt_only_calls() {
    let mut bench = Bench::new();
    let mut attempt = bench.connect().await;
    attempt
        .say(r#"{"t":"hello","protocol":1,"role":"attempt","token":"one","task":4,"attempt":2}"#)
        .await;
    attempt.hear().await.unwrap();
    attempt.say(r#"{"t":"ready"}"#).await;
    attempt.say(r#"{"t":"call","id":1,"method":"Bad","body":"","task":99}"#).await;
    let refused = attempt.hear().await.unwrap();
    assert_eq!(refused["message"], "Attempt { task: 4, attempt: 2 } Some((4, 2))");
    drop(attempt);
    // Nothing of it was an event: the next one is that of a host.
    let mut host = bench.connect().await;
    host.say(&one_line(HELLO)).await;
    assert!(matches!(bench.event().await, Event::Opened { .. }));
}

#[tokio::test]
async fn strangers_are_refused_with_a_reason() {
    let bench = Bench::new();
    for (hello, reason) in [
        (r#"{"t":"hello","protocol":1,"role":"host","token":"?"}"#, "who is that"),
        (
            r#"{"t":"hello","protocol":9,"role":"host","token":"good"}"#,
            "the daemon speaks protocol 1, the host 9",
        ),
    ] {
        let mut host = bench.connect().await;
        host.say(hello).await;
        let refused = host.hear().await.unwrap();
        assert_eq!((&refused["t"], &refused["message"]), (&"refused".into(), &reason.into()));
        assert_eq!(host.hear().await, None);
    }
    let mut host = bench.connect().await;
    host.say(r#"{"t":"ready"}"#).await;
    assert_eq!(host.hear().await, None);
}
