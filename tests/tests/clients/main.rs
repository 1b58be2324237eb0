//! Real clients (`PyPI`'s `ollama`, `openai` and `anthropic`, npm's `ollama`) before a real Ollama, with the guard between them and
//! without it, in all modes; what they can do at all is in `scenes`, with two libraries more. The scripted models
//! (`tests/ollama/models`) say the same whatever they are asked, so what a client must see is known to the last character.
//!
//! The invariant: what is compared is all that a client shows. Only times, durations and drawn ids are made alike.

use std::error::Error;
use std::io;
use std::process::Command;
use std::time::Duration;

use llm_guard_tests::guard::Guard;
use llm_guard_tests::ollama::Ollama;
use llm_guard_tests::planted::Planted;
use llm_guard_tests::{cache, plain, process, records};
use serde_json::{Map, Value, json};

mod leaks;
mod scenes;

type Outcome = Result<(), Box<dyn Error>>;

/// A client library, as its users have it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Client {
    PythonOllama,
    PythonOpenAi,
    /// The same library, by its other way to ask: `responses`.
    PythonResponses,
    PythonAnthropic,
    NodeOllama,
}

/// Plays calls through a library: `node`, or one that `transcript.py` names.
fn play(library: &str, base: &str, calls: &[Value]) -> io::Result<Map<String, Value>> {
    let scripts = cache::tests().join("clients");
    let mut command = if library == "node" {
        let mut node = Command::new("node");
        node.arg(scripts.join("transcript.mjs")).arg(cache::part("node")?);
        node
    } else {
        let mut python = Command::new(cache::part("python/venv/bin/python")?);
        python.arg(scripts.join("transcript.py")).arg(library);
        python
    };
    command.arg(base).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let transcript = process::run(&mut command, &Value::from(calls).to_string(), Duration::from_mins(5))?;
    match serde_json::from_str(&transcript)? {
        Value::Object(scenes) => Ok(scenes),
        other => Err(io::Error::other(format!("a transcript that is no object: {other}"))),
    }
}

/// Keeps the error replies of a transcript. What a client raised by itself is none.
fn recorded(name: &str, transcript: Map<String, Value>) -> io::Result<Map<String, Value>> {
    for seen in transcript.values().filter(|seen| !seen["error"]["status"].is_null()) {
        records::error_reply(name, &format!("{}\n{}", seen["error"], seen["headers"]))?;
    }
    Ok(transcript)
}

/// What a client says of one call, in the terms of its API.
#[derive(Clone, Copy)]
struct Ask<'a> {
    model: &'a str,
    prompt: &'a str,
    stream: bool,
    tools: &'a [&'a str],
}

impl Client {
    /// Plays calls and gives the transcript: a scene's name to what was seen.
    fn play(self, base: &str, calls: &[Value]) -> io::Result<Map<String, Value>> {
        let library = match self {
            Self::PythonOllama => "ollama",
            Self::PythonOpenAi | Self::PythonResponses => "openai",
            Self::PythonAnthropic => "anthropic",
            Self::NodeOllama => "node",
        };
        play(library, base, calls)
    }

    /// Plays calls before a guard; refusals become records.
    fn play_guarded(self, guard: &Guard, name: &str, calls: &[Value]) -> io::Result<Map<String, Value>> {
        recorded(name, self.play(&guard.url(), calls)?)
    }

    fn chat(self, scene: &str, ask: Ask) -> Value {
        let Ask { model, prompt, stream, tools } = ask;
        let said = json!([{"role": "user", "content": prompt}]);
        let mut arguments = json!({"model": model, "messages": said, "stream": stream});
        let call = match self {
            Self::PythonOllama | Self::NodeOllama => "chat",
            Self::PythonOpenAi => "chat.completions.create",
            Self::PythonResponses => {
                arguments = json!({"model": model, "input": said, "stream": stream});
                "responses.create"
            }
            Self::PythonAnthropic => {
                arguments["max_tokens"] = json!(4096);
                "messages.create"
            }
        };
        if !tools.is_empty() {
            arguments["tools"] = tools.iter().map(|name| self.tool(name)).collect();
        }
        json!({"scene": scene, "call": call, "arguments": arguments})
    }

