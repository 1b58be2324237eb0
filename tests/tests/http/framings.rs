//! How a request is framed: its length, its chunks, its head, its target. A table of what clients, proxies and attackers send.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use llm_guard_tests::faulty::{FaultyServer, Received, well};
use llm_guard_tests::guard::Guard;
use llm_guard_tests::ollama::Ollama;
use llm_guard_tests::raw::{Head, LIMIT, dechunk};
use serde_json::{Value, json};

use crate::Outcome;

/// A body that every part of these tests knows.
const BODY: &str = r#"{"model":"calm"}"#;
/// A request that would be a second one.
const SMUGGLED: &str = "POST /api/copy HTTP/1.1\r\nHost: localhost\r\nContent-Length: 38\r\nConnection: close\r\n\r\n{\"source\":\"calm\",\"destination\":\"stol\"}";

/// What the guard makes of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// These many requests reach the server, each well-formed; the client is told what the server says to each.
    Passes(usize),
    /// This status is the last thing that the client is told, after the answers to so many good requests, and the connection ends.
    Refused(u16, usize),
    /// The client is told nothing, or that it is in the wrong; the connection ends.
    Ends,
}
use Fate::{Ends, Passes, Refused};

/// A case: its name, what is sent, what becomes of it.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    fate: Fate,
    /// The client ends its side behind the bytes. (Else it leaves that to the server: what it asked might not be answered.)
    ends: bool,
}

fn case(name: &'static str, bytes: impl Into<Vec<u8>>, fate: Fate) -> Case {
    Case { name, bytes: bytes.into(), fate, ends: false }
}

/// The same of a client that ends its side behind the bytes.
fn cut(name: &'static str, bytes: impl Into<Vec<u8>>, fate: Fate) -> Case {
    Case { ends: true, ..case(name, bytes, fate) }
}

/// A POST with these fields before this body, which asks for the end of the connection.
fn post(fields: &str, body: &str) -> String {
    format!("POST /api/show HTTP/1.1\r\nHost: localhost\r\n{fields}\r\nConnection: close\r\n\r\n{body}")
}

/// The same with the body's length.
fn with(fields: &str) -> String {
    let length = format!("Content-Length: {}", BODY.len());
    post(&if fields.is_empty() { length } else { format!("{length}\r\n{fields}") }, BODY)
}

/// The body in one chunk, as this says its size, with this at its end.
fn chunked(size: &str, end: &str) -> String {
    post("Transfer-Encoding: chunked", &format!("{size}\r\n{BODY}{end}"))
}

fn get(first: &str, fields: &str) -> String {
    format!("{first}\r\n{fields}Connection: close\r\n\r\n")
}

/// So many fields.
fn numbered(count: usize) -> String {
    (0..count).map(|number| format!("X-{number}: 1\r\n")).collect::<Vec<_>>().concat()
}

const LAST: &str = "\r\n0\r\n\r\n";

fn lengths() -> Vec<Case> {
    let refused = Refused(400, 0);
    let of = |fields: &str| post(fields, BODY) + SMUGGLED;
    vec![
        case("a length", post("Content-Length: 16", BODY), Passes(1)),
        case("a length in another case", post("cONTENT-lENGTH:16", BODY), Passes(1)),
        case("a length with zeros before it", post("Content-Length: 0016", BODY), Passes(1)),
        case("a length with blanks around it", post("Content-Length: \t 16 \t", BODY), Passes(1)),
        case("no length and no body", get("GET /api/tags HTTP/1.1", "Host: localhost\r\n"), Passes(1)),
        case("a body where none belongs", get("GET /api/tags HTTP/1.1", "Host: localhost\r\nContent-Length: 2\r\n") + "{}", Passes(1)),
        case("two equal lengths", of("Content-Length: 16\r\nContent-Length: 16"), refused),
        case("two lengths", of("Content-Length: 16\r\nContent-Length: 0"), refused),
        case("two lengths the other way round", of("Content-Length: 0\r\nContent-Length: 16"), refused),
        case("a list of equal lengths", of("Content-Length: 16, 16"), refused),
        case("a list of lengths", of("Content-Length: 16, 0"), refused),
        case("a length with a plus", of("Content-Length: +16"), refused),
        case("a length below nothing", of("Content-Length: -16"), refused),
        case("a length in base 16", of("Content-Length: 0x10"), refused),
        case("a length with a blank in it", of("Content-Length: 1 6"), refused),
        case("a length with a point", of("Content-Length: 16.0"), refused),
        case("an empty length", of("Content-Length:"), refused),
        case("a length over 64 bits", of("Content-Length: 18446744073709551632"), refused),
        case("a length in other digits", of("Content-Length: \u{0661}\u{0666}"), refused),
        case("a length before a blank and a colon", of("Content-Length : 16"), refused),
        case("a length of nothing before a body", of("Content-Length: 0"), refused),
        case("a length that ends within the body", of("Content-Length: 15"), refused),
        cut("a length that ends behind the body", post("Content-Length: 17", BODY), Refused(400, 0)),
        case("no length before a body", of("X-Length: 16"), refused),
    ]
}

