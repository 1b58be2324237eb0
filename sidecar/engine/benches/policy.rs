//! What a policy costs: to read and compile it, which is what its admission takes beside the API server's own time, and to judge a request
//! under it:
//!
//!     cargo bench -p llm-guard-engine --bench policy
//!
//! A Markdown table each. Nothing here fails because of a time.

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use llm_guard_engine::controls::{Caller, Policy};
use llm_guard_engine::exchange::{Exchange, RequestHead};
use llm_guard_engine::policy::GuardPolicy;
use llm_guard_engine::policy::settings::Standing;

const ROUNDS: usize = 200;

/// A policy with so many rules, of which only the last fits.
fn policy(rules: usize) -> String {
    let mut text = String::from(
        "apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nmetadata: {name: p}\nspec:\n  mode: soft\n  promptInjection: {mode: hard}\n  \
         redaction: {kinds: [secrets, email, creditCard]}\n  tools: {allow: [search_docs]}\n",
    );
    if rules > 0 {
        text.push_str("  rules:\n");
    }
    for rule in 1..=rules {
        let model = if rule == rules { "llama3.2:*".to_owned() } else { format!("model-{rule}:*") };
        let _ = writeln!(text, "    - {{when: {{models: ['{model}'], routes: ['/api/*']}}, tools: {{allow: [search_docs, run_query]}}}}");
    }
    text
}

/// The least and the median time of one call, in microseconds.
fn measure(mut call: impl FnMut()) -> (f64, f64) {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            call();
            begun.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[0], times[ROUNDS / 2])
}

fn compiled(text: &str) -> Arc<Policy> {
    match GuardPolicy::read_and(text, |document| Policy::compile(document, &Standing::default())) {
        Ok((_, policy)) => policy,
        Err(error) => panic!("{error}"),
    }
}

fn main() {
    let request = br#"{"model":"llama3.2:3b","messages":[{"role":"user","content":"The quick brown fox jumps over the lazy dog."}]}"#;
    let first = Instant::now();
    drop(compiled(&policy(0)));
    let first = first.elapsed().as_secs_f64() * 1e6;
    println!("| policy | read and compile, least | median | judge a small request, least | median |\n|---|---|---|---|---|");
    println!("| the first in a process | {first:.0} µs | | | |");
    for rules in [0, 1, 10, 64] {
        let text = policy(rules);
        let (least, median) = measure(|| drop(black_box(compiled(black_box(&text)))));
        let policy = compiled(&text);
        let (judged, judged_median) = measure(|| {
            let head = RequestHead {
                method: "POST",
                path: "/api/chat",
                content_type: Some("application/json"),
                content_encoding: None,
                caller: Caller { over_loopback: false },
            };
            let (mut exchange, _) = Exchange::begin(Arc::clone(&policy), &head);
            let _ = black_box(exchange.judge_request(black_box(request)));
        });
        println!("| {rules} rules | {least:.0} µs | {median:.0} µs | {judged:.1} µs | {judged_median:.1} µs |");
    }
}
