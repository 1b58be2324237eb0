//! Which models a list allows, held against a model of the server's own rules: a grammar here, a parser there. And where models run.

use std::sync::{Arc, LazyLock};

use llm_guard_engine::controls::{Caller, Policy};
use llm_guard_engine::exchange::{AnswerHead, AnswerPlan, Exchange, Forward, RequestHead};
use llm_guard_engine::policy::GuardPolicy;
use llm_guard_engine::policy::settings::Standing;
use llm_guard_engine::verdict::Refusal;
use llm_guard_engine::wire::whereabouts::{Places, Whereabouts};
use proptest::prelude::*;
use regex::Regex;
use serde_json::json;

fn policy(mode: &str, models: &str) -> Arc<Policy> {
    let yaml =
        format!("apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nmetadata: {{name: p}}\nspec: {{mode: {mode}, models: {models}}}\n");
    Policy::compile(&GuardPolicy::read(&yaml).unwrap(), &Standing::of(None)).unwrap()
}

fn begin(policy: &Arc<Policy>, path: &str) -> Exchange {
    let head = RequestHead { method: "POST", path, content_type: None, content_encoding: None, caller: Caller { over_loopback: true } };
    Exchange::begin(Arc::clone(policy), &head).0
}

fn body(path: &str, model: &str) -> Vec<u8> {
    match path {
        "/api/embed" | "/v1/embeddings" => json!({"model": model, "input": "hi"}),
        "/api/generate" => json!({"model": model, "prompt": "hi"}),
        "/api/pull" => json!({"model": model}),
        _ => json!({"model": model, "messages": [{"role": "user", "content": "hi"}]}),
    }
    .to_string()
    .into_bytes()
}

fn judge(policy: &Arc<Policy>, path: &str, model: &str) -> Result<Forward, Refusal> {
    begin(policy, path).judge_request(&body(path, model))
}

fn forwarded_body(forward: &Forward) -> &[u8] {
    let Forward::Encoded { body, .. } = forward else { panic!("nothing is forwarded as it came") };
    body
}

fn forwarded_model(forward: &Forward) -> String {
    let body: serde_json::Value = serde_json::from_slice(forwarded_body(forward)).unwrap();
    body["model"].as_str().unwrap().to_owned()
}

// === the server's rules, written down a second time ===

/// The name by which 0.17.4 looks a model up, if it takes this for a name: host, namespace, model, tag.
fn looked_up(name: &str) -> Option<[String; 4]> {
    static GRAMMAR: LazyLock<Regex> = LazyLock::new(|| {
        let word = "[A-Za-z0-9_]";
        let host = format!("{word}[-_.:A-Za-z0-9]{{0,349}}");
        let space = format!("{word}[-_A-Za-z0-9]{{0,79}}");
        let part = format!("{word}[-_.A-Za-z0-9]{{0,79}}");
        let long = format!("(?:(?P<scheme>(?s:.)*?)://(?P<host>{host})?|(?P<bare>{host}))/(?P<space>{space})/");
        Regex::new(&format!("\\A(?:{long}|(?P<short>{space})/)?(?P<model>{part})(?::(?P<tag>{part}))?\\z")).unwrap()
    });
    let found = GRAMMAR.captures(name)?;
    let of = |group: &str| found.name(group).map(|text| text.as_str());
    // What stands before the first `://` is the scheme.
    if of("scheme").is_some_and(|scheme| name.find("://") != Some(scheme.len())) {
        return None;
    }
    let host = of("host").or(of("bare")).unwrap_or("registry.ollama.ai");
    let space = of("space").or(of("short")).unwrap_or("library");
    Some([host, space, &found["model"], of("tag").unwrap_or("latest")].map(str::to_ascii_lowercase))
}

