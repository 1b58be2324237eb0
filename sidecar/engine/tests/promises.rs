//! The promises of the design, as properties of whole exchanges: every family, every channel, every kind, every split.

use std::sync::{Arc, LazyLock};

use llm_guard_engine::controls::{Caller, Policy};
use llm_guard_engine::detect::secrets::{Kind, TokenKey};
use llm_guard_engine::exchange::{AnswerHead, AnswerPlan, Exchange, Forward, Next, RequestHead};
use llm_guard_engine::policy::settings::Standing;
use llm_guard_engine::policy::{GuardPolicy, Mode};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A made-up value of each of some kinds of every form, built from parts.
static SAMPLES: LazyLock<Vec<(Kind, String)>> = LazyLock::new(|| {
    let letters = "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xY";
    let samples = [
        ("HUGGINGFACE_TOKEN", format!("hf{}{letters}z1", "_")),
        ("OPENAI_KEY", format!("sk{}{letters}abcdefghijklmnop", "-")),
        ("AWS_ACCESS_KEY", ["AK", "IA", "QWERTY1234567890"].concat()),
        ("GITHUB_TOKEN", format!("gh{}{letters}abcd1234", "p_")),
        ("GITHUB_OAUTH", format!("gh{}{letters}abcd1234", "o_")),
        ("JWT_TOKEN", ["ey", "JhbGciOiJIUzI1NiJ9.ey", "JzdWIiOiJub2JvZHkifQ.c2lnbmF0dXJl-x_y"].concat()),
        ("EMAIL", ["nobody.at.all", "@", "mail.example.org"].concat()),
        ("SSN", ["078", "05", "1121"].join("-")),
        ("CREDIT_CARD", ["4111", "1111", "1111", "1111"].join(" ")),
    ];
    samples.into_iter().map(|(name, value)| (Kind::of_name(name).unwrap(), value)).collect()
});

fn sample(name: &str) -> String {
    SAMPLES.iter().find(|(kind, _)| kind.name() == name).unwrap().1.clone()
}

/// A channel of an API in which a model's text travels.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    ChatContent,
    ChatThinking,
    GenerateResponse,
    GenerateThinking,
    OpenAiContent,
    OpenAiReasoning,
    OpenAiSecondChoice,
    OpenAiArguments,
    OpenAiText,
    AnthropicText,
    AnthropicThinking,
    AnthropicInput,
    ResponseText,
    ResponseReasoning,
    ResponseArguments,
}

const WAYS: [Way; 15] = [
    Way::ChatContent,
    Way::ChatThinking,
    Way::GenerateResponse,
    Way::GenerateThinking,
    Way::OpenAiContent,
    Way::OpenAiReasoning,
    Way::OpenAiSecondChoice,
    Way::OpenAiArguments,
    Way::OpenAiText,
    Way::AnthropicText,
    Way::AnthropicThinking,
    Way::AnthropicInput,
    Way::ResponseText,
    Way::ResponseReasoning,
    Way::ResponseArguments,
];

