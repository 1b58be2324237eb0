//! Which rule holds for a request, and which mode it makes of all that stands around it: floor, annotations, policy, control, rule and
//! exception.

use std::sync::Arc;

use llm_guard_engine::controls::{Caller, Policy};
use llm_guard_engine::exchange::{Exchange, Forward, Next, RequestHead};
use llm_guard_engine::policy::settings::{Exception, Standing};
use llm_guard_engine::policy::{GuardPolicy, Moment};
use llm_guard_engine::verdict::{ControlId, Mode};
use llm_guard_engine::wire::whereabouts::{Places, Whereabouts};
use serde_json::{Value, json};

const HEAD: &str = "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nmetadata: {name: p}\nspec: ";

fn compiled(spec: &str, standing: Standing) -> Arc<Policy> {
    let yaml = format!("{HEAD}{spec}\n");
    GuardPolicy::read_and(&yaml, |document| Policy::compile(document, &standing)).unwrap_or_else(|error| panic!("{spec}: {error}")).1
}

/// One request, and what becomes of it.
struct Asked {
    path: &'static str,
    body: Value,
    over_loopback: bool,
}

fn asked(path: &'static str, body: Value) -> Asked {
    Asked { path, body, over_loopback: false }
}

fn chat(model: &str) -> Asked {
    asked("/api/chat", json!({"model": model, "messages": [{"role": "user", "content": "Say something."}]}))
}

fn begun(policy: &Arc<Policy>, asked: &Asked) -> (Exchange, Next) {
    let head = RequestHead {
        method: "POST",
        path: asked.path,
        content_type: Some("application/json"),
        content_encoding: None,
        caller: Caller { over_loopback: asked.over_loopback },
    };
    Exchange::begin(Arc::clone(policy), &head)
}

/// The rule, the status of a refusal or the model that goes on.
fn outcome(policy: &Arc<Policy>, asked: &Asked) -> (Option<String>, String) {
    let (mut exchange, next) = begun(policy, asked);
    let said = match next {
        Next::Refuse(refusal) => refusal.status.to_string(),
        Next::Pass => "passes".to_owned(),
        Next::ReadBody => match exchange.judge_request(asked.body.to_string().as_bytes()) {
            Err(refusal) => refusal.status.to_string(),
            Ok(Forward::Original) => "as it came".to_owned(),
            Ok(Forward::Encoded { body, .. }) => {
                let body: Value = serde_json::from_slice(&body).unwrap();
                body["model"].as_str().unwrap_or("no model").to_owned()
            }
        },
    };
    (exchange.policy().rule.as_deref().map(str::to_owned), said)
}

fn mode_of(policy: &Policy, id: ControlId) -> Mode {
    policy.controls.iter().find(|control| control.id() == id).unwrap().mode()
}

