//! What model servers really send, oddities included, event by event as their sources write it: none of it may be refused, damaged or cut
//! short.

use std::fmt::Write;
use std::sync::Arc;

use llm_guard_engine::controls::{Caller, Policy};
use llm_guard_engine::exchange::{AnswerHead, AnswerPlan, Ending, Exchange, RequestHead};
use llm_guard_engine::policy::GuardPolicy;
use llm_guard_engine::policy::settings::Standing;
use serde_json::{Value, json};

/// What a client gets of a stream of these events under a policy, as events.
fn through(policy: &str, path: &str, events: &[Value]) -> Vec<Value> {
    let policy = format!("apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nspec: {policy}");
    let policy = Policy::compile(&GuardPolicy::read(&policy).unwrap(), &Standing::of(None)).unwrap();
    let head = RequestHead { method: "POST", path, content_type: None, content_encoding: None, caller: Caller { over_loopback: false } };
    let (mut exchange, _) = Exchange::begin(Arc::clone(&policy), &head);
    let head = AnswerHead { status: 200, content_type: Some("text/event-stream"), content_encoding: None, is_empty: false };
    let AnswerPlan::Stream(mut judge) = exchange.open_answer(&head).unwrap() else { panic!("it is judged") };
    let mut stream = events.iter().fold(String::new(), |mut text, event| {
        let _ = write!(text, "data: {event}\n\n");
        text
    });
    if path == "/v1/chat/completions" {
        stream.push_str("data: [DONE]\n\n");
    }
    let mut out = Vec::new();
    judge.push(stream.as_bytes(), &mut out);
    judge.finish(&mut out);
    let out = String::from_utf8(out).unwrap();
    assert_eq!(judge.ending(), Some(Ending::Said), "{out}");
    out.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect()
}

fn block(index: u64, block: &Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

fn delta(index: u64, delta: &Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn stop(index: u64) -> Value {
    json!({"type": "content_block_stop", "index": index})
}

fn thinking(index: u64, text: &str) -> Value {
    delta(index, &json!({"type": "thinking_delta", "thinking": text}))
}

fn call(index: u64, name: &str) -> [Value; 3] {
    [
        block(index, &json!({"type": "tool_use", "id": name, "name": name, "input": {}})),
        delta(index, &json!({"type": "input_json_delta", "partial_json": "{\"a\":1}"})),
        stop(index),
    ]
}

/// A message of these events, from its start to its end.
fn message(events: &[Value]) -> Vec<Value> {
    let start = json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": {"input_tokens": 1, "output_tokens": 0}}});
    let end = [
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}}),
        json!({"type": "message_stop"}),
    ];
    [&[start], events, &end].concat()
}

/// The blocks as a client keeps them, by their numbers: each opened, filled and closed in turn.
fn kept(events: &[Value]) -> Vec<(String, String)> {
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut open = false;
    for event in events {
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert!(!open && event["index"] == blocks.len(), "{event}");
                let is = &event["content_block"];
                blocks.push((is["name"].as_str().or(is["type"].as_str()).unwrap().to_owned(), String::new()));
                open = true;
            }
            "content_block_delta" => {
                assert!(open && event["index"] == blocks.len() - 1, "{event}");
                let of = &event["delta"];
                let piece = [&of["text"], &of["thinking"], &of["partial_json"]].into_iter().find_map(Value::as_str).unwrap();
                blocks.last_mut().unwrap().1.push_str(piece);
            }
            "content_block_stop" => {
                assert!(open && event["index"] == blocks.len() - 1, "{event}");
                open = false;
            }
            _ => {}
        }
    }
    assert!(!open && events.last().unwrap()["type"] == "message_stop", "{events:#?}");
    blocks
}

