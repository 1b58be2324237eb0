//! A real Prometheus, in a pod of the monitoring namespace, says what happened; one elsewhere doesn't get at it.

use std::time::Duration;

use serde_json::Value;

use crate::kit::{MONITORING, Place, Scene, Stage, chat, ensure, eventually};
use crate::manifests::{self, Ollama};

fn prometheus(namespace: &str, target: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: ConfigMap
metadata: {{name: prometheus, namespace: {namespace}}}
data:
  prometheus.yml: |
    global: {{scrape_interval: 1s, scrape_timeout: 1s}}
    scrape_configs:
    - job_name: llm-guard
      static_configs: [{{targets: ['{target}:15435']}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: prometheus, namespace: {namespace}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: prometheus
    image: localhost/prometheus:test
    imagePullPolicy: Never
    args: ['--config.file=/etc/prometheus/prometheus.yml', '--storage.tsdb.path=/data', '--web.listen-address=:9090']
    readinessProbe: {{httpGet: {{path: /-/ready, port: 9090}}, periodSeconds: 1}}
    volumeMounts: [{{name: config, mountPath: /etc/prometheus}}, {{name: data, mountPath: /data}}]
  volumes: [{{name: config, configMap: {{name: prometheus}}}}, {{name: data, emptyDir: {{}}}}]
"
    )
}

fn query(stage: &Stage, namespace: &str, expression: &str) -> Result<Vec<Value>, String> {
    let url = format!("/api/v1/namespaces/{namespace}/pods/prometheus:9090/proxy/api/v1/query?query={expression}");
    let said: Value = serde_json::from_str(&stage.kubectl(&format!("get --raw {url}"))?).map_err(|error| error.to_string())?;
    Ok(said.pointer("/data/result").and_then(Value::as_array).cloned().unwrap_or_default())
}

pub(crate) fn prometheus_says_what_happened(stage: &Stage) -> Scene {
    let namespace = "watched";
    stage.apply(&format!(
        "{}{}{}{}",
        manifests::namespace(namespace, "llm-guard: enabled"),
        manifests::registry_for(namespace, stage),
        Ollama::non_root().deployment(namespace, 1, stage.registry_address()),
        manifests::client(namespace, "client")
    ))?;
    stage.kubectl("annotate namespace watched llm-guard.io/mode=hard")?;
    stage.rolled_out(namespace, "deployment/ollama")?;
    stage.ready(namespace, "client")?;
    let pod = stage.pod_of(namespace, "ollama")?;
    let address = stage.address(namespace, &pod)?;
    stage.apply(&format!(
        "{}{}{}",
        prometheus(MONITORING, &address),
        manifests::namespace("curious", ""),
        prometheus("curious", &address)
    ))?;
    for namespace in [MONITORING, "curious"] {
        stage.ready(namespace, "prometheus")?;
    }
    let client = Place::new(namespace, "client", "client");
    let url = format!("http://{address}:11434/api/chat");
    eventually("hard", Duration::from_secs(20), || {
        let reply = stage.ask(&client, &url, Some(&chat("calm", &stage.planted.injection, false)), &[])?;
        ensure(reply.status == 400, || format!("{reply:?}"))
    })?;
    stage.ask(&client, &url, Some(&chat("leaky", "hello", true)), &[])?;
    let value = |series: &[Value]| series.first().and_then(|it| it.pointer("/value/1")?.as_str()?.parse::<f64>().ok()).unwrap_or(0.0);
    eventually("Prometheus has both", Duration::from_secs(30), || {
        let violations =
            query(stage, MONITORING, "sum(llm_guard_violations_total%7Bcontrol=%22prompt_injection%22,action=%22blocked%22%7D)")?;
        let redactions = query(stage, MONITORING, "sum(llm_guard_redactions_total%7Bkind=%22GITHUB_TOKEN%22%7D)")?;
        ensure(value(&violations) >= 1.0 && value(&redactions) >= 1.0, || format!("{violations:?} {redactions:?}"))
    })?;
    // The other one runs as well, and its target stays dark.
    eventually("the other Prometheus has tried", Duration::from_secs(20), || {
        let up = query(stage, "curious", "up")?;
        ensure(!up.is_empty() && value(&up) < 0.5, || format!("{up:?}"))
    })?;
    ensure(query(stage, "curious", "llm_guard_violations_total")?.is_empty(), || "the curious one has the counters".into())
}
