//! The stream of a chat: what the app says, and the tasks it shows, live.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use capsule_core::id::TaskId;
use capsule_proto::v1;
use capsule_proto::v1::chat_event::Event;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;

use crate::engine::{Changed, Lagged};
use crate::gateway::{Chat, ChatEvent};
use crate::rpc::Api;
use crate::rpc::status::Refused;

pub(in crate::rpc) type ChatStream =
    Pin<Box<dyn Stream<Item = Result<v1::ChatEvent, tonic::Status>> + Send>>;

/// Messages that a slow client may leave unread before the chat waits for it.
const BUFFER: usize = 64;
/// The most tasks that one chat keeps live; the oldest goes.
const CARDS_MAX: usize = 100;
/// How often the progress of a running task is looked up: it changes without a commit.
const PROGRESS: Duration = Duration::from_secs(1);

/// Tells what happens in the chat until the client leaves.
pub(in crate::rpc) fn start(api: &Api, app: String, chat: Chat) -> ChatStream {
    let (sender, receiver) = mpsc::channel(BUFFER);
    let talk = Talk { api: api.clone(), app, sender, cards: BTreeMap::new() };
    tokio::spawn(async move {
        let ending = talk.api.ending.clone();
        let sender = talk.sender.clone();
        tokio::select! {
            _ = talk.run(chat) => {}
            () = ending.cancelled() => {
                let gone = Refused::new(tonic::Code::Unavailable, "unavailable", "the daemon ends", 3);
                drop(sender.send(Err(gone.into())).await);
            }
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

/// The client has gone.
struct Gone;

struct Talk {
    api: Api,
    app: String,
    sender: mpsc::Sender<Result<v1::ChatEvent, tonic::Status>>,
    cards: BTreeMap<TaskId, Card>,
}

struct Card {
    message: String,
    told: Option<v1::TaskView>,
}

impl Talk {
    async fn run(mut self, mut chat: Chat) -> Result<(), Gone> {
        let mut feed = self.api.engine.feed().cursor();
        self.send(Event::Opened(opened(&self.app, &chat))).await?;
        let mut progress = interval(PROGRESS);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let engine = self.api.engine.clone();
        loop {
            let live = !self.cards.is_empty();
            tokio::select! {
                event = chat.events.recv() => {
                    let Some(event) = event else { return self.lag().await };
                    self.tell(event).await?;
                }
                news = engine.feed().next(&mut feed) => {
                    if news.is_err() {
                        feed = engine.feed().cursor();
                    }
                    self.changed(&news).await?;
                }
                _ = progress.tick(), if live => self.look(None).await?,
                () = self.sender.closed() => return Err(Gone),
            }
        }
    }

    /// The client does not keep up; what it missed is in the history.
    async fn lag(&self) -> Result<(), Gone> {
        let message = "this client reads too slowly";
        let late = Refused::new(tonic::Code::ResourceExhausted, "too_slow", message, 1);
        drop(self.sender.send(Err(late.into())).await);
        Err(Gone)
    }

    async fn tell(&mut self, event: ChatEvent) -> Result<(), Gone> {
        let event = match event {
            ChatEvent::Text { request, text } => {
                Event::Text(v1::TextChunk { request_id: request, text })
            }
            ChatEvent::Block { id, kind, json } => {
                Event::Block(v1::Block { id, r#type: kind, json })
            }
            ChatEvent::Notification { text, detail } => {
                Event::Notification(v1::Notification { text, detail })
            }
            ChatEvent::TurnEnded { request, error } => Event::TurnEnd(v1::TurnEnd {
                request_id: request,
                error: error.unwrap_or_default(),
            }),
            ChatEvent::Card { task, message } => return self.show(&task, message).await,
        };
        self.send(event).await
    }

    /// Shows a task of this app, and from now on its changes.
    async fn show(&mut self, task: &str, message: String) -> Result<(), Gone> {
        let Ok(id) = task.parse::<TaskId>() else { return Ok(()) };
        let known = self.api.engine.task(id).ok().flatten();
        if known.is_none_or(|task| task.spec.app != self.app) {
            return Ok(());
        }
        if self.cards.len() >= CARDS_MAX {
            self.cards.pop_first();
        }
        self.cards.insert(id, Card { message, told: None });
        self.look(Some(&[id])).await
    }

    async fn changed(&mut self, news: &Result<Vec<Changed>, Lagged>) -> Result<(), Gone> {
        match news {
            Ok(news) => {
                let ids: Vec<TaskId> = news.iter().map(|change| change.task).collect();
                let own: Vec<TaskId> =
                    self.cards.keys().copied().filter(|id| ids.contains(id)).collect();
                if own.is_empty() { Ok(()) } else { self.look(Some(&own)).await }
            }
            Err(Lagged) => self.look(None).await,
        }
    }

    /// Tells the shown tasks (all, or these) that are other than told last.
    async fn look(&mut self, which: Option<&[TaskId]>) -> Result<(), Gone> {
        let ids = which.map_or_else(|| self.cards.keys().copied().collect(), <[TaskId]>::to_vec);
        for view in self.api.views(&ids).unwrap_or_default() {
            let id = TaskId(view.id);
            let Some(card) = self.cards.get_mut(&id) else { continue };
            if card.told.as_ref() == Some(&view) {
                continue;
            }
            card.told = Some(view.clone());
            let message = card.message.clone();
            if view.ended_us.is_some() {
                self.cards.remove(&id);
            }
            self.send(Event::Card(v1::Card { message, task: Some(view) })).await?;
        }
        Ok(())
    }

    async fn send(&self, event: Event) -> Result<(), Gone> {
        self.sender.send(Ok(v1::ChatEvent { event: Some(event) })).await.map_err(|_| Gone)
    }
}

fn opened(app: &str, chat: &Chat) -> v1::Opened {
    let history = chat.history.iter().filter(|entry| entry.sender != "block");
    v1::Opened {
        app: app.to_owned(),
        session: chat.id.clone(),
        user: chat.profile.user.clone(),
        owner_id: chat.profile.owner.clone(),
        history: history
            .map(|entry| v1::ChatMessage {
                sender: entry.sender.clone(),
                text: entry.text.clone(),
                at_us: entry.at,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use capsule_core::command::Command;
    use tokio_stream::StreamExt as _;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::appdata::AppData;
    use crate::backup::{Backups, Sources};
    use crate::clock::SystemClock;
    use crate::deploying::Deployer;
    use crate::gateway::Opening;
    use crate::gateway::tests::{Bench, block, submitted};
    use crate::logs::LogDir;
    use crate::rpc::{About, Doors};
    use crate::runner::process::Processes;
    use crate::store::{MemoryStore, SideFiles, StateDir};
    use crate::web::{Entrance, WebArgs};

    fn api(bench: &Bench, ending: CancellationToken) -> Api {
        let engine = bench.gateway.engine().clone();
        let about = About {
            state_dir: bench.dir.path().to_path_buf(),
            socket: bench.dir.path().join("s"),
            store_uuid: String::new(),
            started: engine.now(),
        };
        let logs = bench.dir.path().join("logs");
        std::fs::create_dir(&logs).unwrap();
        let logs = Arc::new(LogDir::open(logs).unwrap());
        let children = Arc::new(Processes::new(Arc::clone(&logs)));
        let deployer = Deployer::new(bench.dir.path(), bench.dir.path().join("host"), children);
        let data = AppData::start(bench.dir.path(), Arc::new(SystemClock)).unwrap();
        let state =
            StateDir::open(&bench.dir.path().join(uuid::Uuid::now_v7().to_string())).unwrap();
        let backups = Backups::new(Sources {
            root: bench.dir.path().to_path_buf(),
            store: uuid::Uuid::nil(),
            records: Arc::new(MemoryStore::new()),
            side: SideFiles::new(&state),
            data,
        });
        let (web, nil) = (WebArgs::default(), uuid::Uuid::nil());
        let (entrance, _) = Entrance::new(&web, bench.dir.path(), nil, engine.now()).unwrap();
        let doors = Doors { gateway: bench.gateway.clone(), backups, entrance, ending };
        Api::new(engine, logs, about, deployer.into(), doors)
    }

    async fn next(stream: &mut ChatStream) -> Event {
        let event = stream.next().await.unwrap().unwrap();
        event.event.unwrap()
    }

    #[tokio::test]
    async fn a_shown_task_is_told_again_when_it_changes() {
        let bench = Bench::new().await;
        let ending = CancellationToken::new();
        let api = api(&bench, ending.clone());
        let (messages, mut inbox) = mpsc::unbounded_channel();
        let _attached = bench.gateway.attach("leads", 1, messages);
        let opening =
            Opening { app: "leads".to_owned(), user: "ann".to_owned(), ..Opening::default() };
        let chat = bench.gateway.open_chat(opening).await.unwrap();
        let session = chat.id.clone();
        let mut stream = start(&api, "leads".to_owned(), chat);
        let Event::Opened(opened) = next(&mut stream).await else { panic!("not opened") };
        assert_eq!((opened.session.as_str(), opened.user.as_str()), (session.as_str(), "ann"));
        let request = bench.gateway.say("leads", &session, "sync").await.unwrap();
        assert!(inbox.recv().await.is_some());
        let id = submitted(&bench).await;
        // One that is not there, or of another app, is not shown.
        for task in ["99", "nonsense", id.as_str()] {
            block(&bench, &session, task).await;
        }
        bench.gateway.turn_ended(&request, None);
        let Event::Card(card) = next(&mut stream).await else { panic!("no card") };
        assert_eq!(card.message, "Lead sync started");
        assert_eq!(card.task.unwrap().status(), v1::Status::Pending);
        let Event::TurnEnd(end) = next(&mut stream).await else { panic!("no end") };
        assert_eq!((end.request_id, end.error), (request, String::new()));
        let cancel = Command::Cancel { reason: String::new(), grace: None };
        api.engine.act(vec![id.parse().unwrap()], cancel).await.unwrap();
        let Event::Card(card) = next(&mut stream).await else { panic!("no card") };
        assert_eq!(card.task.unwrap().status(), v1::Status::Cancelled);
        ending.cancel();
        assert!(stream.next().await.unwrap().is_err(), "the daemon ends");
        assert!(stream.next().await.is_none());
    }
}
