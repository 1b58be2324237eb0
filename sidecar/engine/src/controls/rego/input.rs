//! What rules get to see of a request: the document `input`. Its schema is `schema/rego-input.v1alpha1.json`.

use std::collections::BTreeMap;

use regorus::Value;

use crate::controls::Asked;
use crate::wire::{Channel, Family, MessageIndex, Text};

/// About how many tokens a text is: four characters of ASCII make one, and each other character is one. No tokenizer is the same for
/// all models; this one is the same everywhere, and rather too high than too low.
pub(super) fn tokens(text: &str) -> u64 {
    let characters = text.chars().count() as u64;
    let ascii = text.bytes().filter(u8::is_ascii).count() as u64;
    (characters - ascii) + ascii.div_ceil(4)
}

const fn channel(channel: Channel) -> &'static str {
    match channel {
        Channel::System => "system",
        Channel::User => "user",
        Channel::Assistant => "assistant",
        Channel::ToolResult => "tool_result",
        Channel::ToolDefinition => "tool_definition",
        Channel::Document => "document",
    }
}

const fn family(family: Family) -> &'static str {
    match family {
        Family::Ollama => "ollama",
        Family::OpenAi => "openai",
        Family::Anthropic => "anthropic",
    }
}

/// Whether a text was said before, piece by piece: servers join some, and what looks for phrases has to see them joined.
fn is_joined(text: &Text<'_>) -> bool {
    text.message == Some(MessageIndex::JOINED) || text.channel.is_data() && !text.also.is_empty()
}

