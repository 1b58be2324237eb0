//! `Host` and `Origin`, for a model server that was moved to the loopback: there Ollama checks both, and on the address that clients
//! know it would have checked only `Origin`.
//!
//! The invariant: a client is told what Ollama would have told it there, and the server sees neither of the two fields as it came.
//! Read from ollama 0.17.4 (`server/routes.go`, `envconfig/config.go`) and gin-contrib/cors 1.7.2.

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode, Version};
use llm_guard_engine::wire::routes::{self, Lookup};
use percent_encoding::percent_decode_str;

use super::body::{self, ReplyBody};
use super::browsers::is_anybodys;

/// What Ollama allows besides `OLLAMA_ORIGINS`.
const ORIGINS: [&str; 17] = [
    "http://localhost",
    "https://localhost",
    "http://localhost:*",
    "https://localhost:*",
    "http://127.0.0.1",
    "https://127.0.0.1",
    "http://127.0.0.1:*",
    "https://127.0.0.1:*",
    "http://0.0.0.0",
    "https://0.0.0.0",
    "http://0.0.0.0:*",
    "https://0.0.0.0:*",
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
];
/// How an origin without `*` must begin; with another, Ollama doesn't start.
const SCHEMES: [&str; 6] =
    ["http://", "https://", "chrome-extension://", "safari-extension://", "moz-extension://", "ms-browser-extension://"];
const METHODS: &str = "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS";
const HEADERS: &str = "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,X-Stainless-Async,\
    X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,X-Stainless-Package-Version,\
    X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,X-Stainless-Runtime-Version,X-Stainless-Timeout";
/// In seconds.
const MAX_AGE: &str = "43200";
/// What Go's server takes in a `Host` besides letters and digits.
const HOST_BYTES: &[u8] = b"!$%&()*+,-.:;=[']_~";

/// An origin that may call, as `OLLAMA_ORIGINS` has it: exact, or with one `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OriginPattern(String);

/// Why a text is no such origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OriginError {
    /// Too many stars.
    #[error("'{0}' has more than one *")]
    Stars(String),
    /// Neither a star nor a scheme.
    #[error("'{0}' must contain * or begin with http://, https:// or the scheme of a browser's extensions")]
    Scheme(String),
}

impl std::str::FromStr for OriginPattern {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        match text.matches('*').count() {
            0 if SCHEMES.iter().any(|scheme| text.starts_with(scheme)) => Ok(Self(text.to_owned())),
            0 => Err(OriginError::Scheme(text.to_owned())),
            1 => Ok(Self(text.to_owned())),
            _ => Err(OriginError::Stars(text.to_owned())),
        }
    }
}

impl OriginPattern {
    fn fits(&self, origin: &[u8]) -> bool {
        match self.0.split_once('*') {
            Some((before, after)) => origin.starts_with(before.as_bytes()) && origin.ends_with(after.as_bytes()),
            None => self.0.trim().to_lowercase().as_bytes() == origin,
        }
    }
}

/// Stands in for a server that was moved to the loopback.
#[derive(Clone, Debug)]
pub(crate) struct StandIn {
    /// What the server is told as `Host`: its own address. (By the name `localhost` it would answer OPTIONS by itself.)
    host: HeaderValue,
    origins: Vec<OriginPattern>,
    every_origin: bool,
}

/// What a request's head means.
#[derive(Debug)]
pub(super) enum Meaning {
    /// It goes on, and these fields go into its answer.
    GoesOn(HeaderMap),
    /// It is answered here.
    Answered(Response<ReplyBody>),
}

impl StandIn {
    /// For a server on a port of 127.0.0.1; `origins` is what `OLLAMA_ORIGINS` names.
    pub(crate) fn new(port: u16, origins: Vec<OriginPattern>) -> Self {
        let host = HeaderValue::try_from(format!("127.0.0.1:{port}")).expect("digits and dots are a value");
        let every_origin = origins.iter().any(|pattern| pattern.0 == "*");
        let origins = origins.into_iter().chain(ORIGINS.map(|origin| OriginPattern(origin.to_owned()))).collect();
        Self { host, origins, every_origin }
    }

