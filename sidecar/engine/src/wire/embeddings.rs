//! Texts that a model turns into vectors: `/api/embed`, `/api/embeddings` and `/v1/embeddings`.
//!
//! The invariant: whatever is turned into a vector was judged, each text by itself, as the server embeds each by itself. Tokens in the
//! place of text, which nobody can judge and no version of the server takes, are refused.
//!
//! Source: ollama/ollama `api/types.go` (`EmbedRequest`, `EmbeddingRequest`) and `openai/openai.go` (`EmbedRequest`), versions 0.17.4 and
//! 0.33.0; OpenAI's API reference.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::edit::{self, Edit};
use super::fields::{DecodeError, Fields, Rest, body};
use super::json::{Json, write_array, write_string};
use super::tools::setting_texts;
use super::{Channel, Request, Text, Unreadable};

/// How a route calls its fields.
#[derive(Debug)]
pub(super) struct Names {
    /// What is embedded.
    text: &'static str,
    /// Whether there may be several.
    many: bool,
    /// Fields whose values only steer the model; text in them counts as the user's.
    settings: &'static [&'static str],
}

/// `POST /api/embed`
pub(super) const OLLAMA: Names = Names { text: "input", many: true, settings: &["truncate", "dimensions", "keep_alive", "options"] };
/// `POST /api/embeddings`
pub(super) const OLLAMA_ONE: Names = Names { text: "prompt", many: false, settings: &["keep_alive", "options"] };
/// `POST /v1/embeddings`
pub(super) const OPENAI: Names = Names { text: "input", many: true, settings: &["dimensions", "encoding_format", "user"] };

/// A request for vectors.
#[derive(Debug)]
pub(super) struct EmbedRequest {
    names: &'static Names,
    model: Option<String>,
    input: Option<Input>,
    settings: Vec<(&'static str, Json)>,
    unknown: Rest,
}

#[derive(Debug)]
enum Input {
    One(String),
    Many(Vec<String>),
}

impl Input {
    fn decode(json: Json, names: &Names) -> Result<Self, DecodeError> {
        let expected = if names.many { "a string or an array of strings" } else { "a string" };
        let wrong = || DecodeError::Type { path: names.text.into(), expected };
        match json {
            Json::String(text) => Ok(Self::One(text)),
            Json::Array(items) if names.many => {
                let texts = items.into_iter().enumerate().map(|(index, item)| match item {
                    Json::String(text) => Ok(text),
                    _ => Err(DecodeError::Type { path: String::new(), expected: "a string" }.at(index).within(names.text)),
                });
                Ok(Self::Many(texts.collect::<Result<_, _>>()?))
            }
            _ => Err(wrong()),
        }
    }

    fn texts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

impl EmbedRequest {
    pub(super) fn decode(json: Json, names: &'static Names) -> Result<Self, DecodeError> {
        let mut fields = Fields::open(json)?;
        Ok(Self {
            names,
            model: fields.string("model")?,
            input: fields.any(names.text).map(|input| Input::decode(input, names)).transpose()?,
            settings: fields.known(names.settings),
            unknown: fields.rest(),
        })
    }
}

impl Request for EmbedRequest {
    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    fn set_model(&mut self, model: &str) {
        self.model = Some(model.to_owned());
    }