impl Way {
    fn path(self) -> &'static str {
        match self {
            Self::ChatContent | Self::ChatThinking => "/api/chat",
            Self::GenerateResponse | Self::GenerateThinking => "/api/generate",
            Self::OpenAiText => "/v1/completions",
            Self::AnthropicText | Self::AnthropicThinking | Self::AnthropicInput => "/v1/messages",
            Self::ResponseText | Self::ResponseReasoning | Self::ResponseArguments => "/v1/responses",
            _ => "/v1/chat/completions",
        }
    }

    /// Whether its events have names, and its streams an end of their own.
    fn has_names(self) -> bool {
        ["/v1/messages", "/v1/responses"].contains(&self.path())
    }

    fn is_anthropic(self) -> bool {
        self.path() == "/v1/messages"
    }

    /// What stands before the first piece.
    fn first(self) -> Vec<Value> {
        if self.path() == "/v1/responses" {
            return vec![
                json!({"type": "response.created", "response": {"id": "r", "status": "in_progress", "output": []}, "sequence_number": 0}),
                json!({"type": "response.output_item.added", "output_index": 0, "item": self.item(""), "sequence_number": 1}),
            ];
        }
        if !self.is_anthropic() {
            return Vec::new();
        }
        let block = match self {
            Self::AnthropicText => json!({"type": "text", "text": ""}),
            Self::AnthropicThinking => json!({"type": "thinking", "thinking": ""}),
            _ => json!({"type": "tool_use", "id": "t", "name": "f", "input": {}}),
        };
        let message =
            json!({"id": "msg", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": {"input_tokens": 1}});
        vec![
            json!({"type": "message_start", "message": message}),
            json!({"type": "content_block_start", "index": 0, "content_block": block}),
        ]
    }

    fn is_openai(self) -> bool {
        self.path().starts_with("/v1")
    }

    /// What a frame with a piece of text looks like.
    fn frame(self, piece: &str) -> Value {
        let openai = |choice: u64, delta: Value| json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": choice, "delta": delta, "finish_reason": null}]});
        match self {
            Self::ChatContent => {
                json!({"model": "m", "created_at": "t", "message": {"role": "assistant", "content": piece}, "done": false})
            }
            Self::ChatThinking => {
                json!({"model": "m", "created_at": "t", "message": {"role": "assistant", "content": "", "thinking": piece}, "done": false})
            }
            Self::GenerateResponse => json!({"model": "m", "created_at": "t", "response": piece, "done": false}),
            Self::GenerateThinking => json!({"model": "m", "created_at": "t", "response": "", "thinking": piece, "done": false}),
            Self::OpenAiContent => openai(0, json!({"role": "assistant", "content": piece})),
            Self::OpenAiReasoning => openai(0, json!({"reasoning": piece})),
            Self::OpenAiSecondChoice => openai(1, json!({"content": piece})),
            Self::OpenAiArguments => openai(
                0,
                json!({"tool_calls": [{"index": 0, "id": "call", "type": "function", "function": {"name": "f", "arguments": piece}}]}),
            ),
            Self::OpenAiText => text_completion(piece, &Value::Null),
            Self::AnthropicText => block_delta(json!({"type": "text_delta", "text": piece})),
            Self::AnthropicThinking => block_delta(json!({"type": "thinking_delta", "thinking": piece})),
            Self::AnthropicInput => block_delta(json!({"type": "input_json_delta", "partial_json": piece})),
            Self::ResponseText => {
                json!({"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0, "delta": piece, "sequence_number": 9})
            }
            Self::ResponseReasoning => {
                json!({"type": "response.reasoning_summary_text.delta", "item_id": "i", "output_index": 0, "summary_index": 0, "delta": piece})
            }
            Self::ResponseArguments => {
                json!({"type": "response.function_call_arguments.delta", "item_id": "i", "output_index": 0, "delta": piece})
            }
        }
    }

    /// An item of an answer that says a text.
    fn item(self, text: &str) -> Value {
        match self {
            Self::ResponseText => {
                json!({"id": "i", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]})
            }
            Self::ResponseReasoning => {
                json!({"id": "i", "type": "reasoning", "summary": [{"type": "summary_text", "text": text}], "encrypted_content": text})
            }
            _ => json!({"id": "i", "type": "function_call", "call_id": "c", "name": "f", "arguments": text}),
        }
    }

    fn last(self, text: &str) -> Vec<Value> {
        let openai = |choice: u64| json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": choice, "delta": {}, "finish_reason": "stop"}]});
        match self {
            Self::ChatContent | Self::ChatThinking => vec![
                json!({"model": "m", "created_at": "t", "message": {"role": "assistant", "content": ""}, "done": true, "done_reason": "stop"}),
            ],
            Self::GenerateResponse | Self::GenerateThinking => {
                vec![json!({"model": "m", "created_at": "t", "response": "", "done": true, "context": [1, 2]})]
            }
            Self::OpenAiSecondChoice => vec![openai(0), openai(1)],
            Self::OpenAiText => vec![text_completion("", &json!("stop"))],
            Self::AnthropicText | Self::AnthropicThinking | Self::AnthropicInput => vec![
                json!({"type": "content_block_stop", "index": 0}),
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"input_tokens": 1, "output_tokens": 1}}),
                json!({"type": "message_stop"}),
            ],
            Self::ResponseText | Self::ResponseReasoning | Self::ResponseArguments => {
                let done = match self {
                    Self::ResponseText => json!({"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": text}),
                    Self::ResponseReasoning => {
                        json!({"type": "response.reasoning_summary_text.done", "output_index": 0, "summary_index": 0, "text": text})
                    }
                    _ => json!({"type": "response.function_call_arguments.done", "item_id": "i", "output_index": 0, "arguments": text}),
                };
                vec![
                    done,
                    json!({"type": "response.output_item.done", "output_index": 0, "item": self.item(text)}),
                    json!({"type": "response.completed", "response": {"id": "r", "status": "completed", "output": [self.item(text)]}}),
                ]
            }
            _ => vec![openai(0)],
        }
    }

    /// The text as its API carries it: arguments are JSON.
    fn carried(self, text: &str) -> String {
        if matches!(self, Self::OpenAiArguments | Self::AnthropicInput | Self::ResponseArguments) {
            json!({"q": text}).to_string()
        } else {
            text.to_owned()
        }
    }

    fn stream(self, pieces: &[&str]) -> Vec<u8> {
        let frames = self.first().into_iter().chain(pieces.iter().map(|piece| self.frame(piece))).chain(self.last(&pieces.concat()));
        let mut out: String =
            frames.map(|frame| if self.is_openai() { format!("data: {frame}\n\n") } else { format!("{frame}\n") }).collect();
        if self.is_openai() && !self.has_names() {
            out.push_str("data: [DONE]\n\n");
        }
        out.into_bytes()
    }

    /// The end of a stream: what stands behind the last piece.
    fn end(self, text: &str) -> Vec<u8> {
        let whole = self.stream(&[text]);
        let before = self.first().into_iter().chain([self.frame(text)]);
        let before: usize = before.map(|frame| frame.to_string().len() + if self.is_openai() { 8 } else { 1 }).sum();
        whole[before..].to_vec()
    }

    fn unstreamed(self, text: &str) -> Vec<u8> {
        let openai = |choice: u64, message: Value| json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": choice, "message": message, "finish_reason": "stop"}]});
        let body = match self {
            Self::ChatContent => json!({"model": "m", "created_at": "t", "message": {"role": "assistant", "content": text}, "done": true}),
            Self::ChatThinking => {
                json!({"model": "m", "created_at": "t", "message": {"role": "assistant", "content": "", "thinking": text}, "done": true})
            }
            Self::GenerateResponse => json!({"model": "m", "created_at": "t", "response": text, "done": true}),
            Self::GenerateThinking => json!({"model": "m", "created_at": "t", "response": "", "thinking": text, "done": true}),
            Self::OpenAiContent => openai(0, json!({"role": "assistant", "content": text})),
            Self::OpenAiReasoning => openai(0, json!({"role": "assistant", "content": null, "reasoning": text})),
            Self::OpenAiSecondChoice => openai(1, json!({"role": "assistant", "content": text})),
            Self::OpenAiArguments => openai(
                0,
                json!({"role": "assistant", "content": null, "tool_calls": [{"index": 0, "id": "call", "type": "function", "function": {"name": "f", "arguments": text}}]}),
            ),
            Self::OpenAiText => text_completion(text, &json!("stop")),
            Self::AnthropicText => message(json!({"type": "text", "text": text})),
            Self::AnthropicThinking => message(json!({"type": "thinking", "thinking": text})),
            Self::AnthropicInput => {
                let input: Value = serde_json::from_str(text).unwrap_or_default();
                message(json!({"type": "tool_use", "id": "t", "name": "f", "input": input}))
            }
            Self::ResponseText | Self::ResponseReasoning | Self::ResponseArguments => {
                json!({"id": "r", "object": "response", "status": "completed", "output": [self.item(text)]})
            }
        };
        body.to_string().into_bytes()
    }

    /// What an item says, in each of its copies the same.
    fn said_of(self, item: &Value) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match self {
            Self::ResponseText => text(&item["content"][0]["text"]),
            Self::ResponseReasoning => {
                assert_eq!(item["summary"][0]["text"], item["encrypted_content"]);
                text(&item["encrypted_content"])
            }
            _ => text(&item["arguments"]),
        }
    }

    /// What a frame, or an unstreamed answer, says in this channel.
    fn said(self, frame: &Value) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let choice = |index: u64| {
            let choices = frame["choices"].as_array().into_iter().flatten();
            choices
                .filter(|choice| choice["index"] == index)
                .map(|choice| if choice["delta"].is_null() { &choice["message"] } else { &choice["delta"] }.clone())
                .collect::<Vec<_>>()
        };
        match self {
            Self::ChatContent => text(&frame["message"]["content"]),
            Self::ChatThinking => text(&frame["message"]["thinking"]),
            Self::GenerateResponse => text(&frame["response"]),
            Self::GenerateThinking => text(&frame["thinking"]),
            Self::OpenAiContent => choice(0).iter().map(|said| text(&said["content"])).collect(),
            Self::OpenAiReasoning => choice(0).iter().map(|said| text(&said["reasoning"])).collect(),
            Self::OpenAiSecondChoice => choice(1).iter().map(|said| text(&said["content"])).collect(),
            Self::OpenAiArguments => choice(0)
                .iter()
                .flat_map(|said| said["tool_calls"].as_array().cloned().unwrap_or_default())
                .map(|call| text(&call["function"]["arguments"]))
                .collect(),
            Self::OpenAiText => text(&frame["choices"][0]["text"]),
            Self::AnthropicText => text(&frame["delta"]["text"]) + &text(&frame["content"][0]["text"]),
            Self::AnthropicThinking => text(&frame["delta"]["thinking"]) + &text(&frame["content"][0]["thinking"]),
            Self::AnthropicInput => match &frame["content"][0]["input"] {
                Value::Null => text(&frame["delta"]["partial_json"]),
                input => input.to_string(),
            },
            // All copies say the same, which is what the pieces said.
            Self::ResponseText | Self::ResponseReasoning | Self::ResponseArguments => match &frame["output"][0] {
                Value::Null => text(&frame["delta"]),
                item => self.said_of(item),
            },
        }
    }
}

