//! Browsers, before a server that says itself which pages may ask it and read its answers (CORS).
//!
//! The invariant: the guard decides nothing of this. It asks the server, with nothing but the two hosts and what the browser's protocol
//! asks, and passes on nothing but what that protocol answers. One thing the server is not believed: that a page is its own because
//! the page's name is the one that was asked for, for a name on the internet can be made to point anywhere (DNS rebinding).

use std::net::Ipv6Addr;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};
use llm_guard_engine::wire::routes::ROUTES;

/// For the server to say who may ask.
pub(super) const QUESTION_TIME: Duration = Duration::from_secs(2);
/// By this path it is asked, unless the browser's own is one that the server knows.
pub(super) const ANYWHERE: &str = "/";
/// What a refused page is told.
pub(super) const REBOUND: &str =
    "the page's own name was asked for, and any name can be made to point here: name its origin in OLLAMA_ORIGINS if it is to be let in";

/// What an answer says of who may read it (the CORS protocol, in WHATWG's Fetch standard).
const FIELDS: [HeaderName; 8] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
    header::VARY,
    header::ALLOW,
];
/// The endings of names that no stranger can make point here: Ollama's own list (`allowedHost` in `server/routes.go`), and a cluster's.
const OWN_NAMES: [&str; 4] = [".localhost", ".local", ".internal", ".svc"];

/// What the server is to be asked in the place of a request by which a browser asks beforehand: a path and fields.
pub(super) fn preflight(parts: &Parts) -> Option<(&'static str, HeaderMap)> {
    let wanted = parts.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    let has_body = parts.headers.contains_key(header::TRANSFER_ENCODING)
        || parts.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length.as_bytes().iter().any(|digit| *digit != b'0'));
    if parts.method != Method::OPTIONS || has_body {
        return None;
    }
    let mut fields = whose(parts)?;
    fields.insert(header::ACCESS_CONTROL_REQUEST_METHOD, wanted.clone());
    if let Some(names) = parts.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        fields.insert(header::ACCESS_CONTROL_REQUEST_HEADERS, names.clone());
    }
    let path = ROUTES.iter().map(|route| route.pattern).find(|pattern| *pattern == parts.uri.path());
    Some((path.unwrap_or(ANYWHERE), fields))
}

/// The two fields by which the server knows a page: where it is from, and what it asked for. Nothing, if no page asks.
pub(super) fn whose(parts: &Parts) -> Option<HeaderMap> {
    let origin = origin(parts)?;
    let mut fields = HeaderMap::new();
    fields.insert(header::HOST, parts.headers.get(header::HOST).cloned().unwrap_or_else(|| HeaderValue::from_static("")));
    fields.insert(header::ORIGIN, origin.clone());
    Some(fields)
}

/// What is passed on of the server's word.
pub(super) fn word(fields: &HeaderMap) -> HeaderMap {
    let known = FIELDS.iter().flat_map(|name| fields.get_all(name).iter().map(|value| (name.clone(), value.clone())));
    known.fold(HeaderMap::new(), |mut fields, (name, value)| {
        fields.append(name, value);
        fields
    })
}

/// Whether the page's own name was asked for, and anybody could have made that name point here.
pub(super) fn is_rebound(parts: &Parts) -> bool {
    let (Some(origin), Some(host)) = (origin(parts), parts.headers.get(header::HOST)) else { return false };
    let named = ["http://", "https://"].iter().find_map(|scheme| origin.as_bytes().strip_prefix(scheme.as_bytes()));
    named.is_some_and(|named| named.eq_ignore_ascii_case(host.as_bytes())) && is_anybodys(host.as_bytes())
}

/// The question whether a rebound page's origin is let in for itself: the same, of a server that was asked for by its address.
pub(super) fn of_itself(mut whose: HeaderMap) -> HeaderMap {
    whose.insert(header::HOST, HeaderValue::from_static("127.0.0.1"));
    whose
}

