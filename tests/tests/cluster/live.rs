//! What changes while it runs: policies under load, one that doesn't load, the way back, and a stop.
//!
//! The two policies of these scenes differ in what they do to the request and in what they do to the answer, so that every reply bears
//! marks of one of them: who judged the request by one and the answer by the other would leave marks of both, or of none.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use llm_guard_tests::cluster::{Container, Request, Stream};
use serde_json::{Value, json};

use crate::kit::{Place, Reply, Scene, Stage, ensure, eventually};
use crate::manifests::{self, Ollama};

/// How many times the policy changes.
const CHANGES: usize = 20;
/// How many ask at a time, meanwhile.
const CLIENTS: usize = 3;
/// How long a change may take here: the design's five seconds, on a machine that does all of this at once.
const IN_FORCE: Duration = Duration::from_secs(15);
/// The longest that a stop may take, by the design.
const STOPPED: Duration = Duration::from_secs(5);

/// What is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    One,
    Other,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Injection,
    Tool,
}

impl Held {
    fn of(change: usize) -> Self {
        if change.is_multiple_of(2) { Self::One } else { Self::Other }
    }

    fn policy(self, namespace: &str) -> String {
        let spec = match self {
            Self::One => "{mode: soft, promptInjection: {mode: hard}, tools: {allow: []}, redaction: {kinds: [githubToken]}}",
            Self::Other => {
                "{mode: soft, promptInjection: {mode: monitor}, tools: {mode: hard, block: [look]}, redaction: {kinds: [email]}, \
                 models: {mode: hard, allow: [leaky]}}"
            }
        };
        document(namespace, spec)
    }
}

