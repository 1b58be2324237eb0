//! What it costs to ask rules in Rego about a request, its document included:
//!
//!     cargo bench -p llm-guard-engine --bench rego
//!
//! A Markdown table: for each request the least and the median time of one decision. Nothing here fails because of a time.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use llm_guard_engine::controls::{Asked, Caller, Control, Policy};
use llm_guard_engine::policy::settings::Standing;
use llm_guard_engine::policy::{GuardPolicy, Mode};
use llm_guard_engine::verdict::ControlId;
use llm_guard_engine::wire::decode_request;
use llm_guard_engine::wire::routes::{self, Lookup};
use serde_json::json;

const ROUNDS: usize = 200;
/// How long a round takes, about.
const ROUND: Duration = Duration::from_millis(2);

const POLICY: &str = r#"
apiVersion: llm-guard.io/v1alpha1
kind: GuardPolicy
spec:
  rego:
    data: {windows: {"llama3.2:3b": 8192}, internal: [phi4, qwen3]}
    modules:
      rules: |
        package llmguard

        window := object.get(data.windows, input.model, 4096)

        brought := sum([message.tokens | some message in input.messages; message.channel == "tool_result"])

        deny contains sprintf("what tools brought takes %d of %d tokens", [brought, window]) if brought > window * 0.6

        deny contains "no shell beside what tools brought" if {
          some message in input.messages
          message.channel == "tool_result"
          "shell" in input.tools
        }

        deny contains "this model is for the pod only" if {
          input.model in data.internal
          not input.caller.over_loopback
        }

        deny contains "no addresses of the company's" if {
          some message in input.messages
          regex.match(`[a-z0-9._]+@corp\.example`, message.text)
        }

        warn contains "a long prompt" if input.tokens > 2000
"#;

/// A conversation of about so many bytes.
fn conversation(bytes: usize) -> String {
    let text = "The quick brown fox jumps over the lazy dog; she said so, and went on.\n";
    let tools = json!([{"type": "function", "function": {"name": "search_docs", "description": "Looks into the documents."}}]);
    let mut messages = vec![json!({"role": "system", "content": "You are a helpful assistant."})];
    let body = |messages: &[serde_json::Value]| json!({"model": "llama3.2:3b", "messages": messages, "tools": tools}).to_string();
    while body(&messages).len() < bytes {
        let left = bytes.saturating_sub(body(&messages).len());
        let role = ["user", "assistant", "tool"][messages.len() % 3];
        messages.push(json!({"role": role, "content": text.repeat((left.min(700) / text.len()).max(1))}));
    }
    body(&messages)
}

fn main() {
    let document = GuardPolicy::read(POLICY).expect("it is a policy");
    let policy: Arc<Policy> = Policy::compile(&document, &Standing::of(Some(Mode::Hard))).expect("it is sound");
    let control = policy.controls.iter().find(|control| control.id() == ControlId::Rego).expect("it has rules");
    let Lookup::Found(route, _) = routes::find("POST", "/api/chat") else { return };
    println!("| request | bytes | least | median |\n|---|---|---|---|");
    for bytes in [1024, 4 * 1024, 32 * 1024] {
        let body = conversation(bytes);
        let request = decode_request(route.body, body.as_bytes()).expect("it is a request");
        let asked = Asked { route, segment: None, request: &*request, caller: Caller { over_loopback: false } };
        let ask = |control: &dyn Control| black_box(control.judge_request(black_box(&asked)));
        assert!(ask(control.as_ref()).iter().all(|finding| finding.kind == "warn"), "no rule but the warning finds anything");
        let begun = Instant::now();
        ask(control.as_ref());
        let calls = (ROUND.as_nanos() / begun.elapsed().as_nanos().max(1)).clamp(1, 10_000);
        let mut times: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let begun = Instant::now();
                (0..calls).for_each(|_| drop(ask(control.as_ref())));
                begun.elapsed().as_secs_f64() * 1e6 / f64::from(u32::try_from(calls).unwrap_or(u32::MAX))
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!("| chat, {} KB | {} | {:.1} µs | {:.1} µs |", bytes / 1024, body.len(), times[0], times[ROUNDS / 2]);
    }
}