fn object<const N: usize>(members: [(&'static str, Value); N]) -> BTreeMap<Value, Value> {
    members.into_iter().map(|(name, value)| (Value::from(name), value)).collect()
}

/// The document, and how many bytes its texts have.
pub(super) fn of(asked: &Asked<'_>) -> (Value, u64) {
    let (mut messages, mut bytes, mut all) = (Vec::new(), 0, 0);
    let names = ["channel", "text", "bytes", "tokens"].map(Value::from);
    asked.request.texts(&mut |text| {
        if is_joined(&text) {
            return;
        }
        let tokens = tokens(&text.text);
        bytes += text.text.len() as u64;
        all += tokens;
        let values =
            [Value::from(channel(text.channel)), Value::from(&*text.text), Value::from(text.text.len() as u64), Value::from(tokens)];
        messages.push(Value::from(names.iter().cloned().zip(values).collect::<BTreeMap<_, _>>()));
    });
    let tools: Vec<Value> = asked.request.tools().into_iter().map(Value::from).collect();
    let counts = object([
        ("messages", Value::from(messages.len() as u64)),
        ("tools", Value::from(tools.len() as u64)),
        ("bytes", Value::from(bytes)),
    ]);
    let route = object([
        ("path", Value::from(asked.route.pattern)),
        ("class", Value::from(asked.route.class.name())),
        ("api", Value::from(family(asked.route.family))),
    ]);
    let mut document = object([
        ("caller", object([("over_loopback", Value::from(asked.caller.over_loopback))]).into()),
        ("counts", counts.into()),
        ("messages", messages.into()),
        ("route", route.into()),
        ("streams", Value::from(asked.request.streams())),
        ("tokens", Value::from(all)),
        ("tools", tools.into()),
    ]);
    let segment = asked.segment.filter(|_| asked.route.pattern.ends_with(":model"));
    if let Some(model) = asked.request.model().or(segment) {
        document.insert(Value::from("model"), Value::from(model));
    }
    if let Some(window) = asked.request.window() {
        document.insert(Value::from("window"), Value::from(window));
    }
    (document.into(), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controls::Caller;
    use crate::wire::decode_request;
    use crate::wire::routes::{self, Lookup};

    fn document(path: &str, body: &str) -> serde_json::Value {
        let Lookup::Found(route, segment) = routes::find("POST", path) else { panic!("{path}") };
        let request = decode_request(route.body, body.as_bytes()).unwrap();
        let asked = Asked { route, segment: segment.as_deref(), request: &*request, caller: Caller { over_loopback: true } };
        serde_json::from_str(&of(&asked).0.to_json_str().unwrap()).unwrap()
    }

    #[test]
    fn each_text_stands_there_once_with_its_channel() {
        let body = r#"{"model":"m","stream":false,"messages":[
            {"role":"system","content":"s1"},{"role":"user","content":"u"},{"role":"system","content":"s2"},
            {"role":"function","content":"t1"},{"role":"function","content":"t2"}],
            "tools":[{"type":"function","function":{"name":"f","description":"d"}}],"options":{"num_ctx":4096}}"#;
        let input = document("/api/chat", body);
        let said: Vec<_> =
            input["messages"].as_array().unwrap().iter().map(|m| (m["channel"].as_str().unwrap(), m["text"].as_str().unwrap())).collect();
        for one in [("system", "s1"), ("user", "u"), ("system", "s2"), ("tool_result", "t1"), ("tool_result", "t2")] {
            assert_eq!(said.iter().filter(|said| **said == one).count(), 1, "{one:?} {said:?}");
        }
        assert!(!said.iter().any(|(_, text)| text.contains("s1\n\ns2") || text.contains("t1\n\nt2")), "{said:?}");
        assert_eq!(input["tools"], serde_json::json!(["f"]));
        assert_eq!((&input["window"], &input["streams"]), (&4096.into(), &false.into()));
        assert_eq!(input["route"], serde_json::json!({"path": "/api/chat", "class": "inference", "api": "ollama"}));
        assert_eq!(input["counts"]["messages"], said.len());
    }

    #[test]
    fn tokens_are_estimated_rather_too_high() {
        for (text, expected) in [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("日本語", 3), ("aé", 2)] {
            assert_eq!(tokens(text), expected, "{text}");
        }
    }

    /// What a value has that the schema doesn't, or the other way round.
    fn misfit(value: &serde_json::Value, schema: &serde_json::Value, at: &str) -> Option<String> {
        if let Some(options) = schema["enum"].as_array() {
            return (!options.contains(value)).then(|| format!("{at}: {value}"));
        }
        match schema["type"].as_str() {
            Some("object") => {
                let (members, properties) = (value.as_object()?, schema["properties"].as_object()?);
                let missing =
                    schema["required"].as_array()?.iter().filter_map(|name| name.as_str()).find(|name| !members.contains_key(*name));
                missing.map(|name| format!("{at}.{name} is missing")).or_else(|| {
                    members.iter().find_map(|(name, value)| match properties.get(name) {
                        Some(schema) => misfit(value, schema, &format!("{at}.{name}")),
                        None => Some(format!("{at}.{name} isn't in the schema")),
                    })
                })
            }
            Some("array") => value.as_array()?.iter().find_map(|item| misfit(item, &schema["items"], at)),
            Some("string") => (!value.is_string()).then(|| format!("{at}: {value}")),
            Some("integer") => (!value.is_u64()).then(|| format!("{at}: {value}")),
            Some("boolean") => (!value.is_boolean()).then(|| format!("{at}: {value}")),
            other => Some(format!("{at}: nobody knows {other:?}")),
        }
    }

    #[test]
    fn documents_are_as_their_schema_says() {
        let schema: serde_json::Value = serde_json::from_str(crate::policy::REGO_INPUT_SCHEMA).unwrap();
        for (path, body) in [
            (
                "/api/chat",
                r#"{"model":"m","messages":[{"role":"system","content":"s"},{"role":"tool","content":"t"}],"options":{"num_ctx":9}}"#,
            ),
            ("/api/generate", r#"{"model":"m","prompt":"p","system":"s"}"#),
            ("/api/embed", r#"{"model":"m","input":["a","b"]}"#),
            (
                "/v1/chat/completions",
                r#"{"messages":[{"role":"assistant","content":"a"}],"tools":[{"type":"function","function":{"name":"f"}}]}"#,
            ),
            ("/v1/messages", r#"{"model":"m","max_tokens":1,"system":"s","messages":[{"role":"user","content":"u"}]}"#),
            ("/v1/responses", r#"{"model":"m","input":"u","instructions":"i"}"#),
            ("/api/pull", r#"{"model":"m"}"#),
        ] {
            let input = document(path, body);
            assert_eq!(misfit(&input, &schema, "input"), None, "{path}");
        }
        assert!(misfit(&serde_json::json!({"caller": {}}), &schema, "input").is_some());
    }
}
