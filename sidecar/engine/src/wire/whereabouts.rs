//! Where a model runs, as its server says when it is asked: `POST /api/show`, and the aliases of 0.17.4.
//!
//! The invariant: what can't be read for certain is [`Whereabouts::Unknown`], never here.
//!
//! Source: ollama/ollama `server/routes.go` (`ShowHandler`) and `server/aliases.go` (`ResolveName`), versions 0.17.4 and 0.33.0.

use serde::Deserialize;

use super::fields::body;
use super::names::ModelName;

/// The path at which a server is asked about a model (POST).
pub const SHOW_PATH: &str = "/api/show";
/// The path at which it lists its aliases (GET).
pub const ALIASES_PATH: &str = "/api/experimental/aliases";

/// Where a model runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// On this server.
    Here,
    /// On another: what it is asked leaves this machine.
    Cloud,
    /// The name stands for this other model.
    Alias(String),
    /// The server has no such model, and says so itself.
    Missing,
    /// It couldn't be found out.
    Unknown,
}

/// What has been found out of some models, by the names by which they were asked for.
#[derive(Clone, Debug, Default)]
pub struct Places(Vec<(String, Whereabouts)>);

impl Places {
    /// Where a model runs, if that was asked.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Whereabouts> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, place)| place)
    }

    /// Notes where a model runs.
    pub fn put(&mut self, name: String, place: Whereabouts) {
        self.0.push((name, place));
    }
}

/// The body of the question about a model.
#[must_use]
pub fn show_request(name: &str) -> Vec<u8> {
    body(|out| out.string("model", Some(name)))
}

#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    remote_host: Option<String>,
    #[serde(default)]
    remote_model: Option<String>,
}

/// An error as Ollama says it: that it is a string tells whose error it is.
#[derive(Deserialize)]
struct Said {
    error: String,
}

/// How 0.17.4 calls what is no name to it.
const NO_NAME: &str = "unqualified name";

/// Reads the answer to [`show_request`]: its status and its body.
#[must_use]
pub fn read_shown(status: u16, body: &[u8]) -> Whereabouts {
    let is_ollamas = || object::<Said>(body).is_some();
    let is_no_name = || object::<Said>(body).is_some_and(|said| said.error.starts_with(NO_NAME));
    match status {
        200 => match object::<Shown>(body) {
            Some(Shown { remote_host, remote_model }) => {
                let is_remote = [remote_host, remote_model].into_iter().flatten().any(|text| !text.is_empty());
                if is_remote { Whereabouts::Cloud } else { Whereabouts::Here }
            }
            None => Whereabouts::Unknown,
        },
        404 if is_ollamas() => Whereabouts::Missing,
        500 if is_no_name() => Whereabouts::Missing,
        // No such route: another server, which has no cloud of this kind.
        404 | 405 | 501 => Whereabouts::Here,
        // Its cloud is switched off, so that it doesn't say more of a model that runs there.
        403 if is_ollamas() => Whereabouts::Cloud,
        _ => Whereabouts::Unknown,
    }
}

#[derive(Deserialize)]
struct Aliases {
    #[serde(default)]
    aliases: Option<Vec<Alias>>,
}

#[derive(Deserialize)]
struct Alias {
    #[serde(rename = "alias")]
    name: String,
    target: String,
    #[serde(default)]
    prefix_matching: bool,
}

/// Reads the list of aliases: which model a name that is not installed stands for.
#[must_use]
pub fn read_aliases(status: u16, body: &[u8], name: &str) -> Whereabouts {
    match status {
        // Versions without aliases.
        404 | 405 | 501 => return Whereabouts::Missing,
        200 => {}
        _ => return Whereabouts::Unknown,
    }
    object::<Aliases>(body).map_or(Whereabouts::Unknown, |list| resolve(&list.aliases.unwrap_or_default(), name))
}

/// (A list would do for an object, by its places.)
fn object<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Option<T> {
    let is_object = body.trim_ascii_start().first() == Some(&b'{');
    is_object.then(|| serde_json::from_slice(body).ok()).flatten()
}

