//! What the guard costs in a cluster: memory, the time of an admission, and what a pod's start takes longer.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::kit::{Place, Scene, Stage, chat, ensure, eventually};
use crate::manifests;

/// How many pods of each kind are started, one after the other.
const STARTS: usize = 5;

/// Prints the table; that there is one is what is tested, and that nothing in it is far from what it should be.
pub(crate) fn what_it_costs(stage: &Stage) -> Scene {
    stage.apply(&format!("{}{}", manifests::namespace("cost", ""), manifests::namespace("cost-guarded", "llm-guard: enabled")))?;
    let plain = starts(stage, "cost")?;
    let guarded = starts(stage, "cost-guarded")?;
    let inside = Place::new("cost-guarded", "last", "ollama");
    stage.apply(&pod("cost-guarded", "last"))?;
    stage.ready("cost-guarded", "last")?;
    let guard = stage.guards_process("cost-guarded", "last")?;
    let idle = memory(stage, &guard)?;
    for _ in 0..20 {
        stage.ask(&inside, "http://127.0.0.1:11434/api/chat", Some(&chat("leaky", "hello", true)), &[])?;
    }
    let used = memory(stage, &guard)?;
    let mut injector = 0;
    for process in injectors(stage)? {
        injector = injector.max(memory(stage, &process)?);
    }
    let admission = admission(stage)?;
    println!("    | | |\n    | --- | ---: |");
    println!("    | a pod's start until it is ready, median of {STARTS}: unguarded | {} ms |", plain.as_millis());
    println!("    | ... guarded | {} ms |", guarded.as_millis());
    println!("    | an admission of a pod, mean | {:.1} ms |", admission * 1e3);
    println!("    | memory of a guard, own: idle | {idle} KiB |");
    println!("    | ... after 20 streams | {used} KiB |");
    println!("    | memory of an injector, own | {injector} KiB |");
    ensure(idle < 32 * 1024 && injector < 128 * 1024, || format!("{idle} and {injector} KiB"))?;
    ensure(admission < 1.0, || format!("an admission takes {admission} s"))
}

fn pod(namespace: &str, name: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: ollama
    image: localhost/ollama:test
    imagePullPolicy: Never
    env: [{{name: OLLAMA_MODELS, value: /models}}]
    ports: [{{containerPort: 11434}}]
    startupProbe: {{httpGet: {{path: /, port: 11434}}, periodSeconds: 1, failureThreshold: 60}}
"
    )
}

/// The median time from creation to readiness, of pods that start one after the other.
fn starts(stage: &Stage, namespace: &str) -> Result<Duration, String> {
    let mut times = Vec::new();
    for number in 0..STARTS {
        let name = format!("start-{number}");
        let began = Instant::now();
        stage.apply(&pod(namespace, &name))?;
        eventually(&name, Duration::from_mins(1), || {
            let ready = stage.kubectl(&format!("-n {namespace} get pod {name} -o jsonpath={{.status.containerStatuses[0].started}}"))?;
            ensure(ready == "true", || ready)
        })?;
        times.push(began.elapsed());
        stage.kubectl(&format!("-n {namespace} delete pod {name} --force --grace-period=0"))?;
    }
    times.sort();
    Ok(times[times.len() / 2])
}

/// The anonymous memory of a process, in KiB.
fn memory(stage: &Stage, process: &str) -> Result<u64, String> {
    let status = stage.on_node(&["cat", &format!("/proc/{process}/status")])?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).ok_or("no RssAnon")?;
    line.trim().trim_end_matches(" kB").parse().map_err(|error| format!("{error}: {line}"))
}

/// The injectors' processes.
fn injectors(stage: &Stage) -> Result<Vec<String>, String> {
    let find = "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -q '^/llm-guard-injector serve' && echo ${p#/proc/}; done; true";
    let processes: Vec<String> = stage.on_node(&["sh", "-c", find])?.lines().map(str::to_owned).collect();
    if processes.is_empty() { Err("no injector runs".into()) } else { Ok(processes) }
}

/// The mean time of the injectors' reviews of pods, in seconds.
fn admission(stage: &Stage) -> Result<f64, String> {
    let (mut sum, mut count) = (0.0, 0.0);
    for pod in stage.pods("llm-guard-system", "app.kubernetes.io/component=injector")? {
        let name = pod.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let page = stage.kubectl(&format!("get --raw /api/v1/namespaces/llm-guard-system/pods/{name}:8080/proxy/metrics"))?;
        let samples =
            page.lines().filter(|line| line.starts_with("llm_guard_injector_review_duration_seconds") && line.contains("webhook=\"pods\""));
        for line in samples {
            let value: f64 = line.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or_default();
            match line.split('{').next().unwrap_or_default() {
                name if name.ends_with("_sum") => sum += value,
                name if name.ends_with("_count") => count += value,
                _ => {}
            }
        }
    }
    if count > 0.0 { Ok(sum / count) } else { Err("no review was counted".into()) }
}