#[test]
fn a_block_that_the_server_forgot_to_close_is_closed_when_the_next_one_opens() {
    // `anthropic/anthropic.go` of Ollama 0.17.4: a call right behind a thought takes the thought's number, and the thought is closed at the
    // very end, or where a text begins, under the number that is next.
    let thought = [block(0, &json!({"type": "thinking", "thinking": ""})), thinking(0, "let me"), thinking(0, " look")];
    let said = |blocks: &[(&str, &str)]| blocks.iter().map(|(is, text)| ((*is).to_owned(), (*text).to_owned())).collect::<Vec<_>>();
    let one = [&thought[..], &call(0, "one"), &[stop(1)]].concat();
    let out = through("{mode: hard}", "/v1/messages", &message(&one));
    assert_eq!(kept(&out), said(&[("thinking", "let me look"), ("one", "{\"a\":1}")]));
    let two = [&thought[..], &call(0, "one"), &call(1, "two"), &[stop(2)]].concat();
    let out = through("{mode: hard}", "/v1/messages", &message(&two));
    assert_eq!(kept(&out), said(&[("thinking", "let me look"), ("one", "{\"a\":1}"), ("two", "{\"a\":1}")]));
    let text = [block(2, &json!({"type": "text", "text": ""})), delta(2, &json!({"type": "text_delta", "text": "so"})), stop(2)];
    let then_text = [&thought[..], &call(0, "one"), &[stop(1)], &text].concat();
    let out = through("{mode: hard}", "/v1/messages", &message(&then_text));
    assert_eq!(kept(&out), said(&[("thinking", "let me look"), ("one", "{\"a\":1}"), ("text", "so")]));
    // It goes on thinking behind the call.
    let on = [&thought[..], &call(0, "one"), &[thinking(1, "and"), thinking(1, " so"), stop(1)]].concat();
    let out = through("{mode: hard}", "/v1/messages", &message(&on));
    assert_eq!(kept(&out), said(&[("thinking", "let me look"), ("one", "{\"a\":1}"), ("thinking", "and so")]));
    // llama.cpp's server closes all blocks at the end.
    let late = [
        &thought[..],
        &[block(1, &json!({"type": "text", "text": ""})), delta(1, &json!({"type": "text_delta", "text": "so"}))],
        &call(2, "one")[..2],
        &[stop(0), stop(1), stop(2)],
    ];
    let out = through("{mode: hard}", "/v1/messages", &message(&late.concat()));
    assert_eq!(kept(&out), said(&[("thinking", "let me look"), ("text", "so"), ("one", "{\"a\":1}")]));
    // A call that is taken out leaves nothing behind.
    let out = through("{tools: {mode: soft, allow: [two]}}", "/v1/messages", &message(&two));
    assert_eq!(kept(&out), said(&[("thinking", "let me look"), ("two", "{\"a\":1}")]));
}

fn chunk(calls: &Value, finish: &Value) -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "", "tool_calls": calls}, "finish_reason": finish}]})
}

#[test]
fn calls_that_all_bear_the_number_nought_are_told_apart_by_their_ids() {
    // `ToToolCalls` of Ollama 0.17.4 says the number that the model's parser gave the call, and most parsers (deepseek3.go, cogito.go,
    // lfm2.go, functiongemma.go, nemotron3nano.go) give none.
    let call = |id: &str, name: &str| json!({"index": 0, "id": id, "type": "function", "function": {"name": name, "arguments": format!("{{\"of\":\"{id}\"}}")}});
    let together = [chunk(&json!([call("a", "one"), call("b", "two")]), &Value::Null), chunk(&json!([]), &json!("tool_calls"))];
    let apart = [
        chunk(&json!([call("a", "one")]), &Value::Null),
        chunk(&json!([call("b", "two")]), &Value::Null),
        chunk(&json!([]), &json!("tool_calls")),
    ];
    for events in [&together[..], &apart] {
        let out = through("{mode: hard, tools: {allow: [one, two]}}", "/v1/chat/completions", events);
        let calls: Vec<&Value> = out.iter().filter_map(|event| event["choices"][0]["delta"]["tool_calls"].as_array()).flatten().collect();
        let said: Vec<_> = calls.iter().map(|call| (&call["id"], &call["function"]["name"], &call["function"]["arguments"])).collect();
        let expected =
            [("a", "one", "{\"of\":\"a\"}"), ("b", "two", "{\"of\":\"b\"}")].map(|(id, name, text)| (json!(id), json!(name), json!(text)));
        assert_eq!(said, expected.iter().map(|(id, name, text)| (id, name, text)).collect::<Vec<_>>());
        // A client that keeps calls by their numbers must not join them: what it then called was not judged.
        assert_ne!(calls[0]["index"], calls[1]["index"], "{calls:#?}");
    }
}

