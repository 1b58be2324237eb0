//! Where a request begins and ends on its connection, read along with the HTTP library, which is laxer than is safe between two
//! readers: it takes bare line feeds, drops a length beside a coding, and a second length that is equal.
//!
//! The invariant: a head that two readers could take for two requests, or send to two hosts, is known as such before the library
//! has read it, and everything behind it with it; a chunk that they could end at two places is never seen by the library.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most digits of a chunk's size: what fits into 64 bits.
const SIZE_DIGITS: u8 = 16;

/// Which heads of a connection are ambiguous: all from the one of this number on.
#[derive(Clone, Debug)]
pub(super) struct Ambiguous(Arc<AtomicU64>);

impl Ambiguous {
    /// Whether the head of this number is one, counted from 0.
    pub(super) fn begins_by(&self, number: u64) -> bool {
        number >= self.0.load(Ordering::Acquire)
    }
}

/// A connection whose requests are read along.
pub(super) struct ReadAlong<S> {
    stream: S,
    framing: Framing,
    /// A chunk was malformed: nothing more is read.
    ended: bool,
}

impl<S> ReadAlong<S> {
    /// `longest`: the most bytes of a head.
    pub(super) fn new(stream: S, longest: usize) -> (Self, Ambiguous) {
        let framing = Framing { at: At::Head(Vec::new()), heads: 0, ambiguous: Ambiguous(Arc::new(AtomicU64::new(u64::MAX))), longest };
        let ambiguous = framing.ambiguous.clone();
        (Self { stream, framing, ended: false }, ambiguous)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAlong<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "a chunk of a request's body is malformed");
        if self.ended {
            return Poll::Ready(Err(malformed()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let all = buffer.filled().len();
        let Err(good) = self.framing.read(&buffer.filled()[before..]) else {
            return Poll::Ready(Ok(()));
        };
        // The library gets what came before, so that it can answer; it asks for more and learns that there is none.
        self.ended = true;
        buffer.set_filled((before + good).min(all));
        Poll::Ready(if good == 0 { Err(malformed()) } else { Ok(()) })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAlong<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Where in its requests a connection is.
#[derive(Debug)]
struct Framing {
    at: At,
    /// How many heads there were.
    heads: u64,
    ambiguous: Ambiguous,
    longest: usize,
}

#[derive(Debug)]
enum At {
    /// In a head, of which this has come.
    Head(Vec<u8>),
    /// In a body, of which so many bytes are to come.
    Body(u64),
    /// In a body of chunks.
    Chunks(Chunk),
    /// Behind an ambiguous head: the connection ends with the answer to it.
    Lost,
}

/// Where in a chunked body (RFC 9112, section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    Size {
        size: u64,
        digits: u8,
    },
    Extension(u64),
    SizeEnd(u64),
    Data(u64),
    DataReturn,
    DataEnd,
    /// At the beginning of a line behind the last chunk.
    Line,
    TrailerName,
    Trailer,
    TrailerEnd,
    /// Behind the return of the empty line.
    LastEnd,
}

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Follows {
    Body(u64),
    Chunks,
}

impl Framing {
    /// Reads on. Where a chunk is malformed: how many bytes came before that.
    fn read(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut left = bytes;
        while !left.is_empty() {
            match &mut self.at {
                At::Lost => return Ok(()),
                At::Head(head) => {
                    let before = head.len();
                    head.extend_from_slice(left);
                    let Some(end) = end_of_head(head, before.saturating_sub(2)) else {
                        if head.len() > self.longest {
                            self.lose();
                        }
                        return Ok(());
                    };
                    left = &left[end - before..];
                    head.truncate(end);
                    match follows(head).filter(|_| end <= self.longest) {
                        None => self.lose(),
                        Some(Follows::Body(0)) => self.next(),
                        Some(Follows::Body(length)) => self.at = At::Body(length),
                        Some(Follows::Chunks) => self.at = At::Chunks(Chunk::Size { size: 0, digits: 0 }),
                    }
                }
                At::Body(length) => {
                    let taken = left.len().min(usize::try_from(*length).unwrap_or(usize::MAX));
                    left = &left[taken..];
                    *length -= taken as u64;
                    if *length == 0 {
                        self.next();
                    }
                }
                At::Chunks(Chunk::Data(length)) => {
                    let taken = left.len().min(usize::try_from(*length).unwrap_or(usize::MAX));
                    left = &left[taken..];
                    *length -= taken as u64;
                    if *length == 0 {
                        self.at = At::Chunks(Chunk::DataReturn);
                    }
                }
                At::Chunks(chunk) => {
                    let good = bytes.len() - left.len();
                    match chunk.step(left[0]) {
                        Step::On(next) => *chunk = next,
                        Step::End => self.next(),
                        Step::Malformed => return Err(good),
                    }
                    left = &left[1..];
                }
            }
        }
        Ok(())
    }

    /// The next head begins.
    fn next(&mut self) {
        self.heads += 1;
        self.at = At::Head(Vec::new());
    }

    fn lose(&mut self) {
        self.ambiguous.0.store(self.heads, Ordering::Release);
        self.at = At::Lost;
    }
}

enum Step {
    On(Chunk),
    End,
    Malformed,
}

impl Chunk {
    fn step(self, byte: u8) -> Step {
        let digit = char::from(byte).to_digit(16).map(u64::from);
        Step::On(match (self, byte) {
            (Self::Size { size, digits }, _) if digits < SIZE_DIGITS && digit.is_some() => {
                Self::Size { size: size << 4 | digit.unwrap_or_default(), digits: digits + 1 }
            }
            (Self::Size { size, digits: 1.. }, b';') => Self::Extension(size),
            (Self::Size { size, digits: 1.. } | Self::Extension(size), b'\r') => Self::SizeEnd(size),
            (Self::Extension(size), _) if is_text(byte) => Self::Extension(size),
            (Self::SizeEnd(0) | Self::TrailerEnd, b'\n') => Self::Line,
            (Self::SizeEnd(size), b'\n') => Self::Data(size),
            (Self::DataReturn, b'\r') => Self::DataEnd,
            (Self::DataEnd, b'\n') => Self::Size { size: 0, digits: 0 },
            (Self::Line, b'\r') => Self::LastEnd,
            (Self::Line | Self::TrailerName, _) if is_name(byte) => Self::TrailerName,
            (Self::TrailerName, b':') => Self::Trailer,
            (Self::Trailer, b'\r') => Self::TrailerEnd,
            (Self::Trailer, _) if is_text(byte) => Self::Trailer,
            (Self::LastEnd, b'\n') => return Step::End,
            _ => return Step::Malformed,
        })
    }
}

/// What may stand in a field's name (RFC 9110, section 5.6.2).
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What may stand in a field's value.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7F
}

/// Where a head ends: behind its first empty line, as the laxest reader has it.
fn end_of_head(head: &[u8], from: usize) -> Option<usize> {
    if head.first() == Some(&b'\n') || head.starts_with(b"\r\n") {
        // (An empty line before the first one; there is no head then.)
        return Some(head.len());
    }
    let mut at = from;
    while let Some(feed) = head.get(at..)?.iter().position(|byte| *byte == b'\n') {
        at += feed + 1;
        match head.get(at..)? {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// What follows a head that every reader takes for the same. Nothing: it is ambiguous.
fn follows(head: &[u8]) -> Option<Follows> {
    // Every line ends with a return and a feed, and no line has one of them within.
    let mut lines = head.strip_suffix(b"\n\r\n")?.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r"));
    let first = lines.next()??;
    let mut words = first.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let is_old = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return None,
    };
    if words.next().is_some() || method.is_empty() || !method.iter().all(|byte| is_name(*byte)) {
        return None;
    }
    let (mut length, mut chunked, mut host) = (None, false, None);
    for line in lines {
        let line = line?;
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], trimmed(&line[colon + 1..]));
        if name.is_empty() || !name.iter().all(|byte| is_name(*byte)) || !value.iter().all(|byte| is_text(*byte)) {
            return None;
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let digits = std::str::from_utf8(value).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
            if length.replace(digits.parse::<u64>().ok()?).is_some() {
                return None;
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if chunked || is_old || !value.eq_ignore_ascii_case(b"chunked") {
                return None;
            }
            chunked = true;
        } else if name.eq_ignore_ascii_case(b"host") && host.replace(value).is_some() {
            return None;
        }
    }
    if !names_one_host(method, target, host) {
        return None;
    }
    match (length, chunked) {
        (Some(_), true) => None,
        (length, false) => Some(Follows::Body(length.unwrap_or_default())),
        (None, true) => Some(Follows::Chunks),
    }
}

/// Without the blanks around it. (A return isn't one.)
fn trimmed(value: &[u8]) -> &[u8] {
    let is_more = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let begin = value.iter().position(is_more).unwrap_or(value.len());
    let end = value.iter().rposition(is_more).map_or(begin, |last| last + 1);
    &value[begin..end]
}

/// Whether the target is a path, or names the host that `Host` names.
fn names_one_host(method: &[u8], target: &[u8], host: Option<&[u8]>) -> bool {
    // The library leaves out what stands behind `#`; to Ollama it is a part of the path. And nobody is connected to anything else.
    if target.contains(&b'#') || method == b"CONNECT" {
        return false;
    }
    if target.starts_with(b"/") {
        return true;
    }
    if target == b"*" {
        return method == b"OPTIONS";
    }
    let is_scheme = |scheme: &&&[u8]| target.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme));
    let schemes: [&[u8]; 2] = [b"http://", b"https://"];
    let Some(scheme) = schemes.iter().find(is_scheme) else { return false };
    let rest = &target[scheme.len()..];
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let named = &rest[..end];
    !named.is_empty() && host.is_some_and(|host| host.eq_ignore_ascii_case(named))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// How many heads were read and which is ambiguous, when the bytes come in pieces of this size; or where a chunk is malformed.
    fn read(bytes: &[u8], size: usize) -> Result<(u64, Option<u64>), usize> {
        let ambiguous = Ambiguous(Arc::new(AtomicU64::new(u64::MAX)));
        let mut framing = Framing { at: At::Head(Vec::new()), heads: 0, ambiguous, longest: 1024 };
        for (number, piece) in bytes.chunks(size).enumerate() {
            framing.read(piece).map_err(|good| number * size + good)?;
        }
        let first = framing.ambiguous.0.load(Ordering::Relaxed);
        Ok((framing.heads, (first != u64::MAX).then_some(first)))
    }

