//! Everything that a library can do, as a table (`tests/clients/scenes`), before a real Ollama and before a guard in hard
//! whose policy lets all pass that a policy can.
//!
//! An entry of a table is one call as transcript.py takes it, with `status`, the server's answer to it (200 if absent); `how`,
//! the ways in which it is played (`whole`, `streamed`, `async`, `async streamed`); and `python`, for what only one of the two
//! libraries that share a table has. `$PROMPT`, `$IMAGE` and `$BLOB` stand for a prompt, a picture in base64, and the digest of
//! transcript.py's `$blob`.
//!
//! The invariant: both transcripts are equal but for times, drawn ids and what the README names: the guard's own headers, a
//! body's framing, what might have been said instead (`top_logprobs`), and `context` in an answer.

use std::fs;

use llm_guard_tests::faulty::{self, FaultyServer, Received};

use super::{Guard, Map, Ollama, Outcome, Planted, Value, assert_equal, cache, io, json, normalised, play, prompt, recorded};

/// All pass that a policy can let pass. What a control only counts is decoded, judged and encoded all the same.
const PERMISSIVE: &str = "\
apiVersion: llm-guard.io/v1alpha1
kind: GuardPolicy
metadata: {name: clients-permissive}
spec:
  mode: hard
  promptInjection: {mode: monitor}
  redaction: {mode: monitor}
  protocol: {unknownFields: inspect, context: allow, template: allow, images: allow, audio: allow, modelPrompts: allow}
  management: {allow: [pull, push, create, copy, delete, aliases, account, web], from: anyone}
";

/// A picture of one point, and a digest: of the bytes `not a model`.
const IMAGE: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const BLOB: &str = "708811ccb1510c6d6c6e6379ef09be39bdbb0e7edcf44fefcca21c6228ee6d89";

/// One call, and the status that the server answers it with.
struct Scene {
    call: Value,
    status: u64,
}

/// The scenes of a library. `table` is the file.
fn scenes(library: &str, table: &str) -> io::Result<Vec<Scene>> {
    let planted = Planted::read()?;
    let path = cache::tests().join("clients/scenes").join(table).with_extension("yaml");
    let table: Value = serde_saphyr::from_str(&fs::read_to_string(path)?).map_err(io::Error::other)?;
    let words = [("$PROMPT", prompt(&planted, "what do the notes say?")), ("$IMAGE", IMAGE.to_owned()), ("$BLOB", BLOB.to_owned())];
    let mut scenes = Vec::new();
    for entry in table["scenes"].as_array().into_iter().flatten() {
        if entry["python"].as_bool().is_some_and(|python| python == (library == "node")) {
            continue;
        }
        let hows: Vec<&str> = entry["how"].as_array().map_or_else(|| vec!["whole"], |hows| hows.iter().filter_map(Value::as_str).collect());
        for how in hows {
            if library == "node" && how.contains("async") {
                continue; // its one client always waits without blocking
            }
            let mut call = entry.clone();
            call["scene"] = format!("{}, {how}", entry["scene"].as_str().unwrap_or_default()).into();
            call["async"] = how.contains("async").into();
            if how.contains("streamed") {
                call["arguments"]["stream"] = true.into();
            }
            // What is a word of Python's has another name there.
            if library == "ollama"
                && let Some(from) = call["arguments"].as_object_mut().and_then(|arguments| arguments.remove("from"))
            {
                call["arguments"]["from_"] = from;
            }
            fill(&mut call, &words);
            scenes.push(Scene { call, status: entry["status"].as_u64().unwrap_or(200) });
        }
    }
    Ok(scenes)
}

/// Puts in what the words stand for.
fn fill(value: &mut Value, words: &[(&str, String)]) {
    match value {
        Value::String(text) => words.iter().for_each(|(word, meaning)| *text = text.replace(word, meaning)),
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, words)),
        Value::Object(fields) => fields.values_mut().for_each(|field| fill(field, words)),
        _ => {}
    }
}

/// Takes out every list of this name, and tells how many had something in them. A library may say that there is none.
fn take_out(value: &mut Value, name: &str) -> usize {
    match value {
        Value::Array(items) => items.iter_mut().map(|item| take_out(item, name)).sum(),
        Value::Object(fields) => {
            let list = fields.get(name).and_then(Value::as_array).map(|items| !items.is_empty());
            if list.is_some() || fields.get(name).is_some_and(Value::is_null) {
                fields.remove(name);
            }
            usize::from(list == Some(true)) + fields.values_mut().map(|field| take_out(field, name)).sum::<usize>()
        }
        _ => 0,
    }
}

/// A transcript as it can be compared: also without the headers of which the README says that they differ.
fn comparable(transcript: &Map<String, Value>) -> Map<String, Value> {
    let mut transcript = normalised(transcript);
    for seen in transcript.values_mut() {
        let is_unknown = seen["headers"]["content-type"] == "text/plain" && (seen["status"] == 404 || seen["status"] == 405);
        if let Some(headers) = seen["headers"].as_object_mut() {
            // What the guard has decoded it may send whole where the server sent chunks.
            headers.remove("content-length");
            if is_unknown {
                // What the server would say to a route that it doesn't know, the guard says itself.
                headers.retain(|name, _| !name.starts_with("x-llm-guard-") && name != "allow");
            }
        }
    }
    transcript
}

fn permissive(upstream: String, name: &str) -> io::Result<Guard> {
    Guard::before(upstream, name).policy(PERMISSIVE).argument("--log-level").argument("debug").start()
}

