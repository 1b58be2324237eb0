//! Of an answer that is judged as a whole nothing that was planted in it is left, log-probabilities say nothing that the text of which they are
//! doesn't say, and what is given out is JSON in one reading.

use std::sync::{Arc, LazyLock};

use llm_guard_engine::controls::{Caller, Policy};
use llm_guard_engine::exchange::{AnswerHead, AnswerPlan, Exchange, RequestHead};
use llm_guard_engine::policy::settings::Standing;
use llm_guard_engine::policy::{GuardPolicy, Mode};
use serde_json::Value;

use super::tree::Tree;
use super::{planted, tokens};

const ROUTES: [(&str, &str); 13] = [
    ("POST", "/api/chat"),
    ("POST", "/api/generate"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/messages"),
    ("POST", "/api/embed"),
    ("POST", "/api/embeddings"),
    ("POST", "/v1/embeddings"),
    ("POST", "/api/show"),
    ("GET", "/api/tags"),
    ("GET", "/v1/models"),
    ("POST", "/api/pull"),
];
const HEADS: [(u16, &str); 4] =
    [(200, "application/json"), (404, "application/json; charset=utf-8"), (500, "text/plain"), (503, "text/event-stream")];

pub(super) fn policy(mode: Mode) -> Arc<Policy> {
    static POLICIES: LazyLock<[Arc<Policy>; 3]> = LazyLock::new(|| {
        Mode::ALL.map(|mode| Policy::compile(&GuardPolicy::built_in(), &Standing::of(Some(mode))).expect("the built-in policy compiles"))
    });
    Arc::clone(&POLICIES[mode as usize])
}

pub(super) fn open(mode: Mode, method: &str, path: &str, status: u16, content_type: &str) -> Option<AnswerPlan> {
    let head = RequestHead { method, path, content_type: None, content_encoding: None, caller: Caller { over_loopback: false } };
    let (mut exchange, _) = Exchange::begin(policy(mode), &head);
    exchange.open_answer(&AnswerHead { status, content_type: Some(content_type), content_encoding: None, is_empty: false }).ok()
}

pub(crate) fn holds(data: &[u8]) {
    let Some(([route, head, kind], bytes)) = super::header::<3>(data) else { return };
    let (method, path) = super::pick(&ROUTES, route);
    let (status, content_type) = super::pick(&HEADS, head);
    let secret = planted::secret(kind);
    let bytes = planted::plant(bytes, &secret);

    if let Some(AnswerPlan::Whole(mut judge)) = open(Mode::Monitor, method, path, status, content_type) {
        assert_eq!(judge.judge(&bytes).as_ref(), Ok(&bytes), "monitor changes nothing");
    }
    let Some(AnswerPlan::Whole(mut judge)) = open(Mode::Hard, method, path, status, content_type) else { return };
    let Ok(out) = judge.judge(&bytes) else { return };
    assert!(out.len() <= 8 * bytes.len() + 1024, "{} bytes of {}", out.len(), bytes.len());
    if content_type == "text/plain" {
        assert!(!String::from_utf8(out).expect("text is UTF-8").contains(&secret), "{path} gives a secret away");
        return;
    }
    assert!(Tree::read(&out).is_some_and(|tree| !tree.has_twins()), "{path}: {}", String::from_utf8_lossy(&out));
    let value: Value = serde_json::from_slice(&out).expect("it was read as JSON");
    assert!(!planted::is_in(&value, &secret), "{path} gives a secret away: {value}");
    if ROUTES.iter().position(|(_, of)| *of == path).is_some_and(|place| place < 6) && (200..300).contains(&status) {
        let hidden = planted::arguments(&value).into_iter().any(|text| planted::is_in_json(text, &secret));
        assert!(!hidden, "{path} gives a secret away in the arguments of a call: {value}");
        if value["error"].is_null() && path != "/v1/responses" && path != "/v1/messages" {
            tokens_say_what_is_said(path, &value, &secret);
        }
    }
}

fn tokens_say_what_is_said(path: &str, answer: &Value, secret: &str) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let choices = answer["choices"].as_array().into_iter().flatten();
    let texts = choices.flat_map(|choice| {
        let of = |name: &str| (format!("{}.{name}", choice["index"]), text(&choice["message"][name]));
        [of("content"), of("refusal"), (format!("{}.text", choice["index"]), text(&choice["text"]))]
    });
    let mut texts: Vec<(String, String)> = texts.collect();
    texts.push(("message.content".into(), text(&answer["message"]["content"])));
    texts.push(("response".into(), text(&answer["response"])));
    for (channel, said) in tokens::said(answer) {
        // More than one choice may bear a number.
        let mut of_channel = texts.iter().filter(|(of, _)| *of == channel);
        assert!(
            said.is_empty() || of_channel.any(|(_, text)| tokens::begin(&said, text)),
            "{path}: {channel} doesn't say {said:?}: {answer}"
        );
        assert!(!said.contains(secret), "{path} gives a secret away by the tokens of {channel}: {said}");
    }
}