/// The same for 0.33.0; whether it is a model of the cloud comes with it.
fn resolved(name: &str) -> Option<([String; 4], bool)> {
    static SOURCE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?s)\A(.*):\s*(?:((?i)local)|((?i)cloud)|([^:/]*)-(?i:cloud))\s*\z").unwrap());
    let name = name.trim();
    let Some(source) = SOURCE.captures(name) else { return Some((looked_up(name)?, false)) };
    let tag = source.get(4).map(|tag| tag.as_str());
    let base = tag.map_or_else(|| source[1].to_owned(), |tag| format!("{}:{tag}", &source[1]));
    if SOURCE.is_match(&base) {
        return None;
    }
    Some((looked_up(&base)?, source.get(2).is_none()))
}

fn own(model: &str, tag: &str) -> [String; 4] {
    ["registry.ollama.ai", "library", model, tag].map(str::to_owned)
}

/// What a list of `calm` and `calm:3b` allows.
fn is_allowed(name: &str) -> bool {
    let listed = |model: &[String; 4]| *model == own("calm", "latest") || *model == own("calm", "3b");
    let (old, new) = (looked_up(name), resolved(name));
    let is_taken = old.is_some() || new.is_some();
    is_taken && old.as_ref().is_none_or(listed) && new.as_ref().is_none_or(|(model, is_cloud)| listed(model) && !is_cloud)
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => prop::sample::select(vec!["calm", "CALM", "Calm", "3b", "3B", "latest", "LATEST", "library", "Library", "registry.ollama.ai", "Registry.Ollama.ai"]),
        5 => prop::sample::select(vec![":", "/", "://", "http://", "HTTPS://", "-"]),
        2 => prop::sample::select(vec![":local", ":LOCAL", ":cloud", ":Cloud", "-cloud", "-CLOUD", "local", "cloud", ": "]),
        1 => prop::sample::select(vec![" ", "\t", "\u{a0}", "\u{3000}", "\n", "\0", "@", "@sha256:00", ".", "_", "\u{17f}", "\u{212a}", "é", "!MISSING!", "+", "\\"]),
    ]
    .prop_map(str::to_owned)
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::collection::vec(piece(), 1..8).prop_map(|pieces| pieces.concat()),
        // Well formed, for the most part.
        4 => (
            prop::sample::select(vec!["", "", " "]),
            prop::sample::select(vec!["", "", "library/", "LIBRARY/", "other/", "registry.ollama.ai/library/", "x://REGISTRY.ollama.ai/library/", "https:///library/", "evil.test/library/"]),
            prop::sample::select(vec!["calm", "CALM", "cAlm", "leaky"]),
            prop::sample::select(vec!["", "", ":latest", ":Latest", ":3b", ":3B", ":local", ":3b:local", ":cloud", ":3b-cloud", ":1b"]),
            prop::sample::select(vec!["", "", " ", "\n"]),
        )
            .prop_map(|(before, place, model, tag, after)| [before, place, model, tag, after].concat()),
        1 => "(?s:.{0,24})",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn a_spelling_is_allowed_exactly_where_every_version_folds_it_to_an_allowed_model(name in any_name()) {
        static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(|| policy("hard", "{allow: [calm, 'calm:3b']}"));
        prop_assume!(!name.trim().is_empty());
        for path in ["/api/chat", "/api/embed", "/api/generate"] {
            match judge(&POLICY, path, &name) {
                Ok(forward) => {
                    prop_assert!(is_allowed(&name), "{path}: {name:?} passes");
                    prop_assert_eq!(forwarded_model(&forward), name.clone(), "it goes on as it came");
                }
                Err(refusal) => {
                    prop_assert!(!is_allowed(&name), "{path}: {name:?} is refused: {refusal:?}");
                    let is_name = looked_up(&name).is_some() || resolved(&name).is_some();
                    prop_assert_eq!((refusal.status, refusal.code), if is_name { (403, "not_allowed") } else { (400, "invalid_name") }, "{:?}", name);
                }
            }
        }
    }

    #[test]
    fn without_a_list_what_names_a_cloud_and_what_is_no_name_is_refused_and_nothing_else(name in any_name()) {
        static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(|| policy("hard", "{}"));
        prop_assume!(!name.trim().is_empty());
        let (old, new) = (looked_up(&name), resolved(&name));
        let refused = judge(&POLICY, "/api/chat", &name).err().map(|refusal| (refusal.status, refusal.code));
        match (old.is_some() || new.is_some(), new.is_some_and(|(_, is_cloud)| is_cloud)) {
            (false, _) => prop_assert_eq!(refused, Some((400, "invalid_name")), "{:?}", name),
            (true, true) => prop_assert_eq!(refused, Some((403, "cloud")), "{:?}", name),
            (true, false) => prop_assert_eq!(refused, None, "{:?}", name),
        }
    }
}

