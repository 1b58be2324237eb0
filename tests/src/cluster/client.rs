//! Requests out of a pod, by the curl that is in it.
//!
//! The invariant: how a request ended is told by kind, so that a test that wants a closed way can't take a broken test for
//! one: what isn't an answer, a refusal or silence is an error.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::netns::Ended;
use crate::raw::{self, Head};

/// How long a client tries before it takes silence for an answer. What a NetworkPolicy denies is silent.
const SILENCE: Duration = Duration::from_secs(2);

/// Where a command runs.
#[derive(Clone, Debug)]
pub struct Container {
    /// The namespace of its pod.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// Its name.
    pub container: String,
}

/// A request to send.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    url: String,
    headers: Vec<String>,
    body: Option<Vec<u8>>,
    limit: Duration,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its head.
    pub head: Head,
    /// Its body.
    pub body: Vec<u8>,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub enum Asked {
    /// It was answered, wholly.
    Answered(Answer),
    /// The connection was refused or reset before an answer began.
    Refused,
    /// Nobody spoke.
    Silent,
    /// An answer began and didn't end well.
    Broken(Answer),
}

/// A line of a streamed answer, and when it came.
#[derive(Clone, Debug)]
pub struct Line {
    /// Since the request was sent.
    pub after: Duration,
    /// Without its end.
    pub text: String,
}

/// An answer as it comes. The client goes with this value.
#[derive(Debug)]
pub struct Stream {
    child: Child,
    lines: Receiver<Line>,
}

// === impl Container ===

impl Container {
    /// How kubectl runs a command in it.
    pub(super) fn exec(&self) -> Vec<&str> {
        vec!["-n", &self.namespace, "exec", "-i", &self.pod, "-c", &self.container, "--"]
    }
}

// === impl Request ===

impl Request {
    /// A request with a method, to a URL.
    #[must_use]
    pub fn new(method: &str, url: impl Into<String>) -> Self {
        Self { method: method.to_owned(), url: url.into(), headers: Vec::new(), body: None, limit: Duration::from_secs(30) }
    }

    /// A GET.
    #[must_use]
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// A POST of a JSON document.
    #[must_use]
    pub fn post(url: impl Into<String>, document: &Value) -> Self {
        Self::new("POST", url).header("Content-Type", "application/json").body(document.to_string())
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push(format!("{name}: {value}"));
        self
    }

    /// Its body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// How long the whole may take; 30 seconds if nothing else is said.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    pub(super) fn body_bytes(&self) -> &[u8] {
        self.body.as_deref().unwrap_or_default()
    }

    pub(super) fn curl(&self) -> Vec<String> {
        let seconds = |time: Duration| format!("{:.3}", time.as_secs_f64());
        let mut all: Vec<String> =
            ["/usr/bin/curl", "--silent", "--show-error", "--include", "--no-buffer", "--http1.1", "--globoff", "--path-as-is"]
                .map(str::to_owned)
                .to_vec();
        all.extend(["--connect-timeout".to_owned(), seconds(SILENCE), "--max-time".to_owned(), seconds(self.limit)]);
        all.extend(["--request".to_owned(), self.method.clone(), "--header".to_owned(), "Expect:".to_owned()]);
        for header in &self.headers {
            all.extend(["--header".to_owned(), header.clone()]);
        }
        if self.body.is_some() {
            all.extend(["--data-binary".to_owned(), "@-".to_owned()]);
        }
        if self.method == "HEAD" {
            all.push("--head".to_owned());
        }
        all.push(self.url.clone());
        all
    }
}

// === impl Answer ===

impl Answer {
    fn read(printed: &[u8]) -> Option<Self> {
        let (head, length) = Head::read(printed)?;
        let status = head.status()?;
        // What an interim answer announces comes behind it.
        if (100..200).contains(&status) && status != 101 {
            return Self::read(&printed[length..]);
        }
        Some(Self { status, head, body: printed[length..].to_vec() })
    }

    /// Its body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Its body as a document.
    pub fn json(&self) -> io::Result<Value> {
        serde_json::from_slice(&self.body).map_err(|error| io::Error::other(format!("no JSON: {error}: {}", self.text())))
    }

    /// A field of its head.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        self.head.text(name)
    }
}

// === impl Asked ===