    fn reads(bytes: &[u8]) -> Result<(u64, Option<u64>), usize> {
        let all = read(bytes, bytes.len());
        for size in [1, 2, 3, 7] {
            assert_eq!(read(bytes, size), all, "in pieces of {size}: {:?}", String::from_utf8_lossy(bytes));
        }
        all
    }

    #[test]
    fn requests_are_told_apart_as_every_reader_tells_them_apart() {
        let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let post = b"POST / HTTP/1.1\r\ncontent-LENGTH:  5 \r\nHost: a\r\n\r\n12345";
        let chunks = b"POST http://a/x?y HTTP/1.1\r\nHost: A\r\nTransfer-Encoding: Chunked\r\n\r\n\
            3;a=b;c=\"d\"\r\nab\n\r\n0010\r\n0123456789abcdef\r\n0\r\nX-T: 1\r\n\r\n";
        let old = b"GET / HTTP/1.0\r\n\r\n";
        for requests in [&[&get[..], post, chunks, old][..], &[chunks, chunks, get], &[b"OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n", get]] {
            assert_eq!(reads(&requests.concat()), Ok((requests.len() as u64, None)));
        }
        assert_eq!(reads(b"POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\n12345"), Ok((0, None)));
    }

    #[test]
    fn a_head_that_two_readers_could_take_for_two_requests_is_ambiguous_and_so_is_what_follows() {
        let heads = [
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5",
            "POST / HTTP/1.1\r\nContent-Length: 5, 5",
            "POST / HTTP/1.1\r\nContent-Length: +5",
            "POST / HTTP/1.1\r\nContent-Length: -0",
            "POST / HTTP/1.1\r\nContent-Length:",
            "POST / HTTP/1.1\r\nContent-Length: 0x5",
            "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked",
            "POST / HTTP/1.1\r\nTransfer-Encoding: identity",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked",
            "POST / HTTP/1.1\r\nContent-Length : 5",
            "POST / HTTP/1.1\r\n Content-Length: 5",
            "GET / HTTP/1.1\r\nX-A: b\r\n c",
            "GET / HTTP/1.1\r\nX-A: b\r c",
            "GET / HTTP/1.1\nX-A: b",
            "GET / HTTP/1.1\r\nX-A: b\nX-C: d",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a",
            "GET http://b/ HTTP/1.1\r\nHost: a",
            "GET http://u@a/ HTTP/1.1\r\nHost: a",
            "GET http:/// HTTP/1.1\r\nHost:",
            "GET ftp://a/ HTTP/1.1\r\nHost: a",
            "CONNECT a:80 HTTP/1.1\r\nHost: a:80",
            "CONNECT / HTTP/1.1\r\nHost: a",
            "GET * HTTP/1.1\r\nHost: a",
            "GET /x#y HTTP/1.1\r\nHost: a",
            "GET / HTTP/2.0\r\nHost: a",
            "GET  / HTTP/1.1\r\nHost: a",
            "GET /",
            "\r\nGET / HTTP/1.1\r\nHost: a",
            "\nGET / HTTP/1.1\r\nHost: a",
            "GET / HTTP/1.1\r\nX\0: a",
            "GET / HTTP/1.1\r\nX: \0",
            "GET / HTTP/1.1\r\nX: a\r\r\nY: b\nZ: c",
        ];
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for head in heads {
            assert_eq!(reads(format!("{head}\r\n\r\n").as_bytes()), Ok((0, Some(0))), "{head:?}");
            assert_eq!(reads(format!("{get}{head}\r\n\r\n{get}").as_bytes()), Ok((1, Some(1))), "{head:?}");
        }
        assert_eq!(reads(b"GET / HTTP/1.1\nHost: a\n\n"), Ok((0, Some(0))));
        assert_eq!(reads(&[b'a'; 1100]), Ok((0, Some(0))));
    }

