//! What a client gets of a stream doesn't depend on how the bytes arrive; it parses as its API's streams do; it is bounded by what came;
//! of a secret that was planted in it, whole or in halves, no text of it says the whole, joined as clients join it; log-probabilities say
//! nothing that the text of which they are hasn't said; and a stream that broke off, or was ended by the guard, never looks complete.

use std::collections::BTreeMap;

use llm_guard_engine::exchange::{AnswerPlan, Ending, StreamJudge};
use llm_guard_engine::policy::Mode;
use serde_json::Value;

use super::frames::lines;
use super::tree::Tree;
use super::{planted, tokens, whole};

const LINES: &str = "application/x-ndjson";
const EVENTS: &str = "text/event-stream";
const ROUTES: [(&str, &str); 7] = [
    ("/api/chat", LINES),
    ("/api/generate", LINES),
    ("/v1/chat/completions", EVENTS),
    ("/v1/completions", EVENTS),
    ("/v1/responses", EVENTS),
    ("/v1/messages", EVENTS),
    ("/api/pull", LINES),
];

pub(crate) fn holds(data: &[u8]) {
    let Some(([route, kind, sizes @ ..], bytes)) = super::header::<5>(data) else { return };
    let route = super::pick(&ROUTES, route);
    let secret = planted::secret(kind);
    let bytes = planted::plant(bytes, &secret);

    let (out, ending) = run(Mode::Hard, route, &super::pieces(&bytes, &[]));
    for sizes in [&sizes[..], &[1]] {
        let again = run(Mode::Hard, route, &super::pieces(&bytes, sizes));
        assert_eq!((text(&again.0), again.1), (text(&out), ending), "{route:?}: the pieces make a difference");
    }
    run(Mode::Monitor, route, &super::pieces(&bytes, &sizes));
    assert!(out.len() <= 32 * bytes.len() + 4096, "{route:?}: {} bytes of {}", out.len(), bytes.len());

    let frames = frames(route, &out);
    let ending = ending.expect("a stream that is over has an ending");
    if ending != Ending::Said {
        assert!(!frames.iter().any(is_end), "{route:?}: it looks complete: {}", text(&out));
        let last = frames.last().expect("the last frame says what happened");
        assert!(!last["error"].is_null(), "{route:?}: {last}");
    }
    for frame in &frames {
        assert!(!planted::is_in(frame, &secret), "{route:?} gives a secret away: {frame}");
    }
    if route.0 == "/api/pull" {
        // What it says is said line by line.
        return;
    }
    for frame in &frames {
        let hidden = planted::arguments(frame).into_iter().any(|text| planted::is_in_json(text, &secret));
        assert!(!hidden, "{route:?} gives a secret away in the arguments of a call: {frame}");
    }
    tokens_say_what_was_said(route, &frames, &secret);
    for (channel, said) in joined(&frames) {
        assert!(!said.contains(&secret), "{route:?} gives a secret away in {channel}: {}", text(&out));
        let is_arguments = channel.ends_with("partial_json") || channel.ends_with("arguments");
        assert!(!(is_arguments && planted::is_in_json(&said, &secret)), "{route:?} gives a secret away in {channel}: {}", text(&out));
    }
}

/// Log-probabilities come with their text, and tell what it tells.
fn tokens_say_what_was_said(route: (&str, &str), frames: &[Value], secret: &str) {
    let mut said = BTreeMap::<String, String>::new();
    for (place, frame) in frames.iter().enumerate() {
        let more = tokens::said(frame);
        if more.iter().all(|(_, tokens)| tokens.is_empty()) {
            continue;
        }
        let texts = joined(&frames[..=place]);
        for (channel, more) in more.into_iter().filter(|(_, more)| !more.is_empty()) {
            let tokens = said.entry(channel.clone()).or_default();
            tokens.push_str(&more);
            let text = texts.get(&channel).map_or("", String::as_str);
            assert!(tokens::begin(tokens, text), "{route:?}: {channel} says {text:?}, and its tokens {tokens:?}");
            assert!(!tokens.contains(secret), "{route:?} gives a secret away by the tokens of {channel}: {tokens}");
        }
    }
}