    fn generate(self, scene: &str, ask: Ask) -> Value {
        let Ask { model, prompt, stream, tools: _ } = ask;
        let call = if self == Self::PythonOpenAi { "completions.create" } else { "generate" };
        json!({"scene": scene, "call": call, "arguments": {"model": model, "prompt": prompt, "stream": stream}})
    }

    /// The routes of this client whose answers the guard judges.
    fn judged(self) -> &'static [&'static str] {
        match self {
            Self::PythonResponses | Self::PythonAnthropic => &["chat"],
            Self::PythonOllama | Self::PythonOpenAi | Self::NodeOllama => &["chat", "generate"],
        }
    }

    fn tool(self, name: &str) -> Value {
        let function = tool(name)["function"].take();
        match self {
            Self::PythonResponses => {
                json!({"type": "function", "name": name, "description": function["description"], "parameters": function["parameters"], "strict": false})
            }
            Self::PythonAnthropic => json!({"name": name, "description": function["description"], "input_schema": function["parameters"]}),
            _ => json!({"type": "function", "function": function}),
        }
    }

    /// Every way of this client to have vectors made of texts.
    fn embeddings(self, texts: &[&str]) -> Vec<Value> {
        let ask = |call: &str, arguments: Value| json!({"scene": format!("{call} {arguments}"), "call": call, "arguments": arguments});
        match self {
            Self::PythonOllama | Self::NodeOllama => {
                vec![
                    ask("embed", json!({"model": "calm", "input": texts})),
                    ask("embed", json!({"model": "calm", "input": texts[0], "truncate": true})),
                    ask("embeddings", json!({"model": "calm", "prompt": texts[0]})),
                ]
            }
            Self::PythonOpenAi => ["float", "base64"]
                .map(|form| ask("embeddings.create", json!({"model": "calm", "input": texts, "encoding_format": form})))
                .into(),
            Self::PythonResponses | Self::PythonAnthropic => Vec::new(),
        }
    }

    fn ask(self, route: &str, scene: &str, ask: Ask) -> Value {
        if route == "chat" { self.chat(scene, ask) } else { self.generate(scene, ask) }
    }

    /// The questions about the server that this client can ask.
    fn questions(self) -> Vec<Value> {
        let ask = |call: &str, arguments: Value| json!({"scene": call, "call": call, "arguments": arguments});
        match self {
            Self::PythonAnthropic => vec![ask("models.retrieve", json!({"model_id": "calm"}))],
            Self::PythonOpenAi | Self::PythonResponses => {
                vec![ask("models.list", json!({})), ask("models.retrieve", json!({"model": "calm"}))]
            }
            Self::PythonOllama => vec![ask("list", json!({})), ask("show", json!({"model": "calm"})), ask("ps", json!({}))],
            Self::NodeOllama => {
                vec![ask("list", json!({})), ask("show", json!({"model": "calm"})), ask("ps", json!({})), ask("version", json!({}))]
            }
        }
    }

    /// Every way to ask every model, streamed and not, and every question.
    fn everything(self, prompt: &str) -> Vec<Value> {
        let mut calls = Vec::new();
        for (how, stream) in [("streamed", true), ("whole", false)] {
            for model in ["leaky", "calm", "thinker"] {
                let ask = Ask { model, prompt, stream, tools: &[] };
                calls.extend(self.judged().iter().map(|route| self.ask(route, &format!("{model} {route} {how}"), ask)));
            }
            let tools = &["search_docs", "send_email"];
            calls.push(self.chat(&format!("caller chat {how}"), Ask { model: "caller", prompt, stream, tools }));
            calls.push(self.chat(&format!("caller without tools {how}"), Ask { model: "caller", prompt, stream, tools: &[] }));
            calls.push(self.chat(&format!("missing {how}"), Ask { model: "missing", prompt, stream, tools: &[] }));
        }
        calls.extend(self.questions());
        calls
    }

    /// The three channels of an answer, joined over its frames or taken from the whole.
    fn said(self, seen: &Value) -> Said {
        let pieces: Vec<&Value> = match seen["frames"].as_array() {
            Some(frames) => frames.iter().collect(),
            None => vec![&seen["answer"]],
        };
        let mut said = Said::default();
        for piece in pieces {
            if matches!(self, Self::PythonResponses | Self::PythonAnthropic) {
                said.take(piece);
                continue;
            }
            let (message, content) = if self == Self::PythonOpenAi {
                let choice = &piece["choices"][0];
                let message = if choice["delta"].is_null() { &choice["message"] } else { &choice["delta"] };
                (message, if choice["text"].is_null() { &message["content"] } else { &choice["text"] })
            } else if piece["message"].is_null() {
                (piece, &piece["response"])
            } else {
                (&piece["message"], &piece["message"]["content"])
            };
            let thinking = if self == Self::PythonOpenAi { &message["reasoning"] } else { &message["thinking"] };
            said.content.push_str(content.as_str().unwrap_or_default());
            said.thinking.push_str(thinking.as_str().unwrap_or_default());
            for call in message["tool_calls"].as_array().into_iter().flatten() {
                let Value::Object(function) = &call["function"] else { continue };
                said.tools.push(function["name"].clone());
                let arguments = &function["arguments"];
                said.arguments.push(arguments.as_str().map_or_else(|| arguments.to_string(), str::to_owned));
            }
        }
        said
    }
}

