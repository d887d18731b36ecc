//! What host and daemon say to each other: one JSON object a line.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a host says. What this version does not know is passed over.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "t", rename_all = "lowercase")]
pub enum FromHost {
    /// First line of a connection.
    Hello(Hello),
    /// The app is booted.
    Ready,
    /// The app cannot be served; the host ends.
    Failed {
        /// Why.
        error: HostError,
    },
    /// An attempt has begun.
    Started {
        /// Number of the task.
        task: u64,
        /// Number of the attempt.
        attempt: u32,
        /// When, in µs since 1970.
        at_us: u64,
    },
    /// An attempt is over; said again until it is acknowledged.
    Ended(Ended),
    /// An attempt wrote something.
    Log(Log),
    /// A call of the SDK.
    Call(CallFrame),
    /// A chat message's handler is over.
    Turn {
        /// Of which message.
        request_id: String,
        /// Why it failed.
        #[serde(default)]
        error: Option<String>,
    },
    /// Answer to a ping.
    Pong {
        /// Which.
        id: u64,
    },
    /// Of a newer host.
    #[serde(other)]
    Unknown,
}

/// The first line of a connection.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Hello {
    /// Version of the protocol.
    pub protocol: u32,
    /// `host` or `attempt`.
    pub role: String,
    /// The secret word from its environment.
    pub token: String,
    /// Its process.
    pub pid: u32,
    /// It is booted already.
    pub ready: bool,
    /// Of an attempt: its task.
    pub task: u64,
    /// Of an attempt: its number.
    pub attempt: u32,
    /// Of a host: every attempt whose verdict is not acknowledged.
    pub attempts: Vec<Known>,
}

/// An attempt that a host has.
#[derive(Clone, Debug, Deserialize)]
pub struct Known {
    /// Number of the task.
    pub task: u64,
    /// Number of the attempt.
    pub attempt: u32,
    /// When it began, in µs since 1970.
    #[serde(default)]
    pub started_us: u64,
    /// Its verdict.
    #[serde(default)]
    pub ended: Option<Ended>,
}

/// The verdict on an attempt.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Ended {
    /// Number of the task.
    pub task: u64,
    /// Number of the attempt.
    pub attempt: u32,
    /// When it began, in µs since 1970.
    pub started_us: u64,
    /// When it ended, in µs since 1970.
    pub at_us: u64,
    /// `completed`, `failed`, `timeout` or `cancelled`.
    pub verdict: String,
    /// What it gave back.
    pub result: Value,
    /// What it raised.
    pub error: Option<HostError>,
    /// Processor time of its thread, in µs.
    pub cpu_us: Option<u64>,
    /// Bytes of output that were dropped.
    pub dropped: u64,
}

/// An error in an app.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HostError {
    /// Its class; of a boot its kind.
    #[serde(rename = "type", alias = "kind")]
    pub kind: String,
    /// What it said.
    pub message: String,
    /// False: no retry makes it good.
    pub retry: Option<bool>,
    /// It asks to be tried again after this long.
    pub retry_after: Option<Value>,
}

/// Output of an attempt.
#[derive(Clone, Debug, Deserialize)]
pub struct Log {
    /// Number of the task; 0 = the host itself.
    pub task: u64,
    /// Number of the attempt.
    #[serde(default)]
    pub attempt: u32,
    /// `out`, `err` or `event`.
    pub stream: String,
    /// When, in µs since 1970.
    #[serde(default)]
    pub at_us: u64,
    /// What.
    pub text: String,
}

/// A call of the SDK, as it comes.
#[derive(Clone, Debug, Deserialize)]
pub struct CallFrame {
    /// Names its answer.
    pub id: u64,
    /// `Service/Method`.
    pub method: String,
    /// The request, in base64.
    pub body: String,
    /// The attempt that asks; 0 = the host itself.
    #[serde(default)]
    pub task: u64,
    /// Its number.
    #[serde(default)]
    pub attempt: u32,
    /// Names a call that must not be carried out twice.
    #[serde(default)]
    pub key: Option<String>,
}

/// What the daemon says.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "t", rename_all = "lowercase")]
pub enum ToHost {
    /// The hello is taken.
    Welcome {
        /// Version of the protocol.
        protocol: u32,
    },
    /// The hello is not taken.
    Refused {
        /// Why.
        message: String,
    },
    /// Begin an attempt; repeating it changes nothing.
    Start(Box<Start>),
    /// Stop an attempt.
    Cancel {
        /// Number of the task.
        task: u64,
        /// Number of the attempt.
        attempt: u32,
        /// Milliseconds until the host is killed for it.
        grace_ms: u64,
    },
    /// Count the time limit anew.
    Refresh {
        /// Number of the task.
        task: u64,
        /// Number of the attempt.
        attempt: u32,
    },
    /// The verdict is durable.
    Ack {
        /// Number of the task.
        task: u64,
        /// Number of the attempt.
        attempt: u32,
    },
    /// Deliver a chat message.
    Message {
        /// An `InboundMessage`, in base64.
        body: String,
    },
    /// Answer to a call.
    Reply {
        /// Of which call.
        id: u64,
        /// The reply, in base64.
        #[serde(skip_serializing_if = "Option::is_none")]
        body: Option<String>,
        /// Why it is refused, as a code of gRPC.
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<i32>,
        /// The same for people.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// Write the stacks of all threads to the log of an attempt.
    Stacks {
        /// Number of the task.
        task: u64,
        /// Number of the attempt.
        attempt: u32,
    },
    /// Take nothing more, stop what runs after the grace, end.
    Quit {
        /// Milliseconds that what runs may go on.
        grace_ms: u64,
    },
}

/// Begins an attempt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Start {
    /// `task` or `tick`.
    pub kind: &'static str,
    /// Number of the task.
    pub task: u64,
    /// Number of the attempt.
    pub attempt: u32,
    /// Name of the task or schedule.
    pub name: String,
    /// Its arguments.
    pub kwargs: Value,
    /// The chat session it is bound to, if any.
    pub session_id: String,
    /// Milliseconds it may run; 0 = no limit.
    pub timeout_ms: u64,
    /// Who submitted it.
    pub user_id: String,
}
