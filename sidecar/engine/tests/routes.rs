//! `docs/routes.md` is what the routes do: its table is made here, by asking the engine, and a table that has grown old fails.
//!
//! With `LLM_GUARD_WRITE_DOCS=1` it is written anew.
//!
//! Where text stands is found out, not told: each text of a sample body is a mark, and the channel of a mark is the one in which the
//! engine says it.

use std::collections::BTreeMap;
use std::fmt::Write;

use llm_guard_engine::controls::{Caller, Policy};
use llm_guard_engine::exchange::{Exchange, Next, RequestHead};
use llm_guard_engine::policy::settings::Standing;
use llm_guard_engine::policy::{GuardPolicy, Mode};
use llm_guard_engine::wire::routes::ROUTES;
use llm_guard_engine::wire::{Body, Channel, Class, Family, Route, decode_request};
use serde_json::{Value, json};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/routes.md");

/// A body with a text, `@`, at each place where its API has one.
fn sample(body: Body) -> Value {
    let tool = json!({"type": "function", "function": {"name": "@", "description": "@", "parameters": {"type": "object", "properties": {"a": {"type": "string", "description": "@", "enum": ["@"]}}, "$defs": {"b": {"description": "@"}}}}});
    let call = |arguments: Value| json!([{"id": "@", "function": {"name": "@", "arguments": arguments}}]);
    match body {
        Body::None | Body::Raw => Value::Null,
        Body::OllamaChat => json!({
            "model": "@",
            "messages": [
                {"role": "system", "content": "@"},
                {"role": "user", "content": "@", "images": ["@"]},
                {"role": "assistant", "content": "@", "thinking": "@", "tool_calls": call(json!({"a": "@"}))},
                {"role": "tool", "content": "@", "tool_name": "@", "tool_call_id": "@"},
            ],
            "tools": [tool],
            "format": {"description": "@"},
            "options": {"stop": ["@"]},
            "keep_alive": "@",
            "think": "@",
        }),
        Body::OllamaGenerate => json!({
            "model": "@", "prompt": "@", "suffix": "@", "system": "@", "template": "@", "context": [1], "images": ["@"],
            "format": {"description": "@"}, "options": {"stop": ["@"]}, "keep_alive": "@", "think": "@",
        }),
        Body::OpenAiChat => json!({
            "model": "@",
            "messages": [
                {"role": "system", "content": "@"},
                {"role": "user", "name": "@", "content": [{"type": "text", "text": "@"}, {"type": "image_url", "image_url": {"url": "@"}}, {"type": "input_audio", "input_audio": {"data": "@"}}]},
                {"role": "assistant", "content": "@", "reasoning": "@", "tool_calls": call(json!("{\"a\":\"@\"}"))},
                {"role": "tool", "content": "@", "tool_call_id": "@"},
            ],
            "tools": [tool],
            "tool_choice": {"function": {"name": "@"}},
            "response_format": {"json_schema": {"schema": {"description": "@"}}},
            "stop": ["@"], "user": "@", "metadata": {"a": "@"},
        }),
        Body::OpenAiCompletion => json!({"model": "@", "prompt": "@", "suffix": "@", "stop": ["@"], "user": "@"}),
        Body::OpenAiResponses => json!({
            "model": "@", "instructions": "@",
            "input": [
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "@"}, {"type": "input_image", "image_url": "@"}]},
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "@"}], "encrypted_content": "@"},
                {"type": "function_call", "call_id": "@", "name": "@", "arguments": "{\"a\":\"@\"}"},
                {"type": "function_call_output", "call_id": "@", "output": "@"},
                {"type": "message", "role": "assistant", "content": "@"},
            ],
            "tools": [{"type": "function", "name": "@", "description": "@", "parameters": {"description": "@"}}, {"type": "namespace", "name": "@", "tools": [{"type": "function", "name": "@"}]}],
            "text": {"format": {"schema": {"description": "@"}}}, "user": "@", "metadata": {"a": "@"},
        }),
        Body::AnthropicMessages => json!({
            "model": "@", "max_tokens": 1, "system": [{"type": "text", "text": "@"}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "@"}, {"type": "image", "source": {"data": "@"}}]},
                {"role": "assistant", "content": [{"type": "thinking", "thinking": "@"}, {"type": "tool_use", "id": "@", "name": "@", "input": {"a": "@"}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "@", "content": [{"type": "text", "text": "@"}]}, {"type": "web_search_tool_result", "tool_use_id": "@", "content": [{"title": "@", "url": "@"}]}]},
            ],
            "tools": [{"name": "@", "description": "@", "input_schema": {"description": "@"}}],
            "stop_sequences": ["@"], "metadata": {"user_id": "@"},
        }),
        Body::OpenAiTranscription => json!({"model": "@", "prompt": "@", "language": "@", "response_format": "@", "file": "@"}),
        Body::OpenAiImages => json!({"model": "@", "prompt": "@", "image": "@", "user": "@"}),
        Body::OllamaEmbed => json!({"model": "@", "input": ["@"], "options": {"a": "@"}}),
        Body::OllamaEmbeddings => json!({"model": "@", "prompt": "@", "options": {"a": "@"}}),
        Body::OpenAiEmbeddings => json!({"model": "@", "input": ["@"], "user": "@"}),
        Body::OllamaShow | Body::OllamaPull | Body::OllamaPush | Body::OllamaDelete => json!({"model": "@"}),
        Body::OllamaCreate => json!({
            "model": "@", "from": "@", "system": "@", "template": "@", "license": "@",
            "messages": [{"role": "user", "content": "@"}], "parameters": {"stop": "@"}, "info": {"a": "@"},
        }),
        Body::OllamaCopy => json!({"source": "@", "destination": "@"}),
        Body::OllamaAlias => json!({"alias": "@", "target": "@"}),
        Body::OllamaNoAlias => json!({"alias": "@"}),
        Body::OllamaWebSearch => json!({"query": "@"}),
        Body::OllamaWebFetch => json!({"url": "@"}),
    }
}