fn codings() -> Vec<Case> {
    let refused = Refused(400, 0);
    let chunks = format!("10\r\n{BODY}{LAST}");
    let of = |fields: &str| post(fields, &chunks) + SMUGGLED;
    vec![
        case("chunks", post("Transfer-Encoding: chunked", &chunks), Passes(1)),
        case("chunks in capitals", post("TRANSFER-ENCODING: CHUNKED", &chunks), Passes(1)),
        case("a coding before a length", of("Transfer-Encoding: chunked\r\nContent-Length: 16"), refused),
        case("a length before a coding", of("Content-Length: 16\r\nTransfer-Encoding: chunked"), refused),
        case("a coding beside a length of nothing", of("Content-Length: 0\r\nTransfer-Encoding: chunked"), refused),
        case("a coding between two lengths", of("Content-Length: 4\r\nTransfer-Encoding: chunked\r\nContent-Length: 4"), refused),
        case("two equal codings", of("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), refused),
        case("chunks in chunks", of("Transfer-Encoding: chunked, chunked"), refused),
        case("packed chunks", of("Transfer-Encoding: gzip, chunked"), refused),
        case("chunks that are packed", of("Transfer-Encoding: chunked, gzip"), refused),
        case("chunks that are themselves", of("Transfer-Encoding: chunked, identity"), refused),
        case("a body that is itself", of("Transfer-Encoding: identity"), refused),
        case("a coding that is itself beside a length", of("Content-Length: 16\r\nTransfer-Encoding: identity"), refused),
        case("almost chunks", of("Transfer-Encoding: xchunked"), refused),
        case("chunks with a parameter", of("Transfer-Encoding: chunked;q=1"), refused),
        case("chunks in quotes", of("Transfer-Encoding: \"chunked\""), refused),
        case("chunks behind a comma", of("Transfer-Encoding: ,chunked"), refused),
        case("chunks behind a vertical tab", of("Transfer-Encoding: \x0bchunked"), refused),
        case("an empty coding", of("Transfer-Encoding:"), refused),
        case("an empty coding beside chunks", of("Transfer-Encoding:\r\nTransfer-Encoding: chunked"), refused),
        case("a coding before a blank and a colon", of("Transfer-Encoding : chunked"), refused),
        case("a coding on the next line", of("Transfer-Encoding:\r\n chunked"), refused),
        case("a coding in an old version", of("Transfer-Encoding: chunked").replace("HTTP/1.1", "HTTP/1.0"), refused),
        case("a coding of another name", with("Transfer_Encoding: chunked"), Passes(1)),
        case("what a client would take", with("TE: trailers, chunked"), Passes(1)),
    ]
}

fn chunks() -> Vec<Case> {
    let refused = Refused(400, 0);
    let of = |size: &str, end: &str| chunked(size, end) + SMUGGLED;
    let trailers = numbered(300);
    vec![
        case("chunks of a few bytes", post("Transfer-Encoding: chunked", "2\r\n{\"\r\n00e\r\nmodel\":\"calm\"}\r\n0\r\n\r\n"), Passes(1)),
        case("a chunk's size with zeros before it", chunked("0000000000000010", LAST), Passes(1)),
        case("an extension", chunked("10;a=b", LAST), Passes(1)),
        case("an extension in quotes", chunked("10;a=\"b;\\\"c\"", LAST), Passes(1)),
        case("an extension of the last chunk", chunked("10", "\r\n0;a\r\n\r\n"), Passes(1)),
        case("trailers", chunked("10", "\r\n0\r\nX-Forwarded-For: 10.1.2.3\r\nContent-Length: 3\r\n\r\n"), Passes(1)),
        case(
            "trailers that were announced",
            post("Transfer-Encoding: chunked\r\nTrailer: X-A", &format!("10\r\n{BODY}\r\n0\r\nX-A: 1\r\n\r\n")),
            Passes(1),
        ),
        case("an extension with a line feed", of("10;a\nb", LAST), refused),
        case("an extension with a return", of("10;a\rb", LAST), refused),
        case("an extension without an end", of(&format!("10;{}", "a".repeat(20_000)), LAST), refused),
        case("a chunk's size with too many zeros", of("00000000000000010", LAST), refused),
        case("a chunk's size over 64 bits", of("10000000000000010", LAST), refused),
        cut("a chunk's size that is all there is", of("ffffffffffffffff", LAST), Refused(400, 0)),
        case("a chunk's size below nothing", of("-10", LAST), refused),
        case("a chunk's size with a plus", of("+10", LAST), refused),
        case("a chunk's size with a prefix", of("0x10", LAST), refused),
        case("a chunk's size with an underscore", of("1_0", LAST), refused),
        case("a blank behind a chunk's size", of("10 ", LAST), refused),
        case("a blank before a chunk's size", of(" 10", LAST), refused),
        case("no chunk's size", of("", LAST), refused),
        case("a chunk's size and no return", post("Transfer-Encoding: chunked", &format!("10\n{BODY}{LAST}")) + SMUGGLED, refused),
        case("a chunk that is longer than it says", of("f", LAST), refused),
        case("a chunk that is shorter than it says", of("11", LAST), refused),
        case("a chunk that ends by a feed alone", of("10", "\n0\r\n\r\n"), refused),
        case("a chunk that ends by a return alone", of("10", "\r0\r\n\r\n"), refused),
        case("the last chunk ended by a feed alone", of("10", "\r\n0\n\r\n"), refused),
        cut("no last chunk", chunked("10", "\r\n"), refused),
        cut("no end behind the last chunk", chunked("10", "\r\n0\r\n"), refused),
        case("a last chunk of nothing but a minus", of("10", "\r\n-0\r\n\r\n"), refused),
        case("a trailer without a colon", of("10", "\r\n0\r\nX-A\r\n\r\n"), refused),
        case("a trailer without a name", of("10", "\r\n0\r\n: a\r\n\r\n"), refused),
        case("a trailer on two lines", of("10", "\r\n0\r\nX-A: b\r\n c\r\n\r\n"), refused),
        case("a trailer that ends by a feed alone", of("10", "\r\n0\r\nX-A: b\n\r\n"), refused),
        case("three hundred trailers", of("10", &format!("\r\n0\r\n{trailers}\r\n")), refused),
    ]
}

fn heads() -> Vec<Case> {
    let refused = Refused(400, 0);
    let tags = "GET /api/tags HTTP/1.1";
    let of = |fields: &str| get(tags, &format!("Host: localhost\r\n{fields}\r\n"));
    let open = "GET /api/tags HTTP/1.1\r\nHost: localhost\r\n\r\n";
    vec![
        case("two requests on one connection", [open, &get(tags, "Host: localhost\r\n")].concat(), Passes(2)),
        case(
            "four requests at once",
            [open, &with("").replace("Connection: close", "X-A: b"), open, &get(tags, "Host: localhost\r\n")].concat(),
            Passes(4),
        ),
        case("a good request and an ambiguous one", [open, &with("Content-Length: 16"), SMUGGLED].concat(), Refused(400, 1)),
        case("two good requests and bytes", [open, open, "\x16\x03\x01\x02\0"].concat(), Refused(400, 2)),
        case(
            "an ambiguous request that would keep the connection",
            [&with("Content-Length: 16").replace("Connection: close", "X-A: b"), SMUGGLED].concat(),
            refused,
        ),
        case("feeds without returns", of("X-A: b").replace("\r\n", "\n"), refused),
        case("one feed without its return", of("X-A: b\nX-C: d"), refused),
        case("a return without its feed", of("X-A: b\rX-C: d"), refused),
        case("two returns before a feed", of("X-A: b\r"), refused),
        case("a zero in a value", of("X-A: b\0c"), refused),
        case("a zero in a name", of("X\0A: b"), refused),
        case("a delete in a value", of("X-A: b\x7f"), refused),
        case("a value on two lines", of("X-A: b\r\n c"), refused),
        case("a value on two lines by a tab", of("X-A: b\r\n\tc"), refused),
        case("a blank before the first name", get(tags, " Host: localhost\r\n"), refused),
        case("a name before a blank and a colon", of("X-A : b"), refused),
        case("a name with a blank in it", of("X A: b"), refused),
        case("a name with a bracket in it", of("X(A): b"), refused),
        case("no name", of(": b"), refused),
        case("no colon", of("X-A"), refused),
        case("an empty line before the request", format!("\r\n{}", of("X-A: b")), refused),
        case("a feed before the request", format!("\n{}", of("X-A: b")), refused),
        case("bytes above ASCII in a value", of("X-A: \u{e4}"), Passes(1)),
        case("an empty value", of("X-A:"), Passes(1)),
        case("a hundred fields", get(tags, &format!("Host: localhost\r\n{}", numbered(100))), Passes(1)),
        case("two hundred fields", get(tags, &format!("Host: localhost\r\n{}", numbered(200))), Refused(431, 0)),
        case("a head of 60 KiB", of(&format!("X-A: {}", "b".repeat(60 * 1024))), Passes(1)),
        case("a head of 70 KiB", of(&format!("X-A: {}", "b".repeat(70 * 1024))), Refused(431, 0)),
        case("a head without an end", format!("{tags}\r\nX-A: {}", "b".repeat(200 * 1024)), Refused(431, 0)),
        cut("half a head", "GET /api/tags HTTP/1.1\r\nHost: local".to_owned(), Ends),
        cut("nothing", "", Ends),
    ]
}

fn targets() -> Vec<Case> {
    let refused = Refused(400, 0);
    let host = "Host: localhost\r\n";
    vec![
        case("the target with its host", get("GET http://localhost/api/tags HTTP/1.1", host), Passes(1)),
        case("the target with its host in capitals", get("GET HTTP://LOCALHOST/api/tags HTTP/1.1", host), Passes(1)),
        case("the target with another host", get("GET http://evil.test/api/tags HTTP/1.1", host), refused),
        case("the target with another port", get("GET http://localhost:1/api/tags HTTP/1.1", host), refused),
        case("the target with a user", get("GET http://localhost@evil.test/api/tags HTTP/1.1", host), refused),
        case("the target with a host, and no Host", get("GET http://localhost/api/tags HTTP/1.1", ""), refused),
        case("the target with a host, and an empty Host", get("GET http://localhost/api/tags HTTP/1.1", "Host:\r\n"), refused),
        case("the target with no host", get("GET http:///api/tags HTTP/1.1", "Host:\r\n"), refused),
        case("the target of another protocol", get("GET ftp://localhost/api/tags HTTP/1.1", host), refused),
        case("the target of a file", get("GET file:///etc/passwd HTTP/1.1", host), refused),
        case("a target without a slash", get("GET api/tags HTTP/1.1", host), refused),
        case("a host as the target", get("GET localhost:80 HTTP/1.1", "Host: localhost:80\r\n"), refused),
        case("a tunnel", get("CONNECT localhost:80 HTTP/1.1", "Host: localhost:80\r\n"), refused),
        case("a tunnel to a path", get("CONNECT /api/tags HTTP/1.1", host), refused),
        case("the server as the target", get("OPTIONS * HTTP/1.1", host), Refused(404, 0)),
        case("the server as the target of a GET", get("GET * HTTP/1.1", host), refused),
        case("two Hosts", get("GET /api/tags HTTP/1.1", "Host: localhost\r\nHost: evil.test\r\n"), refused),
        case("two equal Hosts", get("GET /api/tags HTTP/1.1", "Host: localhost\r\nHost: localhost\r\n"), refused),
        case("no Host", get("GET /api/tags HTTP/1.1", ""), Passes(1)),
        case("an empty Host", get("GET /api/tags HTTP/1.1", "Host:\r\n"), Passes(1)),
        case("a Host with a path", get("GET /api/tags HTTP/1.1", "Host: localhost/x\r\n"), Passes(1)),
        case("a blank too much", get("GET  /api/tags HTTP/1.1", host), refused),
        case("a blank in the target", get("GET /api/tags x HTTP/1.1", host), refused),
        case("a tab for a blank", get("GET\t/api/tags HTTP/1.1", host), refused),
        case("a zero in the target", get("GET /api/tags\0 HTTP/1.1", host), refused),
        case("a fragment in the target", get("GET /api/tags#x HTTP/1.1", host), refused),
        case("a query", get("GET /api/tags?x=%0d%0aHost:%20evil HTTP/1.1", host), Passes(1)),
        case("a method in small letters", get("get /api/tags HTTP/1.1", host), Refused(405, 0)),
        case("no method", get(" /api/tags HTTP/1.1", host), refused),
        cut("the first version", "GET /api/tags\r\n", refused),
        case("an old version", get("GET /api/tags HTTP/1.0", ""), Passes(1)),
        case("an old version with a body", with("").replace("HTTP/1.1", "HTTP/1.0"), Passes(1)),
        case(
            "an old version that keeps the connection",
            // (A longer answer Ollama would send without a length, and end the connection behind it.)
            ["GET /api/version HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", &get("GET /api/version HTTP/1.0", "")].concat(),
            Passes(2),
        ),
        case("a version that isn't there yet", get("GET /api/tags HTTP/1.2", host), refused),
        case("a later version", get("GET /api/tags HTTP/2.0", host), refused),
        case("the preface of a later version", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", Ends),
        case(
            "an upgrade",
            get(
                "GET /api/tags HTTP/1.1",
                "Host: localhost\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nConnection: Upgrade, HTTP2-Settings\r\n",
            ),
            Passes(1),
        ),
        cut("a greeting of TLS", "\x16\x03\x01\x00\x05hello", refused),
    ]
}

fn fields() -> Vec<Case> {
    let packed = |coding: &str| with(&format!("Content-Encoding: {coding}"));
    let refused = Refused(415, 0);
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    vec![
        case("an expectation", with("Expect: 100-continue"), Passes(1)),
        case("an expectation in capitals", with("EXPECT: 100-CONTINUE"), Passes(1)),
        case("another expectation", with("Expect: 200-ok"), Refused(417, 0)),
        case("an expectation and another", with("Expect: 100-continue, 200-ok"), Refused(417, 0)),
        case("two expectations", with("Expect: 100-continue\r\nExpect: 100-continue"), Refused(417, 0)),
        case("a body packed by gzip", packed("gzip"), refused),
        case("a body packed by gzip by its old name", packed("x-gzip"), refused),
        case("a body packed by deflate", packed("deflate"), refused),
        case("a body packed by brotli", packed("br"), refused),
        case("a body packed by compress", packed("compress"), refused),
        case("a body packed by zstd where the server unpacks none", packed("zstd"), refused),
        case("a body packed twice", packed("zstd, zstd"), refused),
        case("a body packed in two ways", packed("gzip, zstd"), refused),
        case("a body packed, by two fields", with("Content-Encoding: identity\r\nContent-Encoding: gzip"), refused),
        case("a body packed by nobody knows what", packed("x"), refused),
        case("a body packed by no name", packed(""), refused),
        case("a body that is itself, by name", packed("identity"), Passes(1)),
        case("what a client would unpack", with("Accept-Encoding: gzip, br, zstd"), Passes(1)),
        case(
            "what a proxy would say",
            with("X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Prefix: //evil.test\r\nForwarded: for=127.0.0.1\r\nX-Real-IP: 127.0.0.1"),
            Passes(1),
        ),
        case(
            "a field of the connection alone",
            with("Proxy-Connection: keep-alive\r\nKeep-Alive: timeout=1\r\nProxy-Authorization: Basic eA=="),
            Passes(1),
        ),
        case(
            "a field that is named as the connection's",
            with("X-Hop: 1").replace("Connection: close", "Connection: close, X-Hop, Content-Length, Host"),
            Passes(1),
        ),
        case("a body of brackets", post("Content-Length: 40000", &deep), Refused(400, 0)),
        case("a body of no bytes", post("Content-Length: 0", ""), Refused(400, 0)),
    ]
}

fn all() -> Vec<Case> {
    [lengths(), codings(), chunks(), heads(), targets(), fields()].into_iter().flatten().collect()
}

/// What was told on a connection: the answers, and whether it ended.
#[derive(Debug)]
struct Told {
    statuses: Vec<u16>,
    ended: bool,
}

/// Sends a case's bytes on a connection of their own, and reads to the end.
fn tell(address: SocketAddr, case: &Case) -> std::io::Result<Told> {
    tell_within(address, case, LIMIT)
}

fn tell_within(address: SocketAddr, case: &Case, limit: Duration) -> std::io::Result<Told> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(LIMIT))?;
    // A server may have ended the connection before it has read everything.
    let sent = stream.write_all(&case.bytes).and_then(|()| if case.ends { stream.shutdown(Shutdown::Write) } else { Ok(()) });
    let mut said = Vec::new();
    let ended = match stream.read_to_end(&mut said) {
        Ok(_) => true,
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => true,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
        Err(error) => return Err(error),
    };
    if let Err(error) = sent
        && !matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected)
    {
        return Err(error);
    }
    Ok(Told { statuses: statuses(&said), ended })
}

