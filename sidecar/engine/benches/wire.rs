//! What it costs to read a request and to write it again, without judging it:
//!
//!     cargo bench -p llm-guard-engine --bench wire
//!
//! A Markdown table: for each body the least and the median time of one decode and encode, and beside it what the same bytes cost by
//! `serde_json`'s own untyped tree in the same run. Nothing here fails because of a time.

use std::hint::black_box;
use std::time::{Duration, Instant};

use llm_guard_engine::wire::{Body, decode_request};
use serde_json::{Value, json};

const ROUNDS: usize = 200;
/// How long a round takes, about.
const ROUND: Duration = Duration::from_millis(2);

/// A conversation of about so many bytes, with tools.
fn conversation(bytes: usize) -> Value {
    let text = "The quick brown fox jumps over the lazy dog; \"she said\", and went on.\n";
    let tools = json!([{"type": "function", "function": {"name": "search_docs", "description": "Looks into the documents.",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}}}]);
    let mut messages = vec![json!({"role": "system", "content": "You are a helpful assistant."})];
    let body = |messages: &[Value]| json!({"model": "llama3.2:3b", "messages": messages, "tools": tools, "stream": true, "options": {"temperature": 0.2}});
    // As in life, a turn is some hundred bytes.
    while body(&messages).to_string().len() < bytes {
        let left = bytes.saturating_sub(body(&messages).to_string().len());
        let said = text.repeat((left.min(700) / text.len()).max(1));
        messages.push(json!({"role": if messages.len() % 2 == 1 { "user" } else { "assistant" }, "content": said}));
    }
    body(&messages)
}

/// The least and the median time of one call, in nanoseconds.
fn measure(mut call: impl FnMut()) -> (f64, f64) {
    let begun = Instant::now();
    call();
    let calls = (ROUND.as_nanos() / begun.elapsed().as_nanos().max(1)).clamp(1, 10_000);
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            (0..calls).for_each(|_| call());
            begun.elapsed().as_secs_f64() * 1e9 / f64::from(u32::try_from(calls).unwrap_or(u32::MAX))
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[0], times[ROUNDS / 2])
}

fn main() {
    println!("| body | bytes | decode + encode, least | median | of serde_json's tree |\n|---|---|---|---|---|");
    let mut rows: Vec<(&str, Body, Value)> = Vec::new();
    for (name, bytes) in [("chat, 1 KB", 1024), ("chat, 32 KB", 32 * 1024)] {
        rows.push((name, Body::OllamaChat, conversation(bytes)));
    }
    for (name, bytes) in [("OpenAI chat, 1 KB", 1024), ("OpenAI chat, 32 KB", 32 * 1024)] {
        rows.push((name, Body::OpenAiChat, conversation(bytes)));
    }
    let mut messages = conversation(1024);
    messages["max_tokens"] = json!(1024);
    messages["tools"] = json!([{"name": "search_docs", "description": "Looks into the documents.", "input_schema": {"type": "object"}}]);
    rows.push(("messages, 1 KB", Body::AnthropicMessages, messages));
    rows.push(("generate, 1 KB", Body::OllamaGenerate, json!({"model": "llama3.2:3b", "prompt": "x ".repeat(480), "stream": false})));
    for (name, body, value) in rows {
        let bytes = value.to_string().into_bytes();
        let (least, median) = measure(|| {
            let request = decode_request(body, black_box(&bytes)).expect("it is a request");
            black_box(request.encode());
        });
        let (tree, _) = measure(|| {
            let value: Value = serde_json::from_slice(black_box(&bytes)).expect("it is JSON");
            black_box(serde_json::to_vec(&value).expect("it can be written"));
        });
        println!("| {name} | {} | {:.2} µs | {:.2} µs | {:.2} |", bytes.len(), least / 1e3, median / 1e3, least / tree);
    }
}
