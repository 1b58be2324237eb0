//! A path leads to the route that the server would find behind it, or to none; and the one spelling that is forwarded leads there, too.
//!
//! The model of the server: Go's `ServeMux` redirects what isn't clean before escapes are resolved, gin then matches what they resolve to.

use llm_guard_engine::wire::routes::{self, Lookup, ROUTES};

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "DELETE", "PUT", "OPTIONS", "get", ""];

pub(crate) fn holds(data: &[u8]) {
    let Some(([method], path)) = super::header::<1>(data) else { return };
    let Ok(path) = std::str::from_utf8(path) else { return };
    let method = super::pick(&METHODS, method);
    let found = routes::find(method, path);
    let methods = routes::methods(path);
    let server = served(path);

    match &found {
        Lookup::Found(route, segment) => {
            assert!(methods.contains(&method), "{path:?} is found by {method}, which isn't among {methods:?}");
            assert_eq!(server, Some((route.pattern, segment.clone())), "the server reads {path:?} in another way");
            let canonical = canonical(route.pattern, segment.as_deref());
            assert_eq!(routes::find(method, &canonical), found, "{path:?} is forwarded as {canonical:?}");
            assert_eq!(served(&canonical), server, "the server reads {canonical:?} in another way");
        }
        Lookup::WrongMethod => assert!(!methods.is_empty() && !methods.contains(&method), "{path:?} {method}: {methods:?}"),
        Lookup::Unknown => assert!(methods.is_empty(), "{path:?} is unknown and answers {methods:?}"),
    }

    if has_two_readings(path) {
        assert_eq!(found, Lookup::Unknown, "{path:?} could be taken for two paths");
    } else if server.is_some() {
        assert_ne!(found, Lookup::Unknown, "the server knows {path:?}");
    }
}

/// What a reader in between could take for another path.
fn has_two_readings(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let resolved = resolve(path).unwrap_or_default();
    let segments = |path: &[u8]| path.split(|byte| *byte == b'/').any(|segment| segment == b"." || segment == b"..");
    lower.contains("//")
        || ["%2f", "%5c", "%25", "\\"].iter().any(|odd| lower.contains(odd))
        || segments(path.as_bytes())
        || segments(&resolved)
        || std::str::from_utf8(&resolved).is_ok_and(|text| text.chars().any(char::is_control))
}

/// The route that the server finds, and what stands in its open segment.
fn served(path: &str) -> Option<(&'static str, Option<String>)> {
    if !path.starts_with('/') || path.contains("//") || path.split('/').any(|segment| segment == "." || segment == "..") {
        return None;
    }
    let resolved = String::from_utf8(resolve(path)?).ok()?;
    let asked: Vec<&str> = resolved.split('/').collect();
    ROUTES.iter().find_map(|route| {
        let pattern: Vec<&str> = route.pattern.split('/').collect();
        if pattern.len() != asked.len() {
            return None;
        }
        let mut open = None;
        for (pattern, asked) in pattern.iter().zip(&asked) {
            if pattern.starts_with(':') && !asked.is_empty() {
                open = Some((*asked).to_owned());
            } else if pattern != asked {
                return None;
            }
        }
        Some((route.pattern, open))
    })
}

/// The bytes behind the escapes; nothing where an escape is none, which Go refuses.
fn resolve(path: &str) -> Option<Vec<u8>> {
    let (mut out, mut rest) = (Vec::new(), path.as_bytes());
    while let [first, after @ ..] = rest {
        if *first == b'%' {
            let digits =
                std::str::from_utf8(after.get(..2)?).ok().filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            out.push(*first);
            rest = after;
        }
    }
    Some(out)
}

fn canonical(pattern: &str, segment: Option<&str>) -> String {
    let escaped = |segment: &str| {
        let byte = |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        segment.bytes().map(byte).collect::<String>()
    };
    match (pattern.split_once(':'), segment) {
        (Some((before, _)), Some(segment)) => [before, &escaped(segment)].concat(),
        _ => pattern.to_owned(),
    }
}