/// The same as a form.
fn form(fields: &Value) -> String {
    let parts = fields.as_object().unwrap().iter().map(|(name, text)| {
        let file = if name == "file" { "; filename=\"a.wav\"" } else { "" };
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{}\r\n", text.as_str().unwrap())
    });
    parts.collect::<Vec<_>>().concat() + "--b--\r\n"
}

/// Puts a mark in the place of each `@`, and keeps where it stands.
fn mark(value: &mut Value, path: &str, marks: &mut Vec<(String, String)>) {
    let mut set = |text: &mut String| {
        let mark = format!("mark{}x", marks.len());
        *text = text.replace('@', &mark);
        marks.push((mark, path.to_owned()));
    };
    match value {
        Value::String(text) if text.contains('@') => set(text),
        Value::Array(items) => {
            for item in items {
                // What a turn is, is a part of where its text stands.
                let named = |item: &Value, name: &str| item[name].as_str().map(str::to_owned);
                let kind = named(item, "role").or_else(|| named(item, "type").filter(|kind| kind != "function")).unwrap_or_default();
                mark(item, &format!("{path}[{kind}]"), marks);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                mark(member, &path, marks);
            }
        }
        _ => {}
    }
}

const fn channel_name(channel: Channel) -> &'static str {
    match channel {
        Channel::System => "system",
        Channel::User => "user",
        Channel::Assistant => "assistant",
        Channel::ToolResult => "tool result",
        Channel::ToolDefinition => "tool definition",
        Channel::Document => "document",
    }
}

