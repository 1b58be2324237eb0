//! HTTP/1 by its bytes: a client that sends exactly what a test wrote, and tells exactly what came back, also when that is half
//! of something.
//!
//! The invariant: no wait is without an end. What hasn't come within [`LIMIT`] is an error.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The longest wait for anything.
pub const LIMIT: Duration = Duration::from_secs(30);

/// The head of a request or an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The first line.
    pub start: String,
    /// The fields in their order: names in lower case, values as they came.
    pub fields: Vec<(String, Vec<u8>)>,
}

impl Head {
    /// Reads a head, and tells how many bytes it has. Nothing if it isn't there as a whole.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let end = find(bytes, b"\r\n\r\n")?;
        let mut lines = bytes[..end].split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let start = String::from_utf8_lossy(lines.next()?).into_owned();
        let fields = lines
            .filter_map(|line| {
                let colon = line.iter().position(|byte| *byte == b':')?;
                let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
                Some((name, line[colon + 1..].trim_ascii().to_vec()))
            })
            .collect();
        Some((Self { start, fields }, end + 4))
    }

    /// The first value of a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| &value[..])
    }

    /// The same as text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// The status of an answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.start.split(' ').nth(1)?.parse().ok()
    }

    /// Whether the body comes in chunks.
    #[must_use]
    pub fn is_chunked(&self) -> bool {
        self.get("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case(b"chunked"))
    }

    /// How many bytes the body has, where the head says so.
    #[must_use]
    pub fn length(&self) -> Option<usize> {
        std::str::from_utf8(self.get("content-length")?).ok()?.parse().ok()
    }
}

/// Where a text stands in bytes.
#[must_use]
pub fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    if text.is_empty() {
        return Some(0);
    }
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == text[0]) {
        if bytes[from + at..].starts_with(text) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// What a chunked body says, how many bytes of it there were, and whether that was all of it.
#[must_use]
pub fn dechunk(mut bytes: &[u8]) -> (Vec<u8>, usize, bool) {
    let (mut body, all) = (Vec::new(), bytes.len());
    loop {
        let Some(end) = find(bytes, b"\r\n") else { return (body, all, false) };
        let digits = bytes[..end].split(|byte| *byte == b';').next().unwrap_or_default();
        let Some(size) = std::str::from_utf8(digits).ok().and_then(|digits| usize::from_str_radix(digits.trim(), 16).ok()) else {
            return (body, all, false);
        };
        let rest = &bytes[end + 2..];
        if size == 0 {
            // Trailers up to the empty line.
            let trailers = if rest.starts_with(b"\r\n") { Some(2) } else { find(rest, b"\r\n\r\n").map(|at| at + 4) };
            return match trailers {
                Some(length) => (body, all - rest.len() + length, true),
                None => (body, all, false),
            };
        }
        body.extend_from_slice(&rest[..size.min(rest.len())]);
        match rest.get(size..size + 2) {
            Some(b"\r\n") => bytes = &rest[size + 2..],
            _ => return (body, all, false),
        }
    }
}

/// A piece of a chunked body.
#[must_use]
pub fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// An answer, or what there was of it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its head.
    pub head: Head,
    /// Its body, out of its chunks.
    pub body: Vec<u8>,
    /// It ended as its head had promised. One that is neither chunked nor has a length ends with its connection.
    pub complete: bool,
    /// From the opening of the connection to the end.
    pub took: Duration,
}

impl Answer {
    /// Its status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status().unwrap_or_default()
    }

    /// Its body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A request with a body, which asks for the connection to end with the answer.
#[must_use]
pub fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: model.test\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A request without a body, likewise.
#[must_use]
pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: model.test\r\nConnection: close\r\n\r\n").into_bytes()
}

/// Sends a request on a connection of its own and reads until the connection ends.
pub fn ask(address: SocketAddr, request: &[u8]) -> io::Result<Answer> {
    let mut connection = Connection::open(address)?;
    connection.send(request)?;
    connection.finish()
}

/// A connection to a server.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    opened: Instant,
    received: Vec<u8>,
    ended: bool,
    is_head: bool,
}

