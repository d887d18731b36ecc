//! How far a running task says it is: the last line it wrote on its event descriptor.

use std::sync::Arc;

use capsule_proto::v1;
use serde_json::Value;

use crate::logs::{LogReader, Stream};
use crate::rpc::Api;

/// The longest event line that is looked at.
const LINE_MAX: usize = 16 << 10;

impl Api {
    /// Adds the progress of a running task to its view.
    pub(in crate::rpc) fn with_progress(&self, view: v1::TaskView) -> v1::TaskView {
        if view.status() != v1::Status::Running {
            return view;
        }
        let progress = self.last_event(view.id, view.attempt).as_deref().and_then(read);
        v1::TaskView { progress, ..view }
    }

    fn last_event(&self, task: u64, attempt: u32) -> Option<Vec<u8>> {
        let mut reader = LogReader::open(Arc::clone(&self.logs), task, attempt);
        reader.last_line(Stream::Event, LINE_MAX).ok()?
    }
}

/// Reads `{"done": 3, "total": 10, "text": "leads"}`, the same under `"progress"`, or a fraction
/// as `{"progress": 0.3}`.
fn read(line: &[u8]) -> Option<v1::Progress> {
    let event: Value = serde_json::from_slice(line).ok()?;
    let inner = event.get("progress").unwrap_or(&event);
    let text = |value: &Value| value.get("text").and_then(Value::as_str).map(str::to_owned);
    let text = text(inner).or_else(|| text(&event)).unwrap_or_default();
    if let Some(fraction) = inner.as_f64() {
        return Some(v1::Progress { done: fraction, total: Some(1.0), text });
    }
    let done = inner.get("done").and_then(Value::as_f64)?;
    let total = inner.get("total").and_then(Value::as_f64);
    Some(v1::Progress { done, total, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(line: &str) -> Option<(f64, Option<f64>, String)> {
        read(line.as_bytes()).map(|p| (p.done, p.total, p.text))
    }

    #[test]
    fn events_are_read_in_each_form() {
        let all = Some((3.0, Some(10.0), "leads".to_owned()));
        assert_eq!(progress(r#"{"done": 3, "total": 10, "text": "leads"}"#), all);
        assert_eq!(progress(r#"{"progress": {"done": 3, "total": 10, "text": "leads"}}"#), all);
        assert_eq!(progress(r#"{"progress": 0.5}"#), Some((0.5, Some(1.0), String::new())));
        assert_eq!(progress(r#"{"done": 7}"#), Some((7.0, None, String::new())));
        assert_eq!(progress(r#"{"note": "x"}"#), None);
        assert_eq!(progress("no json"), None);
    }
}
