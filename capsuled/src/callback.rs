//! Tells an app's `callback_url` that a task has ended: once for each task, not for each attempt.
//!
//! It must not know the store. Invariant: whoever ends a task never waits for anybody's server.
//! Best effort: what is not delivered when the daemon ends is not delivered at all.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

/// Calls at once: a server that does not answer holds up one of them.
const WORKERS: usize = 4;
/// Ends that may wait to be told; more are dropped, with a warning.
pub const WAITING_MAX: usize = 10_000;
/// How long a server may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The pauses between the tries, of which there is one more.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// The end of a task, as it is told.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ended {
    /// Its number.
    pub task_id: String,
    /// `completed`, `failed`, `timeout` or `cancelled`.
    pub status: &'static str,
    /// Seconds that its last attempt ran; none when it never ran.
    pub duration: Option<f64>,
    /// Why it did not complete.
    pub error: Option<String>,
}

/// Tells ends. The threads end with the last clone.
#[derive(Clone, Debug)]
pub struct Callbacks {
    ends: SyncSender<(String, Ended)>,
}

impl Callbacks {
    /// Starts the threads that tell.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start() -> std::io::Result<Self> {
        Self::start_with(PAUSES)
    }

    fn start_with(pauses: [Duration; 2]) -> std::io::Result<Self> {
        let (ends, waiting) = sync_channel(WAITING_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..WORKERS {
            let waiting = Arc::clone(&waiting);
            let name = "callback".to_owned();
            std::thread::Builder::new().name(name).spawn(move || work(&waiting, pauses))?;
        }
        Ok(Self { ends })
    }

    /// Has an end told to `url`, later.
    pub fn tell(&self, url: String, ended: Ended) {
        match self.ends.try_send((url, ended)) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full((_, ended))) => {
                tracing::warn!(
                    task.id = ended.task_id,
                    "{WAITING_MAX} callbacks wait: one is dropped"
                );
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this thread has nothing else to do meanwhile")]
fn work(waiting: &Mutex<Receiver<(String, Ended)>>, pauses: [Duration; 2]) {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(LIMIT))
        .max_redirects(0)
        .user_agent(concat!("capsuled/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    loop {
        let next = waiting.lock().recv();
        let Ok((url, ended)) = next else { return };
        let Err(mut why) = post(&agent, &url, &ended) else { continue };
        let mut told = false;
        for pause in pauses {
            std::thread::sleep(pause);
            match post(&agent, &url, &ended) {
                Ok(()) => {
                    told = true;
                    break;
                }
                Err(error) => why = error,
            }
        }
        if !told {
            tracing::warn!(task.id = ended.task_id, error = %why, "a callback is given up");
        }
    }
}

fn post(agent: &ureq::Agent, url: &str, ended: &Ended) -> Result<(), ureq::Error> {
    let body = serde_json::to_vec(ended).unwrap_or_default();
    agent.post(url).content_type("application/json").send(&body).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// Answers requests one after the other and gives their bodies.
    fn server(answers: &'static [&'static str]) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/done", listener.local_addr().unwrap());
        let serving = std::thread::spawn(move || {
            let mut bodies = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                let mut text = String::new();
                while !text.ends_with('}') {
                    let mut buffer = [0; 4096];
                    let count = stream.read(&mut buffer).unwrap();
                    assert_ne!(count, 0, "{text}");
                    text.push_str(&String::from_utf8_lossy(&buffer[..count]));
                }
                write!(
                    stream,
                    "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                )
                .unwrap();
                bodies.push(text.rsplit("\r\n").next().unwrap().to_owned());
            }
            bodies
        });
        (url, serving)
    }

    #[test]
    fn an_end_is_told_until_the_server_takes_it() {
        let (url, serving) = server(&["500 No", "204 Yes"]);
        let callbacks = Callbacks::start_with([Duration::from_millis(1); 2]).unwrap();
        callbacks.tell(
            url,
            Ended {
                task_id: "1842".to_owned(),
                status: "failed",
                duration: Some(1.5),
                error: Some("ValueError: no".to_owned()),
            },
        );
        let body =
            r#"{"task_id":"1842","status":"failed","duration":1.5,"error":"ValueError: no"}"#;
        assert_eq!(serving.join().unwrap(), [body, body]);
    }
}