fn text_completion(text: &str, finish: &Value) -> Value {
    json!({"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [{"text": text, "index": 0, "finish_reason": finish}]})
}

fn block_delta(delta: Value) -> Value {
    let mut event = json!({"type": "content_block_delta", "index": 0});
    event["delta"] = delta;
    event
}

fn message(block: Value) -> Value {
    let mut message =
        json!({"id": "msg", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn", "usage": {"input_tokens": 1}});
    message["content"] = Value::Array(vec![block]);
    message
}

fn policy(mode: Mode) -> Arc<Policy> {
    static POLICIES: LazyLock<[Arc<Policy>; 3]> =
        LazyLock::new(|| Mode::ALL.map(|mode| Policy::compile(&GuardPolicy::built_in(), &Standing::of(Some(mode))).unwrap()));
    Arc::clone(&POLICIES[mode as usize])
}

fn begin(policy: &Arc<Policy>, path: &str) -> Exchange {
    let head = RequestHead { method: "POST", path, content_type: None, content_encoding: None, caller: Caller { over_loopback: false } };
    Exchange::begin(Arc::clone(policy), &head).0
}

fn answer_head(content_type: &'static str) -> AnswerHead<'static> {
    AnswerHead { status: 200, content_type: Some(content_type), content_encoding: None, is_empty: false }
}

/// The bytes that a client gets of a stream that arrives in chunks.
fn through_stream(policy: &Arc<Policy>, way: Way, bytes: &[u8], chunk: usize) -> Vec<u8> {
    through_stream_of(begin(policy, way.path()), way, bytes, chunk)
}

/// The same as the answer of an exchange.
fn through_stream_of(mut exchange: Exchange, way: Way, bytes: &[u8], chunk: usize) -> Vec<u8> {
    let content_type = if way.is_openai() { "text/event-stream" } else { "application/x-ndjson" };
    let AnswerPlan::Stream(mut judge) = exchange.open_answer(&answer_head(content_type)).unwrap() else { panic!("a stream is judged") };
    let mut out = Vec::new();
    for chunk in bytes.chunks(chunk) {
        judge.push(chunk, &mut out);
    }
    judge.finish(&mut out);
    out
}

fn frames(way: Way, bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty());
    // The events of one API have names, which say what their JSON says.
    let lines = lines.filter(|line| !(way.has_names() && line.starts_with("event: ")));
    let lines = lines.map(|line| if way.is_openai() { line.strip_prefix("data: ").unwrap() } else { line });
    lines.filter(|line| *line != "[DONE]").map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn streamed(policy: &Arc<Policy>, way: Way, pieces: &[&str], chunk: usize) -> String {
    streamed_of(begin(policy, way.path()), way, pieces, chunk)
}

fn streamed_of(exchange: Exchange, way: Way, pieces: &[&str], chunk: usize) -> String {
    let out = through_stream_of(exchange, way, &way.stream(pieces), chunk);
    let frames = frames(way, &out);
    let said: String = frames.iter().map(|frame| way.said(frame)).collect();
    if way.path() == "/v1/responses" {
        let copies = frames.iter().flat_map(|frame| match frame["type"].as_str() {
            Some("response.output_item.done") => vec![way.said_of(&frame["item"])],
            Some("response.completed") => vec![way.said_of(&frame["response"]["output"][0])],
            Some(done) if done.rsplit('.').next() == Some("done") => {
                vec![[&frame["text"], &frame["arguments"]].iter().filter_map(|text| text.as_str()).collect::<String>()]
            }
            _ => Vec::new(),
        });
        let copies: Vec<String> = copies.collect();
        assert!(copies.len() == 3 && copies.iter().all(|copy| *copy == said), "{way:?}: {said}: {copies:?}");
        assert!(
            frames
                .iter()
                .enumerate()
                .all(|(number, frame)| frame["sequence_number"].as_u64().is_none_or(|sequence| sequence == number as u64))
        );
    }
    said
}

fn unstreamed(policy: &Arc<Policy>, way: Way, text: &str) -> String {
    unstreamed_of(begin(policy, way.path()), way, text)
}

fn unstreamed_of(mut exchange: Exchange, way: Way, text: &str) -> String {
    let AnswerPlan::Whole(mut judge) = exchange.open_answer(&answer_head("application/json")).unwrap() else {
        panic!("an answer is judged")
    };
    let out = judge.judge(&way.unstreamed(text)).unwrap();
    way.said(&serde_json::from_slice(&out).unwrap())
}

/// All places at which a text can be cut into two.
fn places(text: &str) -> impl Iterator<Item = usize> + '_ {
    (0..=text.len()).filter(|place| text.is_char_boundary(*place))
}

#[test]
fn streamed_equals_unstreamed_for_every_kind_in_every_channel_at_every_split() {
    let policy = policy(Mode::Hard);
    for way in WAYS {
        for (kind, value) in SAMPLES.iter() {
            let text = way.carried(&format!("né: {value} ok"));
            let expected = unstreamed(&policy, way, &text);
            assert!(expected.contains(kind.mark()), "{way:?} {kind:?} {expected}");
            assert!(!expected.contains(value));
            for place in places(&text) {
                assert_eq!(streamed(&policy, way, &[&text[..place], &text[place..]], usize::MAX), expected, "{way:?} {kind:?} at {place}");
            }
            let singly: Vec<String> = text.chars().map(String::from).collect();
            let singly: Vec<&str> = singly.iter().map(String::as_str).collect();
            assert_eq!(streamed(&policy, way, &singly, 5), expected, "{way:?} {kind:?} one by one");
        }
    }
}

fn texts() -> impl Strategy<Value = String> {
    let value = (0..SAMPLES.len()).prop_map(|number| SAMPLES[number].1.clone());
    let cut = (value.clone(), any::<prop::sample::Index>()).prop_map(|(value, index)| value[..index.index(value.len() + 1)].to_owned());
    let noise = prop::sample::select(vec![
        " ",
        ".",
        "-",
        "@",
        "eyJ",
        "sk-",
        "AKIA",
        "a",
        "7",
        "é",
        "\n",
        "\"",
        "\\",
        "{",
        "😀",
        "\u{200b}",
        "</script>",
        "1111",
    ]);
    prop::collection::vec(prop_oneof![2 => value, 2 => cut, 4 => noise.prop_map(str::to_owned)], 0..10).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn streamed_equals_unstreamed(text in texts(), way in prop::sample::select(WAYS.to_vec()), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20), chunk in 1usize..200) {
        let policy = policy(Mode::Soft);
        let text = way.carried(&text);
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).filter(|end| text.is_char_boundary(*end)).collect();
        ends.extend([0, text.len()]);
        ends.sort_unstable();
        let pieces: Vec<&str> = ends.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
        prop_assert_eq!(streamed(&policy, way, &pieces, chunk), unstreamed(&policy, way, &text));
    }

    #[test]
    fn a_stream_that_breaks_off_gives_nothing_of_a_value_and_no_normal_end(kind in 0..SAMPLES.len(), way in prop::sample::select(WAYS.to_vec()), cut in any::<prop::sample::Index>()) {
        let policy = policy(Mode::Hard);
        let (kind, value) = &SAMPLES[kind];
        let text = way.carried(&format!("it is {value} and"));
        let pieces: Vec<String> = text.chars().map(String::from).collect();
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let whole = way.stream(&pieces);
        // Anywhere before the frame that ends the answer.
        let without_end = whole.len() - way.end(&text).len();
        let bytes = &whole[..cut.index(without_end)];
        let out = through_stream(&policy, way, bytes, 7);
        let frames = frames(way, &out);
        let said: String = frames.iter().map(|frame| way.said(frame)).collect();
        // What precedes the value may be said, what of it looks like the beginning of one may not.
        let leaked = (6..=value.len()).any(|length| said.contains(&value[..length]));
        prop_assert!(!leaked || kind.name() == "EMAIL", "{said}");
        prop_assert!(frames.last().is_some_and(|frame| frame.get("error").is_some()));
        prop_assert!(!out.windows(6).any(|window| window == b"[DONE]"));
        prop_assert!(!frames.iter().any(|frame| frame["done"] == true || frame["type"] == "message_stop" || frame["type"] == "response.completed"));
    }

    #[test]
    fn monitor_forwards_every_request_as_it_came(path in paths(), body in bodies()) {
        let policy = policy(Mode::Monitor);
        let mut exchange = begin(&policy, path);
        prop_assert_eq!(exchange.judge_request(&body), Ok(Forward::Original));
    }

    #[test]
    fn monitor_gives_every_whole_answer_as_it_came(path in paths(), body in bodies()) {
        let policy = policy(Mode::Monitor);
        if let AnswerPlan::Whole(mut judge) = begin(&policy, path).open_answer(&answer_head("application/json")).unwrap() {
            prop_assert_eq!(judge.judge(&body), Ok(body));
        }
    }

    #[test]
    fn no_bytes_make_the_guard_panic_and_what_it_forwards_it_would_forward_again(path in paths(), body in bodies()) {
        for mode in [Mode::Soft, Mode::Hard] {
            let policy = policy(mode);
            if let Ok(Forward::Encoded { body: first, .. }) = begin(&policy, path).judge_request(&body) {
                let Ok(Forward::Encoded { body: second, .. }) = begin(&policy, path).judge_request(&first) else {
                    return Err(TestCaseError::fail("what was forwarded is refused"));
                };
                prop_assert_eq!(first, second);
            }
        }
    }

    #[test]
    fn an_error_never_says_what_stood_in_the_body(path in paths(), body in bodies()) {
        let marker = "xyzzyplugh";
        let body = String::from_utf8_lossy(&body).replace("MARK", marker);
        if let Err(refusal) = begin(&policy(Mode::Hard), path).judge_request(body.as_bytes()) {
            prop_assert!(!refusal.message.contains(marker), "{}", refusal.message);
        }
    }
}

fn paths() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "/api/chat",
        "/api/generate",
        "/v1/chat/completions",
        "/api/show",
        "/api/pull",
        "/api/tags",
        "/api/embed",
        "/api/embeddings",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/messages",
        "/v1/responses",
        "/nope",
    ])
}