/// The policy of whoever names none.
pub(crate) fn document(namespace: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: llm-guard.io/v1alpha1\nkind: GuardPolicy\nmetadata: {{name: default, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

/// Asks one thing, and says by which policy it was judged.
struct Asker<'a> {
    stage: &'a Stage,
    client: Place,
    url: String,
    token: String,
    mail: String,
}

impl Asker<'_> {
    fn ask(&self, kind: Kind, stream: bool) -> Result<Held, String> {
        let prompt = if kind == Kind::Injection { &self.stage.planted.injection } else { "hello" };
        let mut body = json!({"model": "leaky", "stream": stream, "messages": [{"role": "user", "content": prompt}]});
        if kind == Kind::Tool {
            body["tools"] = json!([{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]);
        }
        let reply = self.stage.ask(&self.client, &self.url, Some(&body.to_string()), &[])?;
        self.held(kind, &reply).ok_or_else(|| format!("{kind:?}, stream {stream}: no policy says this, or both do: {reply:?}"))
    }

    fn held(&self, kind: Kind, reply: &Reply) -> Option<Held> {
        let by =
            |control: &str| reply.header("x-llm-guard-reason").is_some_and(|reason| reason.split(',').any(|one| one.trim() == control));
        let said = reply.said();
        let is_whole = reply.body.trim_end().ends_with('}') && said.contains("have a calm afternoon");
        let redacted = |kind: &str, value: &str| said.contains(&format!("[REDACTED_{kind}]")) && !said.contains(value);
        let marks = (redacted("GITHUB_TOKEN", &self.token), redacted("EMAIL", &self.mail));
        let clear = (said.contains(&self.token), said.contains(&self.mail));
        match (reply.status, kind) {
            (400, Kind::Injection) if by("prompt_injection") => Some(Held::One),
            (403, Kind::Tool) if by("tools") => Some(Held::Other),
            // Of the tool, the one leaves out what the model would hear of it; of an injection, the other only counts it.
            (200, Kind::Plain | Kind::Tool) if is_whole && marks == (true, false) && clear.1 => {
                (by("tools") == (kind == Kind::Tool)).then_some(Held::One)
            }
            (200, Kind::Plain | Kind::Injection) if is_whole && marks == (false, true) && clear.0 => (!by("tools")).then_some(Held::Other),
            _ => None,
        }
    }
}

fn deploy(stage: &Stage, namespace: &str, replicas: u32) -> Scene {
    stage.apply(&format!(
        "{}{}{}{}",
        manifests::namespace(namespace, "llm-guard: enabled"),
        manifests::registry_for(namespace, stage),
        manifests::client(namespace, "client"),
        Held::One.policy(namespace),
    ))?;
    stage.apply(&Ollama::non_root().deployment(namespace, replicas, stage.registry_address()))?;
    stage.rolled_out(namespace, "deployment/ollama")?;
    stage.ready(namespace, "client")
}

/// Waits until a policy, as it is now, is in force on every pod; the digest of what it says.
fn in_force(stage: &Stage, namespace: &str, pods: u64) -> Result<String, String> {
    let (digest, _) = eventually("the policy is in force", IN_FORCE, || {
        let policy = stage.object(namespace, "guardpolicy/default")?;
        let status = &policy["status"];
        let holds = status["conditions"].as_array().into_iter().flatten().any(|condition| {
            condition["type"] == "InForce"
                && condition["status"] == "True"
                && condition["observedGeneration"] == policy["metadata"]["generation"]
        });
        ensure(holds && status["pods"]["inForce"] == pods, || status.to_string())?;
        Ok(status["digest"].as_str().unwrap_or_default().to_owned())
    })?;
    Ok(digest)
}

/// A stream that goes on for long, from a model that only one of the policies lets through.
fn long_stream(stage: &Stage, namespace: &str, url: &str, tokens: u32) -> Result<Stream, String> {
    let body = json!({"model": "endless", "messages": [{"role": "user", "content": "hello"}], "options": {"num_predict": tokens}});
    let place = Container { namespace: namespace.into(), pod: "client".into(), container: "client".into() };
    let text = |error: std::io::Error| error.to_string();
    let stream = stage.node.stream(&place, &Request::post(url, &body).limit(Duration::from_mins(2))).map_err(text)?;
    stream.line_with("\"message\"").map_err(text)?;
    Ok(stream)
}

/// Twenty changes of the policy of two pods, under load through their Service.
pub(crate) fn changes_under_load(stage: &Stage) -> Scene {
    let namespace = "changing";
    deploy(stage, namespace, 2)?;
    let url = format!("http://{}:11434/api/chat", stage.service(namespace, "ollama")?);
    let secret = |kind: &str| stage.planted.secrets.get(kind).cloned().ok_or_else(|| format!("no {kind} is planted"));
    let client = Place::new(namespace, "client", "client");
    let asker = Asker { stage, client, url: url.clone(), token: secret("GITHUB_TOKEN")?, mail: secret("EMAIL")? };
    let first = in_force(stage, namespace, 2)?;
    let before = stage.pods(namespace, "app=ollama")?;
    let (is_over, replies) = (AtomicBool::new(false), [AtomicUsize::new(0), AtomicUsize::new(0)]);
    let kinds = [Kind::Plain, Kind::Injection, Kind::Plain, Kind::Tool];
    let mut took = Vec::new();
    let outcome = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (asker, is_over, replies) = (&asker, &is_over, &replies);
                scope.spawn(move || {
                    let mut number = client;
                    while !is_over.load(Ordering::Relaxed) {
                        let held = asker.ask(kinds[number % 4], number % 8 < 4)?;
                        replies[usize::from(held == Held::Other)].fetch_add(1, Ordering::Relaxed);
                        number += 1;
                    }
                    Ok::<(), String>(())
                })
            })
            .collect();
        let mut change = |number: usize| -> Scene {
            let held = Held::of(number);
            // A stream that began before ends as it would have, though the next policy lets nobody use its model.
            let sent = Instant::now();
            let stream = (number == 5).then(|| long_stream(stage, namespace, &url, 4000)).transpose()?;
            let began = Instant::now();
            stage.apply(&held.policy(namespace))?;
            let digest = in_force(stage, namespace, 2)?;
            took.push(began.elapsed());
            ensure((digest == first) == (held == Held::One), || format!("change {number}: {digest}"))?;
            for kind in [Kind::Plain, Kind::Injection, Kind::Tool] {
                let seen = asker.ask(kind, number % 4 < 2)?;
                ensure(seen == held, || format!("change {number}, {kind:?}: {held:?} is in force, and the reply is by {seen:?}"))?;
            }
            if let Some(stream) = stream {
                let refused = stage.ask(&asker.client, &url, Some(r#"{"model":"endless","messages":[]}"#), &[])?;
                ensure(refused.status == 403, || format!("the model is refused now: {refused:?}"))?;
                let changed = sent.elapsed();
                let lines = stream.rest().map_err(|error| error.to_string())?;
                let last: Value = lines
                    .iter()
                    .rev()
                    .find_map(|line| serde_json::from_str(&line.text).ok().filter(|frame: &Value| frame.is_object()))
                    .unwrap_or_default();
                ensure(last["done"] == true && last["eval_count"] == 4000, || format!("the stream ended with {last}"))?;
                let ended = lines.last().map(|line| line.after).unwrap_or_default();
                ensure(ended > changed, || format!("the stream ended after {ended:?}, and the change was in force after {changed:?}"))?;
                println!("    the stream went on for {} ms under what it began with", ended.saturating_sub(changed).as_millis());
            }
            Ok(())
        };
        let changed = (1..=CHANGES).try_for_each(&mut change);
        is_over.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().map_err(|_| "a client panicked".to_owned())??;
        }
        changed
    });
    outcome?;
    let [one, other] = replies.map(AtomicUsize::into_inner);
    took.sort_unstable();
    println!(
        "    {CHANGES} changes, {} and {other} replies by the two; in force after {} ms in the middle, {} ms at most",
        one,
        took[took.len() / 2].as_millis(),
        took[took.len() - 1].as_millis()
    );
    ensure(one >= CHANGES && other >= CHANGES, || format!("{one} and {other} replies"))?;
    let names = |pods: &[Value]| pods.iter().map(|pod| pod["metadata"]["uid"].clone()).collect::<Vec<_>>();
    ensure(names(&before) == names(&stage.pods(namespace, "app=ollama")?), || "a pod was made anew".into())?;

    // What wouldn't load isn't taken, and what was in force stays.
    let broken = stage.apply(&document(namespace, "{mode: hard, models: {allow: [leaky], default: nobody}}"));
    ensure(broken.as_ref().is_err_and(|said| said.contains("policies.llm-guard.io")), || format!("{broken:?}"))?;
    ensure(in_force(stage, namespace, 2)? == first && asker.ask(Kind::Tool, false)? == Held::One, || "it changed something".into())
}

