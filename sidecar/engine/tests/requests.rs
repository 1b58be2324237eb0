//! Secrets and personal data in what clients send: every family, every field that says something.

use std::sync::{Arc, LazyLock};

use llm_guard_engine::controls::{Caller, Policy};
use llm_guard_engine::detect::secrets::{Kind, SecretRules};
use llm_guard_engine::exchange::{Exchange, Forward, RequestHead};
use llm_guard_engine::policy::settings::Standing;
use llm_guard_engine::policy::{GuardPolicy, Mode};
use llm_guard_engine::verdict::{Action, ControlId, Refusal};
use llm_guard_engine::wire::{Body, Request, decode_request};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A made-up address.
fn mail() -> String {
    ["nobody.at.all", "@", "mail.example.org"].concat()
}

/// A made-up key.
fn key() -> String {
    format!("sk{}{}", "-", "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xYabcdefghijklmnop")
}

fn rules() -> Arc<SecretRules> {
    static RULES: LazyLock<Arc<SecretRules>> = LazyLock::new(|| Arc::new(SecretRules::new(&Kind::all().collect::<Vec<_>>())));
    Arc::clone(&RULES)
}

/// A policy that lets pass what can't be read.
fn policy(mode: Mode, redaction: &str) -> Arc<Policy> {
    let protocol = "{unknownFields: inspect, template: allow, images: allow, audio: allow}";
    let yaml = format!(
        "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nspec: {{mode: {mode}, protocol: {protocol}, redaction: {redaction}}}"
    );
    Policy::compile(&GuardPolicy::read(&yaml).unwrap(), &Standing::default()).unwrap()
}

fn begin(policy: &Arc<Policy>, path: &str) -> Exchange {
    let head = RequestHead { method: "POST", path, content_type: None, content_encoding: None, caller: Caller { over_loopback: false } };
    Exchange::begin(Arc::clone(policy), &head).0
}

