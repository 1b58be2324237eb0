//! The three APIs as a server and a client of them speak: what a test's server answers, and what its client reads out of an
//! answer. Made of JSON alone, so that nothing of the guard's own reading stands behind a test of it.

use serde_json::{Value, json};

/// An API for chats or completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// `/api/chat`
    Chat,
    /// `/api/generate`
    Generate,
    /// `/v1/chat/completions`
    OpenAi,
}

impl Api {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Chat, Self::Generate, Self::OpenAi];

    /// Its path.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/api/chat",
            Self::Generate => "/api/generate",
            Self::OpenAi => "/v1/chat/completions",
        }
    }

    /// The API of a path.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|api| api.path() == path)
    }

    /// The body of a request.
    #[must_use]
    pub fn request(self, prompt: &str, stream: bool) -> Vec<u8> {
        let document = match self {
            Self::Generate => json!({"model": "m", "prompt": prompt, "stream": stream}),
            Self::Chat | Self::OpenAi => json!({"model": "m", "messages": [{"role": "user", "content": prompt}], "stream": stream}),
        };
        document.to_string().into_bytes()
    }

    /// The content type of an answer.
    #[must_use]
    pub const fn content_type(self, stream: bool) -> &'static str {
        match (self, stream) {
            (Self::OpenAi, true) => "text/event-stream",
            (Self::OpenAi, false) => "application/json",
            (_, true) => "application/x-ndjson",
            (_, false) => "application/json; charset=utf-8",
        }
    }

    /// A JSON text as a frame of a stream.
    #[must_use]
    pub fn framed(self, json: &str) -> Vec<u8> {
        match self {
            Self::OpenAi => format!("data: {json}\n\n").into_bytes(),
            _ => format!("{json}\n").into_bytes(),
        }
    }

    /// A frame that says something.
    #[must_use]
    pub fn frame(self, text: &str) -> Vec<u8> {
        let time = "2026-01-01T00:00:00Z";
        let document = match self {
            Self::Chat => json!({"model": "m", "created_at": time, "message": {"role": "assistant", "content": text}, "done": false}),
            Self::Generate => json!({"model": "m", "created_at": time, "response": text, "done": false}),
            Self::OpenAi => json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
                "choices": [{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": null}]}),
        };
        self.framed(&document.to_string())
    }

    /// What ends a stream.
    #[must_use]
    pub fn end(self) -> Vec<u8> {
        let time = "2026-01-01T00:00:00Z";
        match self {
            Self::Chat => self.framed(
                &json!({"model": "m", "created_at": time, "message": {"role": "assistant", "content": ""}, "done": true, "done_reason": "stop", "eval_count": 1})
                    .to_string(),
            ),
            Self::Generate => {
                self.framed(&json!({"model": "m", "created_at": time, "response": "", "done": true, "done_reason": "stop", "eval_count": 1}).to_string())
            }
            Self::OpenAi => {
                let last = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
                    "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
                [self.framed(&last.to_string()), self.framed("[DONE]")].concat()
            }
        }
    }

    /// A whole answer.
    #[must_use]
    pub fn whole(self, text: &str) -> Vec<u8> {
        let time = "2026-01-01T00:00:00Z";
        let document = match self {
            Self::Chat => {
                json!({"model": "m", "created_at": time, "message": {"role": "assistant", "content": text}, "done": true, "done_reason": "stop", "eval_count": 1})
            }
            Self::Generate => {
                json!({"model": "m", "created_at": time, "response": text, "done": true, "done_reason": "stop", "eval_count": 1})
            }
            Self::OpenAi => json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}),
        };
        document.to_string().into_bytes()
    }

    /// The JSON values of an answer's body, streamed or not; what isn't JSON is left out.
    #[must_use]
    pub fn values(body: &[u8]) -> Vec<Value> {
        if let Ok(value) = serde_json::from_slice(body) {
            return vec![value];
        }
        let lines = body.split(|byte| matches!(byte, b'\n' | b'\r'));
        lines.filter_map(|line| serde_json::from_slice(line.strip_prefix(b"data:").unwrap_or(line)).ok()).collect()
    }

    /// What an answer says, joined.
    #[must_use]
    pub fn said(self, body: &[u8]) -> String {
        let pointers: &[&str] = match self {
            Self::Chat => &["/message/content"],
            Self::Generate => &["/response"],
            Self::OpenAi => &["/choices/0/delta/content", "/choices/0/message/content"],
        };
        let values = Self::values(body);
        let texts = values.iter().flat_map(|value| pointers.iter().filter_map(|pointer| value.pointer(pointer)?.as_str()));
        texts.collect()
    }

    /// Whether a client takes the answer for ended in the normal way.
    #[must_use]
    pub fn ends(self, body: &[u8], stream: bool) -> bool {
        match (self, stream) {
            (Self::OpenAi, true) => String::from_utf8_lossy(body).lines().any(|line| line.trim() == "data: [DONE]"),
            (Self::OpenAi, false) => Self::values(body).iter().any(|value| value.get("choices").is_some()),
            _ => Self::values(body).iter().any(|value| value["done"] == true),
        }
    }

    /// The error that an answer ends with, if its last value has the shape that this API gives to errors.
    #[must_use]
    pub fn error(self, body: &[u8]) -> Option<String> {
        let values = Self::values(body);
        let error = values.last()?.get("error")?;
        match self {
            Self::OpenAi => {
                let fields: Vec<&str> = error.as_object()?.keys().map(String::as_str).collect();
                let shape = ["code", "message", "param", "type"];
                let fits = fields.len() == shape.len() && shape.iter().all(|field| fields.contains(field)) && error["param"].is_null();
                error["message"].as_str().filter(|_| fits).map(str::to_owned)
            }
            _ => error
                .as_str()
                .filter(|_| values.last().and_then(Value::as_object).is_some_and(|fields| fields.len() == 1))
                .map(str::to_owned),
        }
    }
}