#[derive(Debug, Default, PartialEq)]
struct Said {
    content: String,
    thinking: String,
    tools: Vec<Value>,
    /// The arguments of each, as JSON.
    arguments: Vec<String>,
}

impl Said {
    /// What an event of blocks or items says, or a whole answer of them.
    fn take(&mut self, piece: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match piece["type"].as_str() {
            // Anthropic's.
            Some("content_block_start") => self.part(&piece["content_block"]),
            Some("content_block_delta") => {
                self.content.push_str(&text(&piece["delta"]["text"]));
                self.thinking.push_str(&text(&piece["delta"]["thinking"]));
                self.goes_on(&piece["delta"]["partial_json"]);
            }
            Some("message") => piece["content"].as_array().into_iter().flatten().for_each(|block| self.part(block)),
            // OpenAI's.
            Some("response.output_text.delta") => self.content.push_str(&text(&piece["delta"])),
            Some("response.reasoning_summary_text.delta") => self.thinking.push_str(&text(&piece["delta"])),
            Some("response.function_call_arguments.delta") => self.goes_on(&piece["delta"]),
            Some("response.output_item.added") => self.part(&piece["item"]),
            _ => piece["output"].as_array().into_iter().flatten().for_each(|item| self.part(item)),
        }
    }

    /// More of the arguments of the last call.
    fn goes_on(&mut self, piece: &Value) {
        if let (Some(arguments), Some(piece)) = (self.arguments.last_mut(), piece.as_str()) {
            arguments.push_str(piece);
        }
    }

    fn part(&mut self, part: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match part["type"].as_str() {
            Some("text" | "output_text") => self.content.push_str(&text(&part["text"])),
            Some("summary_text") => self.thinking.push_str(&text(&part["text"])),
            Some("thinking") => self.thinking.push_str(&text(&part["thinking"])),
            Some("tool_use") => {
                self.tools.push(part["name"].clone());
                // In a stream they follow piece by piece.
                let arguments = part["input"].as_object().filter(|input| !input.is_empty()).map(|_| part["input"].to_string());
                self.arguments.push(arguments.unwrap_or_default());
            }
            Some("function_call") => {
                self.tools.push(part["name"].clone());
                self.arguments.push(text(&part["arguments"]));
            }
            Some("message") => part["content"].as_array().into_iter().flatten().for_each(|part| self.part(part)),
            Some("reasoning") => part["summary"].as_array().into_iter().flatten().for_each(|part| self.part(part)),
            _ => {}
        }
    }
}

fn tool(name: &str) -> Value {
    let property = if name == "search_docs" { "query" } else { "mail" };
    json!({"type": "function", "function": {
        "name": name,
        "description": format!("The tool {name}."),
        "parameters": {"type": "object", "properties": {property: {"type": "object", "description": "What to do."}}, "required": [property]},
    }})
}

fn policy(mode: &str, models: &str) -> String {
    format!(
        "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nmetadata: {{name: clients}}\nspec:\n  mode: {mode}\n  models: {models}\n  \
         tools: {{allow: [search_docs], block: [send_email]}}\n"
    )
}