/// The statuses of answers that stand one behind the other, but for those that only say that one may go on.
fn statuses(mut said: &[u8]) -> Vec<u16> {
    let mut all = Vec::new();
    while let Some((head, start)) = Head::read(said) {
        let status = head.status().unwrap_or_default();
        said = &said[start..];
        if (100..200).contains(&status) {
            continue;
        }
        all.push(status);
        let length = if head.is_chunked() { dechunk(said).1 } else { head.length().unwrap_or(said.len()) };
        said = &said[length.min(said.len())..];
    }
    if !said.is_empty() {
        // Bytes that are no answer: no case expects them.
        all.push(0);
    }
    all
}

/// Whether what the server got is one request as the guard writes them: one length, no coding, a body that is the whole of its JSON.
fn is_plain(received: &Received) -> Result<(), String> {
    let count = |name: &str| received.head.fields.iter().filter(|(field, _)| field == name).count();
    let forbidden = [
        "transfer-encoding",
        "trailer",
        "te",
        "upgrade",
        "http2-settings",
        "expect",
        "content-encoding",
        "accept-encoding",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-prefix",
        "x-real-ip",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "x-hop",
    ];
    if let Some(name) = forbidden.iter().find(|name| count(name) > 0) {
        return Err(format!("{name} reached the server"));
    }
    if count("host") > 1 || count("content-length") > 1 {
        return Err("two hosts or two lengths".into());
    }
    let is_post = received.head.start == "POST /api/show HTTP/1.1";
    let asks = |path: &str| received.head.start.split(['?', ' ']).take(2).eq(["GET", path]);
    if !is_post && !asks("/api/tags") && !asks("/api/version") {
        return Err("another request".into());
    }
    let expected = if is_post { serde_json::from_str::<Value>(BODY).ok() } else { None };
    if serde_json::from_slice::<Value>(&received.body).ok() != expected || received.head.length().unwrap_or_default() != received.body.len()
    {
        return Err("another body".into());
    }
    Ok(())
}

