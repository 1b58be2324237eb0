//! Log-probabilities as a client reads them: what the tokens of a text say, joined.

use serde_json::Value;

/// What the tokens of a frame, or of a whole answer, say, by the channels of which they are. Each says the same by its bytes, where it has
/// any, and none has alternatives.
pub(super) fn said(frame: &Value) -> Vec<(String, String)> {
    let mut said = Vec::new();
    if frame["logprobs"].is_array() {
        let channel = if frame["message"].is_object() { "message.content" } else { "response" };
        said.push((channel.to_owned(), list(&frame["logprobs"])));
    }
    for choice in frame["choices"].as_array().into_iter().flatten() {
        let (index, logprobs) = (&choice["index"], &choice["logprobs"]);
        let is_text = choice["delta"].is_null() && choice["message"].is_null();
        for name in ["content", "refusal"] {
            said.push((format!("{index}.{}", if is_text { "text" } else { name }), list(&logprobs[name])));
        }
        assert!(logprobs["top_logprobs"].is_null(), "{choice}");
        let rows = logprobs["tokens"].as_array().into_iter().flatten();
        said.push((format!("{index}.text"), rows.map(|token| token.as_str().expect("a token is a text")).collect()));
    }
    said
}

fn list(tokens: &Value) -> String {
    let text = |token: &Value| {
        let text = token["token"].as_str().expect("a token is a text").to_owned();
        assert!(token["bytes"].is_null() || token["bytes"] == Value::from(text.as_bytes()), "{token}");
        assert!(token["top_logprobs"].as_array().is_none_or(Vec::is_empty), "{token}");
        text
    };
    tokens.as_array().into_iter().flatten().map(text).collect()
}

/// Whether a text begins with what tokens say. One of the bytes of a character may stand as U+FFFD.
pub(super) fn begin(tokens: &str, text: &str) -> bool {
    let mut rest = text.as_bytes();
    tokens.chars().all(|char| {
        let mut buffer = [0; 4];
        let bytes = char.encode_utf8(&mut buffer).as_bytes();
        let length = if rest.starts_with(bytes) {
            bytes.len()
        } else {
            usize::from(char == char::REPLACEMENT_CHARACTER && rest.first().is_some_and(|byte| !byte.is_ascii()))
        };
        rest = &rest[length..];
        length > 0
    })
}