/// An alias of this very name comes first, then the longest that the name begins with; from there on by aliases of the very name.
fn resolve(aliases: &[Alias], name: &str) -> Whereabouts {
    let Some(name) = ModelName::read(name).as_alias() else { return Whereabouts::Missing };
    let exact = |name: &str| {
        let is_it = |entry: &&Alias| !entry.prefix_matching && ModelName::read(&entry.name).as_alias().as_deref() == Some(name);
        aliases.iter().find(is_it)
    };
    let prefixes = aliases.iter().filter(|entry| entry.prefix_matching && name.starts_with(&entry.name.to_lowercase()));
    let Some(mut entry) = exact(&name).or_else(|| prefixes.max_by_key(|entry| entry.name.len())) else { return Whereabouts::Missing };
    // One that leads in a circle leads nowhere; no other chain is longer than the list.
    for _ in 0..=aliases.len() {
        let Some(target) = ModelName::read(&entry.target).as_alias() else { return Whereabouts::Unknown };
        match exact(&target) {
            Some(next) => entry = next,
            None => return Whereabouts::Alias(entry.target.clone()),
        }
    }
    Whereabouts::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_of_a_model_is_read_and_what_is_not_understood_is_unknown() {
        for (status, body, place) in [
            (200, r#"{"details":{},"model_info":{}}"#, Whereabouts::Here),
            (200, r#"{"remote_host":"https://ollama.com:443","remote_model":"m"}"#, Whereabouts::Cloud),
            (200, r#"{"remote_model":"m"}"#, Whereabouts::Cloud),
            (200, r#"{"remote_host":""}"#, Whereabouts::Here),
            (200, r#"{"remote_host":7}"#, Whereabouts::Unknown),
            (200, r#"{"remote_host":"","remote_host":"x"}"#, Whereabouts::Unknown),
            (200, "<html>", Whereabouts::Unknown),
            (200, "[]", Whereabouts::Unknown),
            (403, r#"{"error":"ollama cloud is disabled"}"#, Whereabouts::Cloud),
            (403, "", Whereabouts::Unknown),
            (404, r#"{"error":"model 'x' not found"}"#, Whereabouts::Missing),
            (404, r#"{"detail":"Not Found"}"#, Whereabouts::Here),
            (404, r#"{"error":{"code":404,"message":"File Not Found"}}"#, Whereabouts::Here),
            (404, "404 page not found", Whereabouts::Here),
            (405, "", Whereabouts::Here),
            (401, r#"{"error":"x"}"#, Whereabouts::Unknown),
            (500, r#"{"error":"unqualified name: "}"#, Whereabouts::Missing),
            (500, r#"{"error":"out of memory"}"#, Whereabouts::Unknown),
            (301, "", Whereabouts::Unknown),
        ] {
            assert_eq!(read_shown(status, body.as_bytes()), place, "{status} {body}");
        }
    }

    #[test]
    fn a_name_is_resolved_as_the_server_resolves_it() {
        let list = r#"{"aliases":[
            {"alias":"fast","target":"calm:3b"},
            {"alias":"chain","target":"fast:latest"},
            {"alias":"a/b","target":"other/calm"},
            {"alias":"round","target":"about"},
            {"alias":"about","target":"round"},
            {"alias":"g","target":"leaky","prefix_matching":true},
            {"alias":"gpt-4","target":"Caller","prefix_matching":true},
            {"alias":"gpt-4o","target":"chain"}
        ]}"#;
        let alias = |target: &str| Whereabouts::Alias(target.into());
        for (name, place) in [
            ("fast", alias("calm:3b")),
            ("FAST:latest", alias("calm:3b")),
            ("http://registry.ollama.ai/library/fast", alias("calm:3b")),
            ("fast:1b", Whereabouts::Missing),
            ("chain", alias("calm:3b")),
            ("a/b", alias("other/calm")),
            ("round", Whereabouts::Unknown),
            ("glm", alias("leaky")),
            ("GPT-4-turbo:x", alias("Caller")),
            ("gpt-4o", alias("calm:3b")),
            ("gpt-4o:mini", alias("Caller")),
            (" fast", Whereabouts::Missing),
            ("calm", Whereabouts::Missing),
        ] {
            assert_eq!(read_aliases(200, list.as_bytes(), name), place, "{name}");
        }
        for (status, body, place) in [
            (200, r#"{"aliases":null}"#, Whereabouts::Missing),
            (200, "{}", Whereabouts::Missing),
            (200, "[]", Whereabouts::Unknown),
            (200, r#"{"aliases":[{"alias":1}]}"#, Whereabouts::Unknown),
            (404, "404 page not found", Whereabouts::Missing),
            (500, "{}", Whereabouts::Unknown),
        ] {
            assert_eq!(read_aliases(status, body.as_bytes(), "fast"), place, "{status} {body}");
        }
    }

    #[test]
    fn a_question_names_the_model_as_it_was_named() {
        assert_eq!(show_request(" C\"alm"), br#"{"model":" C\"alm"}"#);
    }
}
