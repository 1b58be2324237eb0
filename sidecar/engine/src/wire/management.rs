//! Requests that name models or change the server: show, pull, push, create, copy, delete, aliases, and Ollama's own look into the web.
//!
//! The invariant: every model that such a request names is known to the controls, whatever the field is called, and a field that would
//! change what a request means (another registry's password, plain HTTP, a server elsewhere) never goes on.
//!
//! Source: ollama/ollama `api/types.go` and `server/routes_aliases.go`, versions 0.17.4 and 0.33.0.

use std::borrow::Cow;

use super::edit::{self, Edit};
use super::fields::{DecodeError, Fields, Rest, body};
use super::json::{Json, names_field};
use super::ollama;
use super::tools::{bytes_in, setting_texts};
use super::{Channel, Opaque, Request, Text, Unreadable};

/// How the fields of a request are called.
#[derive(Debug)]
pub(super) struct Names {
    /// Fields that name a model, each with the other name that it goes by.
    models: &'static [(&'static str, Option<&'static str>)],
    /// Fields in which text stands, and whose it is.
    texts: &'static [(&'static str, Channel)],
    /// Fields that are true or false.
    switches: &'static [&'static str],
    /// Fields that say nothing; what text there is in them counts as the user's.
    settings: &'static [&'static str],
    /// Fields of which a value that says anything never goes on.
    refused: &'static [&'static str],
    /// Whether the answer is a stream where nothing else is asked for.
    streams: bool,
}

const MODEL: &[(&str, Option<&str>)] = &[("model", Some("name"))];
/// The field of [`CREATE`] that holds a conversation.
const MESSAGES: &str = "messages";
const LOGIN: &[&str] = &["insecure", "username", "password"];

/// `POST /api/show`
pub(super) const SHOW: Names =
    Names { models: MODEL, texts: &[], switches: &["verbose"], settings: &[], refused: &["system", "template", "options"], streams: false };
/// `POST /api/pull`. An `insecure` one would fetch over plain HTTP.
pub(super) const PULL: Names = Names { models: MODEL, texts: &[], switches: &["stream"], settings: &[], refused: LOGIN, streams: true };
/// `POST /api/push`
pub(super) const PUSH: Names = PULL;
/// `DELETE /api/delete`
pub(super) const DELETE: Names = Names { models: MODEL, texts: &[], switches: &[], settings: &[], refused: &[], streams: false };
/// `POST /api/copy`
pub(super) const COPY: Names =
    Names { models: &[("source", None), ("destination", None)], texts: &[], switches: &[], settings: &[], refused: &[], streams: false };
/// `POST /api/create`. With a `remote_host` the model would run elsewhere.
pub(super) const CREATE: Names = Names {
    models: &[("model", Some("name")), ("from", None)],
    texts: &[
        ("system", Channel::System),
        ("template", Channel::System),
        (MESSAGES, Channel::System),
        ("parameters", Channel::System),
        ("license", Channel::Document),
    ],
    switches: &["stream"],
    settings: &["quantize", "quantization", "files", "adapters", "renderer", "parser", "requires", "info"],
    refused: &["remote_host"],
    streams: true,
};
/// `POST /api/experimental/aliases`. One that fits every name with a beginning would stand for models that nobody has named.
pub(super) const ALIAS: Names = Names {
    models: &[("alias", None), ("target", None)],
    texts: &[],
    switches: &[],
    settings: &[],
    refused: &["prefix_matching"],
    streams: false,
};
/// `DELETE /api/experimental/aliases`
pub(super) const NO_ALIAS: Names =
    Names { models: &[("alias", None)], texts: &[], switches: &[], settings: &[], refused: &[], streams: false };
/// `POST /api/experimental/web_search`
pub(super) const WEB_SEARCH: Names =
    Names { models: &[], texts: &[("query", Channel::User)], switches: &[], settings: &["max_results"], refused: &[], streams: false };
/// `POST /api/experimental/web_fetch`
pub(super) const WEB_FETCH: Names =
    Names { models: &[], texts: &[("url", Channel::User)], switches: &[], settings: &[], refused: &[], streams: false };

