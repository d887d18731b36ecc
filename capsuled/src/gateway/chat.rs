//! Chats: people's messages to apps, and what apps say to people.

use std::time::Duration;

use capsule_proto::sdk;
use prost::Message as _;
use serde_json::Value;
use tokio::sync::mpsc;
use tonic::Status;

use super::rooms::{ChatEvent, Listening, Room};
use super::{Caller, Gateway};
use crate::appdata::{DataError, Entry, Profile, Session, Summary};

/// How long a message waits for a runner that takes it.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest message of a person, in bytes.
const MESSAGE_MAX: usize = 256 << 10;

/// How a chat begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// The app.
    pub app: String,
    /// Continue this session, or `last`; empty = a new one.
    pub session: String,
    /// Who speaks.
    pub user: String,
    /// For which organisation; may be empty.
    pub org: String,
    /// How many earlier entries to give.
    pub history: usize,
}

/// Why a chat does not happen.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// There is no such session, or none yet.
    #[error("{0}")]
    NoSession(String),
    /// Nobody takes messages of this app.
    #[error("no runner of app {0} takes messages")]
    NoRunner(String),
    /// A message that is empty or too long.
    #[error("{0}")]
    Message(String),
    /// The app data failed.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// A session that somebody listens to.
#[derive(Debug)]
pub struct Chat {
    /// Its id.
    pub id: String,
    /// Who speaks.
    pub profile: Profile,
    /// What was said before, oldest first.
    pub history: Vec<Entry>,
    /// What happens from now on; ends when the listener does not keep up.
    pub events: mpsc::Receiver<ChatEvent>,
    _listening: Listening,
}

impl Gateway {
    /// Begins or continues a session.
    ///
    /// # Errors
    /// The session to be continued is not there, or the app data failed.
    pub async fn open_chat(&self, opening: Opening) -> Result<Chat, ChatError> {
        let Opening { app, session, user, org, history } = opening;
        let owner = if org.is_empty() { user.clone() } else { format!("org:{org}") };
        let profile =
            Profile { channel: "chat".to_owned(), user, email: String::new(), owner, org };
        let id = match session.as_str() {
            "" => self.new_name(),
            "last" => {
                let newest = self.data().sessions(&app, &profile.user, 1).await?.pop();
                let none = || {
                    let user = &profile.user;
                    ChatError::NoSession(format!("{user} has no session with app {app} yet"))
                };
                newest.ok_or_else(none)?.id
            }
            id => {
                let known = self.data().session(&app, id, 0).await?;
                let none = || ChatError::NoSession(format!("app {app} has no session {id:?}"));
                known.ok_or_else(none)?;
                id.to_owned()
            }
        };
        self.data().begin(&app, &id, profile.clone()).await?;
        let history = match history {
            0 => Vec::new(),
            count => self.data().history(&app, &id, u64::MAX, count).await?,
        };
        let (listening, events) = self.listen(Room { app, session: id.clone() });
        Ok(Chat { id, profile, history, events, _listening: listening })
    }

    /// Hands a message of a person to the app; gives the name of the turn.
    ///
    /// # Errors
    /// There is no such session, nobody takes messages, or the app data failed.
    pub async fn say(&self, app: &str, session: &str, text: &str) -> Result<String, ChatError> {
        if text.trim().is_empty() {
            return Err(ChatError::Message("the message is empty".to_owned()));
        }
        if text.len() > MESSAGE_MAX {
            let message =
                format!("the message has {} bytes, the limit is {MESSAGE_MAX}", text.len());
            return Err(ChatError::Message(message));
        }
        let known = self.data().session(app, session, 0).await?;
        let none = || ChatError::NoSession(format!("app {app} has no session {session:?}"));
        let (Session { profile, .. }, _) = known.ok_or_else(none)?;
        let request = self.new_name();
        let message = sdk::InboundMessage {
            request_id: request.clone(),
            session_id: session.to_owned(),
            text: text.to_owned(),
            channel_type: profile.channel,
            user_id: profile.user,
            user_email: profile.email,
            owner_id: profile.owner,
            org_id: profile.org,
            ..Default::default()
        };
        let room = Room { app: app.to_owned(), session: session.to_owned() };
        self.data().say(app, session, "user", text).await?;
        let bytes = message.encode_to_vec();
        let mut attachments = self.inner.rooms.attachments();
        let sent = tokio::time::timeout(PATIENCE, async {
            while !self.inner.rooms.send(&room, &request, &bytes) {
                if attachments.changed().await.is_err() {
                    break;
                }
            }
        });
        match sent.await {
            Ok(()) => Ok(request),
            Err(_) => Err(ChatError::NoRunner(app.to_owned())),
        }
    }