    fn texts(&self, each: &mut dyn FnMut(Text<'_>)) {
        for text in self.input.iter().flat_map(Input::texts) {
            each(Text { channel: Channel::Document, message: None, also: &[], text: Cow::Borrowed(text) });
        }
        setting_texts(&self.settings, each);
        self.unknown.texts(each);
    }

    fn edit_texts(&mut self, edit: &mut Edit<'_>) {
        match &mut self.input {
            Some(Input::One(text)) => edit::text(text, edit),
            Some(Input::Many(texts)) => edit::texts(texts, edit),
            None => {}
        }
        edit::known(&mut self.settings, edit);
        self.unknown.edit(edit);
    }

    fn rests(&mut self, each: &mut dyn FnMut(&mut Rest)) {
        each(&mut self.unknown);
    }

    fn streams(&self) -> bool {
        false
    }

    fn unreadable(&self) -> Vec<Unreadable> {
        Vec::new()
    }

    fn dropped(&self) -> usize {
        0
    }

    fn encode(&self) -> Vec<u8> {
        body(|out| {
            out.string("model", self.model.as_deref());
            match &self.input {
                None => {}
                Some(Input::One(text)) => out.string(self.names.text, Some(text)),
                Some(Input::Many(texts)) => write_array(texts, out.field(self.names.text), |text, out| write_string(text, out)),
            }
            out.known(&self.settings);
            out.rest(&self.unknown);
        })
    }
}

/// Has all of an answer judged but its vectors: an object's `embedding` or `embeddings`, as numbers or in base64.
pub(crate) fn around_vectors(json: &mut Json, judge: impl FnOnce(&mut Json)) {
    let mut vectors = VecDeque::new();
    each_vector(json, &mut |value| vectors.push_back(is_vector(value).then(|| std::mem::replace(value, Json::Null))));
    judge(json);
    // Judging changes what stands at a place, and neither how many there are nor their order.
    each_vector(json, &mut |value| {
        if let Some(Some(vector)) = vectors.pop_front() {
            *value = vector;
        }
    });
}

/// Calls `each` for every place at which a vector would stand, in order.
fn each_vector(json: &mut Json, each: &mut dyn FnMut(&mut Json)) {
    match json {
        Json::Object(entries) => {
            for (key, value) in entries {
                match key.as_str() {
                    "embedding" | "embeddings" => each(value),
                    _ => each_vector(value, each),
                }
            }
        }
        Json::Array(items) => items.iter_mut().for_each(|item| each_vector(item, each)),
        _ => {}
    }
}

/// Numbers, rows of them, or 32-bit numbers in base64.
fn is_vector(json: &Json) -> bool {
    match json {
        Json::Array(items) => items.iter().all(|item| matches!(item, Json::Number(_)) || matches!(item, Json::Array(_)) && is_vector(item)),
        Json::String(text) => {
            let digits = text.trim_end_matches('=');
            let bytes = digits.len() * 6 / 8;
            text.len() % 4 == 0 && bytes % 4 == 0 && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Body, decode_request};

    const BODIES: [Body; 3] = [Body::OllamaEmbed, Body::OllamaEmbeddings, Body::OpenAiEmbeddings];

    fn encoded(body: Body, text: &str) -> String {
        String::from_utf8(decode_request(body, text.as_bytes()).unwrap().encode()).unwrap()
    }

    fn seen(body: Body, text: &str) -> Vec<(Channel, String)> {
        let mut seen = Vec::new();
        decode_request(body, text.as_bytes()).unwrap().texts(&mut |text| seen.push((text.channel, text.text.into_owned())));
        seen
    }

    #[test]
    fn a_request_survives() {
        for (body, text) in [
            (Body::OllamaEmbed, r#"{"model":"m","input":"a","truncate":true,"dimensions":3,"keep_alive":"5m","options":{"num_ctx":9}}"#),
            (Body::OllamaEmbed, r#"{"model":"m","input":["a","b"]}"#),
            (Body::OllamaEmbed, r#"{"model":"m","input":[]}"#),
            (Body::OllamaEmbeddings, r#"{"model":"m","prompt":"a","keep_alive":0}"#),
            (Body::OpenAiEmbeddings, r#"{"model":"m","input":["a"],"dimensions":3,"encoding_format":"base64","user":"u"}"#),
            (Body::OpenAiEmbeddings, r#"{"model":"m"}"#),
        ] {
            assert_eq!(encoded(body, text), text);
        }
    }

    #[test]
    fn each_text_is_judged_by_itself_as_a_document() {
        let document = |text: &str| (Channel::Document, text.to_owned());
        assert_eq!(seen(Body::OllamaEmbed, r#"{"input":["a","b"]}"#), [document("a"), document("b")]);
        assert_eq!(seen(Body::OllamaEmbeddings, r#"{"Prompt":"a"}"#), [document("a")]);
        assert_eq!(seen(Body::OpenAiEmbeddings, r#"{"input":"a","user":"u"}"#), [document("a"), (Channel::User, "u".into())]);
    }

    #[test]
    fn what_is_no_text_is_refused_by_its_place() {
        for (body, text, said) in [
            (Body::OllamaEmbed, r#"{"input":[1,2]}"#, "input[0] must be a string"),
            (Body::OpenAiEmbeddings, r#"{"input":["a",[1]]}"#, "input[1] must be a string"),
            (Body::OpenAiEmbeddings, r#"{"input":{"text":"a"}}"#, "input must be a string or an array of strings"),
            (Body::OllamaEmbeddings, r#"{"prompt":["a"]}"#, "prompt must be a string"),
        ] {
            assert_eq!(decode_request(body, text.as_bytes()).unwrap_err().to_string(), said, "{text}");
        }
    }

    #[test]
    fn unknown_fields_are_texts_of_the_users_until_they_are_taken_out() {
        for body in BODIES {
            let text = r#"{"model":"m","text":"a","images":["x"]}"#;
            let mut request = decode_request(body, text.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(request.encode()).unwrap(), text);
            assert_eq!(seen(body, text), [(Channel::User, "text\na".into()), (Channel::User, "images\nx".into())]);
            request.rests(&mut |rest| rest.retain(&mut |name| name == "text"));
            assert_eq!(String::from_utf8(request.encode()).unwrap(), r#"{"model":"m","text":"a"}"#);
        }
    }

    #[test]
    fn all_but_vectors_is_judged() {
        let answer = r#"{"model":"m","embeddings":[[0.1,-2],[3]],"data":[{"embedding":"AACAPwAAAEA=","index":0},{"embedding":"text","object":"o"},{"embedding":[1,"x"]}],"note":"n"}"#;
        let mut json = Json::read(answer.as_bytes()).unwrap();
        let mut seen = Vec::new();
        around_vectors(&mut json, |json| {
            json.each_text_mut(&mut |text| {
                seen.push(text.clone());
                if seen.last().is_some_and(|seen| seen == "n") {
                    *text = "-".into();
                }
            });
        });
        // Four letters are base64 of three bytes, which is no vector of 32-bit numbers.
        let judged = [
            "model",
            "m",
            "embeddings",
            "data",
            "embedding",
            "index",
            "0",
            "embedding",
            "text",
            "object",
            "o",
            "embedding",
            "1",
            "x",
            "note",
            "n",
        ];
        assert_eq!(seen, judged);
        let Json::Object(entries) = &json else { panic!("{json:?}") };
        assert_eq!(entries[1].1, Json::read(b"[[0.1,-2],[3]]").unwrap());
    }
}