/// Bodies that are nearly right.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        "model",
        "Model",
        "messages",
        "role",
        "content",
        "prompt",
        "tools",
        "function",
        "name",
        "arguments",
        "tool_calls",
        "stream",
        "options",
        "images",
        "context",
        "template",
        "type",
        "text",
        "image_url",
        "tool_use",
        "tool_result",
        "tool_use_id",
        "thinking",
        "id",
        "input",
        "source",
        "user",
        "assistant",
        "MARK",
        "system",
        "\u{17f}ystem",
        "x",
        "",
    ]);
    let leaf = prop_oneof![
        word.clone().prop_map(|word| json!(word)),
        any::<i64>().prop_map(|number| json!(number)),
        any::<f64>().prop_map(|number| json!(number)),
        any::<bool>().prop_map(|flag| json!(flag)),
        Just(Value::Null),
    ];
    let tree = leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())),
        ]
    });
    let chat = (tree.clone(), tree.clone()).prop_map(|(content, extra)| {
        json!({"model": "MARK", "messages": [{"role": "user", "content": content, "tool_calls": extra}], "prompt": "MARK"})
    });
    prop_oneof![
        4 => tree.prop_map(|tree| tree.to_string().into_bytes()),
        4 => chat.prop_map(|body| body.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => Just(br#"{"model":"MARK","MODEL":"b"}"#.to_vec()),
    ]
}

#[test]
fn token_contexts_never_reach_the_client() {
    let way = Way::GenerateResponse;
    let mut frame = way.frame("hi ");
    frame["context"] = json!([104, 105]);
    let out = String::from_utf8(through_stream(&policy(Mode::Hard), way, format!("{frame}\n").as_bytes(), 9)).unwrap();
    assert!(out.contains("\"hi \"") && !out.contains("context"), "{out}");
}

#[test]
fn a_request_that_nobody_may_make_is_refused_before_its_body_is_read() {
    for (method, path, status) in [
        ("DELETE", "/api/delete", 403),
        ("POST", "/api/create", 403),
        ("POST", "/api/blobs/sha256:0", 403),
        ("POST", "/api/signout", 403),
        ("POST", "/x", 404),
        ("GET", "/api/chat", 405),
    ] {
        let head = RequestHead { method, path, content_type: None, content_encoding: None, caller: Caller { over_loopback: true } };
        for mode in Mode::ALL {
            let (mut exchange, next) = Exchange::begin(policy(mode), &head);
            match next {
                Next::Refuse(refusal) => assert!(refusal.status == status && mode > Mode::Monitor, "{method} {path} {mode}"),
                Next::Pass => assert_eq!(mode, Mode::Monitor, "{method} {path}"),
                Next::ReadBody => {
                    assert_eq!(mode, Mode::Monitor, "{method} {path} is read");
                    exchange.judge_request(b"{}").unwrap();
                }
            }
            assert_eq!(exchange.tally.violations.values().sum::<u64>(), 1, "{method} {path} {mode}");
        }
    }
}

#[test]
fn what_a_model_thinks_is_said_before_what_it_answers() {
    let policy = policy(Mode::Hard);
    let thinking = Way::ChatThinking.stream(&["I had better be brief"]);
    let answer = Way::ChatContent.stream(&["so", "."]);
    let thoughts = thinking.split_inclusive(|byte| *byte == b'\n').next().unwrap();
    let out = through_stream(&policy, Way::ChatContent, &[thoughts, &answer].concat(), 11);
    let said: Vec<(String, String)> =
        frames(Way::ChatContent, &out).iter().map(|frame| (Way::ChatThinking.said(frame), Way::ChatContent.said(frame))).collect();
    let first_answer = said.iter().position(|(_, answer)| !answer.is_empty()).unwrap();
    assert_eq!(said[..first_answer].iter().map(|(thought, _)| thought.as_str()).collect::<String>(), "I had better be brief");
    assert!(said[first_answer..].iter().all(|(thought, _)| thought.is_empty()));
}

#[test]
fn a_value_that_is_spread_around_another_channel_ends_the_answer() {
    let policy = policy(Mode::Hard);
    let value = sample("OPENAI_KEY");
    let thought = |piece: &str| format!("{}\n", Way::ChatThinking.frame(piece));
    let spread = [thought(&value[..8]), format!("{}\n", Way::ChatContent.frame("hm ")), thought(&value[8..])].concat().into_bytes();
    for rest in [thought(" and").into_bytes(), Way::ChatContent.stream(&["so"]), Way::ChatContent.stream(&[])] {
        let out = through_stream(&policy, Way::ChatContent, &[&spread[..], &rest].concat(), usize::MAX);
        let frames = frames(Way::ChatContent, &out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("in the middle of what has to be redacted") && frames.last().unwrap()["error"].is_string(), "{text}");
        assert!(!text.contains(&value[8..]) && !frames.iter().any(|frame| frame["done"] == true), "{text}");
    }
}

#[test]
fn a_call_that_is_there_as_a_whole_is_said_in_one_event_as_the_server_says_it() {
    let policy = policy(Mode::Hard);
    let chunk = |delta: Value, finish: Value| json!({"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    let call =
        |index: u64| json!([{"index": index, "id": "call", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]);
    let events = [
        chunk(json!({"role": "assistant", "content": "Let me look, "}), Value::Null),
        chunk(json!({"role": "assistant", "content": "", "tool_calls": call(0)}), Value::Null),
        chunk(json!({"role": "assistant", "content": "", "tool_calls": call(1)}), Value::Null),
        chunk(json!({"role": "assistant", "content": ""}), json!("tool_calls")),
    ];
    let frames_of: Vec<String> = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    let bytes = frames_of.concat() + "data: [DONE]\n\n";
    let said = frames(Way::OpenAiContent, &through_stream(&policy, Way::OpenAiContent, bytes.as_bytes(), 7));
    let said: Vec<&Value> = said.iter().filter(|event| event.is_object()).collect();
    assert_eq!(said.len(), events.len(), "{said:#?}");
    for (event, said) in events.iter().zip(said) {
        assert_eq!(event["choices"], said["choices"]);
    }
}

// === what a policy says of values beside their kinds ===

static KEY: LazyLock<TokenKey> = LazyLock::new(|| TokenKey::new(&[7; 32]).unwrap());

#[test]
fn what_is_known_by_its_key_alone_is_replaced_alike_in_requests_and_answers() {
    let yaml = "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\n\
                spec: {mode: hard, redaction: {requests: redact, replacements: [{kinds: [password], with: token}]}}";
    let standing = Standing { tokens: Some(&KEY), ..Standing::default() };
    let policy = Policy::compile(&GuardPolicy::read(yaml).unwrap(), &standing).unwrap();
    let secret = ["Tr0ub4", "dor-and", "-3x"].concat();
    let arguments = json!({"password": secret}).to_string();
    let message =
        json!({"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}]});
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "so?"}, message]});
    let mut exchange = begin(&policy, "/v1/chat/completions");
    let Ok(Forward::Encoded { body, .. }) = exchange.judge_request(body.to_string().as_bytes()) else { panic!("it goes on as it came") };
    let told: Value = serde_json::from_slice(&body).unwrap();
    let told = told.pointer("/messages/1/tool_calls/0/function/arguments").and_then(Value::as_str).unwrap();
    assert!(told.starts_with("{\"password\":\"[REDACTED_PASSWORD_") && !told.contains(&secret), "{told}");
    for way in WAYS.into_iter().filter(|way| !way.carried("").is_empty()) {
        assert_eq!(unstreamed(&policy, way, &arguments), told, "{way:?}");
    }
}

#[test]
fn what_a_policy_says_of_values_holds_in_every_channel_at_every_split_and_in_requests() {
    let redaction = "{requests: redact, kinds: [personalData], patterns: [{name: employeeNumber, pattern: 'EMP-[0-9]{6}'}], allow: ['*@example.org'], \
                     replacements: [{kinds: [creditCard], with: lastDigits}, {kinds: [employeeNumber, personalData], with: token}]}";
    let of = |mode: Mode| {
        let yaml = format!("apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nspec: {{mode: {mode}, redaction: {redaction}}}");
        let standing = Standing { tokens: Some(&KEY), ..Standing::default() };
        Policy::compile(&GuardPolicy::read(&yaml).unwrap(), &standing).unwrap()
    };
    let (card, employee, ours) = (sample("CREDIT_CARD"), ["EMP", "407311"].join("-"), ["press", "example.org"].join("@"));
    let text = format!("né {employee}, {} {card} ({ours}) {employee}.", sample("EMAIL"));
    let policy = of(Mode::Hard);
    let told = asked(&policy, Way::ChatContent, &text).1;
    let parts: Vec<&str> = told.split(['[', ']']).collect();
    let ["né ", token, ", ", mail, " ", "####1111", around, again, "."] = parts[..] else { panic!("{told}") };
    assert!(token == again && token.starts_with("REDACTED_EMPLOYEE_NUMBER_") && mail.starts_with("REDACTED_EMAIL_"), "{told}");
    assert_eq!(around, format!(" ({ours}) "));
    for way in WAYS {
        let (said, expected) = (way.carried(&text), way.carried(&told));
        assert_eq!(unstreamed_of(begin(&policy, way.path()), way, &said), expected, "{way:?}");
        assert_eq!(unstreamed_of(begin(&of(Mode::Monitor), way.path()), way, &said), said, "{way:?}");
        for place in places(&said) {
            assert_eq!(
                streamed_of(begin(&policy, way.path()), way, &[&said[..place], &said[place..]], usize::MAX),
                expected,
                "{way:?} at {place}"
            );
        }
    }
}

/// Values of no form of their own, each with the key that tells what it is, and what is left of it.
fn assigned() -> [(&'static str, String, &'static str); 8] {
    let letters = "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xYz9Kq7Rt5";
    [
        ("password", ["Tr0ub4", "dor-and", "-3x"].concat(), "[REDACTED_PASSWORD]"),
        ("db_password", ["correct \"horse\", ", "$battery; ", "staple"].concat(), "[REDACTED_PASSWORD]"),
        ("passphrase", ["\u{fc}ber", " alle ", "\\Berge"].concat(), "[REDACTED_PASSWORD]"),
        ("user_password", ["=((abc", " def"].concat(), "[REDACTED_PASSWORD]"),
        ("password", ["\u{20ac}uro \"", "tr4in"].concat(), "[REDACTED_PASSWORD]"),
        ("aws_secret_access_key", letters.to_owned(), "[REDACTED_AWS_SECRET_KEY]"),
        ("Authorization", format!("Bearer {letters}"), "Bearer [REDACTED_BEARER_TOKEN]"),
        ("ssn", ["536", "22", "8726"].concat(), "[REDACTED_SSN]"),
    ]
}

#[test]
fn in_the_arguments_of_a_call_a_value_is_known_by_its_key() {
    let policy = policy(Mode::Hard);
    for (name, value, left) in assigned() {
        let said = |value: &str| json!({"q": [{name: value, "note": "fine"}, {name: [value]}], "mail": sample("EMAIL")}).to_string();
        let text = said(&value);
        let expected = said(left).replace(&sample("EMAIL"), "[REDACTED_EMAIL]");
        for way in WAYS.into_iter().filter(|way| !way.carried("").is_empty()) {
            assert_eq!(unstreamed(&policy, way, &text), expected, "{way:?}");
            assert_eq!(streamed(&policy, way, &[&text[..9], &text[9..]], usize::MAX), expected, "{way:?}");
        }
    }
}

#[test]
fn what_an_argument_says_behind_a_password_stays() {
    let policy = policy(Mode::Hard);
    let secret = ["Zx9kT", "27LQw"].concat();
    let pair = |value: &str| json!({"env": [{"name": "DB_PASSWORD", "value": value}, {"key": "PORT", "value": "5432"}]}).to_string();
    for (said, expected) in [
        (json!({"content": "{\"user\": \"bob\", \"password\": \"test\", \"host\": \"db.example.com\", \"port\": 5432}"}).to_string(), None),
        (json!({"query": "how do I set \"password\": \"x\" in the config? I also want more"}).to_string(), None),
        (json!({"show_password": "always", "reset_password": "required", "forgot_password": "Forgot your password?"}).to_string(), None),
        (pair(&secret), Some(pair("[REDACTED_PASSWORD]"))),
    ] {
        let expected = expected.unwrap_or_else(|| said.clone());
        for way in WAYS.into_iter().filter(|way| !way.carried("").is_empty()) {
            assert_eq!(unstreamed(&policy, way, &said), expected, "{way:?}");
            assert_eq!(streamed(&policy, way, &[&said[..9], &said[9..]], usize::MAX), expected, "{way:?}");
        }
    }
}

#[test]
fn in_the_arguments_of_an_earlier_call_a_value_is_known_by_its_key() {
    for (name, value, _) in assigned() {
        let arguments = json!({"q": {name: value, "note": "fine"}});
        let call = |arguments: &Value| json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}});
        let asked = |message: Value| json!([{"role": "user", "content": "so?"}, message]);
        let text = Value::from(arguments.to_string());
        let bodies = [
            ("/api/chat", json!({"model": "m", "messages": asked(json!({"role": "assistant", "tool_calls": [call(&arguments)]}))})),
            ("/v1/chat/completions", json!({"model": "m", "messages": asked(json!({"role": "assistant", "tool_calls": [call(&text)]}))})),
            ("/v1/responses", json!({"model": "m", "input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": text}]})),
            (
                "/v1/messages",
                json!({"model": "m", "max_tokens": 9, "messages": asked(json!({"role": "assistant", "content": [
                    {"type": "tool_use", "id": "c", "name": "f", "input": arguments}]}))}),
            ),
        ];
        for (path, body) in bodies {
            let mut exchange = begin(&restoring(), path);
            let Ok(Forward::Encoded { body, .. }) = exchange.judge_request(body.to_string().as_bytes()) else {
                panic!("{path}: {name} goes on as it came")
            };
            let told = String::from_utf8(body).unwrap();
            let bare = value.rsplit(' ').next().unwrap();
            assert!(!told.contains(bare) && told.contains("[REDACTED_") && told.contains("_1]") && told.contains("fine"), "{path}: {told}");
        }
    }
}