/// What is forwarded, and what redaction counted: each kind and what was done, and how often.
type Judged = (Result<String, Refusal>, Vec<(&'static str, Action, u64)>);

fn judged(policy: &Arc<Policy>, path: &str, body: &str) -> Judged {
    let mut exchange = begin(policy, path);
    let forwarded = exchange.judge_request(body.as_bytes()).map(|forward| match forward {
        Forward::Original => body.to_owned(),
        Forward::Encoded { body, .. } => String::from_utf8(body).unwrap(),
    });
    let counted = exchange.tally.violations.iter().filter(|(violation, _)| violation.control == ControlId::Redaction);
    (forwarded, counted.map(|(violation, times)| (violation.kind, violation.action, *times)).collect())
}

/// Requests, each with a text that it says in place of `@`, whatever API it belongs to.
fn fields() -> Vec<(&'static str, Value)> {
    let chat = |message: Value| json!({"model": "m", "messages": [message]});
    let tool = |function: Value| json!({"model": "m", "messages": [], "tools": [{"type": "function", "function": function}]});
    let with = |name: &str, value: Value| {
        let mut body = json!({"model": "m", "messages": []});
        body[name] = value;
        body
    };
    let mut all = Vec::new();
    for path in ["/api/chat", "/v1/chat/completions"] {
        let arguments = |value: Value| if path == "/api/chat" { value } else { json!(value.to_string()) };
        let call = |value: Value| {
            let mut call = json!({"id": "c", "function": {"name": "f", "arguments": arguments(value)}});
            if path != "/api/chat" {
                call["type"] = json!("function");
            }
            json!({"role": "assistant", "content": "", "tool_calls": [call]})
        };
        for role in ["system", "user", "assistant", "tool"] {
            all.push((path, chat(json!({"role": role, "content": "it is @, is it?"}))));
        }
        all.extend([
            (path, chat(call(json!({"q": {"list": ["x", "@"]}})))),
            (path, chat(call(json!({"@": 1})))),
            (path, tool(json!({"name": "f", "description": "as @ does"}))),
            (path, tool(json!({"name": "f", "parameters": {"type": "object", "properties": {"@": {"enum": ["@"]}}}}))),
            (path, with("new_field", json!({"@": ["@"]}))),
            (path, with("@", json!("x"))),
            (path, json!({"model": "m", "messages": [{"role": "user", "content": "x", "extra": "@"}]})),
        ]);
    }
    let openai = "/v1/chat/completions";
    let schema = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {"description": "@"}}});
    all.extend([
        ("/api/chat", chat(json!({"role": "assistant", "content": "", "thinking": "@"}))),
        ("/api/chat", with("format", json!({"type": "object", "description": "@"}))),
        ("/api/chat", with("options", json!({"stop": ["@"]}))),
        (openai, chat(json!({"role": "assistant", "content": "x", "reasoning": "@"}))),
        (openai, chat(json!({"role": "user", "content": [{"type": "text", "text": "a @"}, {"type": "text", "text": "b"}]}))),
        (openai, chat(json!({"role": "user", "content": "x", "name": "@"}))),
        (openai, with("user", json!("@"))),
        (openai, with("metadata", json!({"who": "@"}))),
        (openai, with("response_format", schema)),
        ("/api/generate", json!({"model": "m", "prompt": "hi @"})),
        ("/api/generate", json!({"model": "m", "prompt": "hi", "suffix": "@ "})),
        ("/api/generate", json!({"model": "m", "prompt": "hi", "system": "I am @."})),
        ("/api/generate", json!({"model": "m", "prompt": "hi", "template": "{{ .Prompt }} @"})),
        ("/v1/completions", json!({"model": "m", "prompt": "@", "suffix": "x"})),
        ("/v1/completions", json!({"model": "m", "prompt": "x", "suffix": "\n@"})),
        ("/api/embed", json!({"model": "m", "input": "@"})),
        ("/api/embed", json!({"model": "m", "input": ["x", "@"]})),
        ("/api/embeddings", json!({"model": "m", "prompt": "@"})),
        ("/v1/embeddings", json!({"model": "m", "input": ["@"], "user": "@"})),
        ("/v1/images/generations", json!({"model": "m", "prompt": "@ as a cat"})),
    ]);
    let items = |items: Value| json!({"model": "m", "input": items});
    for body in [
        json!({"model": "m", "instructions": "as @ says", "input": "x"}),
        json!({"model": "m", "input": "@"}),
        items(json!([{"role": "user", "content": "@"}])),
        items(
            json!([{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "@"}, {"type": "input_text", "text": "!"}]}]),
        ),
        items(json!([{"type": "function_call", "call_id": "c", "name": "f", "arguments": json!({"@": "@"}).to_string()}])),
        items(json!([{"type": "function_call_output", "call_id": "c", "output": "@"}])),
        items(json!([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "@"}], "encrypted_content": "@"}])),
        items(json!([{"role": "user", "content": [{"type": "input_text", "text": "x", "extra": "@"}]}])),
        json!({"model": "m", "input": "x", "tools": [{"type": "function", "name": "f", "description": "@", "parameters": {"description": "@"}}]}),
        json!({"model": "m", "input": "x", "tools": [{"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f", "description": "@"}]}]}),
        json!({"model": "m", "input": "x", "metadata": {"who": "@"}}),
    ] {
        all.push(("/v1/responses", body));
    }
    let blocks = |blocks: Value| json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": blocks}]});
    for body in [
        json!({"model": "m", "max_tokens": 9, "system": "@", "messages": []}),
        json!({"model": "m", "max_tokens": 9, "system": [{"type": "text", "text": "@", "cache_control": {"type": "ephemeral"}}], "messages": []}),
        blocks(json!("@")),
        blocks(json!([{"type": "text", "text": "@"}, {"type": "text", "text": "x", "citations": [{"cited_text": "@"}]}])),
        blocks(json!([{"type": "thinking", "thinking": "@", "signature": "s"}])),
        blocks(json!([{"type": "tool_use", "id": "t", "name": "f", "input": {"@": ["@"]}}])),
        blocks(json!([{"type": "tool_result", "tool_use_id": "t", "content": "@"}])),
        blocks(json!([{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "@"}]}])),
        blocks(
            json!([{"type": "web_search_tool_result", "tool_use_id": "t", "content": [{"type": "web_search_result", "title": "@", "url": "u"}]}]),
        ),
        json!({"model": "m", "max_tokens": 9, "messages": [], "tools": [{"name": "f", "description": "@", "input_schema": {"description": "@"}}]}),
        json!({"model": "m", "max_tokens": 9, "messages": [], "metadata": {"user_id": "@"}, "stop_sequences": ["@"]}),
    ] {
        all.push(("/v1/messages", body));
    }
    all
}