fn run(mode: Mode, (path, content_type): (&str, &str), pieces: &[&[u8]]) -> (Vec<u8>, Option<Ending>) {
    let Some(AnswerPlan::Stream(mut judge)) = whole::open(mode, "POST", path, 200, content_type) else {
        panic!("{path} answers in a stream")
    };
    let judge: &mut StreamJudge = &mut judge;
    let mut out = Vec::new();
    for piece in pieces {
        judge.push(piece, &mut out);
    }
    judge.finish(&mut out);
    (out, judge.ending())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The frames of what a client got: lines, or events whose name, where they have one, is their type. The end that is no JSON is a string.
fn frames((path, content_type): (&str, &str), out: &[u8]) -> Vec<Value> {
    let (all, rest) = lines(out, false);
    assert!(rest.is_empty(), "{path}: it ends in the middle of a line: {}", text(out));
    let read = |line: &[u8]| {
        if line == b"[DONE]" {
            return Value::String("[DONE]".into());
        }
        assert!(Tree::read(line).is_some_and(|tree| !tree.has_twins()), "{path}: {}", text(line));
        serde_json::from_slice(line).expect("it was read as JSON")
    };
    if content_type == LINES {
        return all.into_iter().map(read).collect();
    }
    let (mut frames, mut name, mut open) = (Vec::new(), None, false);
    for line in all {
        if let Some(said) = line.strip_prefix(b"event: ") {
            assert!(!open && name.is_none(), "{path}: an event has one name, before its data");
            name = Some(text(said));
        } else if let Some(data) = line.strip_prefix(b"data: ") {
            assert!(!open, "{path}: an event has one line of data");
            open = true;
            let frame = read(data);
            let name = name.take();
            // An error that no type came with is named all the same.
            assert!(name.is_none() || frame["type"].is_null() || frame["type"].as_str() == name.as_deref(), "{path}: {name:?} {frame}");
            frames.push(frame);
        } else {
            assert!(line.is_empty() && open, "{path}: {}", text(line));
            open = false;
        }
    }
    assert!(!open && name.is_none(), "{path}: the last event doesn't end");
    frames
}

/// Whether the frame tells a client that this was all.
fn is_end(frame: &Value) -> bool {
    frame == "[DONE]" || frame["done"] == true || ["message_stop", "response.completed"].iter().any(|end| frame["type"] == *end)
}

/// The texts of a stream as clients put them together.
fn joined(frames: &[Value]) -> BTreeMap<String, String> {
    let mut joined = BTreeMap::<String, String>::new();
    let mut add = |channel: String, said: &Value| joined.entry(channel).or_default().push_str(said.as_str().unwrap_or_default());
    for frame in frames {
        for name in ["content", "thinking"] {
            add(format!("message.{name}"), &frame["message"][name]);
        }
        for name in ["response", "thinking"] {
            add(name.to_owned(), &frame[name]);
        }
        for choice in frame["choices"].as_array().into_iter().flatten() {
            let index = &choice["index"];
            add(format!("{index}.text"), &choice["text"]);
            for name in ["content", "reasoning", "reasoning_content", "refusal"] {
                add(format!("{index}.{name}"), &choice["delta"][name]);
            }
            for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten().filter(|call| call["index"].is_number()) {
                for name in ["name", "arguments"] {
                    add(format!("{index}.{}.{name}", call["index"]), &call["function"][name]);
                }
            }
        }
        let kind = frame["type"].as_str().unwrap_or_default();
        if kind == "content_block_delta" {
            for name in ["text", "thinking", "partial_json"] {
                add(format!("{}.{name}", frame["index"]), &frame["delta"][name]);
            }
            // Clients join the texts of all blocks, too, and those of all parts.
            add("text".to_owned(), &frame["delta"]["text"]);
        }
        if kind.rsplit('.').next() == Some("delta") {
            let part = if kind.contains("summary") { &frame["summary_index"] } else { &frame["content_index"] };
            add(format!("{kind}.{}.{part}", frame["output_index"]), &frame["delta"]);
            if !kind.contains("arguments") {
                add(kind.to_owned(), &frame["delta"]);
            }
        }
    }
    joined
}