#[test]
fn what_reaches_a_server_is_one_request_of_the_length_that_was_judged_or_nothing() -> Outcome {
    let server = FaultyServer::start(|request| well(request, "All is well."))?;
    let guard = Guard::before(server.url(), "http").mode("hard").start()?;
    let cases = all();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let Case { name, fate, .. } = case;
        let before = server.received().len();
        let told = tell(guard.address(), case)?;
        let received = server.received().split_off(before);
        let (passed, statuses) = match *fate {
            Passes(count) => (count, vec![200; count]),
            Refused(status, before) => (before, [vec![200; before], vec![status]].concat()),
            Ends => (0, told.statuses.iter().copied().filter(|status| *status == 400).collect()),
        };
        if (&told.statuses, told.ended, received.len()) != (&statuses, true, passed) {
            wrong.push(format!("{name}: {fate:?}, and {told:?}, and {} requests reached the server", received.len()));
        }
        wrong.extend(received.iter().filter_map(|request| Some(format!("{name}: {}: {request:?}", is_plain(request).err()?))));
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    // Whatever they did, the guard serves on.
    assert_eq!(tell(guard.address(), &case("well", with(""), Passes(1)))?.statuses, [200]);
    Ok(())
}

/// What Ollama takes, and the guard in hard does not: what two readers could take for two things, what can't be judged, and bodies whose
/// end Ollama doesn't wait for, since it answers once it has read a JSON value. In the order of the alphabet.
const STRICTER: [&str; 49] = [
    "a blank behind a chunk's size",
    "a body packed by brotli",
    "a body packed by compress",
    "a body packed by deflate",
    "a body packed by gzip",
    "a body packed by gzip by its old name",
    "a body packed by no name",
    "a body packed by nobody knows what",
    "a body packed by zstd where the server unpacks none",
    "a body packed in two ways",
    "a body packed twice",
    "a body packed, by two fields",
    "a chunk that ends by a feed alone",
    "a chunk that ends by a return alone",
    "a chunk that is shorter than it says",
    "a chunk's size that is all there is",
    "a coding before a length",
    "a coding beside a length of nothing",
    "a coding between two lengths",
    "a coding on the next line",
    "a good request and an ambiguous one",
    "a head of 70 KiB",
    "a last chunk of nothing but a minus",
    "a length before a coding",
    "a length that ends behind the body",
    "a trailer on two lines",
    "a trailer that ends by a feed alone",
    "a trailer without a colon",
    "a trailer without a name",
    "a value on two lines",
    "a value on two lines by a tab",
    "a version that isn't there yet",
    "an ambiguous request that would keep the connection",
    "an expectation and another",
    "feeds without returns",
    "no end behind the last chunk",
    "no last chunk",
    "one feed without its return",
    "the last chunk ended by a feed alone",
    "the server as the target",
    "the target of another protocol",
    "the target with a host, and an empty Host",
    "the target with another port",
    "the target with no host",
    "three hundred trailers",
    "two equal lengths",
    "two expectations",
    "two good requests and bytes",
    "two hundred fields",
];

