//! Chat beside a task that takes a core and one that crashes.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use capsule_proto::v1;
use capsule_proto::v1::chat_client::ChatClient;
use capsule_proto::v1::chat_event::Event;
use tonic::Streaming;
use tonic::transport::Channel;

use super::{Deployed, call};
use crate::bench::{Bench, block_on};
use crate::daemon::{Daemon, connect};
use crate::report::Line;
use crate::sample::Sample;

const APP: &str = "bench";
/// A turn is asked for this often, as by somebody who types fast.
const PACE: Duration = Duration::from_millis(5);

/// A chat turn, message to end of turn, while a process takes all of a core and another aborts.
pub(in crate::rows) fn chat(bench: &Bench) -> anyhow::Result<Vec<Line>> {
    let daemon = Daemon::start(bench, 4)?;
    block_on(async {
        let mut app = Deployed::new(daemon, false).await?;
        let turns = bench.amount(300, 100);
        // The first ones load what the app needs.
        Talk::open(&app).await?.turns(20).await?;
        let (mut alone, mut busy, mut middle) =
            (Sample::default(), Sample::default(), Sample::default());
        for _ in 0..bench.rounds() {
            let times = Talk::open(&app).await?.turns(turns).await?;
            alone.push(times.quantile(0.99));
            let spinning = app.client.submit_many(&call("spin", "{}", "default"), 1).await?;
            app.client.until(&[v1::Status::Running], 1, Duration::from_secs(20)).await?;
            app.client.submit_many(&call("abort", "{}", "default"), 1).await?;
            let times = Talk::open(&app).await?.turns(turns).await?;
            busy.push(times.quantile(0.99));
            middle.push(times.median());
            app.cancel(&spinning).await?;
        }
        Ok(vec![
            Line::new(
                "chat turn, p99, beside a spinning process and one that aborts",
                "µs",
                busy,
                "± 20 %",
            )
            .limit("alone, p99", alone)
            .note(format!("p50 {middle} µs")),
        ])
    })
}

/// An open session.
struct Talk {
    client: ChatClient<Channel>,
    events: Streaming<v1::ChatEvent>,
    session: String,
}

impl Talk {
    async fn open(app: &Deployed) -> anyhow::Result<Self> {
        let mut client = ChatClient::new(connect(&app.daemon.socket()).await?);
        let open = v1::OpenChatRequest { app: APP.to_owned(), ..v1::OpenChatRequest::default() };
        let mut events = client.open_chat(open).await?.into_inner();
        let first = events.message().await?.and_then(|event| event.event);
        let Some(Event::Opened(opened)) = first else { anyhow::bail!("no session: {first:?}") };
        Ok(Self { client, events, session: opened.session })
    }

    /// So many turns, one after the other; each from the message to the end of its turn.
    async fn turns(&mut self, count: usize) -> anyhow::Result<Sample> {
        let mut sample = Sample::default();
        for _ in 0..count {
            tokio::time::sleep(PACE).await;
            let message = v1::SendMessageRequest {
                app: APP.to_owned(),
                session: self.session.clone(),
                text: "you".to_owned(),
                ..v1::SendMessageRequest::default()
            };
            let began = Instant::now();
            self.client.send_message(message).await?;
            let mut said = String::new();
            loop {
                let event = self.events.message().await?.context("the session ended")?;
                match event.event {
                    Some(Event::Text(chunk)) => said.push_str(&chunk.text),
                    Some(Event::TurnEnd(end)) => {
                        anyhow::ensure!(end.error.is_empty(), "the turn failed: {}", end.error);
                        break;
                    }
                    _ => {}
                }
            }
            sample.push_micros(began.elapsed());
            anyhow::ensure!(said == "hello you", "the app said {said:?}");
        }
        Ok(sample)
    }
}