fn with_tools(mut asked: Asked) -> Asked {
    asked.body["tools"] = json!([{"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}]);
    asked
}

fn with_messages(messages: &Value) -> Asked {
    asked("/api/chat", json!({"model": "a", "messages": messages}))
}

fn from_pod(asked: Asked) -> Asked {
    Asked { over_loopback: true, ..asked }
}

#[test]
fn the_first_rule_that_fits_holds_and_no_other() {
    let tool = json!([{"role": "user", "content": "hi"}, {"role": "tool", "content": "found"}]);
    let kind = json!([{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]);
    let two =
        json!([{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}, {"role": "system", "content": "and evil"}]);
    let joined = json!([{"role": "system", "content": "be kind"}, {"role": "system", "content": "and evil"}]);
    let digest = {
        let policy = compiled("{}", Standing::default());
        let request = with_messages(&kind);
        let (exchange, _) = begun(&policy, &request);
        exchange.system_prompt(request.body.to_string().as_bytes()).unwrap()
    };
    let prompt = format!("{{systemPrompts: ['{digest}']}}");
    let when = |when: &str| format!("{{mode: soft, rules: [{{name: r, when: {when}, mode: hard}}]}}");
    let cases: Vec<(String, Asked, bool)> = vec![
        (when("{models: [a]}"), chat("a"), true),
        (when("{models: [a]}"), chat("A:latest"), true),
        (when("{models: [a]}"), chat("registry.ollama.ai/library/a:latest"), true),
        (when("{models: [a]}"), chat("a:1b"), false),
        (when("{models: ['a:*']}"), chat("a:1b"), true),
        (when("{models: ['a*']}"), chat("ab:1b"), true),
        (when("{models: [b, a]}"), chat("a"), true),
        (when("{models: [b]}"), chat("a"), false),
        (when("{models: [a]}"), asked("/api/chat", json!({"messages": []})), false),
        (when("{models: [a]}"), asked("/v1/chat/completions", json!({"model": "a", "messages": []})), true),
        (when("{models: [a]}"), asked("/v1/messages", json!({"model": "a", "messages": [], "max_tokens": 9})), true),
        (when("{models: [a]}"), asked("/v1/responses", json!({"model": "a", "input": "hi"})), true),
        (when("{models: [a]}"), asked("/api/embed", json!({"model": "a", "input": "hi"})), true),
        (when("{models: [a]}"), asked("/api/show", json!({"model": "a"})), true),
        (when("{models: [a]}"), asked("/api/show", json!({"name": "a"})), true),
        (when("{routes: [/api/chat]}"), chat("a"), true),
        (when("{routes: ['/api/*']}"), chat("a"), true),
        (when("{routes: ['/v1/*']}"), chat("a"), false),
        (when("{routes: ['/v1/*']}"), asked("/v1/chat/completions", json!({"model": "a", "messages": []})), true),
        (when("{routes: [/api/chat]}"), asked("/api/%63hat", chat("a").body), true),
        (when("{caller: pod}"), from_pod(chat("a")), true),
        (when("{caller: pod}"), chat("a"), false),
        (when("{caller: network}"), chat("a"), true),
        (when("{caller: network}"), from_pod(chat("a")), false),
        (when("{tools: true}"), with_tools(chat("a")), true),
        (when("{tools: true}"), chat("a"), false),
        (when("{tools: false}"), chat("a"), true),
        (when("{tools: false}"), with_tools(chat("a")), false),
        (when("{tools: false}"), asked("/api/embed", json!({"model": "a", "input": "hi"})), true),
        (when("{documents: true}"), with_messages(&tool), true),
        (when("{documents: true}"), chat("a"), false),
        (when("{documents: true}"), asked("/api/embed", json!({"model": "a", "input": "hi"})), true),
        (when("{documents: false}"), chat("a"), true),
        (when("{documents: false}"), with_messages(&tool), false),
        (when(&prompt), with_messages(&kind), true),
        (when(&prompt), asked("/v1/chat/completions", json!({"model": "a", "messages": kind})), true),
        (when(&prompt), asked("/api/generate", json!({"model": "a", "system": "be kind", "prompt": "hi"})), true),
        (when(&prompt), asked("/v1/messages", json!({"model": "a", "system": "be kind", "messages": [], "max_tokens": 9})), true),
        (when(&prompt), chat("a"), false),
        (when(&prompt), with_messages(&two), false),
        (when(&prompt), with_messages(&joined), false),
        (when("{models: [a], tools: true, caller: pod}"), from_pod(with_tools(chat("a"))), true),
        (when("{models: [a], tools: true, caller: pod}"), with_tools(chat("a")), false),
        (when("{models: [a], tools: true, caller: pod}"), from_pod(chat("a")), false),
        (when("{models: [a], tools: true, caller: pod}"), from_pod(with_tools(chat("b"))), false),
    ];
    for (spec, asked, fits) in &cases {
        let (rule, _) = outcome(&compiled(spec, Standing::default()), asked);
        assert_eq!(rule.as_deref() == Some("r"), *fits, "{spec} {} {}: {rule:?}", asked.path, asked.body);
    }
    assert!(cases.len() >= 40);
    let two =
        "{mode: soft, rules: [{when: {models: [a], tools: true}, mode: hard}, {name: second, when: {models: [a, b]}, mode: monitor}]}";
    let policy = compiled(two, Standing::default());
    assert_eq!(outcome(&policy, &with_tools(chat("a"))).0.as_deref(), Some("rules[0]"));
    assert_eq!(outcome(&policy, &chat("a")), (Some("second".into()), "as it came".into()));
    assert_eq!(outcome(&policy, &chat("b")).0.as_deref(), Some("second"));
    assert_eq!(outcome(&policy, &chat("c")), (None, "c".into()));
}

/// The policy's mode, its tools', the rule's, the rule's tools'; what stands around; what the tools get, and the models, which say nothing.
type Case = (Option<Mode>, Option<Mode>, Option<Mode>, Option<Mode>, Standing, Mode, Mode);

#[test]
fn a_mode_comes_from_the_rules_control_the_policys_control_the_rule_the_policy_and_what_stands_around_them() {
    use Mode::{Hard, Monitor, Soft};
    let none = Standing::default();
    let mode = |mode| Standing::of(Some(mode));
    let floor = |standing: Standing, floor| Standing { floor: Some(floor), ..standing };
    let pod = |standing: Standing, pod| Standing { pod: Some(pod), ..standing };
    let most = |standing: Standing, most| Standing { most: Some(most), ..standing };
    // By what is left of each exception, in seconds: nothing, where it has ended.
    let except = |standing: Standing, exceptions: &[(Mode, u64)]| {
        let now = Moment::from_unix(1_795_335_900);
        let exception =
            |(mode, left): &(Mode, u64)| Exception { name: "e".into(), mode: *mode, expires: Moment::from_unix(now.unix() + left) };
        let all: Vec<Exception> = exceptions.iter().map(exception).collect();
        Standing { exception: Exception::weakest(all.iter().filter(|exception| exception.runs(now))), ..standing }
    };
    let cases: &[Case] = &[
        (None, None, None, None, none, Monitor, Monitor),
        (Some(Soft), None, None, None, none, Soft, Soft),
        (Some(Soft), None, Some(Hard), None, none, Hard, Hard),
        (Some(Hard), None, Some(Monitor), None, none, Monitor, Monitor),
        (Some(Soft), Some(Hard), Some(Monitor), None, none, Hard, Monitor),
        (Some(Soft), Some(Monitor), Some(Hard), None, none, Monitor, Hard),
        (Some(Soft), Some(Monitor), Some(Hard), Some(Soft), none, Soft, Hard),
        (Some(Soft), None, None, Some(Hard), none, Hard, Soft),
        (None, Some(Hard), None, Some(Monitor), none, Monitor, Monitor),
        (None, None, None, Some(Hard), none, Hard, Monitor),
        // An annotation stands in the place of the policy's mode and of the rule's, and no control goes above it.
        (Some(Hard), None, None, None, mode(Soft), Soft, Soft),
        (Some(Soft), None, Some(Hard), None, mode(Monitor), Monitor, Monitor),
        (Some(Soft), None, Some(Monitor), None, mode(Hard), Hard, Hard),
        (Some(Soft), Some(Hard), None, Some(Hard), mode(Soft), Soft, Soft),
        (Some(Soft), Some(Hard), None, Some(Monitor), mode(Hard), Monitor, Hard),
        (Some(Soft), None, None, Some(Hard), mode(Monitor), Monitor, Monitor),
        // The floor: nothing goes below it.
        (None, None, None, None, floor(none, Soft), Soft, Soft),
        (Some(Hard), None, Some(Monitor), None, floor(none, Soft), Soft, Soft),
        (Some(Hard), Some(Hard), None, Some(Monitor), floor(none, Soft), Soft, Hard),
        (Some(Soft), None, Some(Hard), None, floor(none, Soft), Hard, Hard),
        (Some(Soft), None, None, None, floor(mode(Monitor), Hard), Hard, Hard),
        (Some(Hard), None, Some(Monitor), Some(Monitor), floor(mode(Monitor), Soft), Soft, Soft),
        // A pod's own mode counts where it is stricter.
        (None, None, None, None, pod(none, Hard), Hard, Hard),
        (Some(Hard), None, Some(Monitor), None, pod(none, Soft), Soft, Soft),
        (Some(Soft), None, Some(Hard), None, pod(none, Monitor), Hard, Hard),
        (Some(Soft), Some(Monitor), None, None, pod(none, Hard), Monitor, Hard),
        (Some(Soft), None, None, Some(Monitor), pod(mode(Soft), Hard), Monitor, Hard),
        // Where the guard can be stepped around, nothing goes above monitor but for the floor.
        (Some(Hard), None, Some(Hard), Some(Hard), most(none, Monitor), Monitor, Monitor),
        (Some(Hard), None, Some(Hard), None, most(floor(none, Soft), Monitor), Soft, Soft),
        (Some(Soft), Some(Soft), Some(Hard), Some(Hard), most(pod(mode(Hard), Hard), Soft), Soft, Soft),
        // While an exception lasts nothing goes above it, not for the floor either.
        (Some(Hard), None, None, None, except(floor(none, Hard), &[(Monitor, 60)]), Monitor, Monitor),
        (Some(Hard), Some(Monitor), None, None, except(floor(none, Hard), &[(Soft, 60)]), Soft, Soft),
        // It makes nothing stricter.
        (None, None, None, None, except(none, &[(Hard, 60)]), Monitor, Monitor),
        (Some(Soft), Some(Monitor), None, None, except(none, &[(Soft, 60)]), Monitor, Soft),
        (Some(Hard), None, None, Some(Monitor), except(floor(none, Soft), &[(Hard, 60)]), Soft, Hard),
        // Whatever a rule says, and a control in it.
        (Some(Monitor), None, Some(Hard), None, except(none, &[(Monitor, 60)]), Monitor, Monitor),
        (Some(Soft), None, Some(Hard), Some(Hard), except(none, &[(Soft, 60)]), Soft, Soft),
        // Whatever annotations say, the pod's too.
        (Some(Soft), None, None, None, except(mode(Hard), &[(Soft, 60)]), Soft, Soft),
        (None, None, None, None, except(pod(mode(Hard), Hard), &[(Monitor, 60)]), Monitor, Monitor),
        (Some(Hard), Some(Soft), None, None, except(most(floor(none, Hard), Monitor), &[(Soft, 60)]), Soft, Soft),
        // Of several the weakest counts that hasn't ended.
        (Some(Hard), None, None, None, except(floor(none, Hard), &[(Hard, 9), (Monitor, 1), (Soft, 60)]), Monitor, Monitor),
        (Some(Hard), None, None, None, except(floor(none, Hard), &[(Monitor, 0), (Soft, 1), (Hard, 60)]), Soft, Soft),
        (Some(Hard), Some(Soft), None, None, except(floor(none, Soft), &[(Monitor, 0)]), Soft, Hard),
    ];
    for (policys, tools, rules, rules_tools, standing, expected, others) in cases {
        let said = |key: &str, mode: &Option<Mode>| mode.map(|mode| format!("{key}: {mode}, ")).unwrap_or_default();
        let section = |mode: &Option<Mode>| mode.map(|mode| format!("tools: {{mode: {mode}}}, ")).unwrap_or_default();
        // (A rule that changes nothing has to have another behind it.)
        let spec = format!(
            "{{{}{}rules: [{{name: r, when: {{models: [a]}}, {}{}}}, {{name: other, when: {{models: [b]}}, mode: monitor}}]}}",
            said("mode", policys),
            section(tools),
            said("mode", rules),
            section(rules_tools)
        );
        let policy = compiled(&spec, *standing);
        let (mut exchange, _) = begun(&policy, &chat("a"));
        let _ = exchange.judge_request(chat("a").body.to_string().as_bytes());
        let holds = exchange.policy();
        assert_eq!(holds.rule.as_deref(), Some("r"), "{spec}");
        let found = (mode_of(holds, ControlId::Tools), mode_of(holds, ControlId::Models));
        assert_eq!(found, (*expected, *others), "{spec} {standing:?}");
        assert_eq!(exchange.mode(), (*expected).max(*others), "{spec} {standing:?}");
    }
}

#[test]
fn a_rule_replaces_the_keys_that_it_has_and_leaves_the_others() {
    let spec = "{mode: hard, tools: {allow: [a], block: [b], highRisk: [a]}, models: {cloud: allow, allow: [x, 'y:*']},\
        rules: [{when: {tools: true}, tools: {allow: [search], highRisk: []}, models: {cloud: deny}}]}";
    let policy = compiled(spec, Standing::default());
    assert_eq!(outcome(&policy, &with_tools(chat("x"))).1, "x");
    assert_eq!(outcome(&policy, &with_tools(chat("z"))).1, "403", "the list of models still holds");
    let mut blocked = with_tools(chat("x"));
    blocked.body["tools"][0]["function"]["name"] = "b".into();
    assert_eq!(outcome(&policy, &blocked).1, "403", "the list of blocked tools still holds");
    assert_eq!(outcome(&policy, &with_tools(chat("y:1-cloud"))).1, "403");
    assert_eq!(outcome(&policy, &chat("y:1-cloud")).1, "y:1-cloud");
}

#[test]
fn a_rule_that_is_lax_for_one_model_isnt_for_the_model_that_answers_in_its_place() {
    // Whoever names a model that isn't allowed gets the default, and the default's rule.
    let spec = "{mode: soft, models: {allow: [a], default: a}, rules: [\
        {name: strict, when: {models: [a]}, mode: hard, tools: {allow: []}},\
        {name: lax, when: {models: ['b*']}, tools: {allow: [search]}}]}";
    let policy = compiled(spec, Standing::default());
    assert_eq!(outcome(&policy, &with_tools(chat("bb"))), (Some("strict".into()), "403".into()));
    assert_eq!(outcome(&policy, &chat("bb")), (Some("strict".into()), "a".into()));
    assert_eq!(outcome(&policy, &chat("")), (Some("strict".into()), "a".into()), "and whoever names none");
    // Rules that send to each other end.
    let circle = "{mode: soft, rules: [\
        {when: {models: ['a*']}, models: {allow: ['b*'], default: b}},\
        {when: {models: ['b*']}, models: {allow: ['a*'], default: a}}]}";
    let (_, said) = outcome(&compiled(circle, Standing::default()), &chat("a"));
    assert_eq!(said, "403");
}

#[test]
fn a_model_that_stands_in_for_one_of_a_cloud_is_judged_by_its_own_rule() {
    let spec = "{mode: soft, models: {default: a}, rules: [\
        {name: strict, when: {models: [a]}, mode: hard, tools: {allow: []}},\
        {name: lax, when: {models: [b]}, tools: {allow: [search]}}]}";
    let policy = compiled(spec, Standing::default());
    for (asked, expected) in [(with_tools(chat("b")), None), (chat("b"), Some("a"))] {
        let (mut exchange, _) = begun(&policy, &asked);
        let Ok(Forward::Encoded { body, .. }) = exchange.judge_request(asked.body.to_string().as_bytes()) else { panic!() };
        assert_eq!(exchange.policy().rule.as_deref(), Some("lax"));
        let mut places = Places::default();
        while let Some(model) = exchange.must_locate(&places) {
            let place = if model == "b" { Whereabouts::Cloud } else { Whereabouts::Here };
            places.put(model, place);
        }
        let judged = exchange.judge_place(&places, &body);
        assert_eq!(exchange.policy().rule.as_deref(), Some("strict"));
        match (judged, expected) {
            (Err(refusal), None) => assert_eq!(refusal.status, 403),
            (Ok(Some(Forward::Encoded { body, .. })), Some(expected)) => {
                assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["model"], expected);
            }
            (other, _) => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_cant_be_read_is_judged_by_the_strictest_rule_that_it_could_be_meant_for() {
    let rule = "{mode: monitor, rules: [{when: {models: [a]}, mode: hard}]}";
    let policy = compiled(rule, Standing::default());
    let undecodable = |policy: &Arc<Policy>, asked: &Asked| {
        let (mut exchange, _) = begun(policy, asked);
        exchange.judge_request(b"{\"model\":\"x\",\"model\":\"a\"}").map_err(|refusal| refusal.status)
    };
    assert_eq!(undecodable(&policy, &chat("x")), Err(400));
    assert_eq!(outcome(&policy, &chat("x")).1, "as it came");
    // A rule that its head keeps away counts for nothing.
    let elsewhere = compiled("{mode: monitor, rules: [{when: {routes: [/api/generate], models: [a]}, mode: hard}]}", Standing::default());
    assert_eq!(undecodable(&elsewhere, &chat("x")), Ok(Forward::Original));
    let caller = compiled("{mode: hard, rules: [{when: {caller: pod}, mode: monitor}]}", Standing::default());
    assert_eq!(undecodable(&caller, &from_pod(chat("x"))), Ok(Forward::Original));
    assert_eq!(undecodable(&caller, &chat("x")), Err(400));
    // A route that nobody knows could be any.
    let (_, next) = begun(&policy, &asked("/api/newest", json!({})));
    assert!(matches!(next, Next::Refuse(refusal) if refusal.status == 404));
}

#[test]
fn a_management_route_is_refused_by_its_head_only_where_no_rule_could_open_it() {
    let spec = "{mode: hard, management: {allow: []}, rules: [{when: {models: [a], caller: pod}, management: {allow: [pull]}}]}";
    let policy = compiled(spec, Standing::default());
    let pull = |model: &str| asked("/api/pull", json!({"model": model}));
    assert_eq!(outcome(&policy, &from_pod(pull("a"))).1, "a");
    assert_eq!(outcome(&policy, &from_pod(pull("b"))).1, "403");
    let (_, next) = begun(&policy, &pull("a"));
    assert!(matches!(next, Next::Refuse(refusal) if refusal.status == 403), "the network has no such rule");
}
