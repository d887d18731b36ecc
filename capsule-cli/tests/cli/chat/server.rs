//! The service `Chat` of the played daemon: every message is answered with the script.

use std::pin::Pin;

use capsule_proto::v1::chat_event::Event;
use capsule_proto::v1::chat_server::Chat;
use capsule_proto::v1::{
    ChatEvent, ListSessionsReply, ListSessionsRequest, OpenChatRequest, Opened, SendMessageReply,
    SendMessageRequest, SessionView,
};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status};

use crate::fake::Served;

type Events = Pin<Box<dyn Stream<Item = Result<ChatEvent, Status>> + Send>>;

#[tonic::async_trait]
impl Chat for Served {
    type OpenChatStream = Events;

    async fn open_chat(
        &self,
        request: Request<OpenChatRequest>,
    ) -> Result<Response<Events>, Status> {
        let it = request.into_inner();
        let speaker = it.speaker.unwrap_or_default();
        let (sender, receiver) = mpsc::unbounded_channel();
        let opened = Opened {
            app: it.app.clone(),
            session: "s1".to_owned(),
            user: speaker.user.clone(),
            ..Opened::default()
        };
        sender.send(Ok(ChatEvent { event: Some(Event::Opened(opened)) })).unwrap();
        let mut state = self.0.lock();
        let heard =
            format!("open {} {} {} session={}", it.app, speaker.user, speaker.org, it.session);
        state.heard.push(heard);
        state.talk = Some(sender);
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(receiver))))
    }

    async fn send_message(
        &self,
        request: Request<SendMessageRequest>,
    ) -> Result<Response<SendMessageReply>, Status> {
        let it = request.into_inner();
        let mut state = self.0.lock();
        state.heard.push(format!("say {:?} in {}", it.text, it.session));
        let talk = state.talk.clone().unwrap();
        for event in state.chat.clone() {
            talk.send(Ok(ChatEvent { event: Some(event) })).unwrap();
        }
        Ok(Response::new(SendMessageReply { request_id: "r".to_owned() }))
    }

    async fn list_sessions(
        &self,
        _: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsReply>, Status> {
        let session = SessionView {
            session: "s1".to_owned(),
            user: "ada".to_owned(),
            last: "sync acme".to_owned(),
            updated_us: 1_790_000_000_000_000,
            ..SessionView::default()
        };
        Ok(Response::new(ListSessionsReply { sessions: vec![session] }))
    }
}