const ALL_MODELS: &str = "{allow: [calm, caller, leaky, missing, thinker]}";

fn guard(ollama: &Ollama, name: &str, mode: &str, models: &str) -> io::Result<Guard> {
    // At a level that says more than an operator's, for the scan of the records.
    Guard::before(ollama.url(), name).policy(policy(mode, models)).argument("--log-level").argument("debug").start()
}

/// A prompt, with the word that stands in every prompt of the tests.
fn prompt(planted: &Planted, text: &str) -> String {
    format!("{}: {text}", planted.prompt_marker)
}

/// A transcript in which all that differs from run to run is alike: times, durations, drawn ids, and the length that goes
/// with them. What is made alike must first look like what it is.
fn normalised(transcript: &Map<String, Value>) -> Map<String, Value> {
    let mut transcript = transcript.clone();
    for seen in transcript.values_mut() {
        if let Some(headers) = seen["headers"].as_object_mut() {
            // The exchange's own: hop by hop, or the guard's to add in every mode.
            for own in ["date", "x-request-id", "connection", "keep-alive", "transfer-encoding"] {
                headers.remove(own);
            }
            if let Some(length) = headers.get_mut("content-length") {
                assert!(length.as_str().is_some_and(|length| length.parse::<u64>().is_ok()), "a length: {length}");
                *length = "a length".into();
            }
        }
        normalise(seen);
    }
    transcript
}

fn normalise(value: &mut Value) {
    match value {
        Value::Array(items) => {
            items.iter_mut().for_each(normalise);
            // The models that are loaded come in the order of the second in which they were used last, and within that
            // in any.
            if items.iter().all(|item| item["expires_at"].is_string()) {
                items.sort_by_key(|item| item["model"].to_string());
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                let alike = match name.as_str() {
                    "created_at" | "expires_at" | "completed_at" | "modified_at" => {
                        field.is_number() || field.as_str().is_some_and(|time| time.contains('T'))
                    }
                    "created" | "total_duration" | "load_duration" | "prompt_eval_duration" | "eval_duration" => field.is_u64(),
                    _ => false,
                };
                if alike {
                    *field = format!("some {name}").into();
                } else {
                    normalise(field);
                }
            }
        }
        Value::String(text) => *text = without_drawn_ids(text),
        _ => {}
    }
}

/// A text in which the ids that are drawn anew for each answer are alike: the server's, which tell by their start what they
/// are ids of, and the UUIDs that libraries draw. They stand in fields of their own, and in what is told of errors.
fn without_drawn_ids(text: &str) -> String {
    let of_a_word = |character: char| character.is_ascii_alphanumeric() || character == '_' || character == '-';
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (word, after) = rest.split_at(rest.find(|character: char| !of_a_word(character)).unwrap_or(rest.len()));
        out.push_str(if is_drawn(word) { "some id" } else { word });
        let (between, next) = after.split_at(after.find(of_a_word).unwrap_or(after.len()));
        out.push_str(between);
        rest = next;
    }
    out
}

fn is_drawn(word: &str) -> bool {
    let of_the_server = ["chatcmpl-", "cmpl-", "call_", "msg_", "resp_", "rs_", "fc_", "req_"];
    let uuid = word.trim_start_matches("lc_").trim_start_matches("run--");
    let groups: Vec<usize> = uuid.split('-').map(str::len).collect();
    of_the_server.iter().any(|start| word.starts_with(start))
        || (groups.starts_with(&[8, 4, 4, 4, 12]) && uuid.chars().all(|character| character == '-' || character.is_ascii_hexdigit()))
}

/// That two transcripts are equal, told scene by scene.
fn assert_equal(one: &Map<String, Value>, other: &Map<String, Value>) {
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>(), "the same scenes were played");
    for (scene, seen) in one {
        assert_eq!(seen, &other[scene], "scene {scene:?}");
    }
}

