//! The APIs as a server and a client of them speak: what a test's server answers, and what its client reads out of an
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
    /// `/v1/completions`
    Completion,
    /// `/v1/responses`
    Responses,
    /// `/v1/messages`
    Messages,
}

impl Api {
    /// Those that most tests ask: one of each framing.
    pub const ALL: [Self; 3] = [Self::Chat, Self::Generate, Self::OpenAi];
    /// All of them.
    pub const EVERY: [Self; 6] = [Self::Chat, Self::Generate, Self::OpenAi, Self::Completion, Self::Responses, Self::Messages];

    /// Its path.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/api/chat",
            Self::Generate => "/api/generate",
            Self::OpenAi => "/v1/chat/completions",
            Self::Completion => "/v1/completions",
            Self::Responses => "/v1/responses",
            Self::Messages => "/v1/messages",
        }
    }

    /// The API of a path.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        Self::EVERY.into_iter().find(|api| api.path() == path)
    }

    /// The body of a request.
    #[must_use]
    pub fn request(self, prompt: &str, stream: bool) -> Vec<u8> {
        self.request_of("m", prompt, stream)
    }

    /// The body of a request to a model.
    #[must_use]
    pub fn request_of(self, model: &str, prompt: &str, stream: bool) -> Vec<u8> {
        let said = json!([{"role": "user", "content": prompt}]);
        let document = match self {
            Self::Generate | Self::Completion => json!({"model": model, "prompt": prompt, "stream": stream}),
            Self::Chat | Self::OpenAi => json!({"model": model, "messages": said, "stream": stream}),
            Self::Responses => json!({"model": model, "input": prompt, "stream": stream}),
            Self::Messages => json!({"model": model, "messages": said, "max_tokens": 1000, "stream": stream}),
        };
        document.to_string().into_bytes()
    }

    /// The content type of an answer.
    #[must_use]
    pub const fn content_type(self, stream: bool) -> &'static str {
        match (self, stream) {
            (Self::Chat | Self::Generate, true) => "application/x-ndjson",
            (Self::Chat | Self::Generate, false) => "application/json; charset=utf-8",
            (_, true) => "text/event-stream",
            (_, false) => "application/json",
        }
    }

    /// A JSON text as a frame of a stream.
    #[must_use]
    pub fn framed(self, json: &str) -> Vec<u8> {
        match self {
            Self::Chat | Self::Generate => format!("{json}\n").into_bytes(),
            Self::OpenAi | Self::Completion => format!("data: {json}\n\n").into_bytes(),
            Self::Responses | Self::Messages => {
                let kind = serde_json::from_str::<Value>(json).ok().and_then(|value| Some(value["type"].as_str()?.to_owned()));
                let event = kind.map(|kind| format!("event: {kind}\n")).unwrap_or_default();
                format!("{event}data: {json}\n\n").into_bytes()
            }
        }
    }

    fn all_framed(self, documents: &[Value]) -> Vec<u8> {
        documents.iter().flat_map(|document| self.framed(&document.to_string())).collect()
    }

    /// What begins a stream.
    #[must_use]
    pub fn begin(self) -> Vec<u8> {
        match self {
            Self::Chat | Self::Generate | Self::OpenAi | Self::Completion => Vec::new(),
            Self::Responses => self.all_framed(&[
                json!({"type": "response.created", "sequence_number": 0,
                    "response": {"id": "r", "object": "response", "status": "in_progress", "model": "m", "output": []}}),
                json!({"type": "response.output_item.added", "sequence_number": 1, "output_index": 0,
                    "item": {"id": "i", "type": "message", "status": "in_progress", "role": "assistant", "content": []}}),
                json!({"type": "response.content_part.added", "sequence_number": 2, "item_id": "i", "output_index": 0, "content_index": 0,
                    "part": {"type": "output_text", "text": "", "annotations": []}}),
            ]),
            Self::Messages => self.all_framed(&[
                json!({"type": "message_start", "message": {"id": "a", "type": "message", "role": "assistant", "model": "m", "content": [],
                    "usage": {"input_tokens": 1, "output_tokens": 0}}}),
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            ]),
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
            Self::Completion => json!({"id": "c", "object": "text_completion", "created": 1, "model": "m",
                "choices": [{"index": 0, "text": text, "finish_reason": null}]}),
            Self::Responses => json!({"type": "response.output_text.delta", "sequence_number": 3, "item_id": "i", "output_index": 0,
                "content_index": 0, "delta": text}),
            Self::Messages => json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
        };
        self.framed(&document.to_string())
    }

    /// What ends a stream that said nothing.
    #[must_use]
    pub fn end(self) -> Vec<u8> {
        self.end_of("")
    }

    /// What ends a stream that said this. The last frame of it is what a client waits for.
    #[must_use]
    pub fn end_of(self, text: &str) -> Vec<u8> {
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
            Self::Completion => {
                let last = json!({"id": "c", "object": "text_completion", "created": 1, "model": "m",
                    "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]});
                [self.framed(&last.to_string()), self.framed("[DONE]")].concat()
            }
            Self::Responses => {
                let part = json!({"type": "output_text", "text": text, "annotations": []});
                let item = json!({"id": "i", "type": "message", "status": "completed", "role": "assistant", "content": [part]});
                let place = json!({"item_id": "i", "output_index": 0, "content_index": 0});
                let with = |mut event: Value| {
                    for (name, value) in place.as_object().into_iter().flatten() {
                        event[name] = value.clone();
                    }
                    event
                };
                self.all_framed(&[
                    with(json!({"type": "response.output_text.done", "sequence_number": 4, "text": text})),
                    with(json!({"type": "response.content_part.done", "sequence_number": 5, "part": part})),
                    json!({"type": "response.output_item.done", "sequence_number": 6, "output_index": 0, "item": item}),
                    json!({"type": "response.completed", "sequence_number": 7,
                        "response": {"id": "r", "object": "response", "status": "completed", "model": "m", "output": [item]}}),
                ])
            }
            Self::Messages => self.all_framed(&[
                json!({"type": "content_block_stop", "index": 0}),
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": 1}}),
                json!({"type": "message_stop"}),
            ]),
        }
    }

    /// A whole stream, frame by frame.
    #[must_use]
    pub fn stream(self, text: &str) -> Vec<Vec<u8>> {
        let pieces = pieces(text);
        let frames = pieces.iter().map(|piece| self.frame(piece));
        [self.begin()].into_iter().filter(|begin| !begin.is_empty()).chain(frames).chain([self.end_of(text)]).collect()
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
            Self::Completion => json!({"id": "c", "object": "text_completion", "created": 1, "model": "m",
                "choices": [{"index": 0, "text": text, "finish_reason": "stop"}]}),
            Self::Responses => json!({"id": "r", "object": "response", "status": "completed", "model": "m", "output": [
                {"id": "i", "type": "message", "status": "completed", "role": "assistant",
                    "content": [{"type": "output_text", "text": text, "annotations": []}]}]}),
            Self::Messages => json!({"id": "a", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
                "content": [{"type": "text", "text": text}], "usage": {"input_tokens": 1, "output_tokens": 1}}),
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
            Self::Completion => &["/choices/0/text"],
            // (The repetitions of a stream aren't what it says.)
            Self::Responses => &["/delta", "/output/0/content/0/text"],
            Self::Messages => &["/delta/text", "/content/0/text"],
        };
        let values = Self::values(body);
        let texts = values.iter().flat_map(|value| pointers.iter().filter_map(|pointer| value.pointer(pointer)?.as_str()));
        texts.collect()
    }

    /// Whether a client takes the answer for ended in the normal way.
    #[must_use]
    pub fn ends(self, body: &[u8], stream: bool) -> bool {
        match (self, stream) {
            (Self::OpenAi | Self::Completion, true) => String::from_utf8_lossy(body).lines().any(|line| line.trim() == "data: [DONE]"),
            (Self::OpenAi | Self::Completion, false) => Self::values(body).iter().any(|value| value.get("choices").is_some()),
            (Self::Responses, true) => {
                let ends = ["response.completed", "response.incomplete"];
                Self::values(body).iter().any(|value| ends.iter().any(|end| value["type"] == *end))
            }
            (Self::Responses, false) => Self::values(body).iter().any(|value| value.get("output").is_some()),
            (Self::Messages, true) => Self::values(body).iter().any(|value| value["type"] == "message_stop"),
            (Self::Messages, false) => Self::values(body).iter().any(|value| value.get("content").is_some()),
            (Self::Chat | Self::Generate, _) => Self::values(body).iter().any(|value| value["done"] == true),
        }
    }

    /// The error that an answer ends with, if its last value has the shape that this API gives to errors.
    #[must_use]
    pub fn error(self, body: &[u8]) -> Option<String> {
        let values = Self::values(body);
        let error = values.last()?.get("error")?;
        match self {
            Self::Messages => {
                let fits = values.last()?["type"] == "error" && error["type"].is_string() && error.as_object()?.len() == 2;
                error["message"].as_str().filter(|_| fits).map(str::to_owned)
            }
            Self::OpenAi | Self::Completion | Self::Responses => {
                let fields: Vec<&str> = error.as_object()?.keys().map(String::as_str).collect();
                let shape = ["code", "message", "param", "type"];
                let fits = fields.len() == shape.len() && shape.iter().all(|field| fields.contains(field)) && error["param"].is_null();
                error["message"].as_str().filter(|_| fits).map(str::to_owned)
            }
            Self::Chat | Self::Generate => error
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
    let pieces: Vec<&[u8]> = secret.as_bytes().windows(8).collect();
    let has = |bytes: &[u8]| pieces.iter().any(|piece| crate::raw::find(bytes, piece).is_some());
    has(body) || texts(body).iter().any(|text| has(text.as_bytes()))
}

/// What the texts of an answer's frames say when those at the same place are joined.
#[must_use]
pub fn texts(body: &[u8]) -> Vec<String> {
    let mut joined: Vec<(String, String)> = Vec::new();
    for value in Api::values(body) {
        collect(&value, String::new(), &mut joined);
    }
    joined.into_iter().map(|(_, text)| text).collect()
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
        for api in Api::EVERY {
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
