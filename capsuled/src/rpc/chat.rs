//! The service `Chat`.

use capsule_proto::v1;
use capsule_proto::v1::chat_server::Chat;
use tonic::{Code, Request, Response, Status};

use super::Api;
use super::request::call;
use super::request::peer::Peer;
use super::status::Refused;
use super::stream::chat;
use crate::appdata::DataError;
use crate::gateway::{ChatError, Opening};

/// Sessions in a list, unless said otherwise, and at the most.
const SESSIONS: usize = 20;
const SESSIONS_MAX: usize = 1000;
/// Earlier entries that a chat shows at the most.
const HISTORY_MAX: usize = 1000;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Chat for Api {
    type OpenChatStream = chat::ChatStream;

    async fn open_chat(
        &self,
        request: Request<v1::OpenChatRequest>,
    ) -> Answer<Self::OpenChatStream> {
        let peer = self.peers.of(&request)?;
        let request = request.into_inner();
        let app = call::app_name(&self.engine.apps(), &request.app)?;
        let speaker = request.speaker.unwrap_or_default();
        let opening = Opening {
            user: user(&speaker, &peer),
            org: speaker.org,
            app: app.clone(),
            session: request.session,
            history: usize::try_from(request.history).unwrap_or(0).min(HISTORY_MAX),
        };
        let chat = self.gateway.open_chat(opening).await.map_err(Refused::from)?;
        Ok(Response::new(chat::start(self, app, chat)))
    }

    async fn send_message(
        &self,
        request: Request<v1::SendMessageRequest>,
    ) -> Answer<v1::SendMessageReply> {
        let request = request.into_inner();
        let app = call::app_name(&self.engine.apps(), &request.app)?;
        let said = self.gateway.say(&app, &request.session, &request.text).await;
        let request_id = said.map_err(Refused::from)?;
        Ok(Response::new(v1::SendMessageReply { request_id }))
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Answer<v1::ListSessionsReply> {
        let peer = self.peers.of(&request)?;
        let request = request.into_inner();
        let app = call::app_name(&self.engine.apps(), &request.app)?;
        let user = user(&request.speaker.unwrap_or_default(), &peer);
        let limit = match usize::try_from(request.limit).unwrap_or(SESSIONS_MAX) {
            0 => SESSIONS,
            limit => limit.min(SESSIONS_MAX),
        };
        let found = self.gateway.chat_sessions(&app, &user, limit).await.map_err(Refused::from)?;
        let sessions = found.into_iter().map(|summary| v1::SessionView {
            session: summary.id,
            user: summary.session.profile.user,
            owner_id: summary.session.profile.owner,
            created_us: summary.session.created,
            updated_us: summary.session.updated,
            messages: summary.session.entries,
            last: summary.session.last,
        });
        Ok(Response::new(v1::ListSessionsReply { sessions: sessions.collect() }))
    }
}

fn user(speaker: &v1::Speaker, peer: &Peer) -> String {
    if speaker.user.is_empty() { peer.name.clone() } else { speaker.user.clone() }
}

impl From<ChatError> for Refused {
    fn from(error: ChatError) -> Self {
        let message = error.to_string();
        match error {
            ChatError::NoSession(_) => Self::not_found(message).hint("capsule chat --list"),
            ChatError::NoRunner(_) => {
                Self::precondition("no_runner", message).hint("capsule app list")
            }
            ChatError::Message(_) | ChatError::Data(DataError::Invalid(_)) => {
                Self::invalid(message)
            }
            ChatError::Data(_) => Self::new(Code::Internal, "internal", message, 1),
        }
    }
}