impl Connection {
    /// Opens one.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect_timeout(&address, LIMIT)?)
    }

    /// Opens one from an address of this machine's.
    pub fn open_from(source: IpAddr, address: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        socket.connect_timeout(&address.into(), LIMIT)?;
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(Self { stream, opened: Instant::now(), received: Vec::new(), ended: false, is_head: false })
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.is_head |= bytes.starts_with(b"HEAD ");
        self.stream.write_all(bytes)
    }

    /// Sends nothing more, and goes on to read.
    pub fn say_no_more(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// What has come so far.
    #[must_use]
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// Reads until a text has come.
    pub fn wait_for(&mut self, text: &[u8]) -> io::Result<()> {
        while find(&self.received, text).is_none() {
            if !self.read()? {
                let said = String::from_utf8_lossy(&self.received).into_owned();
                return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("the connection ended before that came; it said: {said}")));
            }
        }
        Ok(())
    }

    /// Reads some more.
    pub fn wait_for_more(&mut self) -> io::Result<()> {
        if self.read()? { Ok(()) } else { Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection ended")) }
    }

    /// Reads one answer of a connection that stays open, and leaves what comes behind it.
    pub fn answer(&mut self) -> io::Result<Answer> {
        loop {
            if let Some((answer, length)) = self.read_answer(self.ended)
                && (answer.complete && length.is_some() || self.ended)
            {
                self.received.drain(..length.unwrap_or(self.received.len()));
                return Ok(answer);
            }
            if self.ended {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection ended before there was the head of an answer"));
            }
            self.read()?;
        }
    }

    /// Reads until the connection ends.
    pub fn finish(mut self) -> io::Result<Answer> {
        while self.read()? {}
        let (answer, length) = self
            .read_answer(true)
            .ok_or_else(|| io::Error::new(ErrorKind::UnexpectedEof, "the connection ended before there was the head of an answer"))?;
        match length {
            Some(length) if length < self.received.len() => Err(io::Error::other("something came behind the answer")),
            _ => Ok(answer),
        }
    }

    /// The answer as far as it has come, and how many bytes it had, where that doesn't depend on what comes.
    fn read_answer(&self, at_end: bool) -> Option<(Answer, Option<usize>)> {
        let (head, start) = Head::read(&self.received)?;
        let rest = &self.received[start..];
        let (body, length, complete) = if self.is_head || matches!(head.status(), Some(204 | 304)) {
            (Vec::new(), Some(0), true)
        } else if head.is_chunked() {
            let (body, length, complete) = dechunk(rest);
            (body, complete.then_some(length), complete)
        } else if let Some(length) = head.length() {
            (rest[..length.min(rest.len())].to_vec(), (rest.len() >= length).then_some(length), rest.len() >= length)
        } else {
            (rest.to_vec(), None, at_end)
        };
        let took = self.opened.elapsed();
        Some((Answer { head, body, complete, took }, length.map(|length| start + length)))
    }

    /// Reads some bytes; `false` if the connection has ended.
    fn read(&mut self) -> io::Result<bool> {
        if self.opened.elapsed() > LIMIT * 2 {
            return Err(io::Error::new(ErrorKind::TimedOut, format!("the answer hasn't ended within {:?}", LIMIT * 2)));
        }
        let mut some = vec![0; 64 * 1024];
        match self.stream.read(&mut some) {
            Ok(0) => self.ended = true,
            Ok(length) => self.received.extend_from_slice(&some[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => self.ended = true,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(io::Error::new(ErrorKind::TimedOut, format!("nothing came for {LIMIT:?}")));
            }
            Err(error) => return Err(error),
        }
        Ok(!self.ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_read_to_where_they_end() {
        assert_eq!(dechunk(b"3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\nnext"), (b"abcd".to_vec(), 23, true));
        assert_eq!(dechunk(b"3\r\nabc\r\n0\r\nT: x\r\n\r\n"), (b"abc".to_vec(), 19, true));
        for cut in [&b"3\r\nab"[..], b"3\r\nabc\r\n", b"3\r\nabc\r\n0\r\n", b"3", b"x\r\n"] {
            assert!(!dechunk(cut).2, "{cut:?}");
        }
    }

    #[test]
    fn a_head_is_there_as_a_whole_or_not_at_all() {
        let head = b"HTTP/1.1 200 OK\r\nX-A: b : c\r\ncontent-length: 3\r\n\r\n";
        for cut in 0..head.len() {
            assert_eq!(Head::read(&head[..cut]), None);
        }
        let (read, length) = Head::read(head).unwrap();
        assert_eq!((read.status(), read.text("x-a"), read.length(), length), (Some(200), Some("b : c".into()), Some(3), head.len()));
    }
}