/// That nothing of a transcript holds a planted secret, nor enough of one to use it, even over the bounds of frames.
fn assert_no_secret(client: Client, planted: &Planted, transcript: &Map<String, Value>) {
    for (scene, seen) in transcript {
        let Said { content, thinking, .. } = client.said(seen);
        for (place, text) in [("its JSON", seen.to_string()), ("its content", content), ("its thinking", thinking)] {
            for (kind, secret) in &planted.secrets {
                assert!(!text.contains(secret.as_str()), "scene {scene:?} shows the {kind} in {place}");
                let half = &secret[secret.len() / 2..];
                assert!(!text.contains(half), "scene {scene:?} shows half of the {kind} in {place}");
            }
        }
    }
}

// The promises, one function each, for a client and a mode.

fn monitor_changes_nothing(client: Client, name: &str) -> Outcome {
    let planted = Planted::read()?;
    let ollama = Ollama::start()?;
    let guard = guard(&ollama, name, "monitor", ALL_MODELS)?;
    let mut calls = client.everything(&prompt(&planted, "what do the notes say?"));
    let injection = prompt(&planted, &planted.injection);
    calls.insert(0, client.chat("injection", Ask { model: "caller", prompt: &injection, stream: true, tools: &["send_email"] }));

    client.play(&ollama.url(), &calls)?; // loads the models
    let first = normalised(&client.play(&ollama.url(), &calls)?);
    let again = normalised(&client.play(&ollama.url(), &calls)?);
    let guarded = normalised(&client.play_guarded(&guard, name, &calls)?);
    assert_equal(&first, &again);
    assert_equal(&first, &guarded);
    assert!(first["leaky chat streamed"].to_string().contains("frames"), "streams were seen as streams");
    assert_eq!(client.said(&guarded["leaky chat streamed"]).content, planted.answer("leaky")?);
    assert!(guard.stop()?.success());
    Ok(())
}

fn keys_are_redacted(client: Client, mode: &str, name: &str) -> Outcome {
    let planted = Planted::read()?;
    let ollama = Ollama::start()?;
    let guard = guard(&ollama, name, mode, ALL_MODELS)?;
    let prompt = prompt(&planted, "what do the notes say?");
    let mut calls = Vec::new();
    for (how, stream) in [("streamed", true), ("whole", false)] {
        let ask = |model| Ask { model, prompt: &prompt, stream, tools: &[] };
        for route in client.judged() {
            for model in ["leaky", "calm"] {
                calls.push(client.ask(route, &format!("{model} {route} {how}"), ask(model)));
            }
        }
        calls.push(client.chat(&format!("thinker chat {how}"), ask("thinker")));
        calls.push(client.chat(&format!("caller chat {how}"), ask("caller")));
    }
    let unguarded = client.play(&ollama.url(), &calls)?;
    let guarded = client.play_guarded(&guard, name, &calls)?;

    for (scene, seen) in &guarded {
        assert_eq!(seen["error"], Value::Null, "scene {scene:?}");
        assert_eq!(seen["status"], 200, "scene {scene:?}");
    }
    assert_no_secret(client, &planted, &guarded);
    for how in ["streamed", "whole"] {
        for route in client.judged() {
            let leaky = format!("leaky {route} {how}");
            assert_eq!(client.said(&unguarded[&leaky]).content, planted.answer("leaky")?, "the server leaks: {leaky}");
            assert_eq!(client.said(&guarded[&leaky]).content, planted.redacted_answer("leaky")?, "{leaky}");
            let calm = format!("calm {route} {how}");
            assert_eq!(client.said(&guarded[&calm]), client.said(&unguarded[&calm]), "{calm}");
            assert_eq!(client.said(&guarded[&calm]).content, planted.answer("calm")?, "{calm}");
        }
        let thinker = client.said(&guarded[&format!("thinker chat {how}")]);
        assert_eq!(format!("<think>{}</think>{}", thinker.thinking, thinker.content), planted.redacted_answer("thinker")?);
        let caller = client.said(&guarded[&format!("caller chat {how}")]);
        assert_eq!(caller.content, planted.redacted_answer("caller")?);
    }
    for kind in planted.secrets.keys() {
        assert!(guard.metric("llm_guard_redactions_total", &[("kind", kind)])? >= 2.0, "{kind} is counted");
    }
    assert!(guard.stop()?.success());
    Ok(())
}

