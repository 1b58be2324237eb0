//! Policies before they are in force, and while they change: what a shadow and a replay foretell, held against what the same policy then
//! does; and settings that are swapped a thousand times under load.
//!
//! The invariant: the guard is the real one, and what is compared is what it wrote, counted and sent.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use llm_guard_engine::policy::{GuardPolicy, Mode};
use llm_guard_tests::apis::Api;
use llm_guard_tests::cache;
use llm_guard_tests::faulty::{Act, FaultyServer, Received, answer, wait_until, well};
use llm_guard_tests::guard::Guard;
use llm_guard_tests::planted::Planted;
use llm_guard_tests::raw;
use llm_guard_tests::settings::{SettingsFolder, key, sealed, settings};
use serde_json::{Value, json};

type Outcome = Result<(), Box<dyn Error>>;

const EXCHANGES: usize = 1000;

/// What may come into force.
const CANDIDATE: &str = "\
apiVersion: llm-guard.io/v1alpha1
kind: GuardPolicy
metadata: {name: candidate}
spec:
  mode: soft
  promptInjection: {mode: hard}
  models: {allow: [calm, other, third], default: calm}
  tools: {allow: [look]}
  rules:
    - {name: strict, when: {models: [other], tools: true}, mode: hard}
    - {name: lax, when: {routes: [/api/generate]}, mode: monitor, promptInjection: {mode: monitor}}
    - {name: embedded, when: {documents: true}, promptInjection: {mode: soft}, redaction: {kinds: [email]}}
";

/// A line for each exchange: `POST`, a path, a body. Each way to be judged stands beside each other one.
fn exchanges(planted: &Planted) -> Vec<(&'static str, Vec<u8>)> {
    let models = ["calm", "other", "third", "denied", "gpt-oss:120b-cloud", "", "a b/c:d:e"];
    let prompts = ["Say something.", planted.injection.as_str(), "Say SECRET.", "Say MAIL.", "Call run.", "Be BROKEN."];
    let extras = ["none", "tools", "other tools", "unknown", "twice", "result", "poisoned", "image"];
    let mut all = Vec::with_capacity(EXCHANGES);
    // Numbers that look like chance, and are the same in each run.
    let mut state = 1u64;
    let mut pick = |count: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap_or_default() % count
    };
    for _ in 0..EXCHANGES {
        let (api, model, prompt) = (Api::EVERY[pick(6)], models[pick(models.len())], prompts[pick(prompts.len())]);
        let (extra, stream) = (extras[pick(extras.len())], pick(2) == 0);
        let mut body: Value = serde_json::from_slice(&api.request_of(model, prompt, stream)).unwrap_or_default();
        let tool = |name: &str| match api {
            Api::Messages => json!([{"name": name, "input_schema": {"type": "object"}}]),
            Api::Responses => json!([{"type": "function", "name": name, "parameters": {"type": "object"}}]),
            _ => json!([{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}]),
        };
        let takes_messages = body["messages"].is_array();
        match extra {
            "tools" if api != Api::Generate && api != Api::Completion => body["tools"] = tool("look"),
            "other tools" if api != Api::Generate && api != Api::Completion => body["tools"] = tool("run"),
            "unknown" => body["nobody_documents_this"] = "Say so.".into(),
            "result" | "poisoned" if takes_messages && api != Api::Messages => {
                let said = if extra == "result" { "It rains." } else { planted.injection.as_str() };
                if let Some(messages) = body["messages"].as_array_mut() {
                    messages.push(json!({"role": "tool", "content": said}));
                }
            }
            "image" if api == Api::Chat => body["messages"][0]["images"] = json!(["iVBORw0KGgo="]),
            _ => {}
        }
        let mut text = body.to_string();
        if extra == "twice" {
            text.insert_str(1, "\"model\":\"calm\",");
        }
        all.push((api.path(), text.into_bytes()));
    }
    all
}

/// Answers by what is asked of it, whatever else a guard made of the request.
fn scripted(request: &Received, planted: &Planted) -> Vec<Act> {
    let asked = String::from_utf8_lossy(&request.body);
    let secrets: Vec<&str> = planted.secrets.values().map(String::as_str).collect();
    let said = if asked.contains("SECRET") {
        format!("It is {}.", secrets.join(" and "))
    } else if asked.contains("MAIL") {
        ["Write to someone@", "example.com."].concat()
    } else if asked.contains("BROKEN") {
        return vec![Act::Send(answer("200 OK", "application/json", b"{\"message\":"))];
    } else {
        "All is well.".to_owned()
    };
    well(request, &said)
}