#[test]
fn an_error_names_the_field_and_never_the_value() {
    let refusal = judge(&policy("hard", "{}"), "/api/chat", "hun ter2").unwrap_err();
    assert!(refusal.message.starts_with("model: ") && !refusal.message.contains("ter2"), "{refusal:?}");
}

#[test]
fn names_of_other_servers_pass_over_the_apis_that_those_speak_and_are_compared_as_they_are_written() {
    let open = policy("hard", "{}");
    let listed = policy("hard", "{allow: ['/models/*', gpt-4o, 'meta-llama/*']}");
    for (model, is_listed) in [
        ("/models/llama.gguf", true),
        ("/Models/llama.gguf", false),
        ("./models/llama.gguf", false),
        ("gpt-4o", true),
        ("GPT-4o", true),
        ("meta-llama/Llama-3.1-8B", true),
        ("accounts/x/models/y", false),
        ("ft:gpt-4o:org::1", false),
        ("\u{6a21}\u{578b}", false),
    ] {
        for path in ["/v1/chat/completions", "/v1/embeddings"] {
            let passed = judge(&open, path, model).map(|forward| forwarded_model(&forward));
            assert_eq!(passed.as_deref(), Ok(model), "{path}");
            assert_eq!(judge(&listed, path, model).is_ok(), is_listed, "{path} {model}");
        }
    }
    for model in ["thin\u{212a}er", "\u{17f}mall", "calm\0", "calm\n\nx", &"x".repeat(2000)] {
        let refused = judge(&open, "/v1/embeddings", model).unwrap_err();
        assert_eq!((refused.status, refused.code), (400, "invalid_name"), "{model:?}");
    }
}

// === where models run ===

fn places(known: &[(&str, Whereabouts)]) -> Places {
    let mut places = Places::default();
    for (name, place) in known {
        places.put((*name).to_owned(), place.clone());
    }
    places
}