/// A request of one of these routes.
#[derive(Debug)]
pub(super) struct ManagementRequest {
    names: &'static Names,
    models: Vec<(&'static str, String)>,
    texts: Vec<(&'static str, Channel, Json)>,
    switches: Vec<(&'static str, bool)>,
    settings: Vec<(&'static str, Json)>,
    refused: Vec<Unreadable>,
    streams: bool,
    unknown: Rest,
}

/// A value that means the same as none.
fn says_nothing(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(false) => true,
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(entries) => entries.is_empty(),
        Json::Bool(true) | Json::Number(_) => false,
    }
}

/// Edits a message of a conversation, but for its pictures and the name of a tool.
fn edit_message(message: &mut Json, edit: &mut Edit<'_>) {
    let Json::Object(members) = message else { return edit::tree(message, edit) };
    let is_kept = |name: &str| ["images", "role", "tool_name", "tool_call_id"].iter().any(|kept| names_field(name, kept));
    members.iter_mut().filter(|(name, _)| !is_kept(name)).for_each(|(_, value)| edit::tree(value, edit));
}

impl ManagementRequest {
    pub(super) fn decode(json: Json, names: &'static Names) -> Result<Self, DecodeError> {
        let mut fields = Fields::open(json)?;
        let mut models = Vec::with_capacity(names.models.len());
        for (name, other) in names.models {
            let first = fields.string(name)?.filter(|model| !model.is_empty());
            let second = other.map(|other| fields.string(other)).transpose()?.flatten().filter(|model| !model.is_empty());
            if let (Some(one), Some(two)) = (&first, &second)
                && one != two
            {
                // Servers prefer one of the two, and not all the same.
                return Err(DecodeError::Type { path: other.unwrap_or_default().into(), expected: "the same as model" });
            }
            models.extend(first.or(second).map(|model| (*name, model)));
        }
        let refused = fields.known(names.refused).into_iter().filter(|(_, value)| !says_nothing(value));
        let refused = refused.map(|(name, value)| {
            let bytes = bytes_in(std::slice::from_ref(&value));
            Unreadable { is: Opaque::Never, path: name.into(), bytes }
        });
        let refused = refused.collect();
        let texts: Vec<(&str, Channel, Json)> =
            names.texts.iter().filter_map(|(name, channel)| Some((*name, *channel, fields.any(name)?))).collect();
        if let Some((name, _, messages)) = texts.iter().find(|(name, ..)| *name == MESSAGES) {
            ollama::check_messages(messages).map_err(|error| error.within(name))?;
        }
        let mut switches = Vec::with_capacity(names.switches.len());
        for name in names.switches {
            switches.extend(fields.bool(name)?.map(|value| (*name, value)));
        }
        let settings = fields.known(names.settings);
        let streams = names.streams && !switches.contains(&("stream", false));
        Ok(Self { names, models, texts, switches, settings, refused, streams, unknown: fields.rest() })
    }
}

impl Request for ManagementRequest {
    fn model(&self) -> Option<&str> {
        let (own, _) = self.names.models.first()?;
        self.models.iter().find(|(name, _)| name == own).map(|(_, model)| model.as_str())
    }

    fn models(&self) -> Vec<&str> {
        self.models.iter().map(|(_, model)| model.as_str()).collect()
    }

    fn set_model(&mut self, model: &str) {
        let Some((own, _)) = self.names.models.first() else { return };
        self.models.retain(|(name, _)| name != own);
        self.models.insert(0, (own, model.to_owned()));
    }

    fn texts(&self, each: &mut dyn FnMut(Text<'_>)) {
        for (_, channel, value) in &self.texts {
            value.each_text(&mut |text| each(Text { channel: *channel, message: None, also: &[], text: Cow::Borrowed(text) }));
        }
        setting_texts(&self.settings, each);
        self.unknown.texts(each);
    }

    fn edit_texts(&mut self, edit: &mut Edit<'_>) {
        for (name, _, value) in &mut self.texts {
            match value {
                Json::Array(messages) if *name == MESSAGES => messages.iter_mut().for_each(|message| edit_message(message, edit)),
                value => edit::tree(value, edit),
            }
        }
        edit::known(&mut self.settings, edit);
        self.unknown.edit(edit);
    }

    fn streams(&self) -> bool {
        self.streams
    }

    fn unreadable(&self) -> Vec<Unreadable> {
        self.refused.clone()
    }

    fn rests(&mut self, each: &mut dyn FnMut(&mut Rest)) {
        each(&mut self.unknown);
    }

    fn dropped(&self) -> usize {
        0
    }

    fn encode(&self) -> Vec<u8> {
        body(|out| {
            for (name, model) in &self.models {
                out.string(name, Some(model));
            }
            for (name, _, value) in &self.texts {
                out.put(name, value);
            }
            for (name, value) in &self.switches {
                out.bool(name, Some(*value));
            }
            out.known(&self.settings);
            out.rest(&self.unknown);
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::wire::{Body, Channel, decode_request};

    fn encoded(body: Body, text: &str) -> String {
        String::from_utf8(decode_request(body, text.as_bytes()).unwrap().encode()).unwrap()
    }

    #[test]
    fn two_names_of_a_model_that_differ_are_refused() {
        assert!(decode_request(Body::OllamaShow, br#"{"model":"a","name":"b"}"#).is_err());
        assert_eq!(encoded(Body::OllamaShow, r#"{"name":"b"}"#), r#"{"model":"b"}"#);
        assert_eq!(encoded(Body::OllamaDelete, r#"{"name":"b","model":"b"}"#), r#"{"model":"b"}"#);
    }

    #[test]
    fn a_switch_says_nothing() {
        for (body, text) in
            [(Body::OllamaShow, r#"{"model":"m","verbose":{"x":"y"}}"#), (Body::OllamaPull, r#"{"model":"m","stream":"y"}"#)]
        {
            assert!(decode_request(body, text.as_bytes()).unwrap_err().to_string().ends_with(" must be true or false"), "{text}");
        }
        assert_eq!(encoded(Body::OllamaShow, r#"{"model":"m","verbose":false}"#), r#"{"model":"m","verbose":false}"#);
    }

    #[test]
    fn every_model_that_is_named_is_known() {
        for (body, text, expected) in [
            (Body::OllamaCopy, r#"{"source":"a","destination":"b"}"#, &["a", "b"][..]),
            (Body::OllamaCreate, r#"{"model":"a","from":"b","system":"s"}"#, &["a", "b"]),
            (Body::OllamaAlias, r#"{"alias":"a","target":"b","prefix_matching":false}"#, &["a", "b"]),
            (Body::OllamaNoAlias, r#"{"alias":"a"}"#, &["a"]),
            (Body::OllamaPush, r#"{"name":"a"}"#, &["a"]),
            (Body::OllamaWebFetch, r#"{"url":"u"}"#, &[]),
        ] {
            assert_eq!(decode_request(body, text.as_bytes()).unwrap().models(), expected, "{text}");
        }
    }

    #[test]
    fn a_model_that_is_made_is_not_taken_for_the_one_that_it_is_made_of() {
        let mut request = decode_request(Body::OllamaCreate, br#"{"from":"b"}"#).unwrap();
        assert_eq!((request.model(), request.models()), (None, vec!["b"]));
        request.set_model("a");
        assert_eq!(String::from_utf8(request.encode()).unwrap(), r#"{"model":"a","from":"b"}"#);
    }

    #[test]
    fn what_a_model_is_made_of_is_read() {
        let text = r#"{"model":"a","system":"one","template":"two","messages":[{"role":"user","content":"three"}],"license":["four"]}"#;
        let request = decode_request(Body::OllamaCreate, text.as_bytes()).unwrap();
        let mut seen = Vec::new();
        request.texts(&mut |text| seen.push((text.channel, text.text.into_owned())));
        for (channel, expected) in
            [(Channel::System, "one"), (Channel::System, "two"), (Channel::System, "three"), (Channel::Document, "four")]
        {
            assert!(seen.contains(&(channel, expected.to_owned())), "{seen:?}");
        }
        assert_eq!(encoded(Body::OllamaCreate, text), text);
    }

    #[test]
    fn a_conversation_that_a_model_is_made_with_is_read_in_one_way() {
        for (messages, path) in [
            (r#"[{"role":"user","content":"a","Content":"b"}]"#, "messages[0]"),
            (r#"[{"role":"user"},{"tool_calls":[{"function":{"name":"a","Name":"b"}}]}]"#, "messages[1].tool_calls[0].function"),
            (r#"{"role":"user"}"#, "messages must be an array"),
            (r#"[{"role":7}]"#, "messages[0].role must be a string"),
        ] {
            let error = decode_request(Body::OllamaCreate, format!(r#"{{"model":"m","messages":{messages}}}"#).as_bytes()).unwrap_err();
            assert!(error.to_string().contains(path), "{messages}: {error}");
        }
    }

    #[test]
    fn a_field_that_changes_what_a_request_means_is_named() {
        for (body, text, path) in [
            (Body::OllamaPull, r#"{"model":"a","insecure":true}"#, Some("insecure")),
            (Body::OllamaPull, r#"{"model":"a","insecure":false,"username":""}"#, None),
            (Body::OllamaCreate, r#"{"model":"a","remote_host":"http://x"}"#, Some("remote_host")),
            (Body::OllamaAlias, r#"{"alias":"a","target":"b","prefix_matching":true}"#, Some("prefix_matching")),
        ] {
            let paths: Vec<String> =
                decode_request(body, text.as_bytes()).unwrap().unreadable().into_iter().map(|part| part.path).collect();
            assert_eq!(paths.first().map(String::as_str), path, "{text}");
        }
    }
}