fn put(body: &Value, text: &str) -> Value {
    serde_json::from_str(&body.to_string().replace('@', text)).unwrap()
}

#[test]
fn a_value_in_any_field_is_redacted_and_all_else_goes_on_as_it_was() {
    for redaction in ["{requests: redact}", "{requests: redact, restore: true}"] {
        let mark = if redaction.contains("restore") { "[REDACTED_EMAIL_1]" } else { "[REDACTED_EMAIL]" };
        for mode in [Mode::Soft, Mode::Hard] {
            let policy = policy(mode, redaction);
            for (path, body) in fields() {
                let (forwarded, counted) = judged(&policy, path, &put(&body, &mail()).to_string());
                let forwarded: Value = serde_json::from_str(&forwarded.unwrap()).unwrap();
                // What Ollama always says of a message stands there anew.
                assert_eq!(forwarded, put(&body, mark), "{mode} {path} {body}");
                let times = body.to_string().matches('@').count() as u64;
                assert_eq!(counted, [("EMAIL", Action::Redacted, times)], "{path} {body}");
            }
        }
    }
}

#[test]
fn where_values_are_counted_nothing_changes_and_as_many_are_told_of() {
    for (mode, redaction) in
        [(Mode::Monitor, "{requests: redact}"), (Mode::Monitor, "{}"), (Mode::Soft, "{}"), (Mode::Hard, "{requests: count}")]
    {
        let policy = policy(mode, redaction);
        for (path, body) in fields() {
            let sent = put(&body, &mail());
            let (forwarded, counted) = judged(&policy, path, &sent.to_string());
            assert_eq!(serde_json::from_str::<Value>(&forwarded.unwrap()).unwrap(), sent);
            let times = body.to_string().matches('@').count() as u64;
            assert_eq!(counted, [("EMAIL", Action::Counted, times)], "{mode} {path} {body}");
        }
    }
}