#[test]
fn a_fragment_with_an_id_of_its_own_and_no_name_belongs_to_the_call_of_its_number() {
    // vLLM up to 0.8 gives each delta a fresh id.
    let call = |id: &str, function: Value| json!([{"index": 0, "id": id, "type": "function", "function": function}]);
    let events = [
        chunk(&call("a", json!({"name": "one", "arguments": ""})), &Value::Null),
        chunk(&call("b", json!({"arguments": "{\"a\":"})), &Value::Null),
        chunk(&call("c", json!({"arguments": "1}"})), &json!("tool_calls")),
    ];
    let out = through("{mode: hard, tools: {allow: [one]}}", "/v1/chat/completions", &events);
    let calls: Vec<&Value> = out.iter().filter_map(|event| event["choices"][0]["delta"]["tool_calls"].as_array()).flatten().collect();
    assert_eq!(calls.len(), 1);
    assert_eq!((&calls[0]["id"], &calls[0]["function"]["arguments"]), (&json!("a"), &json!("{\"a\":1}")));
}

#[test]
fn items_that_the_server_counts_anew_are_known_by_their_ids() {
    // `openai/responses.go` of Ollama 0.17.4: each of the server's own pieces counts its calls from the same number again, and what is said
    // before the first thought keeps its id and changes its number.
    let item = |id: &str| json!({"id": id, "type": "function_call", "call_id": id, "name": id, "arguments": ""});
    let call = |place: u64, id: &str| {
        [
            json!({"type": "response.output_item.added", "output_index": place, "item": item(id)}),
            json!({"type": "response.function_call_arguments.done", "output_index": place, "item_id": id, "arguments": "{}"}),
            json!({"type": "response.output_item.done", "output_index": place, "item": item(id)}),
        ]
    };
    let end = json!({"type": "response.completed", "response": {"id": "r", "output": []}});
    let calls = [&call(1, "one")[..], &call(2, "two"), &call(1, "three"), std::slice::from_ref(&end)].concat();
    let out = through("{mode: hard}", "/v1/responses", &calls);
    let done: Vec<&str> =
        out.iter().filter(|event| event["type"] == "response.output_item.done").filter_map(|event| event["item"]["id"].as_str()).collect();
    assert_eq!(done, ["one", "two", "three"]);

    let text = |place: u64, text: &str| json!({"type": "response.output_text.delta", "output_index": place, "item_id": "m", "content_index": 0, "delta": text});
    let events = [
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"id": "m", "type": "message", "content": []}}),
        text(0, "Hm. "),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"id": "rs", "type": "reasoning", "summary": []}}),
        json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "item_id": "rs", "summary_index": 0, "delta": "think. "}),
        json!({"type": "response.reasoning_summary_text.done", "output_index": 0, "item_id": "rs", "summary_index": 0, "text": "think. "}),
        text(1, "So."),
        json!({"type": "response.output_text.done", "output_index": 1, "item_id": "m", "content_index": 0, "text": "Hm. So."}),
        end,
    ];
    let out = through("{mode: hard}", "/v1/responses", &events);
    let said: String = out.iter().filter(|event| event["item_id"] == "m").filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(said, "Hm. So.");
}

