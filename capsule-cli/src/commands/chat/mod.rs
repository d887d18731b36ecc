//! `chat`: talk to an app; its replies stream, the tasks it shows are live.

mod talk;

use std::io::IsTerminal as _;

use capsule_proto::v1::chat_event::Event;
use capsule_proto::v1::{
    ChatEvent, ListSessionsRequest, OpenChatRequest, Opened, SendMessageRequest, SessionView,
    Speaker,
};
use clap::Args;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tonic::Streaming;

use self::talk::Talk;
use crate::client::Client;
use crate::commands::Context;
use crate::commands::patience::unless_interrupted;
use crate::error::{CliError, Exit};
use crate::ui::table::{Cell, Table};
use crate::ui::{Listing, json};

/// Talk to an app: replies stream, the tasks it shows are live
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
                        capsule chat leads\n  \
                        capsule chat leads --once 'sync acme' --wait\n  \
                        capsule chat leads --session last --as ada --org acme")]
pub(crate) struct ChatArgs {
    /// The app [default: the only one]
    #[arg(value_name = "APP")]
    name: Option<String>,
    /// Who speaks [default: your login name]
    #[arg(long = "as", value_name = "ID")]
    user: Option<String>,
    /// The organisation you speak for
    #[arg(long, value_name = "ORG")]
    org: Option<String>,
    /// Continue a session, or `last`
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
    /// Say this, print the reply, and stop
    #[arg(long, value_name = "MESSAGE")]
    once: Option<String>,
    /// At the end, wait for the tasks that were shown; exit by how they ended
    #[arg(long)]
    wait: bool,
    /// How many earlier messages to print of a session that is continued
    #[arg(long, value_name = "N", default_value_t = 20)]
    history: u32,
    /// Show your sessions with the app
    #[arg(long, conflicts_with_all = ["once", "session", "wait"])]
    list: bool,
}

impl ChatArgs {
    pub(crate) async fn run(&self, context: &Context) -> Result<Exit, CliError> {
        let client = context.client().await?;
        if self.list {
            let request = ListSessionsRequest {
                app: self.app(context),
                speaker: Some(self.speaker()),
                limit: 0,
            };
            let reply = client.answer(client.chat().list_sessions(request)).await?;
            context.ui.listing(listing(context, &reply.sessions))?;
            return Ok(Exit::Done);
        }
        let mut interrupts = signal(SignalKind::interrupt())?;
        let (mut stream, opened) = self.open(context, &client).await?;
        let prompts = self.once.is_none()
            && std::io::stdin().is_terminal()
            && context.ui.talk_tty
            && !context.ui.is_json();
        let mut talk = Talk::new(context, &client, prompts);
        talk.opened(&opened, self.once.is_some())?;
        let mut words = match &self.once {
            Some(message) => {
                let sent = self.send(&client, &opened, message);
                match unless_interrupted(&mut interrupts, sent).await? {
                    Some(request) => talk.turn(request),
                    None => return Ok(talk.leave()),
                }
                None
            }
            None => Some(typed()),
        };
        talk.prompt();
        let mut tick = tokio::time::interval(std::time::Duration::from_secs(1));
        loop {
            if words.is_none() && talk.is_over(self.wait) {
                return talk.conclude(self.wait);
            }
            let listens = !talk.in_turn();
            tokio::select! {
                biased;
                _ = interrupts.recv() => return Ok(talk.leave()),
                event = stream.message() => match event {
                    Ok(Some(ChatEvent { event: Some(event) })) => talk.hear(event).await?,
                    Ok(Some(ChatEvent { event: None })) => {}
                    Ok(None) => return talk.conclude(self.wait),
                    Err(status) => {
                        talk.close()?;
                        return Err(client.explain(status).await);
                    }
                },
                line = next(&mut words), if words.is_some() && listens => match line {
                    Some(line) if line.trim().is_empty() => talk.prompt(),
                    Some(line) => {
                        let sent = self.send(&client, &opened, &line);
                        match unless_interrupted(&mut interrupts, sent).await? {
                            Some(request) => talk.turn(request),
                            None => return Ok(talk.leave()),
                        }
                    }
                    None => words = None,
                },
                _ = tick.tick() => talk.redraw(),
            }
        }
    }

    /// Opens the chat; its first event says which.
    async fn open(
        &self,
        context: &Context,
        client: &Client,
    ) -> Result<(Streaming<ChatEvent>, Opened), CliError> {
        let request = OpenChatRequest {
            app: self.app(context),
            speaker: Some(self.speaker()),
            session: self.session.clone().unwrap_or_default(),
            history: if self.session.is_some() { self.history } else { 0 },
        };
        let mut stream = client.answer(client.chat().open_chat(request)).await?;
        match stream.message().await {
            Ok(Some(ChatEvent { event: Some(Event::Opened(opened)) })) => Ok((stream, opened)),
            Ok(_) => Err(CliError::new(Exit::Failure, "unexpected", "the daemon opened no chat")),
            Err(status) => Err(client.explain(status).await),
        }
    }

    async fn send(&self, client: &Client, opened: &Opened, text: &str) -> Result<String, CliError> {
        // It may wait for a runner that is starting.
        let client = client.patient();
        let request = SendMessageRequest {
            app: opened.app.clone(),
            session: opened.session.clone(),
            text: text.to_owned(),
            speaker: Some(self.speaker()),
        };
        Ok(client.answer(client.chat().send_message(request)).await?.request_id)
    }

    fn app(&self, context: &Context) -> String {
        let named = self.name.as_deref().or(context.app());
        named.unwrap_or_default().to_owned()
    }

    fn speaker(&self) -> Speaker {
        let user = self.user.clone().unwrap_or_default();
        Speaker { user, org: self.org.clone().unwrap_or_default() }
    }
}

/// Lines of stdin as they are typed; ends with it.
fn typed() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

async fn next(words: &mut Option<mpsc::UnboundedReceiver<String>>) -> Option<String> {
    match words {
        Some(words) => words.recv().await,
        None => None,
    }
}

fn listing(context: &Context, sessions: &[SessionView]) -> Listing {
    let mut table = Table::new(vec!["SESSION", "AS", "OWNER", "MESSAGES", "LAST USED", "LAST"]);
    for session in sessions {
        table.push(vec![
            Cell::new(&session.session),
            Cell::new(&session.user),
            Cell::new(&session.owner_id),
            Cell::new(session.messages.to_string()),
            Cell::new(context.ui.times.age(session.updated_us)),
            Cell::new(&session.last),
        ]);
    }
    let shape = |session: &SessionView| -> Value {
        json!({
            "session": session.session,
            "user": session.user,
            "owner_id": session.owner_id,
            "messages": session.messages,
            "created_at": json::at(session.created_us),
            "updated_at": json::at(session.updated_us),
            "last": json::text(&session.last),
        })
    };
    let json = sessions.iter().map(shape).collect();
    let ids = sessions.iter().map(|session| session.session.clone()).collect();
    Listing { table, json, ids }
}
