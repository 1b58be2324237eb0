//! The kubelet's probes of the model server, asked in its place: behind the guard's port a probe would otherwise see the guard.
//!
//! The invariant: what counts as healthy is what the kubelet counts; nothing is judged, and nothing of an answer goes on but its
//! status. Read from Kubernetes 1.34 (`pkg/probe/http`, `pkg/probe/tcp`).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Deserialize;

use super::host::StandIn;
use super::upstream::Upstream;

/// For a whole probe; the kubelet's own limit is mostly a second, and ends it earlier.
pub(super) const PROBE_TIME: Duration = Duration::from_mins(1);
/// The most redirects that are followed.
const REDIRECTS: usize = 10;
/// The most of an answer's body that is read.
const BODY_BYTES: usize = 10 * 1024;
/// What may not stand in a request's target as it is.
const NOT_IN_TARGETS: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`').add(b'{').add(b'}').add(b'|').add(b'\\').add(b'^');

/// A probe, and which it is: `CONTAINER/KIND=JSON`.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    name: String,
    way: Way,
}

#[derive(Clone, Debug)]
enum Way {
    /// A connection comes about.
    Connect,
    /// A GET is answered with 200 to 399.
    Get { path: PathAndQuery, host: Option<String>, port: u16, headers: HeaderMap },
}

/// Why a text is no probe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProbeError {
    /// It has no name.
    #[error("a probe is written CONTAINER/KIND=JSON, the kind one of liveness, readiness and startup")]
    Name,
    /// What it does can't be read.
    #[error("the probe {name} can't be read: {reason}")]
    Handler {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
}

/// As a pod has it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Handler {
    http_get: Option<HttpGet>,
    tcp_socket: Option<TcpSocket>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HttpGet {
    #[serde(default)]
    path: String,
    port: u16,
    #[serde(default)]
    host: String,
    #[serde(default)]
    scheme: String,
    #[serde(default)]
    http_headers: Vec<Field>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Field {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TcpSocket {
    #[expect(dead_code, reason = "the model server has one port, and that is where it is asked")]
    port: u16,
    #[serde(default, rename = "host")]
    _host: String,
}

impl std::str::FromStr for Probe {
    type Err = ProbeError;

    fn from_str(text: &str) -> Result<Self, ProbeError> {
        let (name, handler) = text.split_once('=').ok_or(ProbeError::Name)?;
        let (container, kind) = name.split_once('/').ok_or(ProbeError::Name)?;
        let is_label = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_label(container) || !["liveness", "readiness", "startup"].contains(&kind) {
            return Err(ProbeError::Name);
        }
        let failed = |reason: String| ProbeError::Handler { name: name.to_owned(), reason };
        let handler: Handler = serde_json::from_str(handler).map_err(|error| failed(error.to_string()))?;
        let way = match handler {
            Handler { http_get: Some(get), tcp_socket: None } => get.way().map_err(failed)?,
            Handler { http_get: None, tcp_socket: Some(_) } => Way::Connect,
            _ => return Err(failed("it must have one of httpGet and tcpSocket".into())),
        };
        Ok(Self { name: name.to_owned(), way })
    }
}

impl HttpGet {
    fn way(self) -> Result<Way, String> {
        let Self { path, port, host, scheme, http_headers } = self;
        if !scheme.is_empty() && !scheme.eq_ignore_ascii_case("http") {
            return Err("its scheme must be HTTP: the model server is spoken to in plain HTTP".into());
        }
        let target = path.split('#').next().unwrap_or_default();
        let target = utf8_percent_encode(target.strip_prefix('/').unwrap_or(target), NOT_IN_TARGETS);
        let path = format!("/{target}").parse().map_err(|_| "its path can't be asked for".to_owned())?;
        let mut headers = HeaderMap::new();
        for Field { name, value } in http_headers {
            let field = HeaderName::try_from(&name).ok().zip(HeaderValue::try_from(&value).ok());
            let (name, value) = field.ok_or_else(|| format!("its header '{name}' can't be sent"))?;
            headers.append(name, value);
        }
        Ok(Way::Get { path, host: Some(host).filter(|host| !host.is_empty()), port, headers })
    }
}

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Well,
    /// The server answers, with a status that says it isn't.
    Ill(StatusCode),
    /// No connection comes about.
    Unreachable,
    /// It spoke no HTTP, broke off, or sent the probe in circles.
    Broken,
    /// It took too long.
    TimedOut,
}

impl Health {
    pub(super) fn is_well(self) -> bool {
        self == Self::Well
    }
}

impl std::fmt::Display for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Well => f.write_str("the model server is well"),
            Self::Ill(status) => write!(f, "the model server answers with status {}", status.as_u16()),
            Self::Unreachable => f.write_str("the model server can't be reached"),
            Self::Broken => f.write_str("the model server's answer can't be read"),
            Self::TimedOut => f.write_str("the model server didn't answer in time"),
        }
    }
}

/// The probes that the kubelet may have asked.
#[derive(Debug, Default)]
pub(crate) struct Probes(BTreeMap<String, Way>);

impl Probes {
    /// The second of two of one name is the one that counts.
    pub(crate) fn new(probes: Vec<Probe>) -> Self {
        Self(probes.into_iter().map(|Probe { name, way }| (name, way)).collect())
    }

    /// Asks the probe of a name, if there is one. `agent` is how the kubelet calls itself.
    pub(super) async fn ask(
        &self,
        name: &str,
        upstream: &Upstream,
        stand_in: Option<&StandIn>,
        agent: Option<&HeaderValue>,
    ) -> Option<Health> {
        let way = self.0.get(name)?;
        let asked = async {
            match way {
                Way::Connect => upstream.connect().await.map_or(Health::Unreachable, |_| Health::Well),
                Way::Get { path, host, port, headers } => {
                    let host = host.clone().unwrap_or_else(|| upstream.probed_host());
                    let host = if host.contains(':') { format!("[{host}]") } else { host };
                    let mut headers = headers.clone();
                    for (name, value) in [(header::USER_AGENT, agent), (header::ACCEPT, Some(&HeaderValue::from_static("*/*")))] {
                        if let Some(value) = value.filter(|_| !headers.contains_key(&name)) {
                            headers.insert(name, value.clone());
                        }
                    }
                    if headers.get(header::ACCEPT).is_some_and(HeaderValue::is_empty) {
                        headers.remove(header::ACCEPT);
                    }
                    get(upstream, path.clone(), &host, *port, headers, stand_in).await
                }
            }
        };
        Some(tokio::time::timeout(PROBE_TIME, asked).await.unwrap_or(Health::TimedOut))
    }
}

/// Asks for a path, and for what it redirects to as long as that is the same server.
async fn get(upstream: &Upstream, path: PathAndQuery, host: &str, port: u16, mut headers: HeaderMap, stand_in: Option<&StandIn>) -> Health {
    if !headers.contains_key(header::HOST) {
        let Ok(value) = HeaderValue::try_from(format!("{host}:{port}")) else { return Health::Broken };
        headers.insert(header::HOST, value);
    }
    if let Some(stand_in) = stand_in {
        stand_in.rewrite(&mut headers);
    }
    let mut path = path;
    for _ in 0..=REDIRECTS {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = path.clone().into();
        *request.headers_mut() = headers.clone();
        let answer = match send(upstream, request).await {
            Ok(answer) => answer,
            Err(health) => return health,
        };
        let status = answer.status();
        match next(&answer, &path, host, port) {
            Next::Follow(next) => path = next,
            Next::Broken => return Health::Broken,
            Next::End => return if (200..400).contains(&status.as_u16()) { Health::Well } else { Health::Ill(status) },
        }
    }
    Health::Broken
}

/// What an answer asks for.
enum Next {
    End,
    Follow(PathAndQuery),
    Broken,
}

fn next(answer: &Response<()>, path: &PathAndQuery, host: &str, port: u16) -> Next {
    if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Next::End;
    }
    let Some(location) = answer.headers().get(header::LOCATION) else { return Next::End };
    let Ok(location) = location.to_str() else { return Next::Broken };
    let location = location.split('#').next().unwrap_or_default();
    let target = match location {
        // What stands beside the path, or behind it.
        _ if location.is_empty() => path.to_string(),
        _ if location.starts_with('?') => format!("{}{location}", path.path()),
        _ if location.starts_with('/') && !location.starts_with("//") => location.to_owned(),
        _ if !location.starts_with("//") && !location.contains(':') => {
            let folder = path.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{folder}/{location}")
        }
        _ => {
            let whole = if location.starts_with("//") { format!("http:{location}") } else { location.to_owned() };
            let Ok(uri) = whole.parse::<Uri>() else { return Next::Broken };
            let same = uri.scheme_str() == Some("http") && uri.host() == Some(host) && uri.port_u16().unwrap_or(80) == port;
            match uri.path_and_query() {
                Some(target) if same => target.to_string(),
                // Another server's health isn't this one's. The kubelet stops there as well, and is content.
                _ => return Next::End,
            }
        }
    };
    without_dots(&target).parse().map_or(Next::Broken, Next::Follow)
}

/// A target whose `.` and `..` are resolved (RFC 3986, section 5.2.4), as the kubelet's library does: a server that takes a path
/// literally would say that there is none.
fn without_dots(target: &str) -> String {
    let (path, query) = target.find('?').map_or((target, ""), |at| target.split_at(at));
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => {
                kept.push(segment);
                continue;
            }
        }
        if is_last {
            kept.push("");
        }
    }
    format!("/{}{query}", kept.join("/"))
}

/// One exchange on a connection of its own; of the body as much is read as the kubelet reads.
async fn send(upstream: &Upstream, request: Request<Empty<Bytes>>) -> Result<Response<()>, Health> {
    let stream = upstream.connect().await.map_err(|_| Health::Unreachable)?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|_| Health::Broken)?;
    let exchange = async {
        let (parts, mut body) = sender.send_request(request).await.map_err(|_| Health::Broken)?.into_parts();
        read_some(&mut body).await?;
        Ok(Response::from_parts(parts, ()))
    };
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        biased;
        answer = exchange.as_mut() => return answer,
        _ = connection.as_mut() => {}
    }
    // The connection has ended; what had arrived on it is still to be read.
    exchange.await
}

async fn read_some(body: &mut Incoming) -> Result<(), Health> {
    let mut left = BODY_BYTES;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Health::Broken)?;
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(less) => left = less,
            None => break,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[test]
    fn a_probe_is_read_as_a_pod_has_it() {
        let read = |text: &str| text.parse::<Probe>().map(|probe| probe.way).map_err(|error| error.to_string());
        let get =
            r#"ollama/liveness={"httpGet":{"path":"a b?x=1#y","port":11434,"scheme":"HTTP","httpHeaders":[{"name":"X-A","value":"1"}]}}"#;
        let Ok(Way::Get { path, host, port, headers }) = read(get) else { panic!("{:?}", read(get)) };
        assert_eq!((path.as_str(), host, port, headers["x-a"].as_bytes()), ("/a%20b?x=1", None, 11434, &b"1"[..]));
        assert!(matches!(read(r#"c-1/startup={"tcpSocket":{"port":1}}"#), Ok(Way::Connect)));
        for wrong in [
            "",
            "a={}",
            "a/b={\"tcpSocket\":{\"port\":1}}",
            "/liveness={\"tcpSocket\":{\"port\":1}}",
            "a/liveness={}",
            "a/liveness={\"tcpSocket\":{\"port\":1},\"httpGet\":{\"port\":1}}",
            "a/liveness={\"httpGet\":{\"port\":\"http\"}}",
            "a/liveness={\"httpGet\":{\"port\":1,\"scheme\":\"HTTPS\"}}",
            "a/liveness={\"exec\":{\"command\":[]}}",
            "a/liveness={\"httpGet\":{\"port\":1,\"httpHeaders\":[{\"name\":\"a b\",\"value\":\"\"}]}}",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    /// A server that gives these answers, one a connection, and what it was asked.
    async fn server(answers: Vec<String>) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = tokio::spawn(async move {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                asked.push(String::from_utf8(head).unwrap());
                stream.write_all(answer.replace("PORT", &port.to_string()).as_bytes()).await.unwrap();
            }
            asked
        });
        (port, asked)
    }

    async fn ask(port: u16, handler: &str) -> Option<Health> {
        let upstream = Upstream::new(format!("http://127.0.0.1:{port}").parse().unwrap(), 0);
        let probe = format!("c/liveness={}", handler.replace("PORT", &port.to_string())).parse().unwrap();
        Probes::new(vec![probe]).ask("c/liveness", &upstream, None, Some(&HeaderValue::from_static("kube-probe/1.34"))).await
    }

    const GET: &str = r#"{"httpGet":{"path":"/a/b","port":PORT}}"#;

    #[tokio::test]
    async fn health_is_what_the_kubelet_takes_for_it() {
        let answer = |head: &str| vec![format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n")];
        for (answers, health) in [
            (answer("200 OK"), Health::Well),
            (answer("204 No Content"), Health::Well),
            (answer("399 Odd"), Health::Well),
            (answer("404 Not Found"), Health::Ill(StatusCode::NOT_FOUND)),
            (answer("503 No"), Health::Ill(StatusCode::SERVICE_UNAVAILABLE)),
            (answer("302 Found"), Health::Well),
            (answer("302 Found\r\nLocation: http://other.test/x"), Health::Well),
            ([answer("302 Found\r\nLocation: c?d"), answer("200 OK")].concat(), Health::Well),
            (
                [answer("307 Go\r\nLocation: http://127.0.0.1:PORT/c?d"), answer("500 No")].concat(),
                Health::Ill(StatusCode::INTERNAL_SERVER_ERROR),
            ),
            (vec![answer("302 Found\r\nLocation: /a/b").remove(0); 11], Health::Broken),
            (vec!["no HTTP\r\n\r\n".into()], Health::Broken),
            (vec!["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab".into()], Health::Broken),
            (vec![format!("HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n{}", "x".repeat(20_000))], Health::Well),
        ] {
            let said = format!("{answers:?}");
            let (port, _asked) = server(answers).await;
            assert_eq!(ask(port, GET).await, Some(health), "{said}");
        }
    }

    #[tokio::test]
    async fn the_server_is_asked_what_the_kubelet_would_have_asked() {
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned();
        let (port, asked) = server(vec!["HTTP/1.1 301 M\r\nLocation: ../c\r\nContent-Length: 0\r\n\r\n".into(), ok.clone()]).await;
        ask(port, GET).await;
        let asked = asked.await.unwrap();
        let first = format!("GET /a/b HTTP/1.1\r\nuser-agent: kube-probe/1.34\r\naccept: */*\r\nhost: 127.0.0.1:{port}\r\n\r\n");
        assert_eq!(asked[0].to_lowercase(), first.to_lowercase());
        assert!(asked[1].starts_with("GET /c HTTP/1.1\r\n"), "{}", asked[1]);

        let (port, asked) = server(vec![ok]).await;
        let own = r#"{"httpGet":{"port":1,"httpHeaders":[{"name":"Host","value":"own"},{"name":"User-Agent","value":"me"},{"name":"Accept","value":""}]}}"#;
        ask(port, own).await;
        assert_eq!(asked.await.unwrap()[0].to_lowercase(), "get / http/1.1\r\nhost: own\r\nuser-agent: me\r\n\r\n");
    }

    #[test]
    fn a_path_that_an_answer_leads_to_has_no_dots_in_it() {
        for (path, without) in [
            ("/a/b", "/a/b"),
            ("/a/../c?x=/../y", "/c?x=/../y"),
            ("/../../c", "/c"),
            ("/a/./b/", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/", "/"),
            ("//a/../b", "//b"),
            ("/a.b/..c", "/a.b/..c"),
        ] {
            assert_eq!(without_dots(path), without, "{path}");
        }
    }

    #[tokio::test]
    async fn nobody_there_and_no_such_probe_are_told_apart() {
        let port = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap().port();
        assert_eq!(ask(port, GET).await, Some(Health::Unreachable));
        assert_eq!(ask(port, r#"{"tcpSocket":{"port":1}}"#).await, Some(Health::Unreachable));
        let upstream = Upstream::new(format!("http://127.0.0.1:{port}").parse().unwrap(), 0);
        assert_eq!(Probes::default().ask("c/liveness", &upstream, None, None).await, None);
    }
}