#[test]
fn before_a_real_ollama_what_passes_is_answered_as_it_answers_and_what_it_refuses_is_refused() -> Outcome {
    let ollama = Ollama::start()?;
    let guard = Guard::before(ollama.url(), "http").mode("hard").start()?;
    let mut wrong = Vec::new();
    let mut stricter = Vec::new();
    let cases = all();
    for case in &cases {
        let Case { name, fate, .. } = case;
        let (direct, guarded) = (tell_within(ollama.address(), case, LIMIT / 3)?, tell(guard.address(), case)?);
        let takes = |told: &Told| !told.statuses.is_empty() && told.statuses.iter().all(|status| *status == 200);
        match *fate {
            Passes(_) if direct.statuses == guarded.statuses && guarded.ended => {}
            Refused(status, before) if guarded.ended && guarded.statuses == [vec![200; before], vec![status]].concat() => {
                if takes(&direct) {
                    stricter.push(*name);
                }
            }
            Ends if guarded.ended && guarded.statuses.iter().all(|status| *status == 400) => {}
            _ => wrong.push(format!("{name}: {fate:?}: Ollama {direct:?}, guard {guarded:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    stricter.sort_unstable();
    assert_eq!(stricter, STRICTER, "where the guard is stricter than Ollama");
    // What was to be smuggled in would have copied a model. (Ollama by itself may have made the copy: it was asked as well.)
    let copies = guard.metric("llm_guard_requests_total", &[("route", "/api/copy")])?;
    assert!(copies.abs() < f64::EPSILON, "{copies} smuggled requests were read");
    Ok(())
}

#[test]
fn in_monitor_what_is_ambiguous_is_refused_and_what_a_proxy_says_passes() -> Outcome {
    let server = FaultyServer::start(|request| well(request, "All is well."))?;
    let guard = Guard::before(server.url(), "http").mode("monitor").start()?;
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for case in all() {
        let Case { name, bytes, fate, .. } = &case;
        // What isn't framing is the server's to judge; and a body that is too short, or is none, is one.
        let is_framing = *fate == Refused(400, 0) && bytes.ends_with(SMUGGLED.as_bytes());
        if !is_framing || name.ends_with("within the body") || name.ends_with("before a body") {
            continue;
        }
        seen += 1;
        let before = server.received().len();
        let told = tell(guard.address(), &case)?;
        let passed = server.received().split_off(before);
        if !passed.is_empty() || told.statuses != [400] || !told.ended {
            wrong.push(format!("{name}: {told:?}, {passed:?}"));
        }
    }
    assert!(seen > 50, "{seen} cases");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let before = server.received().len();
    let said = with("X-Forwarded-For: 10.1.2.3\r\nForwarded: for=x\r\nX-Real-IP: 1\r\nX-Forwarded-Prefix: /p");
    tell(guard.address(), &case("what a proxy says", said, Passes(1)))?;
    let received = server.received().split_off(before).pop().ok_or("nothing came")?;
    for (name, value) in [("x-forwarded-for", "10.1.2.3"), ("forwarded", "for=x"), ("x-real-ip", "1"), ("x-forwarded-prefix", "/p")] {
        assert_eq!(received.head.text(name).as_deref(), Some(value));
    }
    Ok(())
}

#[test]
fn a_prefix_that_a_client_makes_up_reaches_no_redirect() -> Outcome {
    let ollama = Ollama::start()?;
    let guard = Guard::before(ollama.url(), "http").mode("hard").start()?;
    let request = get("GET /api/tags/ HTTP/1.1", "Host: localhost\r\nX-Forwarded-Prefix: /made-up\r\n");
    let location = |address| -> Result<String, Box<dyn std::error::Error>> {
        let answer = llm_guard_tests::raw::ask(address, request.as_bytes())?;
        Ok(answer.head.text("location").unwrap_or_default())
    };
    assert!(location(ollama.address())?.contains("made-up"), "Ollama believes it");
    assert!(!location(guard.address())?.contains("made-up"), "the guard doesn't");
    Ok(())
}

#[test]
fn a_head_that_comes_byte_by_byte_has_a_minute() -> Outcome {
    let server = FaultyServer::start(|request| well(request, "All is well."))?;
    let guard = Guard::before(server.url(), "http").mode("hard").start()?;
    let begun = Instant::now();
    let mut stream = TcpStream::connect_timeout(&guard.address(), LIMIT)?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    stream.write_all(b"GET /api/tags HTTP/1.1\r\nHost: localhost\r\nX-A: ")?;
    let mut some = [0; 512];
    loop {
        assert!(begun.elapsed() < Duration::from_secs(90), "the guard waits for ever");
        let gone = stream.write_all(b"b").is_err()
            || match stream.read(&mut some) {
                Ok(0) => true,
                Ok(_) => false,
                Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            };
        if gone {
            break;
        }
    }
    assert!(begun.elapsed() > Duration::from_secs(50), "{:?}", begun.elapsed());
    assert!(server.received().is_empty());
    Ok(())
}

#[test]
fn a_connection_is_used_again_and_again_each_request_for_itself() -> Outcome {
    let server = FaultyServer::start(|request| well(request, "All is well."))?;
    let guard = Guard::before(server.url(), "http").mode("hard").start()?;
    let mut connection = llm_guard_tests::raw::Connection::open(guard.address())?;
    for number in 0..20 {
        let body = json!({"model": format!("m{number}")}).to_string();
        let request = if number % 2 == 0 {
            format!("POST /api/show HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        } else {
            format!("POST /api/show HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}{LAST}", body.len())
        };
        connection.send(request.as_bytes())?;
        assert_eq!(connection.answer()?.status(), 200);
        let received = server.received().pop().ok_or("nothing came")?;
        assert_eq!(serde_json::from_slice::<Value>(&received.body)?["model"], format!("m{number}"));
    }
    Ok(())
}