fn an_injection_meets_the_mode(client: Client, mode: &str, name: &str) -> Outcome {
    let planted = Planted::read()?;
    let ollama = Ollama::start()?;
    let guard = guard(&ollama, name, mode, ALL_MODELS)?;
    let injection = prompt(&planted, &planted.injection);
    let calls: Vec<_> = [("streamed", true), ("whole", false)]
        .map(|(scene, stream)| client.chat(scene, Ask { model: "calm", prompt: &injection, stream, tools: &[] }))
        .into();
    let counted = || guard.metric("llm_guard_violations_total", &[("control", "prompt_injection"), ("mode", mode)]);
    let before = counted()?;
    let guarded = client.play_guarded(&guard, name, &calls)?;
    let after = counted()?;
    assert!((after - before - 2.0).abs() < f64::EPSILON, "each of the two is counted once: {before} before, {after} after");
    for (scene, seen) in &guarded {
        let action = seen["headers"]["x-llm-guard-action"].as_str();
        if mode == "hard" {
            let sentence = "Request blocked: potentially unsafe input detected";
            assert_eq!(seen["status"], 400, "{scene}");
            assert_eq!(seen["error"]["status"], 400, "{scene}");
            let shown = match client {
                Client::PythonOpenAi | Client::PythonResponses => &seen["error"]["body"]["message"],
                Client::PythonAnthropic => &seen["error"]["body"]["error"]["message"],
                Client::PythonOllama | Client::NodeOllama => &seen["error"]["text"],
            };
            assert_eq!(shown, sentence, "{scene}");
        } else {
            assert_eq!(seen["status"], 200, "{scene}");
            assert_eq!(client.said(seen).content, planted.answer("calm")?, "{scene}");
            assert_eq!(action, if mode == "soft" { Some("warned") } else { None }, "{scene}");
        }
    }
    assert!(guard.stop()?.success());
    Ok(())
}

fn an_unlisted_model_meets_the_mode(client: Client, mode: &str, name: &str) -> Outcome {
    let planted = Planted::read()?;
    let ollama = Ollama::start()?;
    let guard = guard(&ollama, name, mode, "{allow: [calm]}")?;
    let prompt = prompt(&planted, "what do the notes say?");
    let ask = Ask { model: "caller", prompt: &prompt, stream: false, tools: &[] };
    let mut calls = vec![client.chat("listed", Ask { model: "calm:latest", ..ask })];
    for route in client.judged() {
        for (how, stream) in [("streamed", true), ("whole", false)] {
            calls.push(client.ask(route, &format!("{route} {how}"), Ask { stream, ..ask }));
        }
    }
    let unlisted = u32::try_from(calls.len() - 1)?;
    let guarded = client.play_guarded(&guard, name, &calls)?;
    for (scene, seen) in &guarded {
        if scene == "listed" || mode == "monitor" {
            assert_eq!(seen["status"], 200, "{scene}");
        } else {
            assert_eq!(seen["status"], 403, "{scene}");
            assert_eq!(seen["error"]["status"], 403, "{scene}");
            assert!(seen["error"]["text"].as_str().is_some_and(|text| !text.is_empty()), "{scene} says why");
        }
    }
    let counted = guard.metric("llm_guard_violations_total", &[("control", "models"), ("mode", mode)])?;
    assert!((counted - f64::from(unlisted)).abs() < f64::EPSILON, "each of the {unlisted} is counted once, not {counted}");
    assert!(guard.stop()?.success());
    Ok(())
}

fn a_denied_tool_meets_the_mode(client: Client, mode: &str, name: &str) -> Outcome {
    let planted = Planted::read()?;
    let ollama = Ollama::start()?;
    let guard = guard(&ollama, name, mode, ALL_MODELS)?;
    let prompt = prompt(&planted, "please write to them");
    let tools: &[&str] = &["search_docs", "send_email"];
    let calls: Vec<_> = [("streamed", true), ("whole", false)]
        .map(|(scene, stream)| client.chat(scene, Ask { model: "caller", prompt: &prompt, stream, tools }))
        .into();
    let unguarded = client.play(&ollama.url(), &calls)?;
    let guarded = client.play_guarded(&guard, name, &calls)?;
    for (scene, seen) in &guarded {
        assert_eq!(client.said(&unguarded[scene]).tools, ["search_docs", "send_email"], "the server calls both tools");
        match mode {
            "monitor" => assert_eq!(client.said(seen).tools, ["search_docs", "send_email"], "{scene}"),
            "soft" => {
                assert_eq!(seen["status"], 200, "{scene}");
                assert_eq!(client.said(seen).tools, ["search_docs"], "{scene}");
                assert!(seen["headers"]["x-llm-guard-action"].is_string(), "{scene}: it says that something was taken out");
            }
            _ => {
                assert_eq!(seen["status"], 403, "{scene}");
                assert_eq!(seen["error"]["status"], 403, "{scene}");
            }
        }
    }
    if mode != "monitor" {
        assert_no_secret(client, &planted, &guarded);
    }
    assert!(guard.metric("llm_guard_violations_total", &[("control", "tools"), ("mode", mode)])? >= 2.0);
    assert!(guard.stop()?.success());
    Ok(())
}

