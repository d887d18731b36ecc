//! Every method of both protocols with requests of all kinds, and the sockets with bytes of any kind.

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use capsule_proto::v1;
use capsule_proto::v1::daemon_client::DaemonClient;
use prost::Message as _;
use prost::bytes::{Buf as _, BufMut as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::describe::{CAPSULE, Method, Protocol, SDK};
use crate::rig::{Rig, nothing_panicked};

/// An answer later than this is none.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a stream is listened to: it may have nothing to say.
const GLANCE: Duration = Duration::from_millis(5);
/// Requests to one daemon: what they create stays in memory.
const REQUESTS: u32 = 4000;
/// The largest answer read.
const ANSWER_MAX: usize = 64 << 20;

/// `Service/Method`, a line end, the request; behind `Service/Method*` bytes that a request is composed of.
pub fn capsule(data: &[u8]) {
    with_bed(|bed| bed.ask(&CAPSULE, data));
}

/// The same for the services of the SDK, as a stock runner asks them.
pub fn sdk(data: &[u8]) {
    with_bed(|bed| bed.ask(&SDK, data));
}

/// Bytes for the socket of clients, or with the first bit of the first byte for that of runners; with the
/// second bit behind the preface of HTTP/2.
pub fn http(data: &[u8]) {
    with_bed(|bed| bed.write(data));
}

/// What an input was answered.
pub fn answered(protocol: &Protocol, data: &[u8]) -> Result<usize, Code> {
    let mut answer = Ok(0);
    with_bed(|bed| answer = bed.ask(protocol, data));
    answer
}

fn with_bed<T>(test: impl FnOnce(&mut Bed) -> T) {
    thread_local! {
        static BED: RefCell<Option<Bed>> = const { RefCell::new(None) };
    }
    BED.with_borrow_mut(|bed| {
        if bed.as_ref().is_some_and(|bed| bed.requests >= REQUESTS) {
            *bed = None;
        }
        let bed = bed.get_or_insert_with(Bed::new);
        bed.requests += 1;
        let _done = test(bed);
        if bed.requests % 64 == 1 {
            bed.still_serves();
        }
        nothing_panicked();
    });
}

/// A daemon, and one connection to each of its sockets.
#[derive(Debug)]
pub struct Bed {
    clients: Channel,
    runners: Channel,
    requests: u32,
    rig: Rig,
}

impl Default for Bed {
    fn default() -> Self {
        Self::new()
    }
}

impl Bed {
    /// A daemon of its own.
    pub fn new() -> Self {
        let rig = Rig::new();
        let (clients, runners) =
            rig.runtime.block_on(async { (connect(&rig.clients), connect(&rig.runners)) });
        Self { clients, runners, requests: 0, rig }
    }

    /// Asks as [`capsule`] and [`sdk`] do: how many messages the answer has, or with which code it is refused.
    pub fn ask(&self, protocol: &Protocol, data: &[u8]) -> Result<usize, Code> {
        let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
        let (name, body) = data.split_at(end);
        let body = body.get(1..).unwrap_or_default();
        let (method, body) = match name.strip_suffix(b"*") {
            Some(name) => {
                let method = protocol.method(name);
                (method, protocol.compose(method, body))
            }
            None => (protocol.method(name), body.to_vec()),
        };
        let body = self.harmless(method, body);
        let channel =
            if std::ptr::eq(protocol, &raw const *CAPSULE) { &self.clients } else { &self.runners };
        let called =
            self.rig.runtime.block_on(call(channel.clone(), method, body, &self.rig.token));
        if let Err(status) = &called {
            let known = status.code() != Code::Unknown
                && (status.code() != Code::Internal || status.message().contains("decode"));
            assert!(known, "{} was answered {status:?}", method.name);
        }
        called.map_err(|status| status.code())
    }

    /// A deploy copies the folder it names: one of ours.
    fn harmless(&self, method: &Method, body: Vec<u8>) -> Vec<u8> {
        if method.name != "Apps/Deploy" {
            return body;
        }
        match v1::DeployRequest::decode(body.as_slice()) {
            Ok(mut request) if !request.entry.is_empty() => {
                request.dir = self.rig.project.display().to_string();
                request.encode_to_vec()
            }
            Ok(_) | Err(_) => body,
        }
    }

    /// Writes as [`http`] does.
    pub fn write(&self, data: &[u8]) {
        let (flags, data) = data.split_first().map_or((0, data), |(first, rest)| (*first, rest));
        let path = if flags & 1 == 0 { &self.rig.clients } else { &self.rig.runners };
        self.rig.runtime.block_on(async {
            let mut stream = UnixStream::connect(path).await.unwrap();
            let mut bytes = Vec::new();
            if flags & 2 == 2 {
                bytes.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
            }
            bytes.extend_from_slice(data);
            // It may be hung up on while it still writes.
            drop(stream.write_all(&bytes).await);
            drop(stream.shutdown().await);
            let mut said = Vec::new();
            let ended = timeout(PATIENCE, stream.read_to_end(&mut said)).await;
            assert!(ended.is_ok(), "a connection that has said all stays open");
        });
        self.still_serves();
    }

    /// Somebody else is answered.
    fn still_serves(&self) {
        self.rig.runtime.block_on(async {
            let mut client = DaemonClient::new(connect(&self.rig.clients));
            let status = timeout(PATIENCE, client.status(v1::StatusRequest {})).await;
            status.expect("the daemon answers").expect("the daemon serves");
        });
    }
}

fn connect(socket: &Path) -> Channel {
    Endpoint::try_from(format!("unix://{}", socket.display())).unwrap().connect_lazy()
}

/// How many messages the answer has: of a stream those that come at once.
async fn call(
    channel: Channel,
    method: &Method,
    body: Vec<u8>,
    token: &str,
) -> Result<usize, Status> {
    let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(ANSWER_MAX);
    let mut request = Request::new(body);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let path = PathAndQuery::try_from(method.path.as_str()).unwrap();
    let asked = async {
        client.ready().await.expect("the daemon takes connections");
        client.server_streaming(request, path, Raw).await
    };
    let patience = if method.streams { GLANCE } else { PATIENCE };
    let Ok(answer) = timeout(patience, asked).await else {
        assert!(method.streams, "{} is not answered", method.name);
        return Ok(0);
    };
    let mut stream = answer?.into_inner();
    let mut count = 0;
    while count < 8 {
        match timeout(patience, stream.message()).await {
            Ok(Ok(Some(_))) => count += 1,
            Ok(Ok(None)) => break,
            Ok(Err(status)) => return Err(status),
            Err(_) => {
                assert!(method.streams, "{} does not end its answer", method.name);
                break;
            }
        }
    }
    Ok(count)
}

/// Messages as they are.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; from.remaining()];
        from.copy_to_slice(&mut item);
        Ok(Some(item))
    }
}