// === what was masked in a request, and comes back ===

fn restoring() -> Arc<Policy> {
    static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(|| {
        let yaml = "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nspec: {mode: hard, redaction: {requests: redact, restore: true}}";
        Policy::compile(&GuardPolicy::read(yaml).unwrap(), &Standing::default()).unwrap()
    });
    Arc::clone(&POLICY)
}

/// An exchange whose request said a text, and what of that the model was told.
fn asked(policy: &Arc<Policy>, way: Way, text: &str) -> (Exchange, String) {
    let messages = json!([{"role": "user", "content": text}]);
    let body = match way.path() {
        "/api/generate" | "/v1/completions" => json!({"model": "m", "prompt": text}),
        "/v1/responses" => json!({"model": "m", "input": text}),
        "/v1/messages" => json!({"model": "m", "messages": messages, "max_tokens": 9}),
        _ => json!({"model": "m", "messages": messages}),
    };
    let mut exchange = begin(policy, way.path());
    let told = match exchange.judge_request(body.to_string().as_bytes()).unwrap() {
        Forward::Original => body,
        Forward::Encoded { body, .. } => serde_json::from_slice(&body).unwrap(),
    };
    let said = [&told["prompt"], &told["input"], &told["messages"][0]["content"]].into_iter().find_map(Value::as_str).unwrap().to_owned();
    (exchange, said)
}