fn questions_are_answered_as_without_the_guard(client: Client, mode: &str, name: &str) -> Outcome {
    let ollama = Ollama::start()?;
    let guard = guard(&ollama, name, mode, ALL_MODELS)?;
    let calls = client.questions();
    let mut unguarded = normalised(&client.play(&ollama.url(), &calls)?);
    let mut guarded = normalised(&client.play_guarded(&guard, name, &calls)?);
    if let Some(shown) = unguarded.get_mut("show").and_then(|seen| seen["answer"].as_object_mut()) {
        // A model's own prompts are shown where the policy says so, and here it doesn't.
        for name in ["modelfile", "template"] {
            assert!(shown.remove(name).is_some(), "the server shows the {name}");
        }
    }
    for seen in unguarded.values_mut().chain(guarded.values_mut()) {
        // What the guard has decoded it may send whole where the server sent chunks.
        if let Some(headers) = seen["headers"].as_object_mut() {
            headers.remove("content-length");
        }
    }
    assert_equal(&unguarded, &guarded);
    assert_eq!(guard.get("/api/version")?.json()?, plain::get(ollama.address(), "/api/version")?.json()?);
    assert!(guard.stop()?.success());
    Ok(())
}

/// One module a client, one test a promise and mode.
macro_rules! for_each_client {
    ($($module:ident: $client:expr),*) => {$(
        mod $module {
            use super::*;

            const NAME: &str = stringify!($module);

            fn name(test: &str) -> String {
                format!("clients-{NAME}-{test}")
            }

            #[test]
            fn in_monitor_it_sees_what_it_sees_without_the_guard() -> Outcome {
                monitor_changes_nothing($client, &name("monitor"))
            }

            #[test]
            fn in_soft_keys_in_pieces_are_redacted_and_a_stream_says_what_the_whole_says() -> Outcome {
                keys_are_redacted($client, "soft", &name("soft"))
            }

            #[test]
            fn in_hard_keys_in_pieces_are_redacted_and_a_stream_says_what_the_whole_says() -> Outcome {
                keys_are_redacted($client, "hard", &name("hard"))
            }

            #[test]
            fn in_monitor_an_injection_is_counted_and_passes() -> Outcome {
                an_injection_meets_the_mode($client, "monitor", &name("injection-monitor"))
            }

            #[test]
            fn in_soft_an_injection_passes_with_a_warning() -> Outcome {
                an_injection_meets_the_mode($client, "soft", &name("injection-soft"))
            }

            #[test]
            fn in_hard_an_injection_is_refused() -> Outcome {
                an_injection_meets_the_mode($client, "hard", &name("injection-hard"))
            }

            #[test]
            fn in_monitor_an_unlisted_model_is_counted_and_passes() -> Outcome {
                an_unlisted_model_meets_the_mode($client, "monitor", &name("model-monitor"))
            }

            #[test]
            fn in_soft_without_a_default_an_unlisted_model_is_refused() -> Outcome {
                an_unlisted_model_meets_the_mode($client, "soft", &name("model-soft"))
            }

            #[test]
            fn in_hard_an_unlisted_model_is_refused() -> Outcome {
                an_unlisted_model_meets_the_mode($client, "hard", &name("model-hard"))
            }

            #[test]
            fn in_monitor_a_denied_tool_is_counted_and_passes() -> Outcome {
                a_denied_tool_meets_the_mode($client, "monitor", &name("tool-monitor"))
            }

            #[test]
            fn in_soft_a_denied_tool_is_taken_out() -> Outcome {
                a_denied_tool_meets_the_mode($client, "soft", &name("tool-soft"))
            }

            #[test]
            fn in_hard_a_denied_tool_is_refused() -> Outcome {
                a_denied_tool_meets_the_mode($client, "hard", &name("tool-hard"))
            }

            #[test]
            fn in_hard_questions_about_the_server_are_answered_as_without_the_guard() -> Outcome {
                questions_are_answered_as_without_the_guard($client, "hard", &name("questions"))
            }
        }
    )*};
}

