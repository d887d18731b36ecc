//! A browser without JavaScript: a plain HTTP client that keeps its cookies.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::{Home, PATIENCE};

/// A browser that may be in.
#[derive(Clone, Debug, Default)]
pub struct Browser {
    /// Host and port of the board.
    pub host: String,
    cookies: BTreeMap<String, String>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub code: u16,
    /// Names in small letters.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub text: String,
}

impl Answer {
    /// The value of a header; empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_default()
    }

    /// Fails unless it has this status.
    ///
    /// # Panics
    /// It has another.
    #[track_caller]
    #[must_use]
    pub fn has(self, code: u16) -> Self {
        assert_eq!(self.code, code, "{}", self.text);
        self
    }

    /// What forms of this page are marked with.
    ///
    /// # Panics
    /// It has no form.
    #[track_caller]
    pub fn mark(&self) -> String {
        let (_, rest) = self.text.split_once("name=\"mark\" value=\"").expect("a form");
        rest.split('"').next().unwrap().to_owned()
    }
}

impl Browser {
    /// A browser that has come in by a link of `capsule web`.
    ///
    /// # Panics
    /// There is no link, or it does not let in.
    pub fn enter(home: &Home) -> Self {
        let link = home.capsule(["web"]).run().exits(0).text();
        let (host, path) = link.trim().strip_prefix("http://").unwrap().split_once('/').unwrap();
        let mut browser = Self { host: host.to_owned(), cookies: BTreeMap::new() };
        drop(browser.get(&format!("/{path}")).has(200));
        browser
    }

    /// A browser that has never been there.
    pub fn new(host: &str) -> Self {
        Self { host: host.to_owned(), cookies: BTreeMap::new() }
    }

    /// A browser that knows where the board is and nothing more.
    #[must_use]
    pub fn stranger(&self) -> Self {
        Self { host: self.host.clone(), cookies: BTreeMap::new() }
    }

    /// Loads a page.
    pub fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, &[], "")
    }

    /// Sends a form as a page of the board would.
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let origin = format!("http://{}", self.host);
        let headers = [("Origin", origin.as_str()), ("Sec-Fetch-Site", "same-origin")];
        self.ask("POST", path, &headers, &form(fields))
    }

    /// Asks anything; headers given here replace its own.
    ///
    /// # Panics
    /// Nothing answers, or what answers is no HTTP.
    pub fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut reader = self.send(method, path, headers, body);
        let (code, headers) = head(&mut reader, &mut self.cookies);
        let mut bytes = Vec::new();
        if headers.get("transfer-encoding").is_some_and(|it| it == "chunked") {
            while let Some(chunk) = chunk(&mut reader) {
                bytes.extend(chunk);
            }
        } else {
            reader.read_to_end(&mut bytes).unwrap();
        }
        Answer { code, headers, text: String::from_utf8(bytes).unwrap() }
    }

    /// Opens a stream of events.
    ///
    /// # Panics
    /// It is refused.
    pub fn stream(&mut self, path: &str, seen: Option<&str>) -> Events {
        let seen: Vec<(&str, &str)> =
            seen.map(|seen| ("Last-Event-ID", seen)).into_iter().collect();
        let mut reader = self.send("GET", path, &seen, "");
        let (code, headers) = head(&mut reader, &mut self.cookies);
        assert_eq!(code, 200);
        assert_eq!(headers["content-type"], "text/event-stream");
        Events { reader, text: String::new() }
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(&self.host).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let cookies: Vec<String> = self.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let mut all = BTreeMap::from([
            ("Host", self.host.clone()),
            ("Connection", "close".to_owned()),
            ("Content-Length", body.len().to_string()),
            ("Content-Type", "application/x-www-form-urlencoded".to_owned()),
            ("Cookie", cookies.join("; ")),
        ]);
        all.extend(headers.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let mut text = format!("{method} {path} HTTP/1.1\r\n");
        for (name, value) in all.iter().filter(|(_, value)| !value.is_empty()) {
            text.push_str(&[*name, ": ", value.as_str(), "\r\n"].concat());
        }
        text.push_str("\r\n");
        text.push_str(body);
        (&stream).write_all(text.as_bytes()).unwrap();
        BufReader::new(stream)
    }
}

/// Fields as a form sends them.
pub fn form(fields: &[(&str, &str)]) -> String {
    let coded = |text: &str| -> String {
        let bytes: Vec<String> = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        bytes.concat()
    };
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{}={}", coded(name), coded(value))).collect();
    pairs.join("&")
}

fn head(
    reader: &mut BufReader<TcpStream>,
    cookies: &mut BTreeMap<String, String>,
) -> (u16, BTreeMap<String, String>) {
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let code = first.split(' ').nth(1).expect("a status").parse().unwrap();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        let name = name.to_ascii_lowercase();
        if name == "set-cookie" {
            let pair = value.split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            cookies.insert(name.to_owned(), value.to_owned());
        }
        headers.insert(name, value.to_owned());
    }
    (code, headers)
}

/// The next chunk of a body; none at its end.
fn chunk(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut size = String::new();
    reader.read_line(&mut size).ok().filter(|read| *read > 0)?;
    let size = usize::from_str_radix(size.trim(), 16).ok().filter(|size| *size > 0)?;
    let mut bytes = vec![0; size + 2];
    reader.read_exact(&mut bytes).ok()?;
    bytes.truncate(size);
    Some(bytes)
}

/// A stream of events that is open.
#[derive(Debug)]
pub struct Events {
    reader: BufReader<TcpStream>,
    text: String,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What has been seen with it.
    pub id: String,
    /// What it says.
    pub data: String,
}

impl Events {
    /// The next event; none when the stream has ended, or nothing comes for so long.
    pub fn next_within(&mut self, limit: Duration) -> Option<Event> {
        self.reader.get_ref().set_read_timeout(Some(limit)).unwrap();
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| -> Vec<&str> {
                    event.lines().filter_map(|line| line.strip_prefix(name)).collect()
                };
                let event = Event { id: field("id: ").concat(), data: field("data: ").join("\n") };
                self.text = rest.to_owned();
                return Some(event);
            }
            self.text.push_str(std::str::from_utf8(&chunk(&mut self.reader)?).unwrap());
        }
    }

    /// Waits for an event that says this, and gives it.
    ///
    /// # Panics
    /// None comes.
    #[track_caller]
    pub fn until(&mut self, wanted: &str) -> Event {
        let mut all = String::new();
        loop {
            let Some(event) = self.next_within(PATIENCE) else {
                panic!("no event says {wanted:?}:\n{all}")
            };
            if event.data.contains(wanted) {
                return event;
            }
            all.push_str(&event.data);
        }
    }
}

/// The address of a page's stream.
///
/// # Panics
/// The page has none.
#[track_caller]
pub fn stream_of(page: &str) -> String {
    let (_, rest) = page.split_once("hx-sse:connect=\"").expect("the page is live");
    rest.split('"').next().unwrap().replace("&amp;", "&").replace("&#38;", "&")
}
