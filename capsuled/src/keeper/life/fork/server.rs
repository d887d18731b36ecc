//! The words between the keeper and a fork server: one JSON object a datagram.

use std::{
    io::IoSlice,
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
};

use nix::{
    errno::Errno,
    sys::socket::{ControlMessage, MsgFlags, recv, sendmsg},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::jail::Plan;

/// Children forked ahead that a server may have.
const SPARES: usize = 16;
/// The longest word of a server.
const WORD: usize = 16 << 10;

/// A server and what is known of it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) socket: OwnedFd,
    /// It takes requests.
    pub(super) ready: bool,
    /// As in its own plan; its children inherit it.
    pub(super) no_new_privs: bool,
    /// The children that it has forked ahead.
    pub(super) spares: Vec<Pid>,
}

/// What a server says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Word {
    pub(super) ready: Option<bool>,
    pub(super) why: String,
    /// The request that is answered.
    pub(super) id: Option<u64>,
    pub(super) pid: Option<i32>,
    pub(super) spare: Option<i32>,
    error: serde_json::Value,
}

impl Word {
    /// Why it could not be done, for people.
    pub(super) fn error(&self) -> &str {
        self.error.as_str().unwrap_or("it does not say why")
    }
}

#[derive(Serialize)]
struct Request<'a> {
    id: u64,
    env: serde_json::Map<String, serde_json::Value>,
    cwd: &'a str,
    argv0: &'a str,
}

impl Server {
    /// One more child forked ahead is welcome.
    pub(super) const fn has_room(&self) -> bool {
        self.spares.len() < SPARES
    }

    /// The next word without waiting: none when the server has gone, `EAGAIN` when it is silent.
    pub(super) fn hear(&self) -> Result<Option<Word>, Errno> {
        let mut buffer = [0; WORD];
        let got = match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(0) | Err(Errno::ECONNRESET) => return Ok(None),
            got => got?,
        };
        // What is no word says nothing.
        let word = serde_json::from_slice(buffer.get(..got).unwrap_or_default());
        Ok(Some(word.unwrap_or_default()))
    }

    /// Sends a request with standard input, output, errors, events and gate.
    pub(super) fn ask(&self, request: &[u8], fds: &[RawFd; 5]) -> Result<(), Errno> {
        let rights = [ControlMessage::ScmRights(fds)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let parts = [IoSlice::new(request)];
        sendmsg::<()>(self.socket.as_raw_fd(), &parts, &rights, flags, None).map(|_| ())
    }
}

/// The request for a plan; none for one that a fork cannot carry out.
pub(super) fn request(id: u64, plan: &Plan) -> Option<Vec<u8>> {
    if plan.umask.is_some() || !plan.rlimits.is_empty() || !plan.event_fd {
        return None;
    }
    let mut env = serde_json::Map::new();
    for entry in &plan.env {
        let (name, value) = str::from_utf8(entry).ok()?.split_once('=')?;
        env.insert(name.to_owned(), value.into());
    }
    let cwd = str::from_utf8(&plan.cwd).ok().filter(|cwd| !cwd.is_empty())?;
    let name = env.get("CAPSULE_TASK").and_then(|name| name.as_str());
    let argv0 = name.unwrap_or("attempt").to_owned();
    serde_json::to_vec(&Request { id, env, cwd, argv0: &argv0 }).ok()
}
