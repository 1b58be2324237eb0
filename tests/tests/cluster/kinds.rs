//! Pods of other kinds: found by what they are, or beside what they serve, or done some day.

use std::time::Duration;

use serde_json::Value;

use crate::kit::{Place, Scene, Stage, chat, ensure, eventually};
use crate::manifests;

fn guarded(stage: &Stage, namespace: &str, pod: &str) -> Result<bool, String> {
    Ok(stage.object(namespace, &format!("pod/{pod}"))?.pointer("/metadata/labels/llm-guard.io~1guarded") == Some(&Value::from("true")))
}

/// One namespace's label, and pods that are model servers in several ways, or not at all.
pub(crate) fn found_by_the_namespace(stage: &Stage) -> Scene {
    let namespace = "found";
    let pod = |name: &str, rest: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}, annotations: {{llm-guard.io/mode: hard}}}}\nspec:\n  terminationGracePeriodSeconds: 2\n  containers:\n{rest}"
        )
    };
    let server =
        "  - {name: ollama, image: 'localhost/ollama:test', imagePullPolicy: Never, env: [{name: OLLAMA_MODELS, value: /models}]}\n";
    let agent = "  - {name: agent, image: 'localhost/client:test', imagePullPolicy: Never, env: [{name: OLLAMA_HOST, value: 'http://127.0.0.1:11434'}]}\n";
    let client = "  - {name: client, image: 'localhost/client:test', imagePullPolicy: Never, env: [{name: OLLAMA_HOST, value: 'http://ollama.found.svc:11434'}]}\n";
    let moved = "  - {name: ollama, image: 'localhost/ollama:test', imagePullPolicy: Never, env: [{name: OLLAMA_MODELS, value: /models}, {name: OLLAMA_HOST, value: '0.0.0.0:12000'}]}\n";
    stage.apply(&format!(
        "{}{}{}{}{}",
        manifests::namespace(namespace, "llm-guard: enabled"),
        // No port is declared, nothing is probed: the image says what it is.
        pod("silent", server),
        // Ollama beside an agent, which asks it over loopback alone.
        pod("agent", &format!("{server}{agent}")),
        pod("client", client),
        pod("moved", moved).replace("llm-guard.io/mode: hard", "llm-guard.io/mode: hard, llm-guard.io/port: '12000'"),
    ))?;
    for (name, is) in [("silent", true), ("agent", true), ("client", false), ("moved", true)] {
        ensure(guarded(stage, namespace, name)? == is, || format!("{name}: guarded should be {is}"))?;
        stage.ready(namespace, name)?;
    }
    let outside = Place::new(namespace, "client", "client");
    let (silent, moved) = (stage.address(namespace, "silent")?, stage.address(namespace, "moved")?);
    let beside = Place::new(namespace, "agent", "agent");
    let asked = [
        (&outside, format!("http://{silent}:11434")),
        (&outside, format!("http://{moved}:12000")),
        (&beside, "http://127.0.0.1:11434".to_owned()),
        (&beside, "http://[::1]:11434".to_owned()),
    ];
    for (from, base) in asked {
        eventually(&base, Duration::from_secs(30), || {
            let reply = stage.ask(from, &format!("{base}/api/chat"), Some(&chat("leaky", "hello", false)), &[])?;
            ensure(reply.status == 200 && reply.said().contains("[REDACTED_GITHUB_TOKEN]"), || format!("{base}: {reply:?}"))
        })?;
    }
    // Another port by OLLAMA_HOST than by annotation is refused with both numbers: see the refusals.
    Ok(())
}

/// A Job whose work is done ends, guard and all.
pub(crate) fn a_job_that_ends(stage: &Stage) -> Scene {
    let job = "---
apiVersion: batch/v1
kind: Job
metadata: {name: batch, namespace: jobs}
spec:
  backoffLimit: 0
  template:
    metadata: {labels: {llm-guard: enabled, app: batch}}
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 5
      initContainers:
      - {name: ollama, image: 'localhost/ollama:test', imagePullPolicy: Never, restartPolicy: Always, env: [{name: OLLAMA_MODELS, value: /models}], ports: [{containerPort: 11434}], startupProbe: {httpGet: {path: /, port: 11434}, periodSeconds: 1, failureThreshold: 60}}
      containers:
      - name: work
        image: localhost/client:test
        imagePullPolicy: Never
        command: [/bin/sh, -c, 'curl -sS -m 30 http://127.0.0.1:11434/api/chat -d ''{\"model\":\"leaky\",\"stream\":false,\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}'' | grep -c cassowary']
";
    stage.apply(&format!("{}{job}", manifests::namespace("jobs", "")))?;
    stage.kubectl("-n jobs wait --for=condition=Complete job/batch --timeout=90s").map_err(|error| {
        let pods = stage.kubectl("-n jobs describe pods").unwrap_or_default();
        format!("{error}\n{pods}")
    })?;
    let pod = stage.pod_of("jobs", "batch")?;
    ensure(guarded(stage, "jobs", &pod)?, || "the job's pod should be guarded".into())
}
