//! Attacks on rules: requests that try to get under a rule that isn't meant for them, and rules that are refused though something reaches
//! them, or accepted though nothing does.

use std::sync::Arc;

use llm_guard_engine::controls::{Caller, Policy};
use llm_guard_engine::exchange::{AnswerHead, AnswerPlan, Exchange, Forward, Next, RequestHead};
use llm_guard_engine::policy::settings::Standing;
use llm_guard_engine::policy::{GuardPolicy, PolicyError};
use llm_guard_engine::wire::routes::ROUTES;
use llm_guard_engine::wire::whereabouts::{Places, Whereabouts};
use proptest::prelude::*;
use serde_json::{Value, json};

const HEAD: &str = "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nmetadata: {name: p}\nspec: ";

fn try_compile(spec: &str) -> Result<Arc<Policy>, PolicyError> {
    let yaml = format!("{HEAD}{spec}\n");
    GuardPolicy::read_and(&yaml, |document| Policy::compile(document, &Standing::default())).map(|(_, policy)| policy)
}

fn compiled(spec: &str) -> Arc<Policy> {
    try_compile(spec).unwrap_or_else(|error| panic!("{spec}: {error}"))
}

fn begun(policy: &Arc<Policy>, method: &str, path: &str, over_loopback: bool) -> (Exchange, Next) {
    let head =
        RequestHead { method, path, content_type: Some("application/json"), content_encoding: None, caller: Caller { over_loopback } };
    Exchange::begin(Arc::clone(policy), &head)
}

/// The rule that holds, and the status of a refusal.
fn asked(policy: &Arc<Policy>, path: &str, body: &Value) -> (Option<String>, Option<u16>) {
    let (mut exchange, next) = begun(policy, "POST", path, false);
    let refused = match next {
        Next::Refuse(refusal) => Some(refusal.status),
        Next::Pass => None,
        Next::ReadBody => exchange.judge_request(body.to_string().as_bytes()).err().map(|refusal| refusal.status),
    };
    (exchange.policy().rule.as_deref().map(str::to_owned), refused)
}

fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hi"}]})
}

#[test]
fn a_name_that_is_one_model_to_some_servers_and_another_to_others_doesnt_get_past_a_strict_rule() {
    // To one version this is the model `a` that runs here, to another one of the tag `local`.
    for strict in [
        "{mode: monitor, rules: [{when: {models: [a]}, mode: hard, models: {allow: [a]}, tools: {allow: []}}]}",
        "{mode: soft, rules: [{when: {models: [a]}, mode: hard, tools: {allow: []}}]}",
        "{mode: soft, tools: {allow: []}, rules: [{when: {models: ['a:lo*']}, tools: {allow: [search]}}]}",
    ] {
        let policy = compiled(strict);
        for name in ["a:local", "A:LOCAL", "library/a:local"] {
            let mut body = chat(name);
            body["tools"] = json!([{"type": "function", "function": {"name": "search"}}]);
            let (mut exchange, _) = begun(&policy, "POST", "/api/chat", false);
            let passed = match exchange.judge_request(body.to_string().as_bytes()) {
                Err(refusal) => {
                    assert!(matches!(refusal.status, 400 | 403), "{strict} {name}: {refusal:?}");
                    continue;
                }
                Ok(Forward::Original) => body.clone(),
                Ok(Forward::Encoded { body, .. }) => serde_json::from_slice(&body).unwrap(),
            };
            assert!(passed.get("tools").is_none(), "{strict} {name}: {passed} under {:?}", exchange.policy().rule);
        }
    }
    // And where the rule says so, it is met by the plain name.
    let local = compiled("{mode: soft, rules: [{name: r, when: {models: ['a:local']}, mode: hard}]}");
    assert_eq!(asked(&local, "/api/chat", &chat("a")), (Some("r".into()), Some(400)));
    assert_eq!(asked(&local, "/api/chat", &chat("a:local")), (Some("r".into()), None));
    // Where the rules say the same of both, nothing is in doubt.
    let both = compiled("{mode: soft, rules: [{name: r, when: {models: ['a', 'a:*']}, mode: hard}]}");
    assert_eq!(asked(&both, "/api/chat", &chat("a:local")), (Some("r".into()), None));
    let neither = compiled("{mode: soft, rules: [{name: r, when: {models: [b]}, mode: hard}]}");
    assert_eq!(asked(&neither, "/api/chat", &chat("a:local")), (None, None));
    // In monitor it is counted.
    let calm = compiled("{rules: [{name: r, when: {models: [a]}, tools: {allow: []}}]}");
    assert_eq!(asked(&calm, "/api/chat", &chat("a:local")).1, None);
}

