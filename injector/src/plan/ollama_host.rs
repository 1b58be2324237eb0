//! `OLLAMA_HOST`, read as Ollama reads it (envconfig/config.go, the same in 0.17.4 and 0.33).
//!
//! The invariant: where Ollama would listen on a port, this says that port. Ollama takes a port that it can't read for the default
//! one, and so does this. And what an Ollama is told where nobody can read it doesn't decide where it listens.

use std::net::IpAddr;

/// What a value says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OllamaHost {
    /// Whether a server that is told this listens where this pod's clients are: the value names no host, all or a loopback one.
    pub(crate) server: bool,
    /// Whether it listens there alone: the value names a loopback host.
    pub(crate) loopback: bool,
    pub(crate) port: u16,
}

const DEFAULT_PORT: u16 = 11434;

impl OllamaHost {
    pub(crate) fn read(value: &str) -> Self {
        let value = value.trim().trim_matches(['"', '\'']).trim();
        let (default, authority) = match value.split_once("://") {
            None if value == "ollama.com" => (443, "ollama.com:443"),
            None => (DEFAULT_PORT, value),
            Some(("http", rest)) => (80, rest),
            Some(("https", rest)) => (443, rest),
            Some((_, rest)) => (DEFAULT_PORT, rest),
        };
        let authority = authority.split('/').next().unwrap_or_default();
        let (host, port) = match split(authority) {
            Some((host, port)) => (host, number(port).unwrap_or(default)),
            None => (authority.trim_matches(['[', ']']), default),
        };
        let loopback = is_loopback(host);
        Self { server: loopback || is_unspecified(host), loopback, port }
    }
}

/// Host and port, where there are both, as Go's `net.SplitHostPort` takes them apart.
fn split(authority: &str) -> Option<(&str, &str)> {
    let (host, port) = authority.rsplit_once(':')?;
    match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').filter(|inner| !inner.contains(['[', ']'])),
        None => (!host.contains([':', '[', ']'])).then_some(host),
    }
    .filter(|_| !port.contains(['[', ']']))
    .map(|host| (host, port))
}

/// A port as Go's `strconv.ParseInt` reads it, in range.
fn number(text: &str) -> Option<u16> {
    text.parse::<i32>().ok().and_then(|number| u16::try_from(number).ok())
}

/// The zone of an address says nothing about what it is.
fn address(host: &str) -> Option<IpAddr> {
    host.split('%').next().unwrap_or_default().parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn is_loopback(host: &str) -> bool {
    address(host).map_or_else(|| host.eq_ignore_ascii_case("localhost"), |address| address.is_loopback())
}

fn is_unspecified(host: &str) -> bool {
    address(host).map_or(host.is_empty(), |address| address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_mean_what_they_mean_to_ollama() {
        for (value, server, port) in [
            ("", true, 11434),
            ("0.0.0.0", true, 11434),
            ("0.0.0.0:11434", true, 11434),
            (":8080", true, 8080),
            (" \"0.0.0.0:9999\" ", true, 9999),
            ("'127.0.0.1'", true, 11434),
            ("http://0.0.0.0", true, 80),
            ("https://0.0.0.0", true, 443),
            ("http://0.0.0.0:11434/", true, 11434),
            ("0.0.0.0:11434/path", true, 11434),
            ("localhost", true, 11434),
            ("[::]:11434", true, 11434),
            ("[::1]", true, 11434),
            ("::", true, 11434),
            ("::1", true, 11434),
            ("[::ffff:127.0.0.1]:80", true, 80),
            ("0.0.0.0:port", true, 11434),
            ("0.0.0.0:70000", true, 11434),
            ("0.0.0.0:-1", true, 11434),
            ("0.0.0.0:", true, 11434),
            ("0.0.0.0:0", true, 0),
            ("unix://0.0.0.0", true, 11434),
            ("ollama", false, 11434),
            ("ollama:11434", false, 11434),
            ("http://ollama.llm.svc:11434", false, 11434),
            ("http://ollama", false, 80),
            ("https://models.example", false, 443),
            ("10.0.0.7", false, 11434),
            ("ollama.com", false, 443),
            ("[fd00::1]:11434", false, 11434),
        ] {
            let host = OllamaHost::read(value);
            assert_eq!((host.server, host.port), (server, port), "{value}");
        }
    }

    #[test]
    fn who_names_a_loopback_listens_there_alone() {
        for (value, loopback) in [
            ("127.0.0.1", true),
            ("127.0.0.7:8080", true),
            ("LOCALHOST:11434", true),
            ("http://[::1]:11434", true),
            ("[::ffff:127.0.0.1]", true),
            ("", false),
            ("0.0.0.0:11434", false),
            ("[::]", false),
            ("10.0.0.7", false),
            ("localhost.example", false),
        ] {
            assert_eq!(OllamaHost::read(value).loopback, loopback, "{value}");
        }
    }
}
