//! Exchanges that were recorded, as lines of JSON, and what a policy makes of them without a server.
//!
//! A line is an exchange with its texts, as `run --record` writes it, or a line of the guard's own log, which has none.
//!
//! The invariant: a policy judges a recorded exchange by the same code as a live one. Only where a model runs isn't known any more: it
//! counts as running here.

use std::sync::{Arc, LazyLock};

use llm_guard_engine::controls::{Caller, Policy};
use llm_guard_engine::exchange::{AnswerHead, AnswerPlan, Exchange, Next, RequestHead, Shadowed, Tally};
use llm_guard_engine::policy::settings::Standing;
use llm_guard_engine::policy::{GuardPolicy, Mode};
use llm_guard_engine::wire::whereabouts::{Places, Whereabouts};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::error::Category;

/// The most bytes of a request's or an answer's body that are recorded.
pub(crate) const MAX_BODY: usize = 4 * 1024 * 1024;
/// The most bytes that a line may have: two bodies of which every character is escaped.
pub(crate) const MAX_LINE: usize = 16 * MAX_BODY;

/// An exchange with its texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Recorded {
    /// Whatever tells it from others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    #[serde(default = "post")]
    pub(crate) method: String,
    pub(crate) path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<String>,
    /// The caller came from the model's own pod, over the loopback.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) from_pod: bool,
    /// The body, unpacked.
    #[serde(default)]
    pub(crate) request: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) answer: Option<RecordedAnswer>,
}

/// What the model server answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RecordedAnswer {
    pub(crate) status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<String>,
    pub(crate) body: String,
}

/// A line of the guard's own log, as far as it is of use without texts.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Logged {
    message: String,
    #[serde(default)]
    pub(crate) violations: Vec<LoggedViolation>,
}

/// What the guard found then.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct LoggedViolation {
    pub(crate) control: String,
    pub(crate) kind: String,
}

/// What a line holds.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    Exchange(Box<Recorded>),
    Logged(Logged),
    /// Another line of the guard's log.
    Other,
}

/// Why a line is none of these. What stands in it is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineError {
    #[error("it is no JSON object")]
    NoObject,
    #[error("it is neither an exchange (path, request, answer) nor a line of the guard's log")]
    NeitherOfThem,
}

fn post() -> String {
    "POST".to_owned()
}

impl Line {
    /// Reads a line. (No tree is made of it, which could take many times the memory of its bytes.)
    pub(crate) fn read(text: &str) -> Result<Self, LineError> {
        /// Which keys there are.
        #[derive(Deserialize)]
        struct Keys {
            #[serde(default)]
            path: Option<IgnoredAny>,
            #[serde(default)]
            message: Option<IgnoredAny>,
        }
        if !text.trim_start().starts_with('{') {
            return Err(LineError::NoObject);
        }
        let keys: Keys = serde_json::from_str(text).map_err(|error| match error.classify() {
            Category::Data => LineError::NeitherOfThem,
            Category::Io | Category::Syntax | Category::Eof => LineError::NoObject,
        })?;
        if keys.path.is_some() {
            let recorded = serde_json::from_str(text).map_err(|_| LineError::NeitherOfThem)?;
            return Ok(Self::Exchange(Box::new(recorded)));
        }
        if keys.message.is_none() {
            return Err(LineError::NeitherOfThem);
        }
        match serde_json::from_str::<Logged>(text) {
            Ok(logged) if logged.message == "exchange" => Ok(Self::Logged(logged)),
            _ => Ok(Self::Other),
        }
    }
}

/// What a policy makes of an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) seen: Shadowed,
    /// The digest of the request's system prompt, as a rule's `when.systemPrompts` has it.
    pub(crate) system_prompt: Option<String>,
}

/// Judges a recorded exchange.
pub(crate) fn judge(policy: &Arc<Policy>, recorded: &Recorded) -> Judged {
    /// Counts, so that the exchange goes on whatever is found; what would be done about it says the other policy.
    static WATCHER: LazyLock<Arc<Policy>> = LazyLock::new(|| {
        let standing = Standing { most: Some(Mode::Monitor), ..Standing::default() };
        Policy::compile(&GuardPolicy::built_in(), &standing).expect("the built-in policy is sound")
    });
    let head = RequestHead {
        method: &recorded.method,
        path: &recorded.path,
        content_type: recorded.content_type.as_deref().or(Some("application/json")),
        content_encoding: None,
        caller: Caller { over_loopback: recorded.from_pod },
    };
    let body = recorded.request.as_bytes();
    let (mut exchange, next) = Exchange::begin_beside(Arc::clone(&WATCHER), Some(Arc::clone(policy)), &head);
    let mut system_prompt = None;
    if matches!(next, Next::ReadBody) {
        system_prompt = exchange.system_prompt(body);
        // (The watcher refuses nothing.)
        let _ = exchange.judge_request(body);
        let mut places = Places::default();
        while let Some(model) = exchange.must_locate(&places) {
            places.put(model, Whereabouts::Here);
        }
        let _ = exchange.judge_place(&places, body);
    }
    let mut tally = match &recorded.answer {
        Some(answer) => judge_answer(&mut exchange, answer),
        None => std::mem::take(&mut exchange.tally),
    };
    Judged { seen: tally.shadow.take().map(|seen| *seen).unwrap_or_default(), system_prompt }
}

