//! What stays of a request in memory while it is found out where its model runs, which may take as long as a server takes to answer.
//!
//! A file of its own, since the memory of a process is that of all of its tests.

use std::sync::Arc;

use llm_guard_engine::controls::{Caller, Policy};
use llm_guard_engine::exchange::{Exchange, Forward, RequestHead};
use llm_guard_engine::policy::settings::Standing;
use llm_guard_engine::policy::{GuardPolicy, Mode};
use llm_guard_engine::wire::whereabouts::Places;

/// How many bytes of memory this process has.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn of_a_request_that_waits_to_be_placed_little_more_than_its_bytes_is_kept() {
    let policy = Policy::compile(&GuardPolicy::built_in(), &Standing::of(Some(Mode::Hard))).unwrap();
    let path = "/api/chat";
    let head = RequestHead { method: "POST", path, content_type: None, content_encoding: None, caller: Caller { over_loopback: false } };
    // Each value takes two bytes, and some 50 once it is read.
    let body = format!(r#"{{"model":"m","messages":[],"options":{{"a":[{}0]}}}}"#, "0,".repeat(500_000));
    let wait = || {
        let mut exchange = Exchange::begin(Arc::clone(&policy), &head).0;
        let forward = exchange.judge_request(body.as_bytes()).unwrap();
        assert!(exchange.must_locate(&Places::default()).is_some() && matches!(forward, Forward::Encoded { .. }));
        (exchange, forward)
    };
    let first = wait();
    let before = memory();
    let others: Vec<_> = (0..20).map(|_| wait()).collect();
    let more = memory().saturating_sub(before);
    assert!(more < 20 * 5 * body.len() as u64, "{} requests of {} bytes took {more}", others.len(), body.len());
    drop(first);
}
