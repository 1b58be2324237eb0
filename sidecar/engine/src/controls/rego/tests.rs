use std::time::Instant;

use super::*;
use crate::controls::Caller;
use crate::wire::decode_request;
use crate::wire::routes::{self, Lookup};

fn spec(module: &str) -> RegoSpec {
    // A machine that does much else at a time has a slow clock.
    let modules = [("m".to_owned(), format!("package llmguard\n{module}"))];
    RegoSpec { modules: Some(modules.into()), timeout_ms: Some(MOST_TIMEOUT), ..RegoSpec::default() }
}

fn rego(module: &str) -> Rego {
    Rego::new(&spec(module), Mode::Hard).unwrap_or_else(|error| panic!("{error}\n{module}"))
}

fn refused(module: &str) -> String {
    Rego::new(&spec(module), Mode::Hard).err().map_or_else(|| format!("it is accepted: {module}"), |error| error.to_string())
}

fn findings(rego: &Rego, body: &str) -> Vec<Finding> {
    let Lookup::Found(route, _) = routes::find("POST", "/api/chat") else { panic!() };
    let request = decode_request(route.body, body.as_bytes()).unwrap();
    rego.judge_request(&Asked { route, segment: None, request: &*request, caller: Caller { over_loopback: false } })
}

fn kinds(rego: &Rego, body: &str) -> Vec<&'static str> {
    findings(rego, body).into_iter().map(|finding| finding.kind).collect()
}

fn said(rego: &Rego, body: &str) -> String {
    match findings(rego, body).remove(0).remedy {
        Remedy::Refuse { message, .. } => message.into_owned(),
        other => panic!("{other:?}"),
    }
}

const HI: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi there"}]}"#;