/// What becomes of a chat with `model`, and what was located for it.
fn placed(
    policy: &Arc<Policy>,
    path: &str,
    model: &str,
    known: &[(&str, Whereabouts)],
) -> (Result<String, (u16, &'static str)>, Vec<String>) {
    let mut exchange = begin(policy, path);
    let forward = exchange.judge_request(&body(path, model)).unwrap();
    let (mut found, known, mut asked) = (Places::default(), places(known), Vec::new());
    while let Some(name) = exchange.must_locate(&found) {
        assert!(!asked.contains(&name), "{name} is asked for twice");
        found.put(name.clone(), known.get(&name).cloned().unwrap_or(Whereabouts::Here));
        asked.push(name);
    }
    let judged = exchange.judge_place(&found, forwarded_body(&forward)).map(|other| forwarded_model(other.as_ref().unwrap_or(&forward)));
    (judged.map_err(|refusal| (refusal.status, refusal.code)), asked)
}

#[test]
fn a_model_passes_where_it_runs_here_and_its_aliases_are_held_against_the_list_as_well() {
    use Whereabouts::{Alias, Cloud, Here, Missing, Unknown};
    let alias = |target: &str| Alias(target.to_owned());
    let policy = policy("hard", "{allow: [calm, x, stub]}");
    for (place, target, judged) in [
        (Here, Here, Ok("x".to_owned())),
        (Missing, Here, Ok("x".into())),
        (Cloud, Here, Err((403, "cloud"))),
        (Unknown, Here, Err((502, "place_unknown"))),
        (alias("calm"), Here, Ok("x".into())),
        (alias("calm"), Missing, Ok("x".into())),
        (alias("calm"), Cloud, Err((403, "cloud"))),
        (alias("calm"), Unknown, Err((502, "place_unknown"))),
        (alias("calm"), alias("leaky"), Err((502, "place_unknown"))),
        (alias("leaky"), Here, Err((403, "not_allowed"))),
    ] {
        for path in ["/api/chat", "/v1/chat/completions", "/api/embed"] {
            let known = [("x", place.clone()), ("calm", target.clone())];
            assert_eq!(placed(&policy, path, "x", &known).0, judged, "{path} {place:?} {target:?}");
        }
    }
    assert_eq!(placed(&policy, "/api/chat", "x", &[("x", alias("calm"))]).1, ["x", "calm"]);
}

#[test]
fn in_soft_the_default_stands_in_where_it_runs_here_itself() {
    use Whereabouts::{Alias, Cloud, Unknown};
    let soft = policy("soft", "{default: calm}");
    assert_eq!(placed(&soft, "/api/chat", "x", &[("x", Cloud)]), (Ok("calm".into()), vec!["x".into(), "calm".into()]));
    assert_eq!(placed(&soft, "/api/chat", "x", &[("x", Unknown)]).0, Ok("calm".into()));
    assert_eq!(placed(&soft, "/api/chat", "x", &[("x", Cloud), ("calm", Cloud)]).0, Err((403, "cloud")));
    assert_eq!(placed(&soft, "/api/chat", "calm", &[("calm", Cloud)]).0, Err((403, "cloud")));
    assert_eq!(placed(&soft, "/api/embed", "x", &[("x", Cloud)]).0, Err((403, "cloud")), "vectors of another model are of no use");
    let (judged, asked) = placed(&soft, "/api/chat", "x", &[("x", Alias("y".into())), ("y", Cloud), ("calm", Alias("z".into()))]);
    assert_eq!((judged, asked.len()), (Ok("calm".into()), 4));
    // What the name says, nobody need be asked.
    let forward = judge(&soft, "/api/chat", "x:cloud").unwrap();
    assert_eq!(forwarded_model(&forward), "calm");
}

#[test]
fn nobody_is_asked_in_monitor_nor_where_every_place_will_do_nor_of_what_runs_nothing() {
    let asks = |policy: &Arc<Policy>, path: &str| !placed(policy, path, "x", &[]).1.is_empty();
    assert!(asks(&policy("hard", "{}"), "/api/chat") && asks(&policy("soft", "{}"), "/api/embed"));
    assert!(asks(&policy("hard", "{cloud: allow, allow: [x]}"), "/api/chat"), "an alias could be of any other model");
    assert!(!asks(&policy("hard", "{cloud: allow}"), "/api/chat"));
    assert!(!asks(&policy("hard", "{mode: monitor}"), "/api/chat"));
    assert!(!asks(&policy("hard", "{}"), "/api/pull"));
    let mut monitor = begin(&policy("monitor", "{}"), "/api/chat");
    assert_eq!(monitor.judge_request(&body("/api/chat", "x:cloud")), Ok(Forward::Original));
    assert_eq!(monitor.must_locate(&Places::default()), None);
    assert_eq!(monitor.tally.violations.keys().map(|found| found.kind).collect::<Vec<_>>(), ["cloud"]);
}

#[test]
fn with_the_cloud_allowed_it_may_be_used_but_for_what_the_list_leaves_out() {
    use Whereabouts::{Alias, Cloud};
    let allowed = policy("hard", "{cloud: allow, allow: [x, 'big:cloud']}");
    assert!(judge(&allowed, "/api/chat", "big:cloud").is_ok() && judge(&allowed, "/api/chat", "x:cloud").is_err());
    assert_eq!(placed(&allowed, "/api/chat", "x", &[("x", Cloud)]).0, Ok("x".into()));
    assert_eq!(placed(&allowed, "/api/chat", "x", &[("x", Alias("leaky".into()))]).0, Err((403, "not_allowed")));
}

#[test]
fn a_default_in_a_cloud_is_an_error_unless_the_cloud_is_allowed() {
    let read = |models: &str| {
        let yaml = format!("apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nspec: {{models: {models}}}\n");
        Policy::compile(&GuardPolicy::read(&yaml).unwrap(), &Standing::of(None)).map_err(|error| error.to_string())
    };
    assert_eq!(
        read("{default: 'big:120b-cloud'}").unwrap_err(),
        "spec.models.default: 'big:120b-cloud' runs in a cloud, which models.cloud denies"
    );
    assert!(read("{default: 'big:120b-cloud', cloud: allow}").is_ok());
    assert!(read("{default: \"a\\nb\"}").is_err());
}

// === answers that another server made ===

const REMOTE: &str = r#"{"model":"calm","remote_model":"big","remote_host":"https://ollama.com:443","created_at":"t","message":{"role":"assistant","content":"from afar"},"done":false}"#;

fn streamed(policy: &Arc<Policy>, frames: &[&str]) -> (String, u64) {
    let mut exchange = begin(policy, "/api/chat");
    exchange.judge_request(&body("/api/chat", "calm")).unwrap();
    let head = AnswerHead { status: 200, content_type: Some("application/x-ndjson"), content_encoding: None, is_empty: false };
    let AnswerPlan::Stream(mut judge) = exchange.open_answer(&head).unwrap() else { panic!("a stream is judged as one") };
    let mut out = Vec::new();
    for frame in frames {
        judge.push(format!("{frame}\n").as_bytes(), &mut out);
    }
    judge.finish(&mut out);
    let counted = judge.tally().violations.iter().filter(|(found, _)| found.kind == "cloud").map(|(_, times)| times).sum();
    (String::from_utf8(out).unwrap(), counted)
}

#[test]
fn an_answer_that_another_server_made_ends_with_an_error() {
    let end = r#"{"model":"calm","created_at":"t","message":{"role":"assistant","content":""},"done":true}"#;
    for mode in ["soft", "hard"] {
        let (said, counted) = streamed(&policy(mode, "{}"), &[REMOTE, REMOTE, end]);
        assert!(said.starts_with(r#"{"error":"this model runs in a cloud"#) && !said.contains("afar"), "{said}");
        assert_eq!(counted, 1);
        let (said, counted) = streamed(&policy(mode, "{cloud: allow}"), &[REMOTE, end]);
        assert!(said.contains("afar") && said.contains("remote_model") && counted == 0, "{said}");
        let (said, counted) = streamed(&policy(mode, "{mode: monitor}"), &[REMOTE, REMOTE, end]);
        assert!(said.contains("afar"), "{said}");
        assert_eq!(counted, 1, "once for the answer, not for each frame");
    }
    assert_eq!(streamed(&policy("monitor", "{}"), &[REMOTE, REMOTE, end]).1, 1);
    let empty = REMOTE.replace("big", "").replace("https://ollama.com:443", "");
    assert!(streamed(&policy("hard", "{}"), &[&empty, end]).0.contains("afar"));

    let mut exchange = begin(&policy("hard", "{}"), "/api/chat");
    let head = AnswerHead { status: 200, content_type: Some("application/json"), content_encoding: None, is_empty: false };
    let AnswerPlan::Whole(mut judge) = exchange.open_answer(&head).unwrap() else { panic!("a whole answer is judged as one") };
    let refusal = judge.judge(REMOTE.replace("\"done\":false", "\"done\":true").as_bytes()).unwrap_err();
    assert_eq!((refusal.status, refusal.code), (403, "cloud"));
}