fn all_is_seen_as_without_the_guard(library: &str, table: &str, test: &str) -> Outcome {
    let ollama = Ollama::start()?;
    let name = format!("clients-{test}-permissive");
    let guard = permissive(ollama.url(), &name)?;
    let scenes = scenes(library, table)?;
    assert!(scenes.len() > 20, "{library}: a table that was read");
    let calls: Vec<Value> = scenes.iter().map(|scene| scene.call.clone()).collect();
    play(library, &ollama.url(), &calls)?; // loads the models
    let direct = play(library, &ollama.url(), &calls)?;
    let mut said_otherwise = Vec::new();
    for scene in &scenes {
        let seen = &direct[scene.call["scene"].as_str().unwrap_or_default()];
        if seen["status"] != scene.status {
            said_otherwise.push(format!("{}: {} {}", scene.call["scene"], seen["status"], seen["error"]));
        }
    }
    assert!(said_otherwise.is_empty(), "the server answers with another status than the table says: {said_otherwise:#?}");
    let mut direct = comparable(&direct);
    let mut guarded = comparable(&recorded(&name, play(library, &guard.url(), &calls)?)?);
    // Nobody can read them, and they hold the answer as it was before it was judged.
    let contexts: usize = direct.values_mut().map(|seen| take_out(seen, "context")).sum();
    assert_eq!(guarded.values_mut().map(|seen| take_out(seen, "context")).sum::<usize>(), 0, "no context comes through");
    assert_eq!(contexts > 0, matches!(library, "ollama" | "node" | "langchain"), "{contexts} contexts");
    assert_equal(&direct, &guarded);
    assert!(guard.stop()?.success());
    Ok(())
}

/// One test a library.
macro_rules! for_each_library {
    ($($test:ident: $library:literal, $table:literal),*) => {$(
        #[test]
        fn $test() -> Outcome {
            all_is_seen_as_without_the_guard($library, $table, stringify!($test))
        }
    )*};
}

for_each_library!(
    ollama_in_python: "ollama", "ollama",
    ollama_in_node: "node", "ollama",
    openai: "openai", "openai",
    openai_responses: "openai", "responses",
    anthropic: "anthropic", "anthropic",
    langchain: "langchain", "langchain",
    llama_index: "llama-index", "llama-index"
);

/// They show the words that stood for choice, which nobody judges.
#[test]
fn log_probabilities_come_without_what_might_have_been_said_instead() -> Outcome {
    let ollama = Ollama::start()?;
    let name = "clients-log-probabilities";
    let guard = permissive(ollama.url(), name)?;
    let said = json!([{"role": "user", "content": prompt(&Planted::read()?, "what do the notes say?")}]);
    let both = |call: &str, arguments: Value| {
        [false, true].map(|stream| {
            let mut arguments = arguments.clone();
            arguments["stream"] = stream.into();
            json!({"scene": format!("{call} {stream}"), "call": call, "arguments": arguments})
        })
    };
    let native = json!({"model": "calm", "messages": said, "logprobs": true, "top_logprobs": 2});
    for (library, call) in [("ollama", "chat"), ("node", "chat"), ("openai", "chat.completions.create")] {
        let calls = both(call, native.clone());
        play(library, &ollama.url(), &calls)?;
        let mut direct = comparable(&play(library, &ollama.url(), &calls)?);
        let mut guarded = comparable(&recorded(name, play(library, &guard.url(), &calls)?)?);
        for (scene, seen) in &mut direct {
            assert!(take_out(seen, "top_logprobs") > 0, "{library}, {scene}: the server gives them");
        }
        for (scene, seen) in &mut guarded {
            assert_eq!(take_out(seen, "top_logprobs"), 0, "{library}, {scene}: the guard doesn't");
        }
        assert_equal(&direct, &guarded);
    }
    assert!(guard.stop()?.success());
    Ok(())
}

/// The pictures in a request, as each family has them.
fn pictures(value: &Value, found: &mut Vec<String>) {
    let text = |value: &Value| value.as_str().map(|text| text.rsplit(',').next().unwrap_or(text).to_owned());
    match value {
        Value::Array(items) => items.iter().for_each(|item| pictures(item, found)),
        Value::Object(fields) => {
            for (name, field) in fields {
                match name.as_str() {
                    "images" => found.extend(field.as_array().into_iter().flatten().filter_map(text)),
                    "image_url" => found.extend(text(field).or_else(|| text(&field["url"]))),
                    "data" => found.extend(text(field)),
                    _ => pictures(field, found),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn pictures_arrive_as_they_were_sent_by_every_library() -> Outcome {
    let upstream = FaultyServer::start(|request: &Received| faulty::well(request, "A picture."))?;
    let name = "clients-pictures";
    let guard = permissive(upstream.url(), name)?;
    let tables = [
        ("ollama", "ollama"),
        ("node", "ollama"),
        ("openai", "openai"),
        ("openai", "responses"),
        ("anthropic", "anthropic"),
        ("langchain", "langchain"),
        ("llama-index", "llama-index"),
    ];
    for (library, table) in tables {
        let calls: Vec<Value> =
            scenes(library, table)?.into_iter().map(|scene| scene.call).filter(|call| call.to_string().contains(IMAGE)).collect();
        assert!(!calls.is_empty(), "{library}, {table}: a picture is sent");
        let before = upstream.received().len();
        recorded(name, play(library, &guard.url(), &calls)?)?;
        let received = upstream.received();
        assert_eq!(received.len() - before, calls.len(), "{library}, {table}: each is forwarded, once");
        for request in &received[before..] {
            let mut found = Vec::new();
            pictures(&serde_json::from_slice(&request.body)?, &mut found);
            assert_eq!(found, [IMAGE], "{library}, {table}, {}", request.target());
        }
    }
    assert!(guard.stop()?.success());
    Ok(())
}
