//! Who is on the other side of the socket: the kernel says so, not the client.

use std::collections::HashMap;

use nix::unistd::{Uid, User, geteuid};
use parking_lot::Mutex;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Status};

use crate::rpc::status::Refused;

/// The user behind a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::rpc) struct Peer {
    pub(in crate::rpc) uid: u32,
    pub(in crate::rpc) name: String,
}

/// Marks a request that the daemon makes of itself on behalf of its own user: the web board's.
#[derive(Clone, Copy, Debug)]
struct Own;

/// A request of the daemon's own user, who has shown that he is that by other means.
pub(crate) fn own<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Own);
    request
}

/// Names of users, looked up once each.
#[derive(Debug, Default)]
pub(in crate::rpc) struct Peers {
    names: Mutex<HashMap<u32, String>>,
}

impl Peers {
    /// The user behind `request`.
    pub(in crate::rpc) fn of<T>(&self, request: &Request<T>) -> Result<Peer, Status> {
        let uid = uid(request.extensions())?;
        let mut names = self.names.lock();
        let name = names.entry(uid).or_insert_with(|| {
            User::from_uid(Uid::from_raw(uid))
                .ok()
                .flatten()
                .map_or_else(|| uid.to_string(), |user| user.name)
        });
        Ok(Peer { uid, name: name.clone() })
    }
}

/// Lets through the daemon's own user and root, before any handler runs.
pub(in crate::rpc) fn admit(request: Request<()>) -> Result<Request<()>, Status> {
    let uid = uid(request.extensions())?;
    if uid == 0 || uid == geteuid().as_raw() {
        return Ok(request);
    }
    let message = format!("this daemon serves uid {}, not uid {uid}", geteuid());
    let refused = Refused::new(tonic::Code::PermissionDenied, "permission_denied", message, 6);
    Err(refused.hint("capsuled run").into())
}

fn uid(extensions: &tonic::Extensions) -> Result<u32, Status> {
    if extensions.get::<Own>().is_some() {
        return Ok(geteuid().as_raw());
    }
    extensions
        .get::<UdsConnectInfo>()
        .and_then(|info| info.peer_cred)
        .map(|cred| cred.uid())
        .ok_or_else(|| Status::permission_denied("the kernel does not say who is calling"))
}
