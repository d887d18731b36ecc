//! The files that pages load. Their names change with their bytes, so a browser keeps them for good.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

use super::ask::Refusal;
use super::entrance::hex;

const SCRIPT: &str = "text/javascript; charset=utf-8";

struct Asset {
    kind: &'static str,
    /// What it is asked for by.
    name: String,
    mime: &'static str,
    bytes: &'static [u8],
}

static ALL: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let asset = |kind: &'static str, end: &str, mime, bytes: &'static [u8]| {
        let digest: String = hex(&Sha256::digest(bytes)).chars().take(16).collect();
        Asset { kind, name: format!("{kind}-{digest}.{end}"), mime, bytes }
    };
    vec![
        asset("htmx", "js", SCRIPT, include_bytes!("../../assets/htmx-4.0.1.min.js")),
        asset("hx-sse", "js", SCRIPT, include_bytes!("../../assets/hx-sse-4.0.1.min.js")),
        asset("board", "js", SCRIPT, include_bytes!("../../assets/board.js")),
        asset("style", "css", "text/css; charset=utf-8", include_bytes!("../../assets/board.css")),
        asset("icon", "svg", "image/svg+xml", include_bytes!("../../assets/icon.svg")),
    ]
});

/// Where a file is, by its kind.
pub(super) fn path(kind: &str) -> String {
    let found = ALL.iter().find(|asset| asset.kind == kind);
    found.map(|asset| format!("/assets/{}", asset.name)).unwrap_or_default()
}

/// Sends a file.
pub(super) async fn send(Path(name): Path<String>) -> Response {
    let Some(asset) = ALL.iter().find(|asset| asset.name == name) else {
        return Refusal::new(StatusCode::NOT_FOUND, "there is no such file").into_response();
    };
    let kept = HeaderValue::from_static("public, max-age=31536000, immutable");
    let headers = [(CONTENT_TYPE, HeaderValue::from_static(asset.mime)), (CACHE_CONTROL, kept)];
    (headers, asset.bytes).into_response()
}