fn digest_of(path: &str, body: &Value) -> Option<String> {
    let (exchange, _) = begun(&compiled("{}"), "POST", path, false);
    exchange.system_prompt(body.to_string().as_bytes())
}

#[test]
fn a_system_prompt_that_the_model_isnt_shown_alone_has_no_digest() {
    let kind = digest_of("/api/generate", &json!({"model": "a", "system": "be kind", "prompt": "hi"}));
    assert!(kind.is_some());
    let picture = "iVBORw0KGgoAAAANSUhEUg";
    for (path, body) in [
        // A model that fills in between two texts gets these two and nothing else.
        ("/api/generate", json!({"model": "a", "system": "be kind", "prompt": "hi", "suffix": "ho"})),
        // A picture among the system's words is one of its words.
        ("/api/chat", json!({"model": "a", "messages": [{"role": "system", "content": "be kind", "images": [picture]}]})),
        (
            "/v1/chat/completions",
            json!({"model": "a", "messages": [{"role": "system", "content": [
                {"type": "text", "text": "be kind"}, {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{picture}")}}]}]}),
        ),
        (
            "/v1/responses",
            json!({"model": "a", "input": [{"role": "system", "content": [
                {"type": "input_text", "text": "be kind"}, {"type": "input_image", "image_url": format!("data:image/png;base64,{picture}")}]}]}),
        ),
        (
            "/v1/messages",
            json!({"model": "a", "max_tokens": 9, "messages": [], "system": [
                {"type": "text", "text": "be kind"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": picture}}]}),
        ),
        // What was said before stands on the server.
        ("/v1/responses", json!({"model": "a", "instructions": "be kind", "input": "hi", "previous_response_id": "resp_1"})),
        ("/v1/responses", json!({"model": "a", "instructions": "be kind", "input": "hi", "conversation": "conv_1"})),
        ("/v1/responses", json!({"model": "a", "instructions": "be kind", "input": "hi", "conversation": {"id": "conv_1"}})),
    ] {
        assert_ne!(digest_of(path, &body), kind, "{path} {body}");
    }
    for (path, body) in [
        ("/api/generate", json!({"model": "a", "system": "be kind", "prompt": "hi", "suffix": ""})),
        ("/api/chat", json!({"model": "a", "messages": [{"role": "SYSTEM", "content": "be kind", "images": []}]})),
        (
            "/api/chat",
            json!({"model": "a", "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "", "images": [picture]}]}),
        ),
        ("/v1/responses", json!({"model": "a", "instructions": "be kind", "input": "hi", "previous_response_id": null})),
    ] {
        assert_eq!(digest_of(path, &body), kind, "{path} {body}");
    }
}

#[test]
fn a_model_that_an_alias_stands_for_is_judged_by_its_own_rule() {
    let spec = "{mode: soft, rules: [\
        {name: strict, when: {models: [a]}, mode: hard, tools: {allow: []}},\
        {name: lax, when: {models: ['x*']}, tools: {allow: [search]}}]}";
    let policy = compiled(spec);
    let mut body = chat("x");
    body["tools"] = json!([{"type": "function", "function": {"name": "search"}}]);
    let (mut exchange, _) = begun(&policy, "POST", "/api/chat", false);
    let Ok(Forward::Encoded { body, .. }) = exchange.judge_request(body.to_string().as_bytes()) else { panic!() };
    let mut places = Places::default();
    while let Some(model) = exchange.must_locate(&places) {
        let place = if model == "x" { Whereabouts::Alias("a".into()) } else { Whereabouts::Here };
        places.put(model, place);
    }
    assert_eq!(exchange.judge_place(&places, &body).map_err(|refusal| refusal.status), Err(403));
}

#[test]
fn no_rule_is_refused_that_something_reaches() {
    for spec in [
        // To copy `a` to `b` names both, which no rule for one of them fits.
        "{mode: hard, rules: [{when: {models: [a]}, tools: {allow: []}}, {when: {models: [a, b], routes: [/api/copy]}, management: {allow: [copy]}}]}",
        // In monitor every model passes.
        "{mode: hard, models: {allow: [a]}, rules: [{when: {models: [b]}, mode: monitor}]}",
        "{mode: hard, models: {mode: monitor, allow: [a]}, rules: [{when: {models: [b]}, tools: {allow: []}}]}",
    ] {
        if let Err(error) = try_compile(spec) {
            panic!("{spec}: {error}");
        }
    }
    let copy = compiled(
        "{mode: hard, rules: [{when: {models: [a]}, tools: {allow: []}}, {name: c, when: {models: [a, b], routes: [/api/copy]}, management: {allow: [copy], from: anyone}}]}",
    );
    assert_eq!(asked(&copy, "/api/copy", &json!({"source": "a", "destination": "b"})), (Some("c".into()), None));
}

#[test]
fn an_entry_that_a_rule_cant_hold_on_is_refused_by_its_place() {
    for (spec, said) in [
        (
            "{rules: [{when: {tools: true, routes: [/api/chat, /api/embed]}, mode: hard}]}",
            "spec.rules[0].when.routes[1]: no request can fit: it takes no tools",
        ),
        (
            "{rules: [{when: {models: [a], routes: ['/v1/*', /api/tags]}, mode: hard}]}",
            "spec.rules[0].when.routes[1]: no request can fit: it names no model",
        ),
        (
            &format!("{{rules: [{{when: {{models: [{}]}}, mode: hard}}]}}", vec!["a"; 1_001].join(", ")),
            "spec.rules[0].when.models: it has 1001 entries; at most 1000 are read",
        ),
    ] {
        let error = try_compile(spec).expect_err(spec).to_string();
        assert!(error.ends_with(said), "{error}");
    }
}

#[test]
fn what_only_a_caller_decides_is_known_of_a_route_that_nobody_knows() {
    let policy = compiled("{mode: hard, rules: [{name: r, when: {caller: network}, mode: monitor}]}");
    let (exchange, next) = begun(&policy, "POST", "/api/newest", false);
    assert!(matches!(next, Next::Pass) && exchange.policy().rule.as_deref() == Some("r"), "{next:?}");
    let (_, next) = begun(&policy, "POST", "/api/newest", true);
    assert!(matches!(next, Next::Refuse(_)));
}

// === what holds of every scope ===

fn one_of(values: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(values)
}

const NAMES: &[&str] = &[
    "a",
    "A:latest",
    "a:1b",
    "a:local",
    "b",
    "b:latest",
    "library/a",
    "other/a",
    "registry.ollama.ai/library/a:1b",
    "/models/a.gguf",
    "a:cloud",
    "a:1b-cloud",
    " a ",
    "ab",
    "hf.co/a/b:q4",
    "",
];
const PATTERNS: &[&str] = &[
    "a",
    "a*",
    "a:*",
    "*",
    "b",
    "a:1b",
    "a:local",
    "*:local",
    "other/*",
    "/models/*",
    "*:*b",
    "a:*-cloud",
    "hf.co/*",
    "library/a",
    "*b",
    "ab",
    "*/a",
];
const ROUTE_PATTERNS: &[&str] = &[
    "*",
    "/api/*",
    "/v1/*",
    "/api/chat",
    "/api/c*",
    "/api/generate",
    "/api/embed",
    "/api/embe*",
    "/v1/messages",
    "/v1/responses",
    "/api/copy",
    "/api/show",
    "/api/create",
    "/v1/m*",
    "/v1/models/:model",
    "/v1/chat/completions",
    "/api/tags",
    "/v1/audio/transcriptions",
];

fn list(values: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(one_of(values), 1..=most)
        .prop_map(|values| format!("[{}]", values.iter().map(|v| format!("'{v}'")).collect::<Vec<_>>().join(", ")))
}

fn digests(most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["one", "two"]), 1..=most).prop_map(|texts| {
        let digest = |text: &str| digest_of("/api/generate", &json!({"model": "a", "system": text})).unwrap();
        format!("[{}]", texts.into_iter().map(|text| format!("'{}'", digest(text))).collect::<Vec<_>>().join(", "))
    })
}

prop_compose! {
    fn scope()(
        models in prop::option::weighted(0.5, list(PATTERNS, 3)),
        routes in prop::option::weighted(0.4, list(ROUTE_PATTERNS, 3)),
        caller in prop::option::weighted(0.2, one_of(&["pod", "network"])),
        tools in prop::option::weighted(0.3, any::<bool>()),
        documents in prop::option::weighted(0.3, any::<bool>()),
        prompts in prop::option::weighted(0.2, digests(2)),
    ) -> String {
        let mut keys = Vec::new();
        keys.extend(models.map(|models| format!("models: {models}")));
        keys.extend(routes.map(|routes| format!("routes: {routes}")));
        keys.extend(caller.map(|caller| format!("caller: {caller}")));
        keys.extend(tools.map(|tools| format!("tools: {tools}")));
        keys.extend(documents.map(|documents| format!("documents: {documents}")));
        keys.extend(prompts.map(|prompts| format!("systemPrompts: {prompts}")));
        format!("{{{}}}", keys.join(", "))
    }
}

/// A request of each shape: its method, its path and its body.
fn requests() -> Vec<(&'static str, String, Value)> {
    let mut all = Vec::new();
    let tool = json!([{"type": "function", "name": "search", "function": {"name": "search"}}]);
    for name in NAMES {
        for with_tools in [false, true] {
            for with_documents in [false, true] {
                for system in [None, Some("one"), Some("three")] {
                    let mut messages = vec![json!({"role": "user", "content": "hi"})];
                    messages.extend(system.map(|text| json!({"role": "system", "content": text})));
                    if with_documents {
                        messages.push(json!({"role": "tool", "content": "found"}));
                    }
                    for path in ["/api/chat", "/v1/chat/completions", "/v1/messages"] {
                        let mut body = json!({"model": name, "messages": messages, "max_tokens": 9});
                        if with_tools {
                            body["tools"] = tool.clone();
                        }
                        all.push(("POST", path.to_owned(), body));
                    }
                    let mut body = json!({"model": name, "input": messages[..messages.len() - usize::from(with_documents)].to_vec()});
                    if with_tools {
                        body["tools"] = json!([{"type": "web_search"}]);
                    }
                    if with_documents {
                        body["input"]
                            .as_array_mut()
                            .unwrap()
                            .push(json!({"type": "function_call_output", "call_id": "c", "output": "found"}));
                    }
                    all.push(("POST", "/v1/responses".to_owned(), body));
                    if !with_tools && !with_documents {
                        all.push(("POST", "/api/generate".to_owned(), json!({"model": name, "prompt": "hi", "system": system})));
                        let create = json!({"model": name, "from": "b", "system": system, "license": "free"});
                        all.push(("POST", "/api/create".to_owned(), create));
                    }
                }
            }
        }
        for (path, body) in [
            ("/api/embed", json!({"model": name, "input": "x"})),
            ("/api/embed", json!({"model": name})),
            ("/api/embeddings", json!({"model": name, "prompt": "x"})),
            ("/v1/embeddings", json!({"model": name, "input": "x"})),
            ("/v1/completions", json!({"model": name, "prompt": "x"})),
            ("/v1/images/generations", json!({"model": name, "prompt": "x"})),
            ("/api/show", json!({"model": name, "system": "one"})),
            ("/api/pull", json!({"name": name})),
            ("/api/copy", json!({"source": name, "destination": "b"})),
            ("/api/copy", json!({"source": "a", "destination": name})),
        ] {
            all.push(("POST", path.to_owned(), body));
        }
        let segment = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string();
        all.push(("GET", format!("/v1/models/{segment}"), json!(null)));
    }
    all.push(("GET", "/api/tags".to_owned(), json!(null)));
    all
}

/// Whether the only rule of a policy in monitor fits.
fn fits(policy: &Arc<Policy>, request: &(&'static str, String, Value), over_loopback: bool) -> bool {
    let (method, path, body) = request;
    let (mut exchange, next) = begun(policy, method, path, over_loopback);
    if matches!(next, Next::ReadBody) {
        let _ = exchange.judge_request(if body.is_null() { Vec::new() } else { body.to_string().into_bytes() }.as_slice());
    }
    exchange.policy().rule.is_some()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// A rule that is refused since another fits all that it fits is one that the other one leaves nothing of; and one that is in force
    /// without any other is in force on all that could be meant for it.
    #[test]
    fn a_rule_that_is_refused_for_another_is_one_that_nothing_reaches(earlier in scope(), later in scope()) {
        let rule = |when: &str| format!("{{rules: [{{when: {when}, tools: {{allow: []}}}}]}}");
        if let (Ok(first), Ok(second)) = (try_compile(&rule(&earlier)), try_compile(&rule(&later))) {
            let both = try_compile(&format!("{{rules: [{{when: {earlier}, tools: {{allow: []}}}}, {{when: {later}, tools: {{allow: []}}}}]}}"));
            let is_refused = both.as_ref().err().is_some_and(|error| error.to_string().contains("nothing reaches this rule"));
            if is_refused {
                for request in requests() {
                    for over_loopback in [false, true] {
                        let escapes = fits(&second, &request, over_loopback) && !fits(&first, &request, over_loopback);
                        prop_assert!(!escapes, "{earlier} is said to fit all of {later}: {request:?}");
                    }
                }
            }
        }
    }

    /// What can't be read is held to a rule that it could be meant for.
    #[test]
    fn what_cant_be_read_is_never_laxer_than_what_can(when in scope()) {
        if let Ok(policy) = try_compile(&format!("{{mode: monitor, rules: [{{when: {when}, mode: hard}}]}}")) {
            for request in requests() {
                for over_loopback in [false, true] {
                    if fits(&policy, &request, over_loopback) {
                        let (mut exchange, next) = begun(&policy, request.0, &request.1, over_loopback);
                        let refused = match next {
                            Next::Refuse(_) => true,
                            Next::Pass => false,
                            Next::ReadBody => exchange.judge_request(b"{").is_err() || request.2.is_null(),
                        };
                        prop_assert!(refused, "{when}: {request:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn every_route_pattern_that_is_tried_is_known() {
    for pattern in ROUTE_PATTERNS {
        let begin = pattern.strip_suffix('*');
        assert!(ROUTES.iter().any(|route| begin.map_or(route.pattern == *pattern, |begin| route.pattern.starts_with(begin))), "{pattern}");
    }
}

#[test]
fn a_policy_with_many_rules_and_long_lists_is_compiled_in_no_time() {
    let names = |of: &str, count: usize| (0..count).map(|n| format!("{of}{n}")).collect::<Vec<_>>().join(", ");
    let rules: Vec<String> = (0..64)
        .map(|n| {
            format!(
                "{{when: {{models: [{}], routes: ['/api/*', '/v1/chat/completions']}}, tools: {{allow: [t{n}]}}}}",
                names(&format!("m{n}x"), 20)
            )
        })
        .collect();
    let many = format!("{{mode: hard, models: {{allow: ['m*', {}]}}, rules: [{}]}}", names("a", 500), rules.join(", "));
    let long = format!(
        "{{mode: hard, rules: [{{when: {{models: [{}]}}, mode: soft}}, {{when: {{models: [{}]}}, mode: monitor}}]}}",
        names("a", 1_000),
        names("b", 1_000)
    );
    for spec in [many, long] {
        let yaml = format!("{HEAD}{spec}\n");
        let document = GuardPolicy::read(&yaml).unwrap();
        let since = std::time::Instant::now();
        Policy::compile(&document, &Standing::default()).unwrap();
        println!("{:?}", since.elapsed());
        assert!(since.elapsed() < std::time::Duration::from_secs(5), "{:?}", since.elapsed());
    }
}

#[test]
fn a_shadow_says_that_it_would_refuse_an_answer_that_is_too_large() {
    let head = RequestHead {
        method: "POST",
        path: "/api/chat",
        content_type: Some("application/json"),
        content_encoding: None,
        caller: Caller { over_loopback: false },
    };
    for (shadow, refused) in [("{mode: hard}", Some(502)), ("{mode: monitor}", None)] {
        let (mut exchange, _) = Exchange::begin_beside(compiled("{mode: monitor}"), Some(compiled(shadow)), &head);
        exchange.judge_request(chat("a").to_string().as_bytes()).unwrap();
        let head = AnswerHead { status: 200, content_type: Some("application/json"), content_encoding: None, is_empty: false };
        let Ok(AnswerPlan::Whole(mut judge)) = exchange.open_answer(&head) else { panic!() };
        judge.is_too_large();
        assert_eq!(judge.tally().shadow.as_ref().unwrap().refused, refused, "{shadow}");
    }
}