impl Asked {
    pub(super) fn of(ended: Ended) -> io::Result<Self> {
        let Ended { status, printed, said } = ended;
        let answer = Answer::read(printed.as_bytes());
        // curl's exit statuses: 7 no connection, 28 out of time, 52 nothing came, 56 reset; 18 and 92 cut off. Any other, and
        // kubectl's own failures, are the test's.
        match (status.code(), answer) {
            (Some(0), Some(answer)) => Ok(Self::Answered(answer)),
            (Some(18 | 28 | 56 | 92), Some(answer)) => Ok(Self::Broken(answer)),
            (Some(7 | 52 | 56), None) if said.contains("timed out") => Ok(Self::Silent),
            (Some(7 | 52 | 56), None) => Ok(Self::Refused),
            (Some(28), None) => Ok(Self::Silent),
            _ => Err(io::Error::other(format!("the client couldn't ask: {status}\n{printed}{said}"))),
        }
    }

    /// The answer that there must be.
    pub fn answered(self) -> io::Result<Answer> {
        match self {
            Self::Answered(answer) => Ok(answer),
            other => Err(io::Error::other(format!("there should be a whole answer, but {other:?}"))),
        }
    }

    /// Whether somebody took the connection.
    #[must_use]
    pub fn reached(&self) -> bool {
        matches!(self, Self::Answered(_) | Self::Broken(_))
    }
}

// === impl Stream ===

impl Stream {
    pub(super) fn start(mut command: Command, body: &[u8]) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let begun = Instant::now();
        if let Some(mut input) = child.stdin.take() {
            let body = body.to_vec();
            // One that has ended already says so on its other streams.
            thread::spawn(move || drop(input.write_all(&body)));
        }
        let (send, lines) = mpsc::channel();
        let streams: [Option<Box<dyn Read + Send>>; 2] =
            [child.stdout.take().map(|stream| Box::new(stream) as _), child.stderr.take().map(|stream| Box::new(stream) as _)];
        for stream in streams.into_iter().flatten() {
            let send = send.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                    let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)).into_owned();
                    drop(send.send(Line { after: begun.elapsed(), text }));
                }
            });
        }
        Ok(Self { child, lines })
    }

    /// The next line: of the head, then, behind an empty one, of the body. None at the end.
    pub fn line(&self) -> io::Result<Option<Line>> {
        match self.lines.recv_timeout(raw::LIMIT) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(io::Error::other("no line came in time")),
        }
    }

    /// Waits for a line that holds these words; it, and those before it.
    pub fn line_with(&self, words: &str) -> io::Result<(Line, Vec<Line>)> {
        let mut before = Vec::new();
        while let Some(line) = self.line()? {
            if line.text.contains(words) {
                return Ok((line, before));
            }
            before.push(line);
        }
        let seen: Vec<_> = before.into_iter().map(|line| line.text).collect();
        Err(io::Error::other(format!("no line with {words:?}, but\n{}", seen.join("\n"))))
    }

    /// All lines up to the end.
    pub fn rest(&self) -> io::Result<Vec<Line>> {
        let mut all = Vec::new();
        while let Some(line) = self.line()? {
            all.push(line);
        }
        Ok(all)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    fn of(code: i32, printed: &str, said: &str) -> io::Result<Asked> {
        Asked::of(Ended { status: ExitStatus::from_raw(code << 8), printed: printed.to_owned(), said: said.to_owned() })
    }

    #[test]
    fn a_closed_way_is_told_from_a_client_that_could_not_ask() -> io::Result<()> {
        assert!(matches!(of(7, "", "curl: (7) Failed to connect: Connection refused")?, Asked::Refused));
        assert!(matches!(of(28, "", "curl: (28) Connection timed out after 2001 milliseconds")?, Asked::Silent));
        assert!(of(1, "", "error: pods \"client\" not found").is_err());
        assert!(of(0, "", "").is_err(), "an answer has a head");
        Ok(())
    }

    #[test]
    fn an_answer_that_was_cut_off_is_no_whole_one() -> io::Result<()> {
        let head = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX-A: b\r\n\r\nhalf of";
        assert!(
            matches!(of(18, head, "curl: (18) transfer closed")?, Asked::Broken(answer) if answer.status == 200 && answer.text() == "half of")
        );
        assert_eq!(of(0, head, "")?.answered()?.header("x-a").as_deref(), Some("b"));
        Ok(())
    }
}
