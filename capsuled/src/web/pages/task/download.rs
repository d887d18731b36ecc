//! The whole log as a file: the bytes that the task wrote, as they were.

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use capsule_proto::v1::{TailEvent, TailRequest, tail_event};
use tokio_stream::StreamExt as _;

use crate::web::Site;
use crate::web::ask::Refusal;
use crate::web::words;

/// Of which attempt.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
pub(in crate::web) struct Asked {
    /// 0 = the newest.
    #[serde(default)]
    attempt: u32,
}

/// Sends what is written by now; it is read as fast as the browser takes it.
pub(in crate::web) async fn send(
    State(site): State<Site>,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let task = site.show(&id).await?.task.unwrap_or_default();
    let attempt = if asked.attempt == 0 { task.attempt } else { asked.attempt };
    let streams = ["out", "err"].map(str::to_owned).to_vec();
    let id = task.id.to_string();
    let request = TailRequest { id, attempt: asked.attempt, streams, ..TailRequest::default() };
    let events = site.tail(request).await?;
    // A stream that breaks off breaks the download off: half a log must not look whole.
    let pieces = events.map(|event| event.map(bytes));
    let mut response = Body::from_stream(pieces).into_response();
    let name = format!("attachment; filename=\"task-{}-attempt-{attempt}.log\"", task.id);
    let name = HeaderValue::try_from(name).map_err(|_| Refusal::internal())?;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CONTENT_DISPOSITION, name);
    Ok(response)
}

fn bytes(event: TailEvent) -> Bytes {
    let Some(tail_event::Event::Chunk(chunk)) = event.event else { return Bytes::new() };
    if chunk.gap == 0 {
        return chunk.data.into();
    }
    let mut told = format!("\n… {} are not kept …\n", words::bytes(chunk.gap)).into_bytes();
    told.extend(chunk.data);
    told.into()
}