/// Where a body names models, and where its text stands, by channel; last what nobody can read.
fn places(body: Body) -> (Vec<String>, BTreeMap<&'static str, Vec<String>>) {
    let (mut text, mut marks) = (sample(body), Vec::new());
    mark(&mut text, "", &mut marks);
    let bytes = if body == Body::OpenAiTranscription { form(&text) } else { text.to_string() };
    let request = decode_request(body, bytes.as_bytes()).unwrap_or_else(|error| panic!("{body:?}: {error}"));
    let mut said: Vec<(&'static str, String)> = Vec::new();
    request.texts(&mut |text| said.push((channel_name(text.channel), text.text.into_owned())));
    let models = request.models();
    let (mut names, mut channels) = (Vec::new(), BTreeMap::<_, Vec<String>>::new());
    for (mark, path) in marks {
        if models.contains(&mark.as_str()) {
            names.push(path);
            continue;
        }
        let mut heard: Vec<&str> = said.iter().filter(|(_, text)| text.contains(&mark)).map(|(channel, _)| *channel).collect();
        heard.dedup();
        let channel = match heard[..] {
            [] => "can't be read",
            [channel] => channel,
            _ => panic!("{body:?}: {path} is said in {heard:?}"),
        };
        let places = channels.entry(channel).or_default();
        if !places.contains(&path) {
            places.push(path);
        }
    }
    if body == Body::OllamaGenerate {
        channels.entry("can't be read").or_default().push("context".into());
    }
    (names, channels)
}

/// What a request of this route meets in hard, by default.
fn verdict(route: &Route) -> String {
    let policy = Policy::compile(&GuardPolicy::built_in(), &Standing::of(Some(Mode::Hard))).unwrap();
    let path = route.pattern.replace(":digest", &format!("sha256:{}", "0".repeat(64))).replace(":model", "m").replace(":key", "k");
    let next = |over_loopback| {
        let head = RequestHead {
            method: route.methods[0],
            path: &path,
            content_type: None,
            content_encoding: None,
            caller: Caller { over_loopback },
        };
        Exchange::begin(policy.clone(), &head).1
    };
    let allowed_by = route.operation.map(|operation| format!("`management.allow: [{}]`", operation.name()));
    match (next(false), next(true), allowed_by) {
        (Next::Refuse(_), Next::Refuse(_), Some(by)) => format!("refused, unless {by}"),
        (Next::Refuse(_), _, Some(_)) => "for the pod itself, allowed models; for others with `management.from: anyone`".into(),
        (Next::Refuse(_), ..) => "refused".into(),
        _ if route.body == Body::OllamaShow => "answered, without the model's own prompts".into(),
        _ if route.class == Class::ReadOnly => "answered".into(),
        _ if route.body == Body::OpenAiTranscription => "judged; the sound only with `protocol.audio: allow`".into(),
        _ if route.body == Body::OpenAiImages => "judged; the picture only with `protocol.images: allow`".into(),
        _ => "judged".into(),
    }
}

fn page() -> String {
    let mut page = String::from(
        "<!-- Made by `LLM_GUARD_WRITE_DOCS=1 cargo test -p llm-guard-engine --test routes`. -->\n\
         # Routes\n\n\
         Every route of every API that the guard knows. Any other is refused as the server itself would say 404.\n\n\
         | Route | Methods | API | Class | By default, in hard | Names a model in |\n|---|---|---|---|---|---|\n",
    );
    let mut bodies: Vec<(String, Body)> = Vec::new();
    for route in ROUTES {
        let family = match route.family {
            Family::Ollama => "Ollama",
            Family::OpenAi => "OpenAI",
            Family::Anthropic => "Anthropic",
        };
        let mut names: Vec<String> = places(route.body).0;
        if route.pattern.ends_with(":model") {
            names.push("the path".into());
        }
        let names: Vec<String> = names.iter().map(|name| if name.contains(' ') { name.clone() } else { format!("`{name}`") }).collect();
        let (methods, class) = (route.methods.join(", "), route.class.name());
        let _ = writeln!(page, "| `{}` | {methods} | {family} | {class} | {} | {} |", route.pattern, verdict(route), names.join(", "));
        if !places(route.body).1.is_empty() {
            match bodies.iter_mut().find(|(_, known)| *known == route.body) {
                Some((routes, _)) => *routes = format!("{routes}, `{}`", route.pattern),
                None => bodies.push((format!("`{}`", route.pattern), route.body)),
            }
        }
    }
    page.push_str(
        "\n## Where text stands\n\n\
         By the channel in which a text is judged. A turn's role or an item's type stands in brackets. Fields that an API doesn't document \
         are the user's text, where the policy lets them go on (`protocol.unknownFields`, `protocol.fields`).\n",
    );
    for (routes, body) in bodies {
        let _ = writeln!(page, "\n### {routes}\n\n| Channel | Where |\n|---|---|");
        let channels = places(body).1;
        for channel in ["system", "user", "assistant", "tool result", "tool definition", "document", "can't be read"] {
            if let Some(places) = channels.get(channel) {
                let places: Vec<String> = places.iter().map(|place| format!("`{place}`")).collect();
                let _ = writeln!(page, "| {channel} | {} |", places.join(", "));
            }
        }
    }
    page
}

#[test]
fn the_page_about_the_routes_says_what_they_do() {
    let page = page();
    if std::env::var_os("LLM_GUARD_WRITE_DOCS").is_some() {
        std::fs::write(PAGE, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(PAGE).unwrap_or_default(), page, "LLM_GUARD_WRITE_DOCS=1 writes it anew");
}

#[test]
fn every_text_of_a_request_is_said_or_can_not_be_read() {
    for body in ROUTES.iter().map(|route| route.body) {
        for place in places(body).1.get("can't be read").into_iter().flatten() {
            let is_opaque = ["file", "images", "image_url", "input_audio", "image", "source", "template", "context"]
                .iter()
                .any(|name| place.contains(name));
            assert!(is_opaque, "{body:?}: {place} is text that nobody judges");
        }
    }
}