    /// Sessions of a person with an app, the last used first.
    ///
    /// # Errors
    /// The app data failed.
    pub async fn chat_sessions(
        &self,
        app: &str,
        user: &str,
        most: usize,
    ) -> Result<Vec<Summary>, ChatError> {
        Ok(self.data().sessions(app, user, most).await?)
    }

    /// A part of a reply, a block, or the end of a turn.
    pub(super) async fn submit_result(
        &self,
        caller: &Caller,
        said: sdk::SubmitResultRequest,
    ) -> Result<sdk::SubmitResultResponse, Status> {
        let rooms = &self.inner.rooms;
        let known = rooms.room_of(&said.request_id).filter(|room| room.app == caller.app);
        let ends = known.is_some() && said.done;
        let by_session = (!said.session_id.is_empty())
            .then(|| Room { app: caller.app.clone(), session: said.session_id.clone() });
        let Some(room) = known.or(by_session) else {
            return Ok(sdk::SubmitResultResponse { ok: false });
        };
        let heard = Heard { request: said.request_id, text: said.text, done: said.done };
        self.hear(&room, &heard, &said.block_json).await?;
        if ends {
            rooms.end_turn(&heard.request, None);
        }
        Ok(sdk::SubmitResultResponse { ok: true })
    }

    /// What a task says in its session.
    pub(super) async fn notify_session(
        &self,
        caller: &Caller,
        said: sdk::NotifySessionRequest,
    ) -> Result<sdk::NotifySessionResponse, Status> {
        caller.check_app(&said.app_id)?;
        if self.data().session(&caller.app, &said.session_id, 0).await?.is_none() {
            let text = format!("app {} has no session {:?}", caller.app, said.session_id);
            return Err(Status::not_found(text));
        }
        let room = Room { app: caller.app.clone(), session: said.session_id };
        let heard = Heard { request: said.request_id, text: said.text, done: true };
        self.hear(&room, &heard, &said.block_json).await?;
        let err_msg = String::new();
        Ok(sdk::NotifySessionResponse { ok: true, external_delivered: false, err_msg })
    }

    /// Keeps what was said and tells those who listen.
    async fn hear(&self, room: &Room, heard: &Heard, block: &str) -> Result<(), Status> {
        let Heard { request, text, done } = heard;
        let rooms = &self.inner.rooms;
        if !text.is_empty() {
            let (request, text) = (request.clone(), text.clone());
            rooms.tell(room, &ChatEvent::Text { request, text });
        }
        if let Some(whole) = rooms.gather(request, text, *done) {
            self.note(room, "app", &whole).await?;
        }
        if let Some(event) = event_of(block) {
            self.note(room, "block", block).await?;
            rooms.tell(room, &event);
        }
        Ok(())
    }

    /// Adds to the history; a session that is not there has none.
    async fn note(&self, room: &Room, sender: &str, text: &str) -> Result<(), Status> {
        match self.data().say(&room.app, &room.session, sender, text).await {
            Ok(_) | Err(DataError::Missing(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A name that nothing else has.
    fn new_name(&self) -> String {
        let micros = u64::try_from(self.engine().now().0).unwrap_or(0);
        let nanos = u32::try_from(micros % 1_000_000).unwrap_or(0) * 1000;
        let stamp = uuid::Timestamp::from_unix(uuid::NoContext, micros / 1_000_000, nanos);
        uuid::Uuid::new_v7(stamp).to_string()
    }
}

struct Heard {
    request: String,
    text: String,
    done: bool,
}

/// What a block tells people; `None` = nothing, it is for web pages.
fn event_of(block: &str) -> Option<ChatEvent> {
    let parsed: Value = serde_json::from_str(block).ok()?;
    let text = |value: &Value, key: &str| {
        value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let payload = parsed.get("payload").unwrap_or(&Value::Null);
    match text(&parsed, "type").as_str() {
        "" | "widget_update" => None,
        "task_card" => Some(ChatEvent::Card {
            task: text(payload, "task_id"),
            message: text(payload, "message"),
        }),
        "notification" => Some(ChatEvent::Notification {
            text: text(payload, "text"),
            detail: text(payload, "detail"),
        }),
        kind => Some(ChatEvent::Block {
            id: text(&parsed, "id"),
            kind: kind.to_owned(),
            json: block.to_owned(),
        }),
    }
}