#[test]
fn where_they_are_refused_the_client_reads_their_kinds_and_no_value() {
    let body = json!({"model": "m", "prompt": format!("{} {} {}", mail(), key(), mail())}).to_string();
    let (refused, counted) = judged(&policy(Mode::Hard, "{requests: refuse}"), "/api/generate", &body);
    let refusal = refused.unwrap_err();
    assert_eq!((refusal.status, refusal.control), (400, ControlId::Redaction));
    assert_eq!(refusal.message, "Request blocked: it holds secrets or personal data (EMAIL, OPENAI_KEY)");
    assert_eq!(counted, [("EMAIL", Action::Blocked, 2), ("OPENAI_KEY", Action::Blocked, 1)]);
    let (mended, counted) = judged(&policy(Mode::Soft, "{requests: refuse}"), "/api/generate", &body);
    assert_eq!(mended.unwrap(), r#"{"model":"m","prompt":"[REDACTED_EMAIL] [REDACTED_OPENAI_KEY] [REDACTED_EMAIL]"}"#);
    assert_eq!(counted.len(), 2);
}

/// What is left behind when every field was redacted by itself.
fn beyond_redaction() -> Vec<(&'static str, Value)> {
    let (mail, key) = (mail(), key());
    let (first, second) = key.split_at(9);
    let chat = |messages: Value| json!({"model": "m", "max_tokens": 9, "messages": messages});
    let mut all = Vec::new();
    for path in ["/api/chat", "/v1/chat/completions"] {
        let arguments = if path == "/api/chat" { json!({}) } else { json!("{}") };
        all.extend([
            (path, chat(json!([{"role": mail, "content": "x"}]))),
            (path, chat(json!([{"role": "tool", "content": "x", "tool_call_id": mail}]))),
            (path, chat(json!([{"role": "assistant", "content": "", "tool_calls": [{"id": mail, "function": {"name": "f", "arguments": arguments}}]}]))),
            (path, chat(json!([{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": key, "arguments": arguments}}]}]))),
            (path, json!({"model": "m", "messages": [], "tools": [{"type": "function", "function": {"name": key}}]})),
        ]);
    }
    all.extend([
        ("/v1/chat/completions", chat(json!([{"role": "tool", "content": "x", "name": key}]))),
        ("/v1/chat/completions", json!({"model": "m", "messages": [], "tool_choice": {"type": "function", "function": {"name": key}}})),
        ("/v1/chat/completions", chat(json!([{"role": "user", "content": [{"type": "text", "text": first}, {"type": "text", "text": second}]}]))),
        ("/v1/messages", chat(json!([{"role": "user", "content": [{"type": "text", "text": first}, {"type": "text", "text": second}]}]))),
        ("/v1/messages", chat(json!([{"role": "user", "content": [{"type": "tool_result", "tool_use_id": mail, "content": "x"}]}]))),
        ("/v1/messages", chat(json!([{"role": "assistant", "content": [{"type": "tool_use", "id": mail, "name": "f", "input": {}}]}]))),
        ("/v1/responses", json!({"model": "m", "input": [{"role": "user", "content": [{"type": "input_text", "text": first}, {"type": "input_text", "text": second}]}]})),
        ("/v1/responses", json!({"model": "m", "input": "x", "previous_response_id": mail})),
        ("/v1/responses", json!({"model": "m", "input": [{"type": "function_call", "call_id": mail, "name": "f", "arguments": "{}"}]})),
        ("/api/generate", json!({"model": "m", "system": first, "prompt": second})),
        ("/v1/completions", json!({"model": "m", "prompt": first, "suffix": second})),
    ]);
    all
}

#[test]
fn what_can_not_be_redacted_is_refused_and_in_monitor_counted() {
    for (path, body) in beyond_redaction() {
        let text = body.to_string();
        for mode in [Mode::Soft, Mode::Hard] {
            let refusal = judged(&policy(mode, "{requests: redact}"), path, &text).0.unwrap_err();
            assert_eq!((refusal.status, refusal.control), (400, ControlId::Redaction), "{path} {body}");
            assert!(refusal.message.contains("(EMAIL)") || refusal.message.contains("(OPENAI_KEY)"), "{}", refusal.message);
            assert!(!refusal.message.contains(&mail()) && !refusal.message.contains(&key()), "{}", refusal.message);
        }
        for mode in [Mode::Monitor, Mode::Soft] {
            let (forwarded, counted) = judged(&policy(mode, "{requests: count}"), path, &text);
            assert_eq!(serde_json::from_str::<Value>(&forwarded.unwrap()).unwrap()["model"], "m");
            assert!(matches!(counted[..], [(_, Action::Counted, 1)]), "{path} {body} {counted:?}");
        }
    }
}

#[test]
fn a_number_that_a_model_is_shown_is_redacted_and_one_that_steers_it_is_not() {
    let card: u64 = ["4111", "1111", "1111", "1111"].concat().parse().unwrap();
    let policy = policy(Mode::Hard, "{requests: redact}");
    let call =
        json!({"role": "assistant", "content": "", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {"card": card}}}]});
    let body = json!({"model": "m", "messages": [call], "options": {"seed": card}});
    let mut expected = body.clone();
    expected["messages"][0]["tool_calls"][0]["function"]["arguments"]["card"] = json!("[REDACTED_CREDIT_CARD]");
    let forwarded = judged(&policy, "/api/chat", &body.to_string()).0.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&forwarded).unwrap(), expected);
}

#[test]
fn of_more_values_than_are_kept_none_goes_on() {
    let mails: Vec<String> = (0..20_000).map(|number| ["user", &number.to_string(), "@", "mail.example.org"].concat()).collect();
    let policy = policy(Mode::Hard, "{requests: redact, restore: true}");
    let (forwarded, counted) = judged(&policy, "/api/generate", &json!({"model": "m", "prompt": mails.join("\n")}).to_string());
    let forwarded = forwarded.unwrap();
    assert_eq!((forwarded.matches('@').count(), forwarded.matches("[REDACTED_EMAIL]").count()), (0, 20_000 - 4096));
    assert_eq!(counted, [("EMAIL", Action::Redacted, 20_000)]);
}

#[test]
fn pictures_are_not_touched() {
    let picture = format!("QUJD{}", key().replace('-', "+"));
    let policy = policy(Mode::Soft, "{requests: redact}");
    for (path, message) in [
        ("/api/chat", json!({"role": "user", "content": mail(), "images": [picture]})),
        (
            "/v1/chat/completions",
            json!({"role": "user", "content": [{"type": "text", "text": mail()}, {"type": "image_url", "image_url": {"url": picture}}]}),
        ),
        (
            "/v1/messages",
            json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": mail()}, {"type": "image", "source": {"data": picture}}]}]}),
        ),
    ] {
        let forwarded = judged(&policy, path, &json!({"model": "m", "max_tokens": 9, "messages": [message]}).to_string()).0.unwrap();
        assert!(forwarded.contains(&picture) && forwarded.contains("[REDACTED_EMAIL]"), "{forwarded}");
    }
}

#[test]
fn a_policy_beside_the_one_in_force_tells_of_what_it_would_redact_and_changes_nothing() {
    let head = RequestHead {
        method: "POST",
        path: "/api/generate",
        content_type: None,
        content_encoding: None,
        caller: Caller { over_loopback: false },
    };
    let shadow = policy(Mode::Soft, "{requests: redact, restore: true}");
    let (mut exchange, _) = Exchange::begin_beside(policy(Mode::Monitor, "{}"), Some(shadow), &head);
    let body = json!({"model": "m", "prompt": mail()}).to_string();
    assert_eq!(exchange.judge_request(body.as_bytes()), Ok(Forward::Original));
    let seen = exchange.tally.shadow.take().unwrap();
    assert_eq!(
        seen.violations.iter().map(|(violation, times)| (violation.kind, violation.action, *times)).collect::<Vec<_>>(),
        [("EMAIL", Action::Redacted, 1)]
    );
    assert_eq!((seen.refused, seen.verdict().name()), (None, "mended"));
    assert!(!format!("{exchange:?}").contains(&mail()));
}

#[test]
fn own_kinds_are_masked_and_told_of_as_others_are_and_a_rule_may_replace_the_whole_list() {
    let number = ["EMP", "407311"].join("-");
    let body = json!({"model": "m", "prompt": format!("{number} {}", mail())}).to_string();
    let patterns = "patterns: [{name: employeeNumber, pattern: 'EMP-[0-9]{6}'}]";
    let counted = [("EMAIL", Action::Redacted, 1), ("EMPLOYEE_NUMBER", Action::Redacted, 1)];
    // Where values come back each has a mark of its own, whatever stands in their place elsewhere.
    let restoring = policy(
        Mode::Hard,
        &format!("{{requests: redact, restore: true, {patterns}, replacements: [{{kinds: [email, employeeNumber], with: lastDigits}}]}}"),
    );
    let (forwarded, mut told) = judged(&restoring, "/api/generate", &body);
    told.sort_unstable();
    assert_eq!(
        (forwarded.unwrap().as_str(), &*told),
        (r#"{"model":"m","prompt":"[REDACTED_EMPLOYEE_NUMBER_1] [REDACTED_EMAIL_2]"}"#, &counted[..])
    );
    let refusing = policy(Mode::Hard, &format!("{{requests: refuse, kinds: [employeeNumber], {patterns}}}"));
    let refusal = judged(&refusing, "/api/generate", &body).0.unwrap_err();
    assert_eq!(refusal.message, "Request blocked: it holds secrets or personal data (EMPLOYEE_NUMBER)");

    let of = |rule: &str| {
        let yaml = format!(
            "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nspec: {{mode: soft, redaction: {{requests: redact, {patterns}, allow: ['*.org']}}, rules: [{{when: {{models: [m]}}, redaction: {rule}}}]}}"
        );
        let policy = Policy::compile(&GuardPolicy::read(&yaml).unwrap(), &Standing::default()).unwrap();
        let prompt = serde_json::from_str::<Value>(&judged(&policy, "/api/generate", &body).0.unwrap()).unwrap()["prompt"].clone();
        prompt.as_str().unwrap().to_owned()
    };
    assert_eq!(of("{kinds: [secrets]}"), format!("[REDACTED_EMPLOYEE_NUMBER] {}", mail()));
    assert_eq!(of("{patterns: []}"), format!("{number} {}", mail()));
    assert_eq!(of("{allow: [EMP-*]}"), format!("{number} [REDACTED_EMAIL]"));
    assert_eq!(of("{allow: [], patterns: [{name: otherNumber, pattern: '[0-9]{6}'}]}"), "EMP-[REDACTED_OTHER_NUMBER] [REDACTED_EMAIL]");
}

#[test]
fn a_model_that_stands_in_is_told_no_more_than_the_first() {
    let yaml = "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nspec: {mode: soft, models: {allow: [a], default: a}, redaction: {requests: redact, restore: true}, rules: [{when: {models: [a]}, redaction: {restore: false}}]}";
    let policy = Policy::compile(&GuardPolicy::read(yaml).unwrap(), &Standing::default()).unwrap();
    let (forwarded, _) = judged(&policy, "/api/generate", &json!({"model": "b", "prompt": mail()}).to_string());
    assert_eq!(forwarded.unwrap(), r#"{"model":"a","prompt":"[REDACTED_EMAIL]"}"#);
}

fn texts() -> impl Strategy<Value = String> {
    let values = [
        mail(),
        key(),
        ["078", "05", "1120"].join("-"),
        ["4111", "1111", "1111", "1111"].join(" "),
        ["AK", "IA", "QWERTY1234567890"].concat(),
        ["ey", "JhbGciOiJIUzI1NiJ9.ey", "JzdWIiOiJub2JvZHkifQ.c2lnbmF0dXJl-x_y"].concat(),
    ];
    let value = prop::sample::select(values.to_vec());
    let cut = (value.clone(), any::<prop::sample::Index>()).prop_map(|(value, index)| value[..index.index(value.len() + 1)].to_owned());
    let noise = prop::sample::select(vec![" ", ".", "-", "@", "a", "7", "é", "\n", "\"", "\\", "[REDACTED_EMAIL_1]", "[REDACTED_", "1111"]);
    prop::collection::vec(prop_oneof![2 => value, 2 => cut, 4 => noise.prop_map(str::to_owned)], 0..6).prop_map(|parts| parts.concat())
}

/// What a request says that holds no value, as its texts tell.
fn said(body: Body, bytes: &[u8]) -> Vec<String> {
    let mut said = Vec::new();
    decode_request(body, bytes).unwrap().texts(&mut |text| said.push(text.text.into_owned()));
    said
}

const BODIES: [(&str, Body); 9] = [
    ("/api/chat", Body::OllamaChat),
    ("/api/generate", Body::OllamaGenerate),
    ("/v1/chat/completions", Body::OpenAiChat),
    ("/v1/completions", Body::OpenAiCompletion),
    ("/v1/responses", Body::OpenAiResponses),
    ("/v1/messages", Body::AnthropicMessages),
    ("/api/embed", Body::OllamaEmbed),
    ("/v1/embeddings", Body::OpenAiEmbeddings),
    ("/v1/images/generations", Body::OpenAiImages),
];

/// A request whose fields say these texts.
fn filled(template: &Value, texts: &[String]) -> Value {
    let mut next = texts.iter().cycle();
    let mut body = template.clone();
    fill(&mut body, &mut next);
    body
}

fn fill<'t>(value: &mut Value, next: &mut impl Iterator<Item = &'t String>) {
    match value {
        // (Arguments that are JSON in a string.)
        Value::String(text) if text.starts_with("{\"") && text.contains('@') => {
            let mut inner: Value = serde_json::from_str(text).unwrap();
            fill(&mut inner, next);
            *text = inner.to_string();
        }
        Value::String(text) if text.contains('@') => *text = text.replace('@', next.next().unwrap()),
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, next)),
        Value::Object(members) => members.values_mut().for_each(|item| fill(item, next)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn nothing_that_a_model_is_told_holds_a_value_and_redacting_twice_is_redacting_once(
        field in any::<prop::sample::Index>(),
        texts in prop::collection::vec(texts(), 1..4),
        restore in any::<bool>(),
    ) {
        let fields = fields();
        let (path, template) = &fields[field.index(fields.len())];
        let policy = if restore { policy(Mode::Soft, "{requests: redact, restore: true}") } else { policy(Mode::Soft, "{requests: redact}") };
        let body = filled(template, &texts).to_string();
        match judged(&policy, path, &body) {
            (Ok(once), counted) => {
                let (_, kind) = BODIES.iter().chain(&[("/api/embeddings", Body::OllamaEmbeddings)]).find(|(of, _)| of == path).unwrap();
                for text in said(*kind, once.as_bytes()) {
                    prop_assert!(rules().find(&text).is_empty(), "{}", text);
                }
                prop_assert_eq!(counted.is_empty(), said(*kind, body.as_bytes()).iter().all(|text| rules().find(text).is_empty()));
                let (twice, counted) = judged(&policy, path, &once);
                prop_assert_eq!(twice.unwrap(), once);
                prop_assert!(counted.is_empty());
            }
            (Err(refusal), _) => {
                prop_assert_eq!((refusal.status, refusal.control), (400, ControlId::Redaction));
                prop_assert!(refusal.message.contains("they can't be redacted"), "{}", refusal.message);
            }
        }
    }

    #[test]
    fn what_holds_no_value_is_forwarded_as_where_nobody_looks(field in any::<prop::sample::Index>(), text in "[ -~é\n]{0,20}") {
        let fields = fields();
        let (path, template) = &fields[field.index(fields.len())];
        let body = filled(template, &[text.replace(['@', '-'], " ")]).to_string();
        let redacting = judged(&policy(Mode::Soft, "{requests: redact, restore: true}"), path, &body);
        prop_assume!(redacting.1.is_empty());
        let without = judged(&policy(Mode::Soft, "{mode: monitor}"), path, &body);
        prop_assert_eq!(redacting, without);
    }
}

#[test]
fn what_a_model_is_made_with_and_what_is_looked_up_can_be_edited() {
    let (mail, mark) = (mail(), "[REDACTED_EMAIL]");
    let edited = |body: Body, text: &str| {
        let mut request: Box<dyn Request> = decode_request(body, text.replace('@', &mail).as_bytes()).unwrap();
        request.edit_texts(&mut |_, text| text.contains(&mail).then(|| text.replace(&mail, mark)));
        (String::from_utf8(request.encode()).unwrap(), text.replace('@', mark))
    };
    for (body, text) in [
        (Body::OllamaWebSearch, r#"{"query":"who is @"}"#),
        (Body::OllamaCreate, r#"{"model":"m","system":"@","messages":[{"role":"user","content":"@","images":["QUJD"]}],"license":["@"]}"#),
        (
            Body::OpenAiTranscription,
            "--b1\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b1\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\n@\r\n--b1\r\nContent-Disposition: form-data; name=\"extra\"\r\n\r\n@\r\n--b1--\r\n",
        ),
    ] {
        let (out, expected) = edited(body, text);
        assert_eq!(out, expected);
    }
}
