//! Who takes messages of an app, whose turn it is, and who listens to a session. All in memory:
//! what must last is in the app data.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::Gateway;

/// Events that a slow listener may leave unread before it is let go.
const UNREAD_MAX: usize = 4096;
/// Texts that are being said at once; one more and the oldest is no longer gathered.
const SAYING_MAX: usize = 1024;

/// Something that happened in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChatEvent {
    /// A part of a reply.
    Text {
        /// The message it answers; of a task, a name of its own.
        request: String,
        /// What is said.
        text: String,
    },
    /// Something else than text.
    Block {
        /// Its id: a later one with the same takes its place.
        id: String,
        /// What kind.
        kind: String,
        /// As the app made it.
        json: String,
    },
    /// A task to be shown.
    Card {
        /// Its id, as the app said it.
        task: String,
        /// What to show above it; may be empty.
        message: String,
    },
    /// A line that takes the place of the one before.
    Notification {
        /// The line.
        text: String,
        /// More; may be empty.
        detail: String,
    },
    /// The app has dealt with a message.
    TurnEnded {
        /// Which.
        request: String,
        /// What went wrong, when something did.
        error: Option<String>,
    },
}

#[derive(Debug, Default)]
pub(super) struct Rooms {
    state: Mutex<State>,
    /// Rises when a runner is attached.
    attached: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    runners: Vec<Runner>,
    listeners: Vec<Listener>,
    turns: HashMap<String, Turn>,
    /// Texts that are not yet complete, by request.
    saying: HashMap<String, String>,
    /// Which runner has a session: it may hold some of it in memory.
    homes: HashMap<Room, u64>,
}

/// A session of an app.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Room {
    pub(super) app: String,
    pub(super) session: String,
}

#[derive(Debug)]
struct Runner {
    id: u64,
    app: String,
    revision: u32,
    messages: mpsc::UnboundedSender<Vec<u8>>,
}

#[derive(Debug)]
struct Listener {
    id: u64,
    room: Room,
    events: mpsc::Sender<ChatEvent>,
}

#[derive(Debug)]
struct Turn {
    room: Room,
    runner: u64,
}

/// A runner that takes messages; dropped = it is gone, and its turns end.
#[derive(Debug)]
#[must_use = "dropping it takes the runner away"]
pub struct Attached {
    gateway: Gateway,
    id: u64,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.gateway.inner.rooms.detach(self.id);
    }
}

/// Somebody who listens to a session; dropped = they have gone.
#[derive(Debug)]
pub(super) struct Listening {
    gateway: Gateway,
    id: u64,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut state = self.gateway.inner.rooms.state.lock();
        state.listeners.retain(|listener| listener.id != self.id);
    }
}

impl Gateway {
    /// A runner (a session of our host, or a stock runner's stream) can take messages of this app
    /// from now on, each an encoded `InboundMessage`. Dropping what is returned ends that.
    pub fn attach(
        &self,
        app: &str,
        revision: u32,
        messages: mpsc::UnboundedSender<Vec<u8>>,
    ) -> Attached {
        let rooms = &self.inner.rooms;
        let id = {
            let mut state = rooms.state.lock();
            state.next += 1;
            let id = state.next;
            state.runners.push(Runner { id, app: app.to_owned(), revision, messages });
            id
        };
        rooms.attached.send_modify(|count| *count += 1);
        Attached { gateway: self.clone(), id }
    }

    /// The handler of a message has ended; a turn that has ended before is left alone.
    pub fn turn_ended(&self, request_id: &str, error: Option<String>) {
        self.inner.rooms.end_turn(request_id, error);
    }

    pub(super) fn listen(&self, room: Room) -> (Listening, mpsc::Receiver<ChatEvent>) {
        let (events, heard) = mpsc::channel(UNREAD_MAX);
        let mut state = self.inner.rooms.state.lock();
        state.next += 1;
        let id = state.next;
        state.listeners.push(Listener { id, room, events });
        (Listening { gateway: self.clone(), id }, heard)
    }
}

impl Rooms {
    /// Told of every runner that is attached.
    pub(super) fn attachments(&self) -> watch::Receiver<u64> {
        self.attached.subscribe()
    }

    /// Hands a message to a runner of the newest revision, to the same one as before where it is
    /// still there. `false` = nobody takes messages of this app.
    pub(super) fn send(&self, room: &Room, request: &str, message: &[u8]) -> bool {
        let mut state = self.state.lock();
        state.runners.retain(|runner| !runner.messages.is_closed());
        let newest =
            state.runners.iter().filter(|runner| runner.app == room.app).map(|r| r.revision).max();
        let Some(newest) = newest else { return false };
        let fits = |runner: &&Runner| runner.app == room.app && runner.revision == newest;
        let home = state.homes.get(room).copied();
        let busy = |runner: &Runner| state.homes.values().filter(|id| **id == runner.id).count();
        let chosen = state
            .runners
            .iter()
            .filter(fits)
            .find(|runner| Some(runner.id) == home)
            .or_else(|| state.runners.iter().filter(fits).min_by_key(|runner| busy(runner)));
        let Some(runner) = chosen else { return false };
        let (id, sent) = (runner.id, runner.messages.send(message.to_vec()).is_ok());
        if sent {
            state.homes.insert(room.clone(), id);
            state.turns.insert(request.to_owned(), Turn { room: room.clone(), runner: id });
        }
        sent
    }

    /// The session that a message under this request belongs to.
    pub(super) fn room_of(&self, request: &str) -> Option<Room> {
        self.state.lock().turns.get(request).map(|turn| turn.room.clone())
    }

    /// Tells everybody who listens; one who does not keep up is let go.
    pub(super) fn tell(&self, room: &Room, event: &ChatEvent) {
        self.state.lock().tell(room, event);
    }

    /// Gathers what is said in parts; gives the whole when it is `done`.
    pub(super) fn gather(&self, request: &str, text: &str, done: bool) -> Option<String> {
        let mut state = self.state.lock();
        if done {
            let mut whole = state.saying.remove(request).unwrap_or_default();
            whole.push_str(text);
            return Some(whole).filter(|whole| !whole.is_empty());
        }
        if state.saying.len() >= SAYING_MAX
            && let Some(one) = state.saying.keys().next().cloned()
        {
            state.saying.remove(&one);
        }
        state.saying.entry(request.to_owned()).or_default().push_str(text);
        None
    }

    pub(super) fn end_turn(&self, request: &str, error: Option<String>) {
        self.state.lock().end_turn(request, error);
    }

    fn detach(&self, id: u64) {
        let mut state = self.state.lock();
        state.runners.retain(|runner| runner.id != id);
        state.homes.retain(|_, home| *home != id);
        let open = state.turns.iter().filter(|(_, turn)| turn.runner == id);
        let open: Vec<String> = open.map(|(request, _)| request.clone()).collect();
        for request in open {
            state.end_turn(&request, Some("the app's runner went away".to_owned()));
        }
    }
}

impl State {
    fn tell(&mut self, room: &Room, event: &ChatEvent) {
        self.listeners.retain(|listener| {
            listener.room != *room || listener.events.try_send(event.clone()).is_ok()
        });
    }

    fn end_turn(&mut self, request: &str, error: Option<String>) {
        if let Some(turn) = self.turns.remove(request) {
            self.tell(&turn.room, &ChatEvent::TurnEnded { request: request.to_owned(), error });
        }
    }
}