    /// Makes the fields those that the server is to see.
    pub(super) fn rewrite(&self, headers: &mut HeaderMap) {
        headers.insert(header::HOST, self.host.clone());
        headers.remove(header::ORIGIN);
    }

    /// What the server would say to a request's head. A page whose own name was asked for is let in only in monitor: see [`super::browsers`].
    pub(super) fn meet(&self, parts: &Parts, enforced: bool) -> Meaning {
        let field = parts.headers.get(header::HOST);
        match field {
            None if parts.version == Version::HTTP_11 => return Meaning::Answered(bad_request("missing required Host header")),
            Some(host) if !host.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || HOST_BYTES.contains(byte)) => {
                return Meaning::Answered(bad_request("malformed Host header"));
            }
            _ => {}
        }
        let origin = parts.headers.get(header::ORIGIN).filter(|origin| !origin.is_empty());
        let Some(origin) = origin.filter(|_| !is_redirected(parts)) else {
            return Meaning::GoesOn(HeaderMap::new());
        };
        let named = parts.uri.authority().and_then(|authority| authority.as_str().rsplit('@').next());
        let host = named.map(str::as_bytes).or(field.map(HeaderValue::as_bytes));
        let is_allowed = self.every_origin || self.origins.iter().any(|pattern| pattern.fits(origin.as_bytes()));
        let same = ["http://", "https://"].iter().any(|scheme| origin.as_bytes().strip_prefix(scheme.as_bytes()) == host);
        if same && (is_allowed || !enforced || !is_anybodys(host.unwrap_or_default())) {
            return Meaning::GoesOn(HeaderMap::new());
        }
        if !is_allowed {
            return Meaning::Answered(empty(StatusCode::FORBIDDEN, allow(parts)));
        }
        let mut headers = HeaderMap::new();
        let allowed = if self.every_origin { HeaderValue::from_static("*") } else { origin.clone() };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if !self.every_origin {
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        if parts.method != Method::OPTIONS {
            return Meaning::GoesOn(headers);
        }
        if !self.every_origin {
            headers.append(header::VARY, HeaderValue::from_static("Access-Control-Request-Method"));
            headers.append(header::VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(HEADERS));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
        headers.extend(allow(parts));
        Meaning::Answered(empty(StatusCode::NO_CONTENT, headers))
    }
}

/// Whether the server sends the client to another path before it looks at origins.
fn is_redirected(parts: &Parts) -> bool {
    let path = parts.uri.path();
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let Some(segments) = decoded.strip_prefix('/') else { return true };
    let last = segments.matches('/').count();
    let is_odd = |(place, segment): (usize, &str)| matches!(segment, "." | "..") || segment.is_empty() && place < last;
    if segments.split('/').enumerate().any(is_odd) {
        return true;
    }
    let without_slash = path.strip_suffix('/').filter(|rest| !rest.is_empty());
    without_slash.is_some_and(|path| matches!(routes::find(parts.method.as_str(), path), Lookup::Found(..)))
}

/// What the server says of a path that it knows when it is asked by another method.
fn allow(parts: &Parts) -> HeaderMap {
    let methods = routes::methods(parts.uri.path());
    let is_other = !methods.is_empty() && !methods.contains(&parts.method.as_str());
    let value = HeaderValue::try_from(methods.join(", ")).ok().filter(|_| is_other);
    value.map(|value| (header::ALLOW, value)).into_iter().collect()
}

fn empty(status: StatusCode, headers: HeaderMap) -> Response<ReplyBody> {
    let mut response = Response::new(body::whole(bytes::Bytes::new()));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// As Go's server says it.
fn bad_request(why: &str) -> Response<ReplyBody> {
    let mut response = Response::new(body::whole(format!("400 Bad Request: {why}").into()));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn said(stand_in: &StandIn, method: &str, target: &str, fields: &[(&str, &str)]) -> String {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        match stand_in.meet(&request.body(()).unwrap().into_parts().0, true) {
            Meaning::GoesOn(headers) => format!("goes on {}", origin_of(&headers)),
            Meaning::Answered(response) => format!("{} {}", response.status().as_u16(), origin_of(response.headers())),
        }
    }

    fn origin_of(headers: &HeaderMap) -> &str {
        headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).map_or("-", |value| value.to_str().unwrap())
    }

    #[test]
    fn an_origin_is_allowed_as_ollama_allows_it() {
        let named = ["https://*.example.com", "chrome-extension://abc"].map(|pattern| pattern.parse().unwrap());
        let stand_in = StandIn::new(11435, named.to_vec());
        let get = |origin: &str| said(&stand_in, "GET", "/api/tags", &[("host", "ollama:11434"), ("origin", origin)]);
        for allowed in [
            "http://localhost",
            "https://127.0.0.1:3000",
            "http://localhost:evil.test",
            "app://x",
            "vscode-webview://1",
            "https://a.example.com",
            "chrome-extension://abc",
        ] {
            assert_eq!(get(allowed), format!("goes on {allowed}"));
        }
        for same in ["http://ollama:11434", "https://ollama:11434"] {
            assert_eq!(get(same), "goes on -");
        }
        let own = |name: &str, mode: bool| {
            let request = Request::builder().uri("/api/tags").header("host", name).header("origin", format!("https://{name}"));
            matches!(stand_in.meet(&request.body(()).unwrap().into_parts().0, mode), Meaning::GoesOn(_))
        };
        assert!(own("evil.test", false) && !own("evil.test", true), "a name that can be made to point here");
        assert!(own("a.example.com", true), "one that is named");
        for other in
            ["http://evil.test", "null", "HTTP://LOCALHOST", "http://localhost.evil.test", "http://a.example.com", "https://ollama"]
        {
            assert_eq!(get(other), "403 -");
        }
        assert_eq!(get(""), "goes on -");
        let every = StandIn::new(11435, vec!["*".parse().unwrap()]);
        assert_eq!(said(&every, "GET", "/", &[("host", "a"), ("origin", "http://evil.test")]), "goes on *");
    }

    #[test]
    fn a_preflight_is_answered_and_what_the_server_redirects_is_not() {
        let stand_in = StandIn::new(11435, Vec::new());
        let ask = |method: &str, target: &str, origin: &str| said(&stand_in, method, target, &[("host", "a"), ("origin", origin)]);
        assert_eq!(ask("OPTIONS", "/api/chat", "http://localhost:1"), "204 http://localhost:1");
        assert_eq!(ask("OPTIONS", "/nowhere", "http://evil.test"), "403 -");
        for redirected in ["//api/tags", "/api/./tags", "/x/../api/tags", "/api/%2e%2e/x", "/api/tags/", "/api%2f%2ftags"] {
            assert_eq!(ask("GET", redirected, "http://evil.test"), "goes on -", "{redirected}");
        }
        for plain in ["/api/tags", "/", "/nowhere/", "/api/chat/"] {
            assert_eq!(ask("GET", plain, "http://evil.test"), "403 -", "{plain}");
        }
    }

    #[test]
    fn a_host_that_go_refuses_is_refused_and_every_other_becomes_the_servers_own() {
        let stand_in = StandIn::new(11435, Vec::new());
        assert_eq!(said(&stand_in, "GET", "/", &[]), "400 -");
        assert_eq!(said(&stand_in, "GET", "/", &[("host", "a/b")]), "400 -");
        for host in ["", "evil.test", "[::1]:80", "ollama.svc.cluster.local"] {
            assert_eq!(said(&stand_in, "GET", "/", &[("host", host)]), "goes on -", "{host}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("evil.test"));
        headers.insert(header::ORIGIN, HeaderValue::from_static("http://localhost"));
        stand_in.rewrite(&mut headers);
        assert_eq!((headers.len(), headers[header::HOST].as_bytes()), (1, &b"127.0.0.1:11435"[..]));
    }

    #[test]
    fn an_origin_with_which_ollama_would_not_start_is_an_error() {
        for wrong in ["", "example.com", "*.example.*", "ftp://a"] {
            assert!(wrong.parse::<OriginPattern>().is_err(), "{wrong}");
        }
    }
}