/// A stop is in force on every pod within five seconds, streams that run end, and probes go on; then all goes on.
pub(crate) fn stop(stage: &Stage) -> Scene {
    let namespace = "stopped";
    deploy(stage, namespace, 2)?;
    let url = format!("http://{}:11434/api/chat", stage.service(namespace, "ollama")?);
    let client = Place::new(namespace, "client", "client");
    let ask = || stage.ask(&client, &url, Some(&crate::kit::chat("calm", "hello", false)), &[]);
    let pods: Vec<String> = stage
        .pods(namespace, "app=ollama")?
        .iter()
        .filter_map(|pod| pod.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned))
        .collect();
    let is = |stopped: bool| {
        for pod in &pods {
            let said = stage.guards_settings(namespace, pod)?;
            ensure(said["stop"] == stopped, || said.to_string())?;
        }
        Ok(())
    };
    let stream = long_stream(stage, namespace, &url, 1_000_000)?;
    stage.kubectl("annotate namespace stopped llm-guard.io/stop=true")?;
    let ((), took) = eventually("the stop is in force", IN_FORCE, || is(true))?;
    println!("    the stop was in force on {} pods after {} ms", pods.len(), took.as_millis());
    ensure(took <= STOPPED, || format!("the stop took {took:?}"))?;
    let lines = stream.rest().map_err(|error| error.to_string())?;
    let last = lines.iter().rev().find(|line| line.text.starts_with('{')).map(|line| line.text.clone()).unwrap_or_default();
    ensure(last.contains("\"error\""), || format!("the stream ended with {last}"))?;
    let reply = ask()?;
    ensure(reply.status == 503, || format!("{reply:?}"))?;
    // Longer than either probe of the model takes to fail.
    thread::sleep(Duration::from_secs(18));
    for pod in stage.pods(namespace, "app=ollama")? {
        let ready =
            pod["status"]["conditions"].as_array().into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True");
        let restarts = pod.pointer("/status/containerStatuses/0/restartCount").and_then(Value::as_u64);
        ensure(ready && restarts == Some(0), || format!("the probes failed: {}", pod["status"]))?;
    }
    stage.kubectl("annotate namespace stopped llm-guard.io/stop-")?;
    eventually("the stop is lifted", IN_FORCE, || is(false))?;
    let reply = ask()?;
    ensure(reply.status == 200, || format!("{reply:?}"))
}
