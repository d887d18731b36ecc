//! An open page of the real web board: what its stream of events is sent, before a browser draws it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use anyhow::Context as _;

use super::{PATIENCE, Screen, pass_on};
use crate::bench::Bench;
use crate::daemon::Daemon;

/// An open page.
#[derive(Debug)]
pub(super) struct Page {
    stream: TcpStream,
    reader: Option<JoinHandle<()>>,
    pub(super) events: Screen,
}

impl Page {
    /// Goes in by a link, loads the board and opens its stream.
    pub(super) fn open(bench: &Bench, daemon: &Daemon) -> anyhow::Result<Self> {
        let mut command = bench.command("capsule");
        let told = command.arg("web").env("CAPSULE_SOCKET", daemon.socket()).output()?;
        let link = String::from_utf8(told.stdout)?;
        let link = link.trim().strip_prefix("http://").context("capsule web gives no link")?;
        let (host, path) = link.split_once('/').context("the link has no path")?;
        let door = load(host, &format!("/{path}"), "")?;
        let cookie = between(&door, "set-cookie: ", ";")?;
        let page = load(host, "/", cookie)?;
        let live = between(&page, "hx-sse:connect=\"", "\"")?.replace("&#38;", "&");
        let stream = ask(host, &live, cookie)?;
        let (sender, pieces) = channel();
        let body = stream.try_clone()?;
        let reader = Some(std::thread::spawn(move || pass_on(body, &sender)));
        let mut events = Screen::new(pieces);
        events.until("text/event-stream")?;
        Ok(Self { stream, reader, events })
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        drop(self.stream.shutdown(Shutdown::Both));
        drop(self.reader.take().map(JoinHandle::join));
    }
}

fn ask(host: &str, path: &str, cookie: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(host)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nSec-Fetch-Site: same-origin\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    Ok(stream)
}

fn load(host: &str, path: &str, cookie: &str) -> anyhow::Result<String> {
    let mut stream = ask(host, path, cookie)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    anyhow::ensure!(answer.starts_with("HTTP/1.1 200"), "{path} is refused: {answer}");
    Ok(answer)
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> anyhow::Result<&'a str> {
    let found = text.split_once(before).and_then(|(_, rest)| rest.split_once(after));
    Ok(found.with_context(|| format!("{before:?} is missing"))?.0)
}
