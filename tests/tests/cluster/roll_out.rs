//! From a label to `hard`: Ollama as its official image runs, and as a user without privileges.

use std::time::Duration;

use serde_json::Value;

use crate::kit::{Place, Scene, Stage, chat, ensure, eventually};
use crate::manifests::{self, Ollama};

/// The longest that a change of settings may take, by the design.
const IN_FORCE: Duration = Duration::from_secs(5);

/// What differs between two answers to the same question: times, durations and names that are drawn.
const DRAWN: [&str; 8] =
    ["created_at", "created", "id", "modified_at", "total_duration", "load_duration", "prompt_eval_duration", "eval_duration"];

/// An answer without what differs from one to the next, frame by frame.
fn comparable(body: &str) -> Vec<Value> {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(object) => {
                object.retain(|key, _| !DRAWN.contains(&key.as_str()));
                object.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let frame = |line: &str| {
        let line = line.strip_prefix("data: ").unwrap_or(line);
        let mut frame: Value = serde_json::from_str(line).unwrap_or_else(|_| Value::String(line.to_owned()));
        strip(&mut frame);
        frame
    };
    body.lines().filter(|line| !line.is_empty()).map(frame).collect()
}

/// The same questions to two servers; says where the answers differ.
fn same_transcript(stage: &Stage, client: &Place, one: &str, other: &str) -> Scene {
    let injection = stage.planted.injection.clone();
    let asked: Vec<(&str, String, Option<String>)> = vec![
        ("version", "/api/version".into(), None),
        ("tags", "/api/tags".into(), None),
        ("root", "/".into(), None),
        ("models", "/v1/models".into(), None),
        ("unknown route", "/nowhere".into(), None),
        ("unknown model", "/api/chat".into(), Some(chat("nobody", "hello", false))),
        ("no JSON", "/api/chat".into(), Some("{".into())),
        ("chat", "/api/chat".into(), Some(chat("leaky", "hello", false))),
        ("stream", "/api/chat".into(), Some(chat("leaky", "hello", true))),
        ("injection", "/api/chat".into(), Some(chat("calm", &injection, true))),
        ("generate", "/api/generate".into(), Some(r#"{"model":"leaky","prompt":"hello"}"#.into())),
        ("OpenAI", "/v1/chat/completions".into(), Some(chat("leaky", "hello", false))),
        ("OpenAI stream", "/v1/chat/completions".into(), Some(chat("leaky", "hello", true))),
        ("embed", "/api/embed".into(), Some(r#"{"model":"calm","input":"hello"}"#.into())),
    ];
    for (what, path, body) in asked {
        let answers = [one, other].map(|base| stage.ask(client, &format!("{base}{path}"), body.as_deref(), &[]));
        let [Ok(one), Ok(other)] = answers else { return Err(format!("{what}: {answers:?}")) };
        let kind = |reply: &crate::kit::Reply| reply.header("content-type").map(str::to_owned);
        ensure(one.status == other.status && kind(&one) == kind(&other), || format!("{what}: {one:?} and {other:?}"))?;
        ensure(comparable(&one.body) == comparable(&other.body), || format!("{what}: {} and {}", one.body, other.body))?;
    }
    Ok(())
}

/// Install → label a namespace → deploy → guarded, in monitor → what a client reads is what it would have read → hard.
pub(crate) fn official(stage: &Stage) -> Scene {
    roll_out(stage, "official", &Ollama::official())
}

/// The same, as those run it who want no root.
pub(crate) fn non_root(stage: &Stage) -> Scene {
    roll_out(stage, "non-root", &Ollama::non_root())
}

fn roll_out(stage: &Stage, name: &str, ollama: &Ollama) -> Scene {
    let (plain, guarded) = (format!("plain-{name}"), format!("guarded-{name}"));
    stage.apply(&format!(
        "{}{}{}{}{}{}{}",
        manifests::namespace(&plain, ""),
        manifests::namespace(&guarded, "llm-guard: enabled"),
        manifests::registry_for(&plain, stage),
        manifests::registry_for(&guarded, stage),
        ollama.deployment(&plain, 1, stage.registry_address()),
        ollama.deployment(&guarded, 2, stage.registry_address()),
        manifests::client(&plain, "client"),
    ))?;
    stage.rolled_out(&plain, "deployment/ollama")?;
    stage.rolled_out(&guarded, "deployment/ollama")?;
    stage.ready(&plain, "client")?;

    // It is guarded, and nobody sees that.
    for pod in stage.pods(&guarded, "app=ollama")? {
        ensure(pod.pointer("/metadata/labels/llm-guard.io~1guarded") == Some(&Value::from("true")), || format!("not guarded: {pod}"))?;
    }
    let client = Place::new(&plain, "client", "client");
    let direct = format!("http://{}:11434", stage.service(&plain, "ollama")?);
    let service = format!("http://{}:11434", stage.service(&guarded, "ollama")?);
    same_transcript(stage, &client, &direct, &service)?;
    let counted = stage.guards_metric(&guarded, "ollama", "llm_guard_violations_total")?;
    ensure(counted.contains("control=\"prompt_injection\"") && counted.contains("action=\"counted\""), || {
        format!("in monitor an injection is counted: {counted}")
    })?;

    // Hard, without a restart.
    let before = pods_and_restarts(stage, &guarded)?;
    stage.kubectl(&format!("-n {guarded} annotate deployment/ollama llm-guard.io/mode=hard"))?;
    let took = in_force_everywhere(stage, &guarded, "hard")?;
    ensure(took <= IN_FORCE, || format!("hard was in force after {took:?}"))?;
    println!("    {name}: hard in force on 2 pods after {} ms", took.as_millis());
    ensure(pods_and_restarts(stage, &guarded)? == before, || "a pod was restarted".into())?;
    holds(stage, &guarded, &client, &service)?;

    // The namespace's annotation counts where the workload has none; a pod's own only where it is stricter; the floor under all.
    stage.kubectl(&format!("-n {guarded} annotate deployment/ollama llm-guard.io/mode-"))?;
    in_force_everywhere(stage, &guarded, "monitor")?;
    stage.kubectl(&format!("annotate namespace {guarded} llm-guard.io/mode=soft"))?;
    let took = in_force_everywhere(stage, &guarded, "soft")?;
    ensure(took <= IN_FORCE, || format!("the namespace's soft was in force after {took:?}"))?;
    stage.kubectl(&format!("-n {guarded} annotate deployment/ollama llm-guard.io/mode=monitor"))?;
    in_force_everywhere(stage, &guarded, "monitor")?;
    let pod = stage.pod_of(&guarded, "ollama")?;
    stage.kubectl(&format!("-n {guarded} annotate pod {pod} llm-guard.io/mode=hard"))?;
    let ((), took) = eventually("hard on one pod", Duration::from_secs(20), || mode_of(stage, &guarded, &pod, "hard"))?;
    ensure(took <= IN_FORCE, || format!("one pod's hard was in force after {took:?}"))?;
    for other in names(&stage.pods(&guarded, "app=ollama")?).iter().filter(|name| **name != pod) {
        mode_of(stage, &guarded, other, "monitor")?;
    }
    stage.kubectl(&format!("-n {guarded} annotate pod {pod} llm-guard.io/mode=monitor --overwrite"))?;
    stage.kubectl(&format!("-n {guarded} annotate deployment/ollama llm-guard.io/mode=soft --overwrite"))?;
    // The pod's own monitor is milder, so it counts for nothing.
    in_force_everywhere(stage, &guarded, "soft")?;
    stage.kubectl(&format!("annotate namespace {guarded} llm-guard.io/minimum-mode=hard"))?;
    let took = in_force_everywhere(stage, &guarded, "hard")?;
    ensure(took <= IN_FORCE, || format!("the floor was in force after {took:?}"))?;

    // The stop, and back.
    stage.kubectl(&format!("-n {guarded} annotate deployment/ollama llm-guard.io/stop=true"))?;
    let ((), took) = eventually("the stop", Duration::from_secs(20), || {
        let reply = stage.ask(&client, &format!("{service}/api/tags"), None, &[])?;
        ensure(reply.status == 503, || format!("{reply:?}"))
    })?;
    ensure(took <= IN_FORCE, || format!("the stop was in force after {took:?}"))?;
    stage.kubectl(&format!("-n {guarded} annotate deployment/ollama llm-guard.io/stop-"))?;
    eventually("the end of the stop", IN_FORCE, || {
        let reply = stage.ask(&client, &format!("{service}/api/tags"), None, &[])?;
        ensure(reply.status == 200, || format!("{reply:?}"))
    })?;
    ensure(pods_and_restarts(stage, &guarded)? == before, || "a pod was restarted".into())
}

/// The injection is refused and the keys are redacted, by every way to the model.
fn holds(stage: &Stage, namespace: &str, client: &Place, service: &str) -> Scene {
    let mut ways = vec![(client.clone(), service.to_owned())];
    for pod in names(&stage.pods(namespace, "app=ollama")?) {
        let inside = Place::new(namespace, &pod, "ollama");
        let address = stage.address(namespace, &pod)?;
        ways.push((client.clone(), format!("http://{address}:11434")));
        for host in ["127.0.0.1", "[::1]", "localhost", &address] {
            ways.push((inside.clone(), format!("http://{host}:11434")));
        }
        // The guard's own port is served like any other.
        ways.push((inside, "http://127.0.0.1:15434".to_owned()));
    }
    for (from, base) in ways {
        let said = |reply: &crate::kit::Reply| format!("{from:?} by {base}: {reply:?}");
        let refused = stage.ask(&from, &format!("{base}/api/chat"), Some(&chat("calm", &stage.planted.injection, false)), &[])?;
        ensure(refused.status == 400 && refused.body.contains("potentially unsafe input"), || said(&refused))?;
        for stream in [false, true] {
            let answer = stage.ask(&from, &format!("{base}/api/chat"), Some(&chat("leaky", "hello", stream)), &[])?;
            ensure(answer.status == 200, || said(&answer))?;
            for (kind, value) in &stage.planted.secrets {
                ensure(!answer.said().contains(value) && !answer.body.contains(value), || format!("{kind} leaks: {}", said(&answer)))?;
            }
            ensure(answer.said().contains("[REDACTED_GITHUB_TOKEN]"), || said(&answer))?;
        }
    }
    Ok(())
}

fn names(pods: &[Value]) -> Vec<String> {
    pods.iter().filter_map(|pod| pod.pointer("/metadata/name")?.as_str().map(str::to_owned)).collect()
}

fn pods_and_restarts(stage: &Stage, namespace: &str) -> Result<Vec<String>, String> {
    let restarts = |pod: &Value| {
        let statuses =
            ["/status/initContainerStatuses", "/status/containerStatuses"].map(|path| pod.pointer(path).and_then(Value::as_array));
        statuses.into_iter().flatten().flatten().filter_map(|status| status["restartCount"].as_u64()).sum::<u64>()
    };
    let pods = stage.pods(namespace, "app=ollama")?;
    Ok(names(&pods).into_iter().zip(&pods).map(|(name, pod)| format!("{name}: {}", restarts(pod))).collect())
}

/// Whether a pod's guard says that it is in a mode.
fn mode_of(stage: &Stage, namespace: &str, pod: &str, mode: &str) -> Scene {
    let settings = stage.guards_settings(namespace, pod)?;
    ensure(settings["mode"] == mode, || format!("{pod}: {settings}"))
}

/// Waits until each pod's guard says so; how long it took.
fn in_force_everywhere(stage: &Stage, namespace: &str, mode: &str) -> Result<Duration, String> {
    let pods = names(&stage.pods(namespace, "app=ollama")?);
    let ((), took) = eventually(&format!("{mode} everywhere"), Duration::from_secs(20), || {
        pods.iter().try_for_each(|pod| mode_of(stage, namespace, pod, mode))
    })?;
    Ok(took)
}
