//! Logs as a stream, together with the task's changes: what `run` and `tail` show.

use std::pin::Pin;
use std::sync::Arc;

use capsule_core::id::{AttemptNumber, TaskId};
use capsule_core::task::Task;
use capsule_proto::v1;
use capsule_proto::v1::tail_event::Event;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::engine::{self, Cursor as FeedCursor};
use crate::logs::{self, Chunk, Cursor, LogFollower, LogReader};
use crate::rpc::Api;
use crate::rpc::request::peer::Peer;
use crate::rpc::request::targets;
use crate::rpc::status::Refused;

pub(in crate::rpc) type TailStream =
    Pin<Box<dyn Stream<Item = Result<v1::TailEvent, Status>> + Send>>;

/// Bytes of one read; a slow client holds two of them.
const READ: usize = 256 << 10;

/// Starts a stream for one client.
pub(in crate::rpc) fn start(
    api: &Api,
    request: &v1::TailRequest,
    peer: &Peer,
) -> Result<TailStream, Refused> {
    let task = targets::load(&api.engine, &request.id, peer)?;
    let streams = streams(&request.streams)?;
    let resume = request.cursor.split_once(':').and_then(|(attempt, offset)| {
        Some((attempt.parse().ok()?, offset.parse().ok().map(Cursor)?))
    });
    if !request.cursor.is_empty() && resume.is_none() {
        return Err(Refused::invalid(format!("{:?} is no cursor", request.cursor)));
    }
    if request.attempt > task.attempts.0 {
        let message = format!("task {} has had {} attempts", task.id, task.attempts);
        return Err(Refused::not_found(message).hint(format!("capsule show {}", task.id)));
    }
    let (sender, receiver) = mpsc::channel(2);
    let tail = Tail {
        feed: api.engine.feed().cursor(),
        api: api.clone(),
        id: task.id,
        only: Some(request.attempt).filter(|attempt| *attempt > 0).map(AttemptNumber),
        follow: request.follow,
        lines: request.lines,
        since_us: request.since_us,
        streams,
        resume,
        sender,
    };
    tokio::spawn(tail.run());
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

fn streams(words: &[String]) -> Result<Vec<logs::Stream>, Refused> {
    if words.is_empty() {
        return Ok(vec![logs::Stream::Out, logs::Stream::Err, logs::Stream::Note]);
    }
    let stream = |word: &String| match word.as_str() {
        "out" => Ok(logs::Stream::Out),
        "err" => Ok(logs::Stream::Err),
        "event" => Ok(logs::Stream::Event),
        "note" => Ok(logs::Stream::Note),
        other => Err(Refused::invalid(format!("{other:?} is none of out, err, event and note"))),
    };
    words.iter().map(stream).collect()
}

struct Tail {
    api: Api,
    id: TaskId,
    feed: FeedCursor,
    only: Option<AttemptNumber>,
    follow: bool,
    lines: Option<u64>,
    since_us: Option<i64>,
    streams: Vec<logs::Stream>,
    resume: Option<(u32, Cursor)>,
    sender: mpsc::Sender<Result<v1::TailEvent, Status>>,
}

/// The client has gone, or was told why the stream ends.
struct Over;

impl Tail {
    async fn run(mut self) {
        // The task ends with the client, the daemon, or when all is said.
        let ending = self.api.ending.clone();
        tokio::select! {
            _ = self.all() => {}
            () = ending.cancelled() => {
                let gone = Refused::new(tonic::Code::Unavailable, "unavailable", "the daemon ends", 3);
                drop(self.sender.send(Err(gone.into())).await);
            }
        }
    }

    async fn all(&mut self) -> Result<(), Over> {
        let mut number = self.only.or(self.resume.map(|(attempt, _)| AttemptNumber(attempt)));
        let mut told = None;
        loop {
            let task = self.load().await?;
            if self.follow && told != Some(task.seq) {
                told = Some(task.seq);
                self.tell(&task).await?;
            }
            let current = number.unwrap_or(task.attempts);
            if current == AttemptNumber(0) {
                if !self.follow || task.status().is_ended() {
                    return Ok(());
                }
                self.changed().await?;
                number = None;
                continue;
            }
            self.attempt(current, &mut told).await?;
            let task = self.load().await?;
            // One that has ended may have had more attempts since.
            let over = task.status().is_ended() && task.attempts <= current;
            if !self.follow || self.only.is_some() || over {
                if self.follow && told != Some(task.seq) {
                    self.tell(&task).await?;
                }
                return Ok(());
            }
            if task.attempts <= current {
                self.changed().await?;
            }
            let task = self.load().await?;
            number = Some(if task.attempts > current { current.next() } else { current });
            if task.attempts <= current {
                self.resume = Some((current.0, Cursor(u64::MAX)));
            }
        }
    }

    /// One attempt from where the client wants it; when following, until it has ended.
    async fn attempt(
        &mut self,
        number: AttemptNumber,
        told: &mut Option<capsule_core::id::Seq>,
    ) -> Result<(), Over> {
        let (task, logs) = (self.id.0, Arc::clone(&self.api.logs));
        let mut reader = LogReader::open(Arc::clone(&logs), task, number.0);
        let resume = self.resume.take().filter(|(attempt, _)| *attempt == number.0);
        let mut cursor = match (resume, self.lines.take()) {
            (Some((_, Cursor(u64::MAX))), _) => {
                Cursor(self.checked(reader.size().map(|size| size.written)).await?)
            }
            (Some((_, cursor)), _) => cursor,
            (None, Some(lines)) => {
                let start = reader.last_lines(lines, &self.streams);
                self.checked(start).await?
            }
            (None, None) => Cursor(0),
        };
        let mut follower = self.follow.then(|| LogFollower::new(logs, task, number.0));
        loop {
            let now = self.load().await?;
            let over = now.attempts > number || now.state.lease().is_none();
            cursor = self.drain(&mut reader, number, cursor).await?;
            let Some(follower) = follower.as_mut().filter(|_| !over) else {
                return self.say_pruned(&mut reader, number, &now).await;
            };
            if *told != Some(now.seq) {
                *told = Some(now.seq);
                self.tell(&now).await?;
            }
            let engine = self.api.engine.clone();
            tokio::select! {
                () = follower.grown() => {}
                () = own_change(&engine, &mut self.feed, self.id) => {}
                () = self.sender.closed() => return Err(Over),
            }
        }
    }

    /// Sends everything that is written by now.
    async fn drain(
        &mut self,
        reader: &mut LogReader,
        number: AttemptNumber,
        mut cursor: Cursor,
    ) -> Result<Cursor, Over> {
        loop {
            let batch = self.checked(reader.read(cursor, READ)).await?;
            cursor = batch.next;
            let mut gap = 0;
            for chunk in batch.chunks {
                match chunk {
                    Chunk::Gap { bytes, .. } => gap += bytes,
                    Chunk::Data { offset, time_us, stream, bytes } => {
                        let time_us = i64::try_from(time_us).unwrap_or(i64::MAX);
                        let old = self.since_us.is_some_and(|since| time_us < since);
                        if old || !self.streams.contains(&stream) {
                            continue;
                        }
                        let next = offset + bytes.len() as u64;
                        let chunk = v1::LogChunk {
                            attempt: number.0,
                            time_us,
                            stream: word(stream).to_owned(),
                            data: bytes,
                            gap: std::mem::take(&mut gap),
                            pruned: false,
                            cursor: format!("{number}:{next}"),
                        };
                        self.send(Event::Chunk(chunk)).await?;
                    }
                }
            }
            if gap > 0 {
                let cursor = format!("{number}:{}", cursor.0);
                let chunk = v1::LogChunk { attempt: number.0, gap, cursor, ..Default::default() };
                self.send(Event::Chunk(chunk)).await?;
            }
            if !batch.more {
                return Ok(cursor);
            }
        }
    }

    /// Says so when the log of an attempt that has ended was removed to make room.
    async fn say_pruned(
        &self,
        reader: &mut LogReader,
        number: AttemptNumber,
        task: &Task,
    ) -> Result<(), Over> {
        let size = self.checked(reader.size()).await?;
        if size.written > 0 {
            return Ok(());
        }
        let attempts = match task.last.clone().filter(|last| last.number == number) {
            Some(last) => vec![last],
            None => self.checked(engine::attempts(self.api.engine.store(), task)).await?,
        };
        let found = attempts.iter().find(|it| it.number == number && it.ended.is_some());
        let kept = |it: &capsule_core::attempt::Receipt| {
            (it.output_bytes + it.error_bytes).saturating_sub(it.dropped_bytes)
        };
        let gap = found.map_or(0, |it| kept(&it.receipt));
        if gap == 0 {
            return Ok(());
        }
        let chunk = v1::LogChunk { attempt: number.0, gap, pruned: true, ..Default::default() };
        self.send(Event::Chunk(chunk)).await
    }

    /// Waits for a change of the task.
    async fn changed(&mut self) -> Result<(), Over> {
        let engine = self.api.engine.clone();
        tokio::select! {
            () = own_change(&engine, &mut self.feed, self.id) => Ok(()),
            () = self.sender.closed() => Err(Over),
        }
    }

    async fn load(&self) -> Result<Task, Over> {
        match self.api.engine.task(self.id) {
            Ok(Some(task)) => Ok(task),
            Ok(None) => self.fail(Refused::not_found("the task was removed")).await,
            Err(error) => self.fail(error.into()).await,
        }
    }

    async fn checked<T, E: std::error::Error>(&self, result: Result<T, E>) -> Result<T, Over> {
        match result {
            Ok(value) => Ok(value),
            Err(error) => {
                let message = crate::rpc::status::chain(&error);
                self.fail(Refused::new(tonic::Code::Internal, "internal", message, 1)).await
            }
        }
    }

    async fn fail<T>(&self, refused: Refused) -> Result<T, Over> {
        drop(self.sender.send(Err(refused.into())).await);
        Err(Over)
    }

    async fn tell(&self, task: &Task) -> Result<(), Over> {
        let view = self.api.view(task);
        self.send(Event::Task(view)).await
    }

    async fn send(&self, event: Event) -> Result<(), Over> {
        self.sender.send(Ok(v1::TailEvent { event: Some(event) })).await.map_err(|_| Over)
    }
}

/// Waits until the feed tells of this task, or cannot tell any more.
async fn own_change(engine: &engine::Engine, feed: &mut FeedCursor, id: TaskId) {
    loop {
        match engine.feed().next(feed).await {
            Ok(news) if news.iter().any(|change| change.task == id) => return,
            Ok(_) => {}
            Err(engine::Lagged) => {
                *feed = engine.feed().cursor();
                return;
            }
        }
    }
}

const fn word(stream: logs::Stream) -> &'static str {
    match stream {
        logs::Stream::Out => "out",
        logs::Stream::Err => "err",
        logs::Stream::Event => "event",
        logs::Stream::Note => "note",
    }
}
