//! The manifests that the scenes apply, as a user would write them.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Duration;

use llm_guard_tests::cluster::{self, Node};
use serde_json::json;

use crate::kit::{MONITORING, Stage};

/// A namespace with labels, as they stand in YAML.
pub(crate) fn namespace(name: &str, labels: &str) -> String {
    format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{scene: {name}{}{labels}}}}}\n", comma(labels))
}

fn comma(rest: &str) -> &'static str {
    if rest.is_empty() { "" } else { ", " }
}

/// A pod that waits to be told what to ask.
pub(crate) fn client(namespace: &str, name: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{role: {name}}}}}
spec:
  terminationGracePeriodSeconds: 0
  securityContext: {{runAsNonRoot: true, runAsUser: 65534, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
  - name: client
    image: localhost/client:test
    imagePullPolicy: Never
    securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
"
    )
}

/// The certificate that makes the pod of the registry `registry.ollama.ai`, for the pods of a namespace.
pub(crate) fn registry_for(namespace: &str, stage: &Stage) -> String {
    let mut text =
        format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: registry, namespace: {namespace}}}\ndata:\n  ca.crt: |\n");
    for line in stage.registry_certificate().lines() {
        let _ = writeln!(text, "    {line}");
    }
    text
}

/// Ollama, as people deploy it.
#[derive(Clone, Debug)]
pub(crate) struct Ollama {
    image: &'static str,
    /// Of the pod.
    security: &'static str,
    /// Whether its model comes by a `postStart` hook.
    pulls: bool,
}

impl Ollama {
    /// As the official image runs: root, the runtime's own capabilities, and a hook that pulls what it serves.
    pub(crate) fn official() -> Self {
        Self { image: "ollama", security: "{}", pulls: true }
    }

    /// As those run it who want no root.
    pub(crate) fn non_root() -> Self {
        Self {
            image: "ollama",
            security: "{runAsNonRoot: true, runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000, seccompProfile: {type: RuntimeDefault}}",
            pulls: false,
        }
    }

    /// A Deployment and its Service.
    pub(crate) fn deployment(&self, namespace: &str, replicas: u32, registry: &str) -> String {
        let Self { image, security, pulls } = self;
        let (models, hook) = if *pulls {
            (
                "/root/pulled",
                "
        lifecycle:
          postStart:
            exec:
              command: [/bin/sh, -c, 'until ollama list; do sleep 0.2; done; for model in calm leaky; do ollama pull $model; done']",
            )
        } else {
            ("/models", "")
        };
        format!(
            "---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: ollama, namespace: {namespace}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: ollama}}}}
  template:
    metadata: {{labels: {{app: ollama}}}}
    spec:
      terminationGracePeriodSeconds: 20
      securityContext: {security}
      hostAliases: [{{ip: {registry}, hostnames: [registry.ollama.ai]}}]
      containers:
      - name: ollama
        image: localhost/{image}:test
        imagePullPolicy: Never
        ports: [{{name: http, containerPort: 11434}}]
        env:
        - {{name: SSL_CERT_FILE, value: /registry/ca.crt}}
        - {{name: OLLAMA_MODELS, value: {models}}}
        - {{name: HOME, value: /tmp}}
        readinessProbe: {{httpGet: {{path: /api/version, port: http}}, periodSeconds: 1}}
        livenessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 5}}
        volumeMounts: [{{name: registry, mountPath: /registry, readOnly: true}}]{hook}
      volumes: [{{name: registry, configMap: {{name: registry}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: ollama, namespace: {namespace}}}
spec: {{selector: {{app: ollama}}, ports: [{{name: http, port: 11434, targetPort: http}}]}}
"
        )
    }
}

/// Starts the registry; the certificate of its authority, and its address.
pub(crate) fn registry(node: &Node) -> Result<(String, String), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let program = cluster::made().join("registry");
    let made = Command::new(&program).arg("certificate").arg(folder.path()).status();
    if !made.is_ok_and(|status| status.success()) {
        return Err(format!("{} makes no certificate", program.display()));
    }
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).map_err(|error| error.to_string());
    let (authority, certificate, key) = (read("ca.crt")?, read("tls.crt")?, read("tls.key")?);
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls", "namespace": "registry"},
        "stringData": {"tls.crt": certificate, "tls.key": key},
    });
    let rest = format!(
        "{}---\n{secret}\n{}{}",
        namespace("registry", ""),
        namespace(MONITORING, ""),
        "---
apiVersion: v1
kind: Pod
metadata: {name: registry, namespace: registry, labels: {app: registry}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: registry
    image: localhost/registry:test
    imagePullPolicy: Never
    args: [serve, /models, /keys]
    readinessProbe: {tcpSocket: {port: 8443}, periodSeconds: 1}
    volumeMounts: [{name: keys, mountPath: /keys, readOnly: true}]
  volumes: [{name: keys, secret: {secretName: tls}}]
---
apiVersion: v1
kind: Service
metadata: {name: registry, namespace: registry}
spec: {selector: {app: registry}, ports: [{port: 443, targetPort: 8443}]}
"
    );
    let text = |error: std::io::Error| error.to_string();
    node.apply(&rest).map_err(text)?;
    node.wait_ready("registry", "registry", Duration::from_mins(1)).map_err(text)?;
    let address = node.kubectl(&["-n", "registry", "get", "service", "registry", "-o", "jsonpath={.spec.clusterIP}"]).map_err(text)?;
    Ok((authority, address))
}
