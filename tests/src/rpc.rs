//! The daemon's protocol, for tests to which a process per call is too slow.

use std::path::Path;

use capsule_proto::v1::submit_request::Work;
use capsule_proto::v1::tasks_client::TasksClient;
use capsule_proto::v1::{Options, Program, SubmitRequest, Targets};
use tonic::transport::{Channel, Endpoint, Error};

/// A connection to the daemon behind `socket`.
///
/// # Errors
/// Nobody answers.
///
/// # Panics
/// The path cannot be an address.
pub async fn connect(socket: &Path) -> Result<TasksClient<Channel>, Error> {
    Ok(TasksClient::new(channel(socket).await?).max_decoding_message_size(64 << 20))
}

/// A connection for any of the daemon's services.
///
/// # Errors
/// Nobody answers.
///
/// # Panics
/// The path cannot be an address.
pub async fn channel(socket: &Path) -> Result<Channel, Error> {
    let address = format!("unix://{}", socket.display());
    Endpoint::try_from(address).unwrap().connect().await
}

/// A submit of a shell script.
pub fn script(script: &str, options: Options) -> SubmitRequest {
    let program = Program {
        argv: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
        cwd: "/".to_owned(),
        ..Program::default()
    };
    SubmitRequest {
        work: Some(Work::Program(program)),
        options: Some(options),
        ..SubmitRequest::default()
    }
}

/// These tasks.
pub fn targets(ids: impl IntoIterator<Item = u64>) -> Option<Targets> {
    let ids = ids.into_iter().map(|id| id.to_string()).collect();
    Some(Targets { ids, ..Targets::default() })
}
