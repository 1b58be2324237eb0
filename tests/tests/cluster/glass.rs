//! Break-glass where it counts: who may, how soon it takes hold, whom it doesn't reach, and that it ends, with an injector and without.
//!
//! The invariant of the scene: what is forbidden passes while an exception is in force and at no other moment, and nothing else fails
//! meanwhile.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use llm_guard_engine::policy::Moment;
use serde_json::json;

use crate::kit::{Place, Reply, Scene, Stage, chat, ensure, eventually};
use crate::live;
use crate::manifests::{self, Ollama};
use crate::tamper;

const NAMESPACE: &str = "glass";
const CLIENT: &str = "client";
/// The two workloads.
const BOTH: [&str; 2] = ["ollama", "other"];
/// Somebody who has the chart's `ClusterRole` for it in the namespace, and nothing else.
const JANE: &str = "--as=jane";
/// Somebody who has nothing at all.
const JOE: &str = "--as=joe";
/// How long an exception that ends by itself lasts: what is to be seen before takes half of it.
const LASTS: u64 = 45;
/// How long a beginning, or an end by hand, may take: as any change of settings.
const IN_FORCE: Duration = Duration::from_secs(5);
/// How long after its end something may still pass: the requests that were on their way.
const ENDED: Duration = Duration::from_secs(3);
/// For what isn't about the guard.
const SOON: Duration = Duration::from_secs(20);

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Two guarded workloads that go by one policy, under a floor; and somebody who may break the glass.
fn deploy(stage: &Stage) -> Scene {
    let ollama = Ollama::non_root().deployment(NAMESPACE, 1, stage.registry_address());
    let other = ollama.replace("metadata: {name: ollama", "metadata: {name: other").replace("app: ollama", "app: other");
    let namespace = manifests::namespace(NAMESPACE, "llm-guard: enabled");
    stage.apply(&format!(
        "{}{}{}{}",
        namespace.replace("metadata: {", "metadata: {annotations: {llm-guard.io/minimum-mode: hard}, "),
        manifests::registry_for(NAMESPACE, stage),
        manifests::client(NAMESPACE, CLIENT),
        live::document(NAMESPACE, "{mode: monitor, promptInjection: {mode: hard}}"),
    ))?;
    stage.apply(&ollama)?;
    stage.apply(&other)?;
    for workload in BOTH {
        stage.rolled_out(NAMESPACE, &format!("deployment/{workload}"))?;
    }
    stage.ready(NAMESPACE, CLIENT)?;
    stage.kubectl(&format!("-n {NAMESPACE} create rolebinding glass --clusterrole=llm-guard-break-glass --user=jane"))?;
    eventually("jane may break the glass", SOON, || {
        stage.kubectl(&format!("-n {NAMESPACE} auth can-i create guardexceptions.llm-guard.io {JANE}")).map(drop)
    })
    .map(drop)
}

/// The two workloads, as their clients and their operators see them.
struct Glass<'a> {
    stage: &'a Stage,
    client: Place,
    /// The chats of the two.
    urls: [String; 2],
}

/// When something was asked, and whether it passed.
#[derive(Clone, Copy, Debug)]
struct Sample {
    sent: Duration,
    came: Duration,
    passed: bool,
}

