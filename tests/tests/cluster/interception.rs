//! The other ways to stand in front of a port: `port` interception, and legacy iptables.

use serde_json::{Value, json};

use crate::kit::{Place, Scene, Stage, chat, ensure};
use crate::manifests;

/// An Ollama that a namespace of this Pod Security level takes.
fn pod(namespace: &str, level: &str) -> String {
    let (of_pod, of_container) = if level == "restricted" {
        (
            "{runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}",
            "{allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}",
        )
    } else {
        ("{}", "{}")
    };
    format!(
        "---
apiVersion: v1
kind: Pod
metadata: {{name: ollama, namespace: {namespace}, labels: {{app: ollama}}, annotations: {{llm-guard.io/mode: hard}}}}
spec:
  terminationGracePeriodSeconds: 5
  securityContext: {of_pod}
  containers:
  - name: ollama
    image: localhost/ollama:test
    imagePullPolicy: Never
    ports: [{{containerPort: 11434}}]
    env: [{{name: OLLAMA_MODELS, value: /models}}, {{name: HOME, value: /tmp}}]
    securityContext: {of_container}
    readinessProbe: {{httpGet: {{path: /, port: 11434}}, periodSeconds: 1}}
    livenessProbe: {{tcpSocket: {{port: 11434}}, periodSeconds: 5}}
---
apiVersion: v1
kind: Service
metadata: {{name: ollama, namespace: {namespace}}}
spec: {{selector: {{app: ollama}}, ports: [{{port: 11434}}]}}
"
    )
}

fn by_port(stage: &Stage, level: &str) -> Scene {
    let namespace = format!("psa-{level}");
    let labels = format!("llm-guard: enabled, pod-security.kubernetes.io/enforce: {level}");
    stage.apply(&format!(
        "{}{}{}",
        manifests::namespace(&namespace, &labels),
        pod(&namespace, level),
        manifests::client(&namespace, "client")
    ))?;
    stage.ready(&namespace, "ollama")?;
    stage.ready(&namespace, "client")?;
    let made = stage.object(&namespace, "pod/ollama")?;
    let init: Vec<&str> = made
        .pointer("/spec/initContainers")
        .and_then(Value::as_array)
        .map(|containers| containers.iter().filter_map(|container| container["name"].as_str()).collect())
        .unwrap_or_default();
    ensure(init == ["llm-guard"], || format!("by port there is the guard alone: {init:?}"))?;
    let client = Place::new(&namespace, "client", "client");
    let url = format!("http://{}:11434", stage.service(&namespace, "ollama")?);
    // A loopback Ollama checks Host; behind the guard clients may call it as they always did.
    for host in ["ollama:11434", "ollama.psa.svc.cluster.local:11434", "10.1.2.3:11434", "example.test"] {
        let header = format!("Host: {host}");
        let reply = stage.ask(&client, &format!("{url}/api/version"), None, &["-H", &header])?;
        ensure(reply.status == 200, || format!("{host}: {reply:?}"))?;
        let reply = stage.ask(&client, &format!("{url}/api/chat"), Some(&chat("leaky", "hello", true)), &["-H", &header])?;
        ensure(reply.status == 200 && reply.said().contains("[REDACTED_GITHUB_TOKEN]"), || format!("{host}: {reply:?}"))?;
    }
    let refused = stage.ask(&client, &format!("{url}/api/chat"), Some(&chat("calm", &stage.planted.injection, false)), &[])?;
    ensure(refused.status == 400, || format!("{refused:?}"))?;
    // Nobody but the pod itself reaches the port to which the model moved.
    let address = stage.address(&namespace, "ollama")?;
    ensure(!stage.reaches(&client, &address, 11435), || "11435 is reached from outside".into())
}

pub(crate) fn baseline(stage: &Stage) -> Scene {
    by_port(stage, "baseline")
}

pub(crate) fn restricted(stage: &Stage) -> Scene {
    by_port(stage, "restricted")
}

/// A node that has only legacy iptables: the chart's `interception.legacy`.
pub(crate) fn legacy(stage: &Stage) -> Scene {
    stage.install(json!({"interception": {"legacy": true}}))?;
    let pod = pod("legacy", "privileged").replace("labels: {app: ollama}", "labels: {app: ollama, llm-guard: enabled}");
    stage.apply(&format!("{}{}{}", manifests::namespace("legacy", ""), pod, manifests::client("legacy", "client")))?;
    stage.ready("legacy", "ollama")?;
    stage.ready("legacy", "client")?;
    let made = stage.object("legacy", "pod/ollama")?;
    ensure(made.to_string().contains("\"legacy\""), || format!("the backend should be legacy: {made}"))?;
    let client = Place::new("legacy", "client", "client");
    let inside = Place::new("legacy", "ollama", "ollama");
    let address = stage.address("legacy", "ollama")?;
    for (from, host) in [(&client, address.as_str()), (&inside, &address), (&inside, "127.0.0.1"), (&inside, "[::1]")] {
        let reply = stage.ask(from, &format!("http://{host}:11434/api/chat"), Some(&chat("leaky", "hello", false)), &[])?;
        ensure(reply.said().contains("[REDACTED_GITHUB_TOKEN]"), || format!("{host}: {reply:?}"))?;
    }
    Ok(())
}