/// Whether the server's answer to that lets the page in.
pub(super) fn lets_in(status: StatusCode, fields: &HeaderMap) -> bool {
    status != StatusCode::FORBIDDEN && fields.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN)
}

fn origin(parts: &Parts) -> Option<&HeaderValue> {
    parts.headers.get(header::ORIGIN).filter(|origin| !origin.is_empty())
}

/// Whether a host's name is one of the internet's: it has a dot, and is no address and no name of this machine's or a cluster's.
pub(super) fn is_anybodys(host: &[u8]) -> bool {
    let host = String::from_utf8_lossy(host).to_ascii_lowercase();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => &host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let is_address = bare.parse::<Ipv6Addr>().is_ok() || name.parse::<std::net::Ipv4Addr>().is_ok();
    name.contains('.') && !is_address && !OWN_NAMES.iter().any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn parts(method: &str, target: &str, fields: &[(&str, &str)]) -> Parts {
        let request = Request::builder().method(method).uri(target);
        fields.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_names_that_a_stranger_can_make_point_here_are_anybodys() {
        for name in
            ["evil.test", "evil.test:11434", "EVIL.test.", "chat.example.com:80", "1.2.3.4.5", "svc.evil.test", "127.0.0.1.evil.test"]
        {
            assert!(is_anybodys(name.as_bytes()), "{name}");
        }
        for name in [
            "",
            "localhost",
            "localhost:11434",
            "ollama",
            "ollama:11434",
            "10.1.2.3:80",
            "127.0.0.1",
            "[::1]:11434",
            "[::ffff:1.2.3.4]",
            "ollama.llm.svc",
            "ollama.llm.svc.cluster.local:11434",
            "a.localhost",
            "host.docker.internal",
        ] {
            assert!(!is_anybodys(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_page_is_rebound_where_its_own_name_was_asked_for() {
        let is = |host: &str, origin: &str| is_rebound(&parts("POST", "/api/chat", &[("host", host), ("origin", origin)]));
        assert!(is("evil.test", "http://evil.test") && is("evil.test:1", "https://EVIL.test:1"));
        for (host, origin) in
            [("evil.test", ""), ("evil.test", "null"), ("evil.test", "http://other.test"), ("ollama", "http://ollama"), ("", "http://")]
        {
            assert!(!is(host, origin), "{host} {origin}");
        }
    }

    #[test]
    fn the_server_is_asked_with_nothing_but_what_the_protocol_asks() {
        let asked = [
            ("host", "a"),
            ("origin", "http://b"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "x-a"),
            ("cookie", "c"),
            ("content-length", "0"),
        ];
        let (path, fields) = preflight(&parts("OPTIONS", "/api/chat?text", &asked)).unwrap();
        assert_eq!((path, fields.len()), ("/api/chat", 4));
        for odd in ["/v1/models/x", "/nowhere", "/api/%63hat", "*"] {
            assert_eq!(preflight(&parts("OPTIONS", odd, &asked)).unwrap().0, "/", "{odd}");
        }
        assert!(preflight(&parts("POST", "/api/chat", &asked)).is_none());
        assert!(preflight(&parts("OPTIONS", "/api/chat", &asked[..2])).is_none());
        assert!(preflight(&parts("OPTIONS", "/api/chat", &[&asked[..5], &[("content-length", "10")]].concat())).is_none());
        assert!(preflight(&parts("OPTIONS", "/api/chat", &asked[2..])).is_none());
    }

    #[test]
    fn of_the_servers_word_only_the_protocols_fields_are_passed_on() {
        let mut fields = HeaderMap::new();
        for (name, value) in [("vary", "Origin"), ("vary", "X"), ("access-control-allow-origin", "a"), ("set-cookie", "c"), ("x-a", "b")] {
            fields.append(name, HeaderValue::from_static(value));
        }
        let word = word(&fields);
        assert_eq!((word.len(), word.get_all("vary").iter().count()), (3, 2));
    }
}