impl Glass<'_> {
    fn ask(&self, workload: usize, prompt: &str) -> Result<Reply, String> {
        self.stage.ask(&self.client, &self.urls[workload], Some(&chat("calm", prompt, false)), &[])
    }

    /// What the policy forbids.
    fn forbidden(&self, workload: usize) -> Result<Sample, String> {
        let sent = now();
        let reply = self.ask(workload, &self.stage.planted.injection)?;
        let by_guard = reply.header("x-llm-guard-reason").is_some_and(|reason| reason.contains("prompt_injection"));
        let passed = match reply.status {
            200 if !reply.said().is_empty() => true,
            400 if by_guard => false,
            _ => return Err(format!("{}: neither passed nor refused: {reply:?}", BOTH[workload])),
        };
        Ok(Sample { sent, came: now(), passed })
    }

    /// That what is forbidden passes, or is refused.
    fn is(&self, workload: usize, passes: bool) -> Scene {
        let sample = self.forbidden(workload)?;
        ensure(sample.passed == passes, || format!("{}: it should pass: {passes}; {sample:?}", BOTH[workload]))
    }

    /// Somebody makes an exception.
    fn create(&self, who: &str, namespace: &str, name: &str, expires: Moment, workloads: Option<&str>) -> Scene {
        let mut spec = json!({"mode": "monitor", "reason": "incident 7: orders are refused", "expires": expires});
        if let Some(workload) = workloads {
            spec["workloads"] = json!([format!("Deployment/{workload}")]);
        }
        let object = json!({
            "apiVersion": "llm-guard.io/v1alpha1", "kind": "GuardException", "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        });
        let ended = self.stage.node.try_kubectl(&["create", "-f", "-", who], &object.to_string()).map_err(|error| error.to_string())?;
        ensure(ended.status.success(), || ended.said)
    }

    /// Waits for the condition of an exception.
    fn state(&self, name: &str, status: &str, reason: &str, limit: Duration) -> Scene {
        eventually(&format!("{name} is {status}, {reason}"), limit, || {
            let object = self.stage.object(NAMESPACE, &format!("gex/{name}"))?;
            let condition = &object["status"]["conditions"][0];
            let is_so = condition["type"] == "Active" && condition["status"] == status && condition["reason"] == reason;
            ensure(is_so, || object["status"].to_string())
        })
        .map(drop)
    }

    /// Asks for what is forbidden until an exception, in force now, has ended, and longer. It has to pass until then, and not afterwards.
    fn ends_at(&self, workloads: &[usize], expires: Moment) -> Scene {
        let end = Duration::from_secs(expires.unix());
        ensure(now() < end, || "the exception ended before anybody looked".into())?;
        for &workload in workloads {
            self.is(workload, true)?;
        }
        let mut last = vec![Duration::ZERO; workloads.len()];
        while now() < end + ENDED + Duration::from_secs(5) {
            for (last, &workload) in last.iter_mut().zip(workloads) {
                let sample = self.forbidden(workload)?;
                let is_right = if sample.passed { sample.sent < end + ENDED } else { sample.came >= end };
                ensure(is_right, || format!("{}: it ends at {end:?}, and {sample:?}", BOTH[workload]))?;
                if sample.passed {
                    ensure(*last <= sample.sent, || "time runs backwards".into())?;
                    *last = sample.came;
                }
            }
            thread::sleep(Duration::from_millis(50));
        }
        for (last, &workload) in last.iter().zip(workloads) {
            let late = i128::try_from(last.as_millis()).unwrap_or_default() - i128::try_from(end.as_millis()).unwrap_or_default();
            println!("    {}: the last reply that passed came {late} ms after the end", BOTH[workload]);
        }
        Ok(())
    }
}

fn in_seconds(seconds: u64) -> Moment {
    Moment::from_unix(now().as_secs() + seconds)
}

/// Glass is broken by whoever may, for whom it is meant, and mends itself.
pub(crate) fn broken_and_mended(stage: &Stage) -> Scene {
    deploy(stage)?;
    let url = |workload: &str| Ok::<_, String>(format!("http://{}:11434/api/chat", stage.service(NAMESPACE, workload)?));
    let glass = Glass { stage, client: Place::new(NAMESPACE, CLIENT, CLIENT), urls: [url("ollama")?, url("other")?] };
    for workload in 0..2 {
        eventually("the floor holds", SOON, || glass.is(workload, false))?;
    }
    let (is_over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (outcome, steady) = thread::scope(|scope| {
        let steady = scope.spawn(|| {
            let mut number = 0;
            while !is_over.load(Ordering::Relaxed) {
                let reply = glass.ask(number % 2, "hello")?;
                ensure(reply.status == 200 && !reply.said().is_empty(), || format!("what is allowed failed: {reply:?}"))?;
                answered.fetch_add(1, Ordering::Relaxed);
                number += 1;
                thread::sleep(Duration::from_millis(100));
            }
            Ok::<(), String>(())
        });
        let outcome = with_injector(&glass).and_then(|old| without_injector(&glass).map(|()| old));
        is_over.store(true, Ordering::Relaxed);
        (outcome, steady.join())
    });
    // An injector is there again, whatever became of the scene: others need it.
    let attacked = outcome.and_then(|old| {
        steady.map_err(|_| "the steady client panicked".to_owned())??;
        println!("    {} allowed requests meanwhile, none failed", answered.load(Ordering::Relaxed));
        attacks_without_injector(&glass, &old)
    });
    injector(stage, 1)?;
    attacked?;
    glass.state("alone", "False", "Expired", SOON)?;
    for workload in 0..2 {
        eventually("guarding again", Duration::from_mins(1), || glass.is(workload, false))?;
        let reply = glass.ask(workload, "hello")?;
        ensure(reply.status == 200, || format!("{reply:?}"))?;
    }
    Ok(())
}

fn injector(stage: &Stage, replicas: u32) -> Scene {
    stage.kubectl(&format!("-n llm-guard-system scale deployment/llm-guard-injector --replicas={replicas}"))?;
    if replicas == 0 {
        let gone = "-n llm-guard-system wait --for=delete pod -l app.kubernetes.io/name=llm-guard-injector --timeout=60s";
        return stage.kubectl(gone).map(drop);
    }
    stage.rolled_out("llm-guard-system", "deployment/llm-guard-injector")
}

/// One ends by itself, and one by a deletion. The signed settings of the other workload while that one was in force.
fn with_injector(glass: &Glass) -> Result<String, String> {
    let Glass { stage, .. } = glass;
    // Neither who has nothing, nor who has it elsewhere.
    for (who, namespace) in [(JOE, NAMESPACE), (JANE, "default")] {
        let said = glass.create(who, namespace, "night", in_seconds(LASTS), None);
        ensure(said.as_ref().is_err_and(|said| said.contains("cannot create resource \"guardexceptions\"")), || {
            format!("{who} in {namespace}: {said:?}")
        })?;
    }
    // Nor does who may this get anything else done by it.
    let said = stage.kubectl(&format!("-n {NAMESPACE} annotate deployment/ollama llm-guard.io/mode=monitor {JANE}"));
    ensure(said.as_ref().is_err_and(|said| said.contains("orbidden")), || format!("{said:?}"))?;
    for workload in 0..2 {
        glass.is(workload, false)?;
    }

    let expires = in_seconds(LASTS);
    let began = Instant::now();
    glass.create(JANE, NAMESPACE, "night", expires, Some("ollama"))?;
    eventually("the exception is in force", IN_FORCE, || glass.is(0, true))?;
    println!("    the forbidden request passed {} ms after the exception was made", began.elapsed().as_millis());
    glass.is(1, false)?;
    glass.state("night", "True", "InForce", SOON)?;
    shown(stage, "night", expires, "True")?;
    for (workload, excepted) in [("ollama", true), ("other", false)] {
        let samples = stage.guards_metric(NAMESPACE, workload, "llm_guard_exception_expires_timestamp_seconds")?;
        let value: f64 = samples.trim().rsplit(' ').next().and_then(|value| value.parse().ok()).ok_or("no metric")?;
        ensure((value > 0.0) == excepted, || format!("{workload}: {samples}"))?;
    }

    // Another, for the other workload, ended by hand long before its end.
    glass.create(JANE, NAMESPACE, "deleted", in_seconds(3600), Some("other"))?;
    eventually("the second is in force", IN_FORCE, || glass.is(1, true))?;
    let (_, old) = tamper::settings(stage, NAMESPACE, "other")?;
    ensure(old.contains("\"deleted\""), || "the settings don't name the exception".into())?;
    let began = Instant::now();
    stage.kubectl(&format!("-n {NAMESPACE} delete gex deleted {JANE}"))?;
    eventually("the second is over", IN_FORCE, || glass.is(1, false))?;
    println!("    the forbidden request was refused {} ms after the deletion was asked for", began.elapsed().as_millis());

    glass.ends_at(&[0], expires)?;
    glass.is(1, false)?;
    glass.state("night", "False", "Expired", Duration::from_secs(5))?;
    shown(stage, "night", expires, "False")?;
    Ok(old)
}

/// The columns of `kubectl get gex`.
fn shown(stage: &Stage, name: &str, expires: Moment, active: &str) -> Scene {
    let shown = stage.kubectl(&format!("-n {NAMESPACE} get gex {name}"))?;
    let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    let expires = expires.to_string();
    let expected = [name, "monitor", "[\"Deployment/ollama\"]", expires.as_str(), active, "incident", "7:"];
    let is_right = rows.len() == 2
        && rows[0] == ["NAME", "MODE", "WORKLOADS", "EXPIRES", "ACTIVE", "REASON", "AGE"]
        && rows[1].get(..expected.len()) == Some(expected.as_slice());
    ensure(is_right, || shown)
}

/// A third is ended by the guards' own clocks. Afterwards there is no injector.
fn without_injector(glass: &Glass) -> Scene {
    let expires = in_seconds(LASTS);
    glass.create(JANE, NAMESPACE, "alone", expires, None)?;
    for workload in 0..2 {
        eventually("the third is in force", IN_FORCE, || glass.is(workload, true))?;
    }
    injector(glass.stage, 0)?;
    glass.ends_at(&[0, 1], expires)?;
    // Nobody has written that it is over: the guards know.
    let (_, settings) = tamper::settings(glass.stage, NAMESPACE, "other")?;
    ensure(settings.contains("\"alone\""), || "the settings don't name the exception, so somebody else has ended it".into())?;
    glass.state("alone", "True", "InForce", Duration::from_secs(1))
}

/// Neither a new start of the guard brings back what has ended, nor settings from when it was in force.
fn attacks_without_injector(glass: &Glass, old: &str) -> Scene {
    let Glass { stage, .. } = glass;
    let pod = stage.pod_of(NAMESPACE, "other")?;
    tamper::restart_guard(stage, NAMESPACE, &pod)?;
    eventually("the guard that started anew refuses", Duration::from_mins(1), || {
        let sample = glass.forbidden(1)?;
        ensure(!sample.passed, || format!("it passed after a new start: {sample:?}"))
    })?;
    for _ in 0..10 {
        glass.is(1, false)?;
        thread::sleep(Duration::from_millis(200));
    }

    let (map, _) = tamper::settings(stage, NAMESPACE, "other")?;
    let patch = json!({"data": {"settings": old}}).to_string();
    stage.words(&["-n", NAMESPACE, "patch", "configmap", &map, "--type=merge", "-p", &patch])?;
    // The kubelet looks at once at what belongs to a pod that has changed.
    stage.kubectl(&format!("-n {NAMESPACE} annotate pod {pod} looked-at=once"))?;
    let (said, _) = eventually("the guard says that it refuses what is older", SOON, || {
        let said = stage.guards_settings(NAMESPACE, &pod)?;
        glass.is(1, false)?;
        ensure(said["error"].as_str().is_some_and(|error| !error.is_empty()), || said.to_string())?;
        Ok(said)
    })?;
    println!("    settings of the time of a deleted exception, put in: {}", said["error"].as_str().unwrap_or_default());
    for _ in 0..10 {
        glass.is(1, false)?;
    }
    Ok(())
}
