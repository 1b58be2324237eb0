//! What is refused, each with its words, on the pod and on its Deployment; and what is left alone.

use serde_json::Value;

use crate::kit::{Scene, Stage, ensure};
use crate::manifests;

/// A pod's template, with what stands in its way.
struct Case {
    name: &'static str,
    /// At the pod's level, indented by two.
    pod: &'static str,
    /// At the container's level, indented by four.
    container: &'static str,
    annotations: &'static str,
    /// What the refusal must say.
    says: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case { name: "host-network", pod: "hostNetwork: true", container: "", annotations: "", says: &["hostNetwork"] },
    Case { name: "privileged", pod: "", container: "securityContext: {privileged: true}", annotations: "", says: &["privileged"] },
    Case { name: "guards-user", pod: "", container: "securityContext: {runAsUser: 11434}", annotations: "", says: &["runAsUser", "11434"] },
    Case {
        name: "guards-user-of-pod",
        pod: "securityContext: {runAsUser: 11434}",
        container: "",
        annotations: "",
        says: &["securityContext.runAsUser", "11434"],
    },
    Case {
        name: "net-admin",
        pod: "",
        container: "securityContext: {capabilities: {add: [NET_ADMIN]}}",
        annotations: "",
        says: &["NET_ADMIN"],
    },
    Case {
        name: "setuid",
        pod: "",
        container: "securityContext: {capabilities: {add: [SETUID]}}",
        annotations: "",
        says: &["SETUID", "allow-setuid"],
    },
    Case {
        name: "sys-admin",
        pod: "",
        container: "securityContext: {capabilities: {add: [SYS_ADMIN]}}",
        annotations: "",
        says: &["SYS_ADMIN"],
    },
    Case {
        name: "sys-ptrace",
        pod: "",
        container: "securityContext: {capabilities: {add: [SYS_PTRACE]}}",
        annotations: "",
        says: &["SYS_PTRACE"],
    },
    Case { name: "all", pod: "", container: "securityContext: {capabilities: {add: [ALL]}}", annotations: "", says: &["ALL"] },
    Case {
        name: "other-port",
        pod: "",
        container: "env: [{name: OLLAMA_HOST, value: '0.0.0.0:8080'}]",
        annotations: "",
        says: &["8080", "11434"],
    },
    Case {
        name: "odd-key",
        pod: "",
        container: "",
        annotations: "llm-guard.io/mod: hard",
        says: &["llm-guard.io/mod", "llm-guard.io/mode"],
    },
    Case {
        name: "odd-mode",
        pod: "",
        container: "",
        annotations: "llm-guard.io/mode: strict",
        says: &["strict", "monitor", "soft", "hard"],
    },
    Case { name: "odd-port", pod: "", container: "", annotations: "llm-guard.io/port: '70000'", says: &["70000"] },
    // A GuardPolicy may be applied a moment after the workload that names it: there it is a warning.
    Case { name: "no-policy", pod: "", container: "", annotations: "llm-guard.io/policy: nowhere", says: &["nowhere"] },
    Case { name: "by-hand", pod: "", container: "", annotations: "llm-guard.io/settings: abc", says: &["llm-guard.io/settings"] },
    Case {
        name: "impostor",
        pod: "initContainers: [{name: llm-guard, image: 'localhost/client:test', restartPolicy: Always}]",
        container: "",
        annotations: "",
        says: &["llm-guard"],
    },
];

fn template(case: &Case, indent: usize) -> String {
    let lines = [
        format!("metadata: {{labels: {{app: x, llm-guard: enabled}}, annotations: {{{}}}}}", case.annotations),
        "spec:".to_owned(),
        if case.pod.is_empty() { String::new() } else { format!("  {}", case.pod) },
        "  containers:".to_owned(),
        "  - name: ollama".to_owned(),
        "    image: localhost/ollama:test".to_owned(),
        "    ports: [{containerPort: 11434}]".to_owned(),
        if case.container.is_empty() { String::new() } else { format!("    {}", case.container) },
    ];
    let indented = lines.iter().filter(|line| !line.is_empty()).map(|line| " ".repeat(indent) + line + "\n");
    indented.collect()
}

/// Each refusal, for the pod and for who applies the workload.
pub(crate) fn each_with_its_words(stage: &Stage) -> Scene {
    stage.apply(&manifests::namespace("refused", ""))?;
    for case in CASES {
        let pod = format!("apiVersion: v1\nkind: Pod\n{}", template(case, 0))
            .replace("metadata: {", &format!("metadata: {{name: {}, namespace: refused, ", case.name));
        let deployment = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {}, namespace: refused}}\nspec:\n  replicas: 1\n  selector: {{matchLabels: {{app: x}}}}\n  template:\n{}",
            case.name,
            template(case, 4)
        );
        for (kind, yaml) in [("pod", pod), ("deployment", deployment)] {
            let warned = case.name == "no-policy" && kind == "deployment";
            match stage.apply(&yaml) {
                Ok(said) if warned => {
                    ensure(case.says.iter().all(|word| said.contains(word)), || format!("{kind} {}: no warning: {said}", case.name))?;
                }
                Ok(said) => return Err(format!("{kind} {}: it was taken: {said}", case.name)),
                Err(said) => {
                    for word in case.says {
                        ensure(said.contains(word), || format!("{kind} {}: nothing of {word}: {said}", case.name))?;
                    }
                    ensure(said.contains("denied the request"), || format!("{kind} {}: {said}", case.name))?;
                }
            }
        }
    }
    Ok(())
}

/// A label of a wrong value, on a pod and on a namespace.
pub(crate) fn wrong_label(stage: &Stage) -> Scene {
    stage.apply(&manifests::namespace("wrong-label", ""))?;
    let pod = manifests::client("wrong-label", "a").replace("labels: {", "labels: {llm-guard: 'true', ");
    match stage.apply(&pod) {
        Err(said) if said.contains("llm-guard") && said.contains("enabled") => {}
        other => return Err(format!("llm-guard=true: {other:?}")),
    }
    stage.kubectl("label namespace wrong-label llm-guard=on")?;
    match stage.apply(&manifests::client("wrong-label", "b")) {
        Err(said) if said.contains("enabled") => Ok(()),
        other => Err(format!("a namespace with llm-guard=on: {other:?}")),
    }
}

/// A pod that nobody labelled is what it would be without an injector, byte for byte.
pub(crate) fn unlabelled(stage: &Stage) -> Scene {
    stage.apply(&format!("{}{}", manifests::namespace("untouched", ""), manifests::namespace("untouched-too", "llm-guard: enabled")))?;
    let plain = |namespace: &str| manifests::client(namespace, "plain");
    // One where no webhook is asked, one where it is and has nothing to do.
    stage.apply(&format!("{}{}", plain("untouched"), plain("untouched-too")))?;
    let spec = |namespace: &str| -> Result<(Value, Value), String> {
        let mut pod = stage.object(namespace, "pod/plain")?;
        // The name of the token's volume is drawn.
        let text = pod["spec"].to_string();
        let volume = pod.pointer("/spec/volumes/0/name").and_then(Value::as_str).unwrap_or("none").to_owned();
        let spec = text.replace(&volume, "token");
        let labels = pod["metadata"]["labels"].take();
        Ok((serde_json::from_str(&spec).unwrap_or_default(), labels))
    };
    let (one, other) = (spec("untouched")?, spec("untouched-too")?);
    ensure(one == other, || format!("{one:?} and {other:?}"))
}