fn judge_answer(exchange: &mut Exchange, answer: &RecordedAnswer) -> Tally {
    let head = AnswerHead {
        status: answer.status,
        content_type: answer.content_type.as_deref(),
        content_encoding: None,
        is_empty: answer.body.is_empty(),
    };
    match exchange.open_answer(&head) {
        Err(_) | Ok(AnswerPlan::Pass(_)) => std::mem::take(&mut exchange.tally),
        Ok(AnswerPlan::Whole(mut judge)) => {
            let _ = judge.judge(answer.body.as_bytes());
            std::mem::take(judge.tally())
        }
        Ok(AnswerPlan::Stream(mut judge)) => {
            let mut scrap = Vec::new();
            judge.push(answer.body.as_bytes(), &mut scrap);
            judge.finish(&mut scrap);
            std::mem::take(judge.tally())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(spec: &str) -> Arc<Policy> {
        let yaml = format!("apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nspec: {spec}\n");
        Policy::compile(&GuardPolicy::read(&yaml).unwrap(), &Standing::default()).unwrap()
    }

    #[test]
    fn a_line_is_an_exchange_or_of_the_log_or_an_error_that_doesnt_repeat_it() {
        assert!(matches!(Line::read(r#"{"path":"/api/chat","request":"{}"}"#), Ok(Line::Exchange(_))));
        assert!(matches!(
            Line::read(
                r#"{"message":"exchange","request_id":"a","violations":[{"control":"tools","kind":"blocked","action":"blocked","count":1}]}"#
            ),
            Ok(Line::Logged(_))
        ));
        assert!(matches!(Line::read(r#"{"message":"listening"}"#), Ok(Line::Other)));
        for text in ["", "7", "private", r#"{"private":1}"#, r#"{"path":"/x","private":1}"#, r#"{"path":7}"#] {
            let said = Line::read(text).unwrap_err().to_string();
            assert!(!said.contains("private"), "{said}");
        }
    }

    #[test]
    fn what_a_policy_makes_of_an_exchange_is_what_it_would_do() {
        let request = r#"{"model":"m","messages":[{"role":"system","content":"be kind"},{"role":"user","content":"hi"}]}"#;
        let key = ["ghp", &"a1B2".repeat(9)].join("_");
        let body = format!("{{\"model\":\"m\",\"message\":{{\"role\":\"assistant\",\"content\":\"{key}\"}},\"done\":true}}\n");
        let answer = RecordedAnswer { status: 200, content_type: Some("application/x-ndjson".into()), body };
        let recorded =
            Recorded { method: post(), path: "/api/chat".into(), request: request.into(), answer: Some(answer), ..Recorded::default() };
        let verdict = |spec: &str| judge(&policy(spec), &recorded).seen.verdict().name();
        assert_eq!(verdict("{mode: hard}"), "mended");
        assert_eq!(verdict("{mode: monitor}"), "passed");
        assert_eq!(verdict("{mode: hard, models: {allow: [other]}}"), "refused");
        assert_eq!(verdict("{mode: monitor, rules: [{when: {models: [m]}, redaction: {mode: soft}}]}"), "mended");
        let judged = judge(&policy("{mode: hard, models: {allow: [other]}}"), &recorded);
        assert_eq!(judged.seen.refused, Some(403));
        assert!(judged.system_prompt.unwrap().starts_with("sha256:"));
    }

    #[test]
    fn a_shadow_judges_what_it_would_have_sent_on_where_another_model_stands_in() {
        let watching = policy("{mode: monitor}");
        // Under the rule of the model that stands in, everything passes; of a body that came packed no byte could be read.
        let shadow = policy("{mode: soft, models: {default: a}, rules: [{name: r, when: {models: [a]}, mode: soft, tools: {allow: []}}]}");
        let head = RequestHead {
            method: "POST",
            path: "/v1/chat/completions",
            content_type: Some("application/json"),
            content_encoding: None,
            caller: Caller { over_loopback: false },
        };
        let (mut exchange, _) = Exchange::begin_beside(watching, Some(shadow), &head);
        exchange.judge_request(br#"{"model":"b","messages":[{"role":"user","content":"hi"}]}"#).unwrap();
        let mut places = Places::default();
        while let Some(model) = exchange.must_locate(&places) {
            let place = if model == "b" { Whereabouts::Cloud } else { Whereabouts::Here };
            places.put(model, place);
        }
        // (What came, packed.)
        assert_eq!(exchange.judge_place(&places, b"\x28\xb5\x2f\xfd").unwrap(), None);
        let seen = exchange.tally.shadow.take().unwrap();
        assert_eq!((seen.refused, seen.rule.as_deref(), seen.verdict()), (None, Some("r"), llm_guard_engine::exchange::Verdict::Mended));
    }

    #[test]
    fn a_line_of_any_shape_is_read_or_refused() {
        let deep = format!("{{\"path\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        for text in [&deep, "[\"x\"]", "{\"path\":\"/x\",\"path\":\"/y\"}", "{\"message\":7}x", "{\"path\":null}"] {
            assert!(Line::read(text).is_err(), "{}", &text[..20.min(text.len())]);
        }
        assert!(matches!(Line::read("{\"message\":7}"), Ok(Line::Other)));
    }
}