/// Whether an answer shows something of a secret: eight characters of it in a row, in the bytes as they are, or in what the texts
/// of its frames say when those at the same place are joined.
#[must_use]
pub fn shows(body: &[u8], secret: &str) -> bool {
    let mut joined: Vec<(String, String)> = Vec::new();
    for value in Api::values(body) {
        collect(&value, String::new(), &mut joined);
    }
    let pieces: Vec<&[u8]> = secret.as_bytes().windows(8).collect();
    let has = |bytes: &[u8]| pieces.iter().any(|piece| crate::raw::find(bytes, piece).is_some());
    has(body) || joined.iter().any(|(_, text)| has(text.as_bytes()))
}

fn collect(value: &Value, place: String, joined: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) => match joined.iter_mut().find(|(other, _)| *other == place) {
            Some((_, said)) => said.push_str(text),
            None => joined.push((place, text.clone())),
        },
        Value::Array(items) => items.iter().enumerate().for_each(|(index, item)| collect(item, format!("{place}/{index}"), joined)),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| collect(value, format!("{place}/{name}"), joined)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A text in pieces of three characters.
#[must_use]
pub fn pieces(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(3).map(|piece| piece.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_pieces_is_seen_in_every_api() {
        let secret = "abcdefghijklmnop";
        for api in Api::ALL {
            let body: Vec<u8> = pieces(secret).iter().flat_map(|piece| api.frame(piece)).collect();
            assert!(shows(&body, secret) && shows(&api.whole(secret), secret) && !shows(&api.whole("abcdefg"), secret), "{api:?}");
            assert_eq!(api.said(&body), secret);
            assert!(!api.ends(&body, true) && api.ends(&[body, api.end()].concat(), true) && api.ends(&api.whole(""), false));
            assert_eq!(api.error(&api.end()), None);
        }
        assert_eq!(Api::Chat.error(b"{\"done\":false}\n{\"error\":\"x\"}\n"), Some("x".into()));
        assert_eq!(Api::OpenAi.error(b"data: {\"error\":\"x\"}\n\n"), None);
        let error = b"data: {\"error\":{\"message\":\"x\",\"type\":\"t\",\"param\":null,\"code\":\"c\"}}\n\n";
        assert_eq!(Api::OpenAi.error(error), Some("x".into()));
    }
}