fn asked(guard: &Guard, exchanges: &[(&'static str, Vec<u8>)]) -> Result<Vec<u16>, Box<dyn Error>> {
    let mut statuses = Vec::with_capacity(exchanges.len());
    for (number, (path, body)) in exchanges.iter().enumerate() {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nX-Request-ID: n-{number}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        statuses.push(raw::ask(guard.address(), &[head.as_bytes(), body].concat())?.status());
    }
    Ok(statuses)
}

/// The guard's own lines, by the number of the exchange.
fn lines(guard: &Guard) -> Result<BTreeMap<usize, Value>, Box<dyn Error>> {
    let lines = guard.log()?.into_iter().filter_map(|line| {
        let number = line["request_id"].as_str()?.strip_prefix("n-")?.parse().ok()?;
        (line["message"] == "exchange").then_some((number, line))
    });
    Ok(lines.collect())
}

type Findings = BTreeMap<(String, String, String), u64>;

fn findings(list: &Value) -> Findings {
    let mut findings = Findings::new();
    for found in list.as_array().into_iter().flatten() {
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        *findings.entry((text("control"), text("kind"), text("action"))).or_default() += found["count"].as_u64().unwrap_or_default();
    }
    findings
}

/// What a process holds of the memory, in KiB.
fn resident(id: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    line.ok_or_else(|| io::Error::other("no VmRSS"))
}

#[test]
fn settings_that_are_swapped_a_thousand_times_under_load_lose_no_request_and_mix_in_none() -> Outcome {
    const SWAPS: u64 = 1000;
    let planted = Planted::read()?;
    let (token, mail) = (planted.secrets["GITHUB_TOKEN"].clone(), ["someone@", "example.com"].concat());
    let said = format!("{} {token} and {mail}, {token} and {mail}.", "Once more. ".repeat(20));
    let server = FaultyServer::start(move |request| well(request, &said))?;
    // Either policy blocks one tool and redacts one kind: who mixes them, blocks or redacts both or none.
    let [one, other] = [("githubToken", "one"), ("email", "other")].map(|(kind, tool)| {
        let spec = format!("{{mode: hard, redaction: {{kinds: [{kind}]}}, tools: {{block: [{tool}]}}}}");
        GuardPolicy::read(&format!("apiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nspec: {spec}\n"))
    });
    let policies = [one?, other?];
    let text = |serial: u64| {
        let policy = policies[usize::from(serial.is_multiple_of(2))].clone();
        sealed(&llm_guard_engine::policy::settings::Settings { mode: None, policy, ..settings(serial, Mode::Hard) })
    };
    let folder = SettingsFolder::with(&text(1), None)?;
    let mut guard = Guard::before(server.url(), "policy").in_pod(&folder, &[&key(1)]).start()?;
    wait_until("the first settings are in force", Duration::from_secs(20), || {
        Ok(guard.metric("llm_guard_policy_reloads_total", &[("result", "loaded")])? >= 1.0)
    })?;
    let (address, is_over) = (guard.address(), AtomicBool::new(false));
    let before = AtomicU64::new(0);
    let (requests, by) = (AtomicUsize::new(0), [AtomicUsize::new(0), AtomicUsize::new(0)]);
    let id = guard.process().id();
    let ask = |number: usize| -> Result<(), String> {
        let (api, stream) = (Api::EVERY[number % 6], number % 4 < 2);
        let body = api.request_of("m", "Say something.", stream);
        let reply = raw::ask(address, &raw::post(api.path(), &body)).map_err(|error| error.to_string())?;
        let all = api.said(&reply.body);
        let (tokens, mails) = (all.matches("[REDACTED_GITHUB_TOKEN]").count(), all.matches("[REDACTED_EMAIL]").count());
        let policy = match (tokens, mails) {
            (2, 0) if !all.contains(&token) && all.contains(&mail) => 0,
            (0, 2) if all.contains(&token) && !all.contains(&mail) => 1,
            _ => return Err(format!("{api:?}, {stream}: status {}, {tokens} tokens and {mails} addresses were redacted", reply.status())),
        };
        by[policy].fetch_add(1, Ordering::Relaxed);
        requests.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let outcome: Result<(), Box<dyn Error>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let (ask, is_over) = (&ask, &is_over);
                scope.spawn(move || {
                    let mut number = client;
                    while !is_over.load(Ordering::Relaxed) {
                        ask(number)?;
                        number += 5;
                    }
                    Ok::<(), String>(())
                })
            })
            .collect();
        let swapped = (2..=SWAPS + 1).try_for_each(|serial| {
            thread::sleep(Duration::from_millis(40));
            // By then the load has made it as large as the load makes it.
            if serial == SWAPS / 4 {
                before.store(resident(id)?, Ordering::Relaxed);
            }
            folder.swap(&text(serial), None)
        });
        is_over.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().map_err(|_| "a client panicked")??;
        }
        Ok(swapped?)
    });
    outcome?;
    wait_until("the last settings are in force", Duration::from_secs(20), || {
        let said = llm_guard_tests::plain::get(guard.metrics_address(), "/settings")?;
        Ok(said.text().contains(&format!("\"serial\":{}", SWAPS + 1)))
    })?;
    let loaded = guard.metric("llm_guard_policy_reloads_total", &[("result", "loaded")])?;
    let refused = guard.metric("llm_guard_policy_reloads_total", &[("result", "refused")])?;
    println!("{requests:?} requests, {by:?} by each, {loaded} settings loaded");
    assert!(refused.abs() < f64::EPSILON && loaded >= 100.0, "{loaded} loaded, {refused} refused");
    assert!(by.iter().all(|by| by.load(Ordering::Relaxed) > 100), "{by:?}");
    let grown = resident(id)?.saturating_sub(before.into_inner());
    assert!(grown < 4 * 1024, "it has {grown} KiB more than after a quarter of the changes");
    Ok(())
}