#[test]
fn a_message_of_the_modules_own_is_told_and_one_that_is_made_of_a_request_is_not() {
    for (rule, expected) in [
        (r#"deny contains "not so long""#, "not so long"),
        (r#"deny contains sprintf("%d of %d tokens", [input.tokens, 4096])"#, "2 of 4096 tokens"),
        (r#"deny contains sprintf("%d%%", [-3])"#, "-3%"),
        (r#"deny contains sprintf("%d tokens", [123456789])"#, DENIED),
        (r#"deny contains sprintf("says %s", [input.messages[0].text])"#, DENIED),
        (r"deny contains input.messages[0].text", DENIED),
        (r#"deny contains lower("NOT SO LONG")"#, DENIED),
        (r"deny contains 7", DENIED),
        ("deny contains \"a\"\ndeny contains \"b\"\ndeny contains input.model", "a; b"),
    ] {
        assert_eq!(said(&rego(rule), HI), expected, "{rule}");
    }
    let long = "x".repeat(300);
    assert_eq!(said(&rego(&format!("deny contains \"{long}\"\ndeny contains \"{long}y\"")), HI), long);
}

#[test]
fn a_mode_counts_warns_and_refuses() {
    let module = "deny contains \"d\" if input.model == \"m\"\nwarn contains \"w\" if input.tokens > 1";
    for (mode, expected) in
        [(Mode::Monitor, ["counted", "counted"]), (Mode::Soft, ["blocked", "warned"]), (Mode::Hard, ["blocked", "warned"])]
    {
        let rego = Rego::new(&spec(module), mode).unwrap();
        let actions: Vec<_> = findings(&rego, HI).iter().map(|finding| finding.remedy.action().unwrap().name()).collect();
        assert_eq!(actions, expected, "{mode}");
    }
    assert_eq!(kinds(&rego(module), r#"{"model":"n","messages":[]}"#), [""; 0]);
}

#[test]
fn what_is_wrong_with_a_module_is_said_with_its_place() {
    for (module, expected) in [
        ("deny contains x if { x := }", "spec.rego.modules.m: line 2, column 24: this is no Rego: expecting `}` while parsing set"),
        (
            "allow if true",
            "spec.rego.modules: no module has a rule that is asked for: `deny contains message if …` or `warn contains message if …` in `package llmguard`",
        ),
        ("deny if true", "spec.rego.modules.m: line 2, column 1: deny is a set of messages: `deny contains message if …`"),
        ("deny := {\"a\"}", "spec.rego.modules.m: line 2, column 1: deny is a set of messages: `deny contains message if …`"),
        (
            "deny contains x if { x := http.send({}) }",
            "spec.rego.modules.m: line 2, column 36: 'http.send' is no function that a rule can call; those that are stand in docs/rego.md",
        ),
        (
            "deny contains x if { x := time.now_ns() }",
            "spec.rego.modules.m: line 2, column 38: 'time.now_ns' is no function that a rule can call; those that are stand in docs/rego.md",
        ),
        (
            "deny contains x if { x := rand.intn(\"a\", 3) }",
            "spec.rego.modules.m: line 2, column 31: 'rand.intn' is no function that a rule can call; those that are stand in docs/rego.md",
        ),
        (
            "deny contains x if { x := lowre(\"a\") }",
            "spec.rego.modules.m: line 2, column 32: 'lowre' is no function that a rule can call: did you mean 'lower'?",
        ),
        ("deny contains x if { x := count([1], 2, 3) }", "spec.rego.modules.m: line 2, column 27: count takes 1 arguments, and here are 3"),
        (
            "deny contains \"a\" if { regex.match(\"(\", input.model) }",
            "spec.rego.modules.m: line 2, column 37: this is no pattern: unclosed group",
        ),
        (
            "deny contains sprintf(\"%5d\", [1])",
            "spec.rego.modules.m: line 2, column 24: of the verbs of sprintf %d, %s, %v, %q, %x, %f and %.2f are read, and %% for a percent sign",
        ),
        (
            "deny contains \"a\" if { input.a with input.a as 1 }",
            "spec.rego.modules.m: line 2, column 24: `with` is for tests, which are run by check --test",
        ),
        ("deny contains \"a\" if { d }\nd if { deny }", "spec.rego.modules: llmguard.d uses itself, or a chain of more than 32 rules"),
        ("f(x) := g(x)\ng(x) := f(x)\ndeny contains f(1)", "uses itself"),
        (
            "redact contains \"a\"",
            "spec.rego.modules.m: line 2, column 1: `redact` isn't read yet: a request can be denied or warned about, not edited",
        ),
        (
            "warn contains \"a\"\ndenny contains \"a\"",
            "spec.rego.modules.m: line 3, column 1: nothing asks for 'denny': did you mean 'deny'?",
        ),
        (
            "p := 1\np := 2 if input.model\ndeny contains p",
            "spec.rego.modules.m: line 3, column 1: this may have two values at once: with `else` between them the first that holds counts",
        ),
        ("f(x) := 1 if x > 1\nf(x) := 2 if x > 2\ndeny contains f(3)", "line 3, column 1: this may have two values at once"),
        (
            "p[k] := v if { some k, v in input.tools }\ndeny contains \"a\" if p[1]",
            "line 2, column 2: a rule has a plain name here: what stands below others can be an object, `name := {\"a\": …}`",
        ),
        ("deny contains \"a\" if p\np if input.model\np if input.tokens", "it is accepted"),
        ("count(x) := 1\ndeny contains count([])", "spec.rego.modules.m: line 2, column 1: count is the name of a function"),
        ("deny contains msg if { mgs := 1 }", "Undefined variable: 'msg'"),
    ] {
        let said = refused(module);
        assert!(said.contains(expected), "{module}: {said}");
    }
}

#[test]
fn what_would_take_too_long_or_too_much_ends() {
    let long = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{}"}}]}}"#, "a".repeat(4 << 20));
    for (module, body, expected) in [
        (r"deny contains x if { x := count(numbers.range(1, 1000000000)) }", HI, "memory"),
        (
            r"deny contains x if { some a in numbers.range(1, 20000); some b in numbers.range(1, 20000); a + b == 7.5; x := a }",
            HI,
            "timeout",
        ),
        (
            r"deny contains x if { x := sum([1 | some a in numbers.range(1, 2000); some b in numbers.range(1, 2000); a != b]) }",
            HI,
            "timeout",
        ),
        (
            r#"deny contains x if { some a in numbers.range(1, 100000); x := concat("", [s | s := input.messages[0].text; a != 0]) }"#,
            &long,
            "memory",
        ),
        (r#"deny contains x if { x := replace(input.messages[0].text, "a", input.messages[0].text) }"#, &long, "memory"),
        (r#"deny contains x if { x := concat("", [t | some a in numbers.range(1, 1000); t := input.messages[0].text]) }"#, &long, "memory"),
        (r#"deny contains "x" if { indexof(input.messages[0].text, concat("", [input.messages[0].text, "b"])) > 0 }"#, &long, "timeout"),
        (r#"deny contains "x" if { trim(input.messages[0].text, input.messages[0].text) == "b" }"#, &long, "timeout"),
        (r#"deny contains "x" if { regex.match(input.messages[0].text, "a") }"#, HI, "error"),
        (r"deny contains sprintf(input.messages[0].text, [1])", r#"{"messages":[{"role":"user","content":"%٣d"}]}"#, "error"),
    ] {
        let rego = rego(module);
        let began = Instant::now();
        assert_eq!(kinds(&rego, body), [expected], "{module}");
        assert!(began.elapsed() < Duration::from_secs(3), "{module}: {:?}", began.elapsed());
    }
    // Each line makes the text twice as long.
    let lines: Vec<String> = (0..40).map(|n| format!("  a{} := concat(\"\", [a{n}, a{n}])", n + 1)).collect();
    assert_eq!(
        kinds(&rego(&format!("deny contains \"x\" if {{\n  a0 := input.messages[0].text\n{}\n  a40 == \"\"\n}}", lines.join("\n"))), HI),
        ["memory"]
    );
}

#[test]
fn what_the_rules_dont_know_passes() {
    for module in [
        r#"deny contains "x" if input.nothing > 3"#,
        r#"deny contains "x" if input.model + 1 > 0"#,
        r#"deny contains "x" if lower(input.tokens) == "a""#,
    ] {
        assert_eq!(kinds(&rego(module), HI), [""; 0], "{module}");
    }
    assert_eq!(kinds(&rego(r#"deny contains "x" if not input.nothing"#), HI), ["deny"]);
    assert_eq!(kinds(&rego("deny contains \"x\" if {\n  x := input.window\n  not x > 3\n}"), HI), [""; 0]);
}

#[test]
fn patterns_stand_in_the_modules_or_in_the_data() {
    let mut spec = spec(
        r#"deny contains "x" if { some pattern in data.patterns; some message in input.messages; regex.match(pattern, message.text) }"#,
    );
    spec.data.get_or_insert_default().insert("patterns".into(), serde_json::json!([r"^\w+ there$", "(?i)HALLO"]));
    assert_eq!(kinds(&Rego::new(&spec, Mode::Hard).unwrap(), HI), ["deny"]);
    spec.data.get_or_insert_default().insert("patterns".into(), serde_json::json!(["["]));
    assert_eq!(kinds(&Rego::new(&spec, Mode::Hard).unwrap(), HI), ["error"]);
}

#[test]
fn helpers_in_other_packages_are_found_and_lists_are_read() {
    let modules = [
        ("a", "package llmguard\nimport data.lib.models\ndeny contains \"no\" if {\n  model := input.model\n  not models.known(model)\n}"),
        ("b", "package lib.models\nknown(name) if name in data.names"),
    ];
    let mut spec = RegoSpec { modules: Some(modules.map(|(name, text)| (name.to_owned(), text.to_owned())).into()), ..RegoSpec::default() };
    spec.data.get_or_insert_default().insert("names".into(), serde_json::json!(["m"]));
    let rego = Rego::new(&spec, Mode::Hard).unwrap();
    assert_eq!(kinds(&rego, HI), [""; 0]);
    assert_eq!(kinds(&rego, r#"{"model":"n","messages":[]}"#), ["deny"]);
}

#[test]
fn a_policy_that_says_nothing_or_too_much_is_an_error() {
    let of = |spec: RegoSpec| Rego::new(&spec, Mode::Hard).unwrap_err().to_string();
    assert!(of(RegoSpec { timeout_ms: Some(5), ..RegoSpec::default() }).contains("spec.rego.modules: there is none"));
    let good = spec("deny contains \"a\"");
    assert!(of(RegoSpec { timeout_ms: Some(0), ..good.clone() }).contains("from 1 to 100 milliseconds, not 0"));
    assert!(of(RegoSpec { timeout_ms: Some(101), ..good.clone() }).contains("not 101"));
    let named = |name: &str, text: &str| of(RegoSpec { modules: Some([(name.to_owned(), text.to_owned())].into()), ..RegoSpec::default() });
    assert!(named("a.b", "package llmguard").contains("'a.b' is no name for a module"));
    assert!(named("a", &"#".repeat(70_000)).contains("it has 70000 bytes"));
    assert!(named("a", "package llmguard.answer\ndeny contains \"a\"").contains("rules for answers aren't read yet"));
    assert!(named("a", "package llmguard_decision\na := 1").contains("the guard's own"));
    assert!(named("a", "package other\ndeny contains \"a\"").contains("no module has a rule that is asked for"));
    assert!(named("a", "package llmguard\nllmguard_own1 := 1\ndeny contains llmguard_own1").contains("line 2, column 1: names that begin"));
    let long = "é".repeat(3000);
    assert_eq!(kinds(&rego(&format!("deny contains x if {{ x := \"{long}\" }}")), HI), ["deny"]);
    let conflict = RegoSpec { data: Some([("llmguard".to_owned(), serde_json::json!({"deny": 1}))].into()), ..good };
    assert!(of(conflict).contains("spec.rego.data"));
}

/// How long this thread has had a processor (`proc_pid_schedstat` in the kernel's documentation): what else the machine does is not in it.
fn worked() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
}

#[test]
fn modules_that_are_nested_deeply_or_long_are_judged_in_little_time_and_stack() {
    let deep = |open: &str, close: &str, n: usize| format!("deny contains x if {{ x := {}1{} }}", open.repeat(n), close.repeat(n));
    let many = |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<Vec<_>>().join("\n");
    let chain = many(3000, &|n| format!("r{n} := r{}", n + 1));
    let body = many(2000, &|n| format!("  a{n} := input.messages[{n}].tokens + a{}", n.max(1) - 1));
    let loops = many(400, &|n| format!("  some x{n} in input.messages"));
    for module in [
        deep("[", "]", 400),
        deep("[", "]", 8),
        format!("deny contains x if {{ x := [{}1] }}", "[{[{[{1}]}]}],\n".repeat(3000)),
        format!("deny contains x if {{ x := [{}1] }}", "{[{[{[1]}]}]},\n".repeat(3000)),
        deep("[\n", "]", 20_000),
        deep("(\n", ")", 20_000),
        deep("{\"a\":\n", "}", 10_000),
        deep("[y | y := \n", "]", 500),
        deep("- \n", "", 20_000),
        deep("not \n", "", 20_000),
        format!("{chain}\nr3000 := 1\ndeny contains r0"),
        format!("deny contains \"x\" if {{\n{body}\n}}"),
        format!("deny contains \"x\" if {{\n{loops}\n}}"),
    ] {
        let began = worked();
        if let Ok(rego) = Rego::new(&spec(&module), Mode::Hard) {
            let _ = kinds(&rego, HI);
        }
        let took = worked().saturating_sub(began);
        assert!(took < Duration::from_secs(3), "{}: {took:?}", &module[..60]);
    }
}

#[test]
fn what_would_take_the_stack_is_refused_when_it_is_read() {
    let wraps = (0..20).map(|n| format!("  a{} := [[[[[[[a{n}]]]]]]]", n + 1)).collect::<Vec<_>>().join("\n");
    let f0 = format!("f0(a0) := a20 if {{\n{wraps}\n}}");
    let calls = |of: &str| (0..60).map(|n| format!("  a{} := {of}(a{n})", n + 1)).collect::<Vec<_>>().join("\n");
    let deep = format!(
        "{f0}\nf1(a0) := a60 if {{\n{}\n}}\nf2(a0) := a60 if {{\n{}\n}}\ndeny contains \"x\" if f2(1) != 1",
        calls("f0"),
        calls("f1")
    );
    for (module, expected) in [
        (format!("deny contains x if x := {}1", "1+".repeat(20_000)), "in a row"),
        (format!("deny contains x if x := input.tools{}", "[0]".repeat(10_000)), "in a row"),
        (format!("deny contains x if x := input{}", ".a\n".repeat(20_000)), "in a row"),
        (deep, "values may be 2000 levels deep"),
    ] {
        // With as much stack as a worker has.
        let said = std::thread::Builder::new().stack_size(2 << 20).spawn(move || refused(&module)).unwrap().join().unwrap();
        assert!(said.contains(expected), "{}", &said[..said.len().min(200)]);
    }
    let most = format!("deny contains \"x\" if {}1 > 1", "1+".repeat(60));
    assert_eq!(kinds(&rego(&most), HI), ["deny"]);
}

#[test]
fn unit_tests_pass_and_fail_as_they_should() {
    let spec = RegoSpec {
        data: Some([("most".to_owned(), serde_json::json!(3))].into()),
        ..spec("deny contains \"long\" if input.tokens > data.most")
    };
    let tests = "package llmguard_test\nimport data.llmguard\n\
        test_long if \"long\" in llmguard.deny with input as {\"tokens\": 4}\n\
        test_short if count(llmguard.deny) == 0 with input as {\"tokens\": 3}\n\
        test_data if \"long\" in llmguard.deny with input.tokens as 2 with data.most as 1\n\
        test_wrong if \"long\" in llmguard.deny with input as {\"tokens\": 1}\n\
        test_conflict := 1\ntest_conflict := 2\nother := 1\n";
    let tested = trial::test(&spec, &[("t.rego".to_owned(), tests.to_owned())]).unwrap();
    let outcome = |name: &str| &tested.iter().find(|(test, _)| test == &format!("data.llmguard_test.{name}")).unwrap().1;
    for passed in ["test_long", "test_short", "test_data"] {
        assert_eq!(outcome(passed), &trial::Outcome::Passed, "{passed}");
    }
    assert_eq!(outcome("test_wrong"), &trial::Outcome::Failed);
    assert!(matches!(outcome("test_conflict"), trial::Outcome::Broken(_)));
    assert_eq!(tested.len(), 5);
    let broken = trial::test(&spec, &[("t.rego".to_owned(), "package a\nb := [".to_owned())]).unwrap_err();
    assert!(broken.to_string().starts_with("t.rego: line 2, column "), "{broken}");
}

#[test]
fn the_pages_examples_are_sound_and_its_functions_are_those_that_there_are() {
    let page = include_str!("../../../../../docs/rego.md");
    let blocks: Vec<&str> = page.split("```rego\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let (tests, examples): (Vec<&str>, Vec<&str>) = blocks.into_iter().partition(|block| block.contains("test_"));
    assert!(examples.len() >= 6 && tests.len() == 1);
    let data = [
        ("windows", serde_json::json!({"llama3.2:3b": 8192})),
        ("internal", serde_json::json!(["phi4"])),
        ("projects", serde_json::json!(["(?i)moon"])),
    ];
    let of = |text: &str| RegoSpec {
        modules: Some([("m".to_owned(), text.to_owned())].into()),
        data: Some(data.clone().map(|(name, value)| (name.to_owned(), value)).into()),
        ..RegoSpec::default()
    };
    for example in &examples {
        if let Err(error) = Rego::new(&of(example), Mode::Hard) {
            panic!("{error}\n{example}");
        }
    }
    let tested = trial::test(&of(examples[0]), &[("t.rego".to_owned(), tests[0].to_owned())]).unwrap();
    assert_eq!(tested, [("data.llmguard_test.test_much_is_denied".to_owned(), trial::Outcome::Passed)]);
    let listed = page.split("## Functions\n").nth(1).and_then(|rest| rest.split("\n\nPatterns").next()).unwrap_or_default();
    let listed: Vec<&str> = listed.split_whitespace().map(|name| name.trim_matches('`')).collect();
    assert_eq!(listed, functions::names().collect::<Vec<_>>());
}