for_each_client!(
    python_ollama: Client::PythonOllama,
    python_openai: Client::PythonOpenAi,
    python_responses: Client::PythonResponses,
    python_anthropic: Client::PythonAnthropic,
    node_ollama: Client::NodeOllama
);

#[test]
fn in_hard_vectors_are_those_that_come_without_the_guard_and_no_order_becomes_one() -> Outcome {
    let planted = Planted::read()?;
    let ollama = Ollama::start()?;
    let name = "clients-embeddings";
    let guard = guard(&ollama, name, "hard", ALL_MODELS)?;
    let text = prompt(&planted, "what do the notes say?");
    let injection = prompt(&planted, &planted.injection);
    for client in [Client::PythonOllama, Client::PythonOpenAi, Client::NodeOllama] {
        let calls = client.embeddings(&[&text, "Grüße an alle"]);
        let unguarded = client.play(&ollama.url(), &calls)?;
        assert!(unguarded.values().all(|seen| seen["status"] == 200), "{client:?}: {unguarded:?}");
        let mut unguarded = normalised(&unguarded);
        let mut guarded = normalised(&client.play_guarded(&guard, name, &calls)?);
        for seen in unguarded.values_mut().chain(guarded.values_mut()) {
            // What the guard has decoded it may send whole where the server sent chunks.
            if let Some(headers) = seen["headers"].as_object_mut() {
                headers.remove("content-length");
            }
        }
        assert_equal(&unguarded, &guarded);
        for (scene, seen) in client.play_guarded(&guard, name, &client.embeddings(&[&injection, "hello"]))? {
            assert_eq!(seen["error"]["status"], 400, "{client:?}: {scene}");
        }
    }
    assert!(guard.stop()?.success());
    Ok(())
}

#[test]
fn in_soft_an_unlisted_model_gives_way_to_the_default() -> Outcome {
    let planted = Planted::read()?;
    let ollama = Ollama::start()?;
    let name = "clients-default-model";
    let guard = guard(&ollama, name, "soft", "{allow: [calm], default: calm}")?;
    let prompt = prompt(&planted, "what do the notes say?");
    for client in [Client::PythonOllama, Client::PythonOpenAi, Client::PythonResponses, Client::PythonAnthropic, Client::NodeOllama] {
        let call = client.chat("chat", Ask { model: "leaky", prompt: &prompt, stream: true, tools: &[] });
        let guarded = client.play_guarded(&guard, name, &[call])?;
        assert_eq!(client.said(&guarded["chat"]).content, planted.answer("calm")?, "{client:?}");
    }
    assert!(guard.stop()?.success());
    Ok(())
}

#[test]
fn a_sound_is_refused_in_hard_and_in_soft_meets_what_the_server_says() -> Outcome {
    let ollama = Ollama::start()?;
    let name = "clients-sound";
    let calls = [json!({"scene": "a sound", "call": "audio.transcriptions.create", "arguments": {"model": "calm", "file": "$sound"}})];
    // This version of the server has no such route.
    for (mode, status, code) in [("soft", 404, Value::Null), ("hard", 400, "not_inspected".into())] {
        let guard = guard(&ollama, name, mode, ALL_MODELS)?;
        for (scene, seen) in Client::PythonOpenAi.play_guarded(&guard, name, &calls)? {
            assert_eq!(seen["error"]["status"], status, "{mode}, {scene}");
            assert_eq!(seen["error"]["body"]["code"], code, "{mode}, {scene}");
        }
        assert!(guard.stop()?.success());
    }
    Ok(())
}