#[test]
fn a_shadow_and_a_replay_say_of_a_thousand_exchanges_what_enforcement_then_does() -> Outcome {
    let planted = Planted::read()?;
    let exchanges = exchanges(&planted);
    let server = FaultyServer::start(move |request| match Planted::read() {
        Ok(planted) => scripted(request, &planted),
        Err(_) => vec![Act::Close],
    })?;
    let folder = tempfile::tempdir()?;
    let (policy, recording) = (folder.path().join("candidate.yaml"), folder.path().join("recording.jsonl"));
    fs::write(&policy, CANDIDATE)?;
    let watching = Guard::before(server.url(), "policy")
        .mode("monitor")
        .argument("--shadow")
        .argument(policy.display().to_string())
        .argument("--record")
        .argument(recording.display().to_string())
        .start()?;
    let passed = asked(&watching, &exchanges)?;
    let foretold = lines(&watching)?;
    let enforcing = Guard::before(server.url(), "policy").policy(CANDIDATE).start()?;
    let became = asked(&enforcing, &exchanges)?;
    let done = lines(&enforcing)?;
    assert_eq!((foretold.len(), done.len()), (EXCHANGES, EXCHANGES));
    assert!(passed.iter().all(|status| *status == 200), "in monitor everything passes: {passed:?}");

    let (mut verdicts, mut all) = (BTreeMap::<String, u64>::new(), Findings::new());
    for number in 0..EXCHANGES {
        let (shadow, done) = (&foretold[&number]["shadow"], &done[&number]);
        let (path, body) = &exchanges[number];
        let shown = || format!("{number}: {path} {}\n{shadow}\n{done}", String::from_utf8_lossy(body));
        assert_eq!(findings(&shadow["violations"]), findings(&done["violations"]), "{}", shown());
        assert_eq!((&shadow["rule"], &shadow["mode"]), (&done["rule"], &done["mode"]), "{}", shown());
        assert_eq!(shadow["status"].as_u64().unwrap_or(200), u64::from(became[number]), "{}", shown());
        assert_eq!(done["status"].as_u64(), Some(u64::from(became[number])));
        *verdicts.entry(shadow["verdict"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        for (key, count) in findings(&done["violations"]) {
            *all.entry(key).or_default() += count;
        }
    }
    assert_eq!(verdicts.len(), 3, "each verdict is there: {verdicts:?}");
    println!("{verdicts:?}\n{all:#?}");
    assert!(all.len() >= 20, "few kinds of findings: {all:?}");
    for (verdict, count) in &verdicts {
        let counted = watching.metric("llm_guard_shadow_exchanges_total", &[("result", verdict)])?;
        assert!((counted - f64::from(u32::try_from(*count)?)).abs() < f64::EPSILON, "{verdict}: {counted}");
    }
    let counted = watching.metric("llm_guard_shadow_violations_total", &[])?;
    assert!((counted - f64::from(u32::try_from(all.values().sum::<u64>())?)).abs() < f64::EPSILON);
    assert!(watching.metric("llm_guard_violations_total", &[("action", "blocked")])?.abs() < f64::EPSILON, "a shadow does nothing");

    // The recording is written behind the exchanges.
    wait_until("the recording is whole", Duration::from_secs(20), || Ok(fs::read_to_string(&recording)?.lines().count() == EXCHANGES))?;
    let replayed = Command::new(cache::sidecar()?)
        .arg("replay")
        .args(["--format", "json", "--policy"])
        .args([&policy, &recording])
        .env_clear()
        .output()?;
    assert!(replayed.status.success() && replayed.stderr.is_empty(), "{replayed:?}");
    let said: Value = serde_json::from_slice(&replayed.stdout)?;
    assert_eq!(said["exchanges"], EXCHANGES);
    assert_eq!(said["after"]["verdicts"], json!(verdicts));
    assert_eq!(findings(&said["after"]["findings"]), all);
    Ok(())
}
