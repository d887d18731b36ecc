//! The socket of stock runners: the SDK's services over gRPC. Each runner shows its token with
//! every call; a call goes the same way as one of our own host.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};

use nix::unistd::geteuid;
use prost::bytes::{Buf as _, BufMut as _};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{Body as HttpBody, BoxFuture, Service, StdError, http};
use tonic::server::{NamedService, ServerStreamingService, UnaryService};
use tonic::transport::Server;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::runner::Recv;
use super::{Caller, Gateway, MESSAGE_MAX};
use crate::rpc::Incoming;

/// The socket of a store's stock runners. The `@` is needed: clients send the path as the authority
/// of their requests, escaped, and only before an `@` may an authority have escapes.
pub fn socket_path(runtime_dir: &Path, store: Uuid) -> PathBuf {
    // The first half of a store's name is the time, which two stores may share.
    let name = store.simple().to_string().split_off(20);
    runtime_dir.join(format!("runner-{name}@localhost"))
}

/// Serves stock runners until the daemon ends.
///
/// # Errors
/// The listener broke.
pub async fn serve(
    listener: UnixListener,
    gateway: Gateway,
    ending: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let ended = ending.clone().cancelled_owned();
    let calls = Calls { gateway, ending };
    // The client pings when it likes: no policy, no limit.
    Server::builder()
        .add_service(Named::<RunnerService>::new(&calls))
        .add_service(Named::<TaskService>::new(&calls))
        .add_service(Named::<SessionService>::new(&calls))
        .add_service(Named::<DataService>::new(&calls))
        .add_service(Named::<SecretService>::new(&calls))
        .serve_with_incoming_shutdown(Incoming::new(listener), ended)
        .await
}

#[derive(Clone, Debug)]
struct Calls {
    gateway: Gateway,
    ending: CancellationToken,
}

impl Calls {
    /// Who calls, and the token that says so.
    fn admit<T>(&self, request: &Request<T>) -> Result<(String, Caller), Status> {
        let info = request.extensions().get::<UdsConnectInfo>();
        let uid = info.and_then(|info| info.peer_cred).map(|cred| cred.uid());
        if !uid.is_some_and(|uid| uid == 0 || uid == geteuid().as_raw()) {
            return Err(Status::permission_denied("this socket is not for your user"));
        }
        let shown = request.metadata().get("authorization").and_then(|text| text.to_str().ok());
        let token = shown.and_then(|text| text.strip_prefix("Bearer ")).unwrap_or_default();
        let caller = self.gateway.inner.stock.lock().caller(token);
        match caller {
            Some(caller) => Ok((token.to_owned(), caller)),
            None => Err(Status::unauthenticated("this runner's token is not known")),
        }
    }

    async fn unary(&self, method: &str, request: Request<Vec<u8>>) -> Result<Vec<u8>, Status> {
        let (token, caller) = self.admit(&request)?;
        let body = request.into_inner();
        if let Some(name) = method.strip_prefix("TaskService/")
            && let Some(answer) = self.gateway.stock_call(&token, name, &body).await?
        {
            return Ok(answer);
        }
        self.gateway.call(&caller, method, &body).await
    }
}

/// The calls under the name of one service.
struct Named<S> {
    calls: Calls,
    name: PhantomData<fn() -> S>,
}

impl<S> Named<S> {
    fn new(calls: &Calls) -> Self {
        Self { calls: calls.clone(), name: PhantomData }
    }
}

impl<S> Clone for Named<S> {
    fn clone(&self) -> Self {
        Self::new(&self.calls)
    }
}

macro_rules! services {
    ($($name:ident)*) => {$(
        struct $name;

        impl NamedService for Named<$name> {
            const NAME: &'static str = concat!("capsule.", stringify!($name));
        }
    )*};
}

services!(RunnerService TaskService SessionService DataService SecretService);

impl<S, B> Service<http::Request<B>> for Named<S>
where
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let calls = self.calls.clone();
        let path = request.uri().path();
        let method = path.strip_prefix("/capsule.").unwrap_or(path).to_owned();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Raw)
                .apply_max_message_size_config(Some(MESSAGE_MAX), Some(MESSAGE_MAX));
            let response = if method == "RunnerService/Recv" {
                grpc.server_streaming(Receive(calls), request).await
            } else {
                grpc.unary(Unary { calls, method }, request).await
            };
            Ok(response)
        })
    }
}

struct Unary {
    calls: Calls,
    method: String,
}

impl UnaryService<Vec<u8>> for Unary {
    type Response = Vec<u8>;
    type Future = BoxFuture<Response<Vec<u8>>, Status>;

    fn call(&mut self, request: Request<Vec<u8>>) -> Self::Future {
        let (calls, method) = (self.calls.clone(), self.method.clone());
        Box::pin(async move { calls.unary(&method, request).await.map(Response::new) })
    }
}

struct Receive(Calls);

impl ServerStreamingService<Vec<u8>> for Receive {
    type Response = Vec<u8>;
    type ResponseStream = Recv;
    type Future = BoxFuture<Response<Recv>, Status>;

    fn call(&mut self, request: Request<Vec<u8>>) -> Self::Future {
        let calls = self.0.clone();
        Box::pin(async move {
            let (token, _) = calls.admit(&request)?;
            calls.gateway.receive(&token, calls.ending.clone()).map(Response::new)
        })
    }
}

/// Messages as they are: what they mean is decided where they are dealt with.
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