#[test]
fn a_text_of_which_each_piece_bears_a_part_of_its_own_is_one_text() {
    // `serving_responses.py` of vLLM counts `content_index` up with every piece.
    let key = format!("gh{}{}", "p_", "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xYabcd");
    let said = format!("{}so the key is {key}, and that is all.", "word ".repeat(100));
    let mut events = vec![
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"id": "m", "type": "message", "content": []}}),
        json!({"type": "response.content_part.added", "output_index": 0, "item_id": "m", "content_index": 0, "part": {"type": "output_text", "text": ""}}),
    ];
    let pieces: Vec<&[u8]> = said.as_bytes().chunks(4).collect();
    for (place, piece) in (1u64..).zip(&pieces) {
        let piece = String::from_utf8_lossy(piece);
        events
            .push(json!({"type": "response.output_text.delta", "output_index": 0, "item_id": "m", "content_index": place, "delta": piece}));
    }
    let part = json!({"type": "output_text", "text": said});
    events.extend([
        json!({"type": "response.output_text.done", "output_index": 0, "item_id": "m", "content_index": pieces.len() + 1, "text": said}),
        json!({"type": "response.content_part.done", "output_index": 0, "item_id": "m", "content_index": pieces.len() + 2, "part": part}),
        json!({"type": "response.completed", "response": {"id": "r", "output": [{"id": "m", "type": "message", "content": [part]}]}}),
    ]);
    let out = through("{mode: hard}", "/v1/responses", &events);
    let text: String = out.iter().filter_map(|event| event["delta"].as_str()).collect();
    let expected = said.replace(&key, "[REDACTED_GITHUB_TOKEN]");
    assert_eq!(text, expected);
    assert_eq!(out.last().unwrap()["response"]["output"][0]["content"][0]["text"], expected);
}

#[test]
fn a_call_whose_item_begins_with_a_piece_of_its_arguments_comes_whole() {
    // `simple_streaming_events.py` of vLLM.
    let item = |arguments: &str| json!({"type": "function_call", "id": "i", "call_id": "c", "name": "one", "arguments": arguments, "status": "in_progress"});
    let piece = |delta: &str| json!({"type": "response.function_call_arguments.delta", "output_index": 0, "item_id": "i", "delta": delta});
    let events = [
        json!({"type": "response.output_item.added", "output_index": 0, "item": item("{\"a\": ")}),
        piece("[1,"),
        piece(" 2]}"),
        json!({"type": "response.function_call_arguments.done", "output_index": 0, "item_id": "i", "name": "one", "arguments": "{\"a\": [1, 2]}"}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": item("{\"a\": [1, 2]}")}),
        json!({"type": "response.completed", "response": {"id": "r", "output": [item("{\"a\": [1, 2]}")]}}),
    ];
    let out = through("{mode: hard, tools: {allow: [one]}}", "/v1/responses", &events);
    let whole = "{\"a\":[1,2]}";
    let (begun, done) =
        (&out[0]["item"]["arguments"], &out.iter().find(|event| event["type"] == "response.output_item.done").unwrap()["item"]);
    assert_eq!((begun, &done["arguments"]), (&json!(""), &json!(whole)));
    let said: String = out.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!((said.as_str(), &out.last().unwrap()["response"]["output"][0]["arguments"]), (whole, &json!(whole)));
}

#[test]
fn a_call_that_breaks_off_since_the_answer_is_long_enough_takes_nothing_else_with_it() {
    // vLLM and llama.cpp's server say the pieces of a call until `max_tokens` is reached.
    let call = |index: u64, id: &str, text: &str| json!({"index": index, "id": id, "type": "function", "function": {"name": "one", "arguments": text}});
    let events = [
        chunk(&json!([call(0, "a", "{\"a\":1}")]), &Value::Null),
        chunk(&json!([call(1, "b", "{\"a\": \"hal")]), &Value::Null),
        chunk(&json!([]), &json!("length")),
    ];
    let out = through("{mode: hard}", "/v1/chat/completions", &events);
    let calls: Vec<&Value> = out.iter().filter_map(|event| event["choices"][0]["delta"]["tool_calls"].as_array()).flatten().collect();
    assert_eq!(calls, [&call(0, "a", "{\"a\":1}")]);
    assert_eq!(out.last().unwrap()["choices"][0]["finish_reason"], "length");
}