/// A card whose digits stand on lines of their own, which JSON has to escape.
fn card() -> String {
    ["4111", "1111", "1111", "1111"].join("\n")
}

#[test]
fn what_was_masked_comes_back_in_every_channel_at_every_split_and_nothing_else_does() {
    let policy = restoring();
    let (mail, card, key) = (sample("EMAIL"), card(), sample("OPENAI_KEY"));
    let request = format!("Write to {mail}, {mail} or [REDACTED_EMAIL_1]; pay by {card}.");
    // The answer's own key isn't the client's.
    let answer =
        |mail: &str, card: &str, key: &str| format!("né [{mail}] {card}{mail} [REDACTED_EMAIL_1] [REDACTED_SSN_3] {key} [REDACTED_EMAIL_");
    for way in WAYS {
        let (mark, other) = ("[REDACTED_EMAIL_2]", "[REDACTED_CREDIT_CARD_3]");
        let (exchange, told) = asked(&policy, way, &request);
        assert_eq!(told, format!("Write to {mark}, {mark} or [REDACTED_EMAIL_1]; pay by {other}."), "{way:?}");
        let text = way.carried(&answer(mark, other, &key));
        let expected = way.carried(&answer(&mail, &card, "[REDACTED_OPENAI_KEY]"));
        assert_eq!(unstreamed_of(exchange, way, &text), expected, "{way:?}");
        for place in places(&text) {
            let exchange = asked(&policy, way, &request).0;
            assert_eq!(streamed_of(exchange, way, &[&text[..place], &text[place..]], usize::MAX), expected, "{way:?} at {place}");
        }
        let singly: Vec<String> = text.chars().map(String::from).collect();
        let singly: Vec<&str> = singly.iter().map(String::as_str).collect();
        assert_eq!(streamed_of(asked(&policy, way, &request).0, way, &singly, 5), expected, "{way:?} one by one");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn streamed_equals_unstreamed_where_masks_come_back(
        parts in prop::collection::vec(prop::sample::select(vec!["[REDACTED_EMAIL_1]", "[REDACTED_SSN_2]", "[REDACTED_SSN_1]", "[REDACTED_", "[", "]", "1]", "a", "\"", "é", "@b.org "]), 0..12),
        way in prop::sample::select(WAYS.to_vec()),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        chunk in 1usize..200,
    ) {
        let policy = restoring();
        let request = format!("{} {}", sample("EMAIL"), sample("SSN"));
        let text = way.carried(&parts.concat());
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).filter(|end| text.is_char_boundary(*end)).collect();
        ends.extend([0, text.len()]);
        ends.sort_unstable();
        let pieces: Vec<&str> = ends.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
        let whole = unstreamed_of(asked(&policy, way, &request).0, way, &text);
        prop_assert_eq!(streamed_of(asked(&policy, way, &request).0, way, &pieces, chunk), whole);
    }
}

