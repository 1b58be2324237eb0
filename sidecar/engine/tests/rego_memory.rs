//! What a decision by rules in Rego takes in memory at most, however they are written and whatever is asked.
//!
//! A file of its own, since the memory of a process is that of all of its tests.

use llm_guard_engine::controls::rego::trial::Trial;
use llm_guard_engine::policy::RegoSpec;

const MIB: u64 = 1024 * 1024;

/// A line of what the kernel says of this process, in bytes.
fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|said| said.strip_prefix(line)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// The modules: what makes much of little, by functions and without any.
fn modules() -> Vec<String> {
    let wide: Vec<String> = (0..500).map(|n| format!("\"k{n}\": a")).collect();
    let of_range = |made: &str| format!("deny contains x if {{ x := count([{made} | some a in numbers.range(1, 300000)]) }}");
    let pairs = "some m in input.messages; some n in input.messages";
    vec![
        of_range(&format!("{{{}}}", wide.join(",\n"))),
        of_range(&format!("[{}]", vec!["a"; 2000].join(",\n"))),
        of_range("[[[[[[a]]]]]]"),
        of_range("{a, [a]}"),
        of_range("sprintf(\"%d\", [a])"),
        "deny contains a if { some a in numbers.range(1, 300000) }".to_owned(),
        format!("deny contains x if {{ x := count([m | {pairs}; n.text != m.channel]) }}"),
        format!("deny contains x if {{ x := count([lower(m.text) | {pairs}]) }}"),
        format!("deny contains x if {{ x := count({{k: 1 | {pairs}; k := [m, n, {{\"a\": m, \"b\": [n, m]}}]}}) }}"),
    ]
}

/// Lets a process of its own, which has nothing of an earlier decision, make one decision.
const WHICH: &str = "LLM_GUARD_TEST_MODULE";

#[test]
fn a_decision_takes_a_bounded_amount_of_memory() {
    let modules = modules();
    if let Ok(which) = std::env::var(WHICH) {
        decide(&modules[which.parse::<usize>().unwrap()]);
        return;
    }
    for (which, module) in modules.iter().enumerate() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let child = child.args(["--exact", "a_decision_takes_a_bounded_amount_of_memory", "--nocapture"]).env(WHICH, which.to_string());
        let said = child.output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let took = said.lines().find_map(|line| line.strip_prefix("bytes: ")).unwrap_or_else(|| panic!("{said}"));
        println!("{} MiB: {:?}", took.parse::<u64>().unwrap() / MIB, module.get(..60));
        assert!(took.parse::<u64>().unwrap() < 128 * MIB, "{took} bytes: {module}");
    }
}

/// Asks a module, and says what this process had in memory at most more than before.
fn decide(module: &str) {
    let said: Vec<String> = (0..2000).map(|n| format!("{{\"channel\": \"user\", \"text\": \"text {n}\"}}")).collect();
    let input = format!("{{\"messages\": [{}]}}", said.join(","));
    let modules = [("m".to_owned(), format!("package llmguard\n{module}"))];
    // The longest that a policy may say.
    let spec = RegoSpec { modules: Some(modules.into()), timeout_ms: Some(100), ..RegoSpec::default() };
    let trial = Trial::new(&spec).unwrap_or_else(|error| panic!("{error}: {module}"));
    let before = memory("VmRSS");
    let said = trial.ask(&input);
    println!("bytes: {}", memory("VmHWM").saturating_sub(before));
    assert!(said.is_err(), "it is decided, so that nothing was asked of the bounds: {module}");
}