    #[test]
    fn a_chunk_that_two_readers_could_end_at_two_places_is_malformed_where_it_is() {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (good, bad) in [
            ("", "\r\n"),
            ("", "-1\r\n"),
            ("0", "x5\r\n"),
            ("5", " \r\n"),
            ("5", "\n"),
            ("0000000000000000", "5\r\n"),
            ("ffffffffffffffff", "f\r\n"),
            ("5;a", "\nb\r\n"),
            ("5;a\r", "b\r\n"),
            ("5\r", "x"),
            ("1\r\na", "b\r\n"),
            ("1\r\na", "\n0\r\n"),
            ("1\r\na\r", "\r\n"),
            ("0\r\n", "\n"),
            ("0\r\n", ": a\r\n\r\n"),
            ("0\r\n", " a: b\r\n\r\n"),
            ("0\r\na", "\r\n\r\n"),
            ("0\r\na: b", "\n\r\n"),
            ("0\r\n\r", "GET"),
        ] {
            assert_eq!(reads(format!("{head}{good}{bad}").as_bytes()), Err(head.len() + good.len()), "{good:?} {bad:?}");
        }
    }

    #[tokio::test]
    async fn of_a_malformed_chunk_the_reader_gets_what_came_before_and_then_an_error() {
        let (mut there, here) = tokio::io::duplex(1024);
        let (mut reader, ambiguous) = ReadAlong::new(here, 1024);
        let good = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5";
        there.write_all(&[&good[..], b" \r\nhello\r\n0\r\n\r\n"].concat()).await.unwrap();
        let mut read = Vec::new();
        let error = reader.read_to_end(&mut read).await.unwrap_err();
        assert_eq!((error.kind(), &read[..]), (io::ErrorKind::InvalidData, &good[..]));
        assert!(!ambiguous.begins_by(0));
    }
}