#[test]
fn what_comes_back_is_the_exchanges_own_and_stands_in_nothing_that_is_printed() {
    let policy = restoring();
    let others = "other.person@mail.example.org";
    let mail = sample("EMAIL");
    let (first, _) = asked(&policy, Way::ChatContent, &format!("I am {others}"));
    let (mut second, _) = asked(&policy, Way::ChatContent, &format!("I am {mail}"));
    assert!(!format!("{first:?}{second:?}{second:#?}").contains("@mail"), "{second:?}");
    let AnswerPlan::Stream(mut judge) = second.open_answer(&answer_head("application/x-ndjson")).unwrap() else { panic!() };
    let mut out = Vec::new();
    judge.push(
        format!("{}\n{}\n", Way::ChatContent.frame("[REDACTED_EMAIL_1] [REDACTED_EM"), Way::ChatThinking.frame("AIL_1]")).as_bytes(),
        &mut out,
    );
    assert!(!format!("{judge:?}").contains("@mail"), "{judge:?}");
    let said: String = frames(Way::ChatContent, &out).iter().map(|frame| Way::ChatContent.said(frame)).collect();
    assert_eq!(said, format!("{mail} [REDACTED_EM"));
    assert!(unstreamed_of(first, Way::ChatContent, "[REDACTED_EMAIL_1]").contains(others));
    assert_eq!(unstreamed(&policy, Way::ChatContent, "[REDACTED_EMAIL_1]"), "[REDACTED_EMAIL_1]");
}

#[test]
fn an_error_of_the_server_gives_nothing_back() {
    let error = br#"{"error":"no room for [REDACTED_EMAIL_1]"}"#;
    for (status, content_type) in [(500, "application/json"), (200, "application/x-ndjson")] {
        let (mut exchange, _) = asked(&restoring(), Way::ChatContent, &sample("EMAIL"));
        let head = AnswerHead { status, ..answer_head(content_type) };
        let out = match exchange.open_answer(&head).unwrap() {
            AnswerPlan::Whole(mut judge) => judge.judge(error).unwrap(),
            AnswerPlan::Stream(mut judge) => {
                let mut out = Vec::new();
                judge.push(&[&error[..], b"\n"].concat(), &mut out);
                out
            }
            AnswerPlan::Pass(_) => panic!("an error is judged"),
        };
        assert_eq!(out.trim_ascii(), error);
    }
}
