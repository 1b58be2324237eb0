//! What is refused, each with its words, on the pod and on its Deployment; and what is left alone.
//!
//! Of the injector's obstacles one can't be met here: a pod that it can't read, for the API server has read it before.

use std::time::Duration;

use llm_guard_tests::cluster::Node;
use serde_json::{Value, json};

use crate::kit::{Scene, Stage, ensure, eventually};
use crate::manifests;

/// What stands in a pod's way.
struct Case {
    name: &'static str,
    /// The namespace, of [`NAMESPACES`].
    namespace: &'static str,
    /// What is put into the pod: where, as a JSON pointer, and the value as JSON.
    put: &'static [(&'static str, &'static str)],
    /// What the refusal must say.
    says: &'static [&'static str],
}

/// The namespaces, with their labels and annotations.
const NAMESPACES: [(&str, &str, &str); 5] = [
    ("refused", "", ""),
    ("refused-baseline", "pod-security.kubernetes.io/enforce: baseline", ""),
    ("refused-restricted", "pod-security.kubernetes.io/enforce: restricted", ""),
    ("refused-floor", "llm-guard: enabled", "llm-guard.io/minimum-mode: soft"),
    ("refused-label", "llm-guard: enabled", ""),
];

const fn case(name: &'static str, put: &'static [(&'static str, &'static str)], says: &'static [&'static str]) -> Case {
    Case { name, namespace: "refused", put, says }
}

const fn there(
    name: &'static str,
    namespace: &'static str,
    put: &'static [(&'static str, &'static str)],
    says: &'static [&'static str],
) -> Case {
    Case { name, namespace, put, says }
}

const SECURITY: &str = "/spec/containers/0/securityContext";
const ENV: &str = "/spec/containers/0/env";
const PORTS: &str = "/spec/containers/0/ports";
const IMAGE: &str = "/spec/containers/0/image";

#[rustfmt::skip]
const CASES: &[Case] = &[
    // Keys.
    case("label", &[("/metadata/labels/llm-guard", r#""true""#)], &["metadata.labels[llm-guard]", "'true'", "enabled and disabled"]),
    there("namespaces-label", "refused-label", &[], &["namespace", "'on'", "enabled"]),
    case("label-for-annotation", &[("/metadata/labels/llm-guard.io~1mode", r#""hard""#)], &["annotation, not a label"]),
    case("odd-key", &[("/metadata/annotations/llm-guard.io~1mod", r#""hard""#)], &["llm-guard.io/mod]", "nearest", "llm-guard.io/mode"]),
    case("elsewhere", &[("/metadata/annotations/llm-guard.io~1stop", r#""true""#)], &["llm-guard.io/stop", "belongs on the workload, or the namespace"]),
    case("by-hand", &[("/metadata/annotations/llm-guard.io~1settings", r#""abc""#)], &["llm-guard.io/settings", "written by the injector alone"]),
    case("guarded-by-hand", &[("/metadata/labels/llm-guard.io~1guarded", r#""true""#)], &["llm-guard.io/guarded", "written by the injector alone"]),
    case("odd-mode", &[("/metadata/annotations/llm-guard.io~1mode", r#""strict""#)], &["'strict'", "monitor, soft or hard"]),
    case("odd-port", &[("/metadata/annotations/llm-guard.io~1port", r#""70000""#)], &["'70000'", "from 1 to 65535"]),
    case("odd-interception", &[("/metadata/annotations/llm-guard.io~1interception", r#""ebpf""#)], &["'ebpf'", "iptables or port"]),
    case("odd-quantity", &[("/metadata/annotations/llm-guard.io~1resources-memory-limit", r#""much""#)], &["'much'", "quantity above zero"]),
    case("odd-open-ports", &[("/metadata/annotations/llm-guard.io~1open-ports", r#""80;81""#)], &["'80;81'", "with commas between them"]),
    case("odd-policy", &[("/metadata/annotations/llm-guard.io~1policy", r#""No Name""#)], &["'No Name'", "name of a GuardPolicy"]),
    there("under-a-floor", "refused-floor", &[("/metadata/labels/llm-guard", r#""disabled""#)], &["llm-guard.io/minimum-mode: soft", "no pod is exempt"]),
    // The pod.
    case("host-network", &[("/spec/hostNetwork", "true")], &["spec.hostNetwork", "node's network"]),
    case("host-pid", &[("/spec/hostPID", "true")], &["spec.hostPID", "node's processes"]),
    case("mirror", &[("/metadata/annotations/kubernetes.io~1config.mirror", r#""x""#)], &["mirrors a static one"]),
    case("windows", &[("/spec/os", r#"{"name": "windows"}"#)], &["spec.os.name", "need Linux"]),
    case("windows-nodes", &[("/spec/nodeSelector", r#"{"kubernetes.io/os": "windows"}"#)], &["spec.nodeSelector[kubernetes.io/os]", "need Linux"]),
    case("guards-user-of-pod", &[("/spec/securityContext", r#"{"runAsUser": 11434}"#)], &["spec.securityContext.runAsUser", "the guard's own user"]),
    case("impostor", &[("/spec/initContainers", r#"[{"name": "llm-guard", "image": "localhost/client:test", "restartPolicy": "Always"}]"#)],
        &["spec.initContainers[0].name", "begin with llm-guard are the injector's"]),
    case("volume", &[("/spec/volumes", r#"[{"name": "llm-guard-run", "emptyDir": {}}]"#),
        ("/spec/containers/0/volumeMounts", r#"[{"name": "llm-guard-run", "mountPath": "/x"}]"#)],
        &["spec.volumes[0].name", "begin with llm-guard are the injector's", "spec.containers[0].volumeMounts[0].name", "this volume is the guard's own"]),
    case("runtimes-socket", &[("/spec/volumes", r#"[{"name": "x", "hostPath": {"path": "/var/run/containerd/containerd.sock"}}]"#)],
        &["spec.volumes[0].hostPath.path", "leads to /run/containerd of the node"]),
    case("no-such-port", &[(IMAGE, r#""localhost/client:test""#), (PORTS, r#"[{"containerPort": 8080}]"#), ("/metadata/annotations/llm-guard.io~1port", r#""9090""#)],
        &["nothing shows that the model listens on port 9090", "8080"]),
    // Containers.
    case("privileged", &[(SECURITY, r#"{"privileged": true}"#)], &["securityContext.privileged", "change the rules"]),
    case("guards-user", &[(SECURITY, r#"{"runAsUser": 11434}"#)], &["spec.containers[0].securityContext.runAsUser", "the guard's own user"]),
    case("net-admin", &[(SECURITY, r#"{"capabilities": {"add": ["NET_ADMIN"]}}"#)], &["with NET_ADMIN", "step around"]),
    case("net-raw", &[(SECURITY, r#"{"capabilities": {"add": ["NET_RAW"]}}"#)], &["with NET_RAW", "step around"]),
    case("sys-admin", &[(SECURITY, r#"{"capabilities": {"add": ["SYS_ADMIN"]}}"#)], &["with SYS_ADMIN", "step around"]),
    case("sys-ptrace", &[(SECURITY, r#"{"capabilities": {"add": ["SYS_PTRACE"]}}"#)], &["with SYS_PTRACE", "step around"]),
    case("all", &[(SECURITY, r#"{"capabilities": {"add": ["ALL"]}}"#)], &["with ALL", "step around"]),
    case("setuid", &[(SECURITY, r#"{"capabilities": {"add": ["SETUID"]}}"#)], &["with SETUID", "become the guard's user", "allow-setuid"]),
    case("setgid", &[(SECURITY, r#"{"capabilities": {"add": ["SETGID"]}}"#)], &["with SETGID", "become the guard's user", "allow-setuid"]),
    case("escalation", &[(SECURITY, r#"{"allowPrivilegeEscalation": true}"#)], &["allowPrivilegeEscalation", "a setuid program", "allow-setuid"]),
    case("proc-mount", &[(SECURITY, r#"{"procMount": "Unmasked"}"#), ("/spec/hostUsers", "false")], &["securityContext.procMount", "without the masks"]),
    case("guards-port", &[(PORTS, r#"[{"containerPort": 11434}, {"containerPort": 15435}]"#)], &["ports[1].containerPort", "15435 is the guard's own port"]),
    case("other-port", &[(ENV, r#"[{"name": "OLLAMA_HOST", "value": "0.0.0.0:8080"}]"#)], &["says port 8080", "port 11434"]),
    case("default-port", &[(PORTS, r#"[{"containerPort": 9090}]"#), ("/metadata/annotations/llm-guard.io~1port", r#""9090""#)],
        &["without OLLAMA_HOST", "11434", "port 9090"]),
    case("other-server", &[("/spec/containers/1", r#"{"name": "vllm", "image": "vllm/vllm-openai:latest", "ports": [{"containerPort": 8000}]}"#)],
        &["declares 8000", "port 11434 alone", "open-ports"]),
    there("open-under-a-floor", "refused-floor", &[("/spec/containers/1", r#"{"name": "vllm", "image": "vllm/vllm-openai:latest", "ports": [{"containerPort": 8000}]}"#),
        ("/metadata/annotations/llm-guard.io~1open-ports", r#""8000""#)], &["8000 is a model server's", "minimum-mode: soft"]),
    case("grpc-probe", &[("/spec/containers/0/livenessProbe", r#"{"grpc": {"port": 11434}}"#)], &["livenessProbe.grpc", "gRPC probe"]),
    case("https-probe", &[("/spec/containers/0/readinessProbe", r#"{"httpGet": {"port": 11434, "scheme": "HTTPS"}}"#)],
        &["readinessProbe.httpGet.scheme", "plain HTTP"]),
    case("no-container", &[("/metadata/annotations/llm-guard.io~1allow-setuid", r#""nobody""#)], &["no container of this name: nobody"]),
    case("above-the-limit", &[("/metadata/annotations/llm-guard.io~1resources-memory-request", r#""1Gi""#),
        ("/metadata/annotations/llm-guard.io~1resources-memory-limit", r#""64Mi""#)], &["resources-memory-request", "above the limit"]),
    // Modes and settings.
    case("more-than-monitor", &[("/metadata/annotations/llm-guard.io~1allow-setuid", r#""ollama""#), ("/metadata/annotations/llm-guard.io~1mode", r#""hard""#)],
        &["stays in monitor", "asks for hard"]),
    // A GuardPolicy may be applied a moment after the workload that names it: there it is a warning.
    case(NO_POLICY, &[("/metadata/annotations/llm-guard.io~1policy", r#""nowhere""#)], &["nowhere"]),
    // Interception by port.
    there("iptables-in-baseline", "refused-baseline", &[("/metadata/annotations/llm-guard.io~1interception", r#""iptables""#)],
        &["Pod Security level is baseline", "write port"]),
    there("not-ollama", "refused-restricted", &[(IMAGE, r#""vllm/vllm-openai:latest""#)], &["image", "restricted", "only Ollama can be guarded"]),
    there("port-to-take", "refused-baseline", &[(PORTS, r#"[{"containerPort": 80}]"#), (ENV, r#"[{"name": "OLLAMA_HOST", "value": "0.0.0.0:80"}]"#),
        ("/metadata/annotations/llm-guard.io~1port", r#""80""#)], &["can't take 80", "from 1024 on"]),
];

const NO_POLICY: &str = "no-policy";

/// Of these the API server says so before anybody else, where it looks through a Deployment.
const KUBERNETES_ITSELF: [&str; 1] = ["mirror"];

/// A pod's template.
fn template(case: &Case) -> Value {
    let mut pod = json!({
        "metadata": {"labels": {"app": "x", "llm-guard": "enabled"}, "annotations": {}},
        "spec": {"containers": [{
            "name": "ollama", "image": "localhost/ollama:test", "imagePullPolicy": "Never", "ports": [{"containerPort": 11434}],
        }]},
    });
    for (pointer, value) in case.put {
        put(&mut pod, pointer, serde_json::from_str(value).expect("the table holds JSON"));
    }
    pod
}

/// Puts a value where a pointer leads, whose parent is there.
fn put(pod: &mut Value, pointer: &str, value: Value) {
    let (parent, last) = pointer.rsplit_once('/').expect("a pointer");
    match pod.pointer_mut(parent).expect("the parent is there") {
        Value::Object(object) => drop(object.insert(last.replace("~1", "/"), value)),
        Value::Array(items) => items.push(value),
        _ => unreachable!("only objects and arrays have members"),
    }
}

fn of_kind(kind: &str, name: &str, namespace: &str, template: &Value) -> Value {
    if kind == "pod" {
        let mut pod = template.clone();
        pod["apiVersion"] = "v1".into();
        pod["kind"] = "Pod".into();
        pod["metadata"]["name"] = name.into();
        pod["metadata"]["namespace"] = namespace.into();
        return pod;
    }
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "x"}}, "template": template},
    })
}

/// Whether somebody was refused by a webhook, with these words.
fn refused(what: &str, said: Result<String, String>, words: &[&str]) -> Scene {
    let said = match said {
        Ok(said) => return Err(format!("{what}: it was taken: {said}")),
        Err(said) => said,
    };
    ensure(said.contains("denied the request"), || format!("{what}: {said}"))?;
    words.iter().try_for_each(|word| ensure(said.contains(word), || format!("{what}: nothing of {word}: {said}")))
}

/// Each refusal, for the pod and for who applies the workload.
pub(crate) fn each_with_its_words(stage: &Stage) -> Scene {
    for (name, labels, annotations) in NAMESPACES {
        let text = manifests::namespace(name, labels).replace("metadata: {", &format!("metadata: {{annotations: {{{annotations}}}, "));
        stage.apply(&text)?;
    }
    for (change, words) in [
        ("label namespace refused llm-guard=on", ["'on'", "a namespace's is enabled"]),
        ("label namespace refused llm-guard=disabled", ["'disabled'", "a namespace's is enabled"]),
        ("annotate namespace refused llm-guard.io/minimum-mode=strict", ["'strict'", "monitor, soft or hard"]),
        ("annotate namespace refused llm-guard.io/port=80", ["llm-guard.io/port", "belongs on the pod"]),
    ] {
        refused(change, stage.kubectl(change), &words)?;
    }
    // A wrong label that was there before the injector: by way of the status nobody is asked.
    let patch = r#"{"metadata":{"labels":{"llm-guard":"on"}}}"#;
    stage.words(&["patch", "namespace", "refused-label", "--subresource=status", "--type=merge", "-p", patch])?;
    for case in CASES {
        let Case { name, namespace, says, .. } = case;
        let template = template(case);
        for kind in ["pod", "deployment"] {
            let what = format!("{kind} {name}");
            let said = stage.apply(&of_kind(kind, name, namespace, &template).to_string());
            if kind == "deployment" && *name == NO_POLICY {
                let said = said?;
                says.iter().try_for_each(|word| ensure(said.contains(word), || format!("{what}: no warning of {word}: {said}")))?;
            } else if kind == "deployment" && KUBERNETES_ITSELF.contains(name) {
                ensure(said.is_err(), || format!("{what}: it was taken"))?;
            } else {
                refused(&what, said, says)?;
            }
        }
    }
    let many: Vec<Value> = (0..501).map(|number| json!({"name": format!("c{number}"), "image": "localhost/client:test"})).collect();
    let mut crowd = template(&CASES[0]);
    crowd["metadata"]["labels"]["llm-guard"] = "enabled".into();
    crowd["spec"]["containers"] = many.into();
    for kind in ["pod", "deployment"] {
        let said = stage.apply(&of_kind(kind, "crowd", "refused", &crowd).to_string());
        refused(&format!("{kind} of many containers"), said, &["more than the 500 that are looked through"])?;
    }
    settled(stage)
}

/// What counted when the pod was made, and who bears the guard's name with another image.
fn settled(stage: &Stage) -> Scene {
    let plain = Case { name: "settled", namespace: "refused", put: &[], says: &[] };
    stage.apply(&of_kind("pod", "settled", "refused", &template(&plain)).to_string())?;
    for (change, words) in [
        ("annotate pod settled llm-guard.io/port=9090", ["llm-guard.io/port", "counted when the pod was made"]),
        ("annotate pod settled llm-guard.io/allow-setuid=ollama", ["llm-guard.io/allow-setuid", "counted when the pod was made"]),
        ("annotate pod settled llm-guard.io/settings=abc --overwrite", ["llm-guard.io/settings", "written by the injector alone"]),
        ("label pod settled llm-guard.io/guarded-", ["llm-guard.io/guarded", "counted when the pod was made"]),
        ("annotate pod settled llm-guard.io/mode=strict", ["'strict'", "monitor, soft or hard"]),
    ] {
        refused(change, stage.kubectl(&format!("-n refused {change}")), &words)?;
    }
    let mut pod = stage.object("refused", "pod/settled")?;
    let own = json!({"name": "other-image", "namespace": "refused", "labels": pod["metadata"]["labels"], "annotations": pod["metadata"]["annotations"]});
    pod["metadata"] = own;
    pod["status"] = Value::Null;
    pod["spec"]["nodeName"] = Value::Null;
    let containers = pod.pointer_mut("/spec/initContainers").and_then(Value::as_array_mut).ok_or("no init containers")?;
    let guard = containers.iter_mut().find(|container| container["name"] == "llm-guard").ok_or("no guard")?;
    guard["image"] = "localhost/client:test".into();
    refused("another image", stage.apply(&pod.to_string()), &["the guard's image is", "rewrites images"])
}

/// Objects that are none of the injector's business, as the API server answered to their creation. They are gone again.
pub(crate) fn untouched(node: &Node) -> Result<Vec<Value>, String> {
    let text = |error: std::io::Error| error.to_string();
    // In the second, webhooks are asked once there are any.
    let namespaces = [manifests::namespace("untouched", ""), manifests::namespace("untouched-too", "llm-guard: enabled")].concat();
    node.apply(&namespaces).map_err(text)?;
    let server = |namespace: &str, labels: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "server", "namespace": namespace, "labels": serde_json::from_str::<Value>(labels).unwrap_or_default()},
            "spec": {"containers": [{
                "name": "ollama", "image": "localhost/ollama:test", "imagePullPolicy": "Never", "ports": [{"containerPort": 11434}],
                "env": [{"name": "OLLAMA_HOST", "value": "0.0.0.0"}],
                "livenessProbe": {"httpGet": {"path": "/", "port": 11434}},
            }]},
        })
        .to_string()
    };
    let pods = [
        ("untouched", manifests::client("untouched", "plain"), "plain"),
        ("untouched", server("untouched", "{}"), "server"),
        ("untouched-too", manifests::client("untouched-too", "plain"), "plain"),
        ("untouched-too", server("untouched-too", r#"{"llm-guard": "disabled"}"#), "server"),
    ];
    let mut answers = Vec::new();
    for (namespace, manifest, name) in pods {
        // A namespace's service account comes a moment after it.
        let create = || node.kubectl_with(&["-n", namespace, "create", "-f", "-", "-o", "json"], &manifest).map_err(text);
        let (said, _) = eventually("the pod is made", Duration::from_secs(20), create)?;
        answers.push(without_what_is_drawn(&said)?);
        node.kubectl(&["-n", namespace, "delete", "pod", name, "--force", "--grace-period=0"]).map_err(text)?;
    }
    Ok(answers)
}

/// An answer without what no two creations have in common: the object's id, version and times, and the name of the token's volume.
fn without_what_is_drawn(said: &str) -> Result<Value, String> {
    let mut pod: Value = serde_json::from_str(said).map_err(|error| error.to_string())?;
    let volume = pod.pointer("/spec/volumes/0/name").and_then(Value::as_str).ok_or("no volume of a token")?.to_owned();
    for drawn in ["uid", "resourceVersion", "creationTimestamp"] {
        ensure(pod["metadata"][drawn].take().is_string(), || format!("{drawn}: {said}"))?;
    }
    serde_json::from_str(&pod.to_string().replace(&volume, "token")).map_err(|error| error.to_string())
}

/// A pod that nobody labelled is what it was before there was an injector, byte for byte.
pub(crate) fn unlabelled(stage: &Stage) -> Scene {
    let now = untouched(&stage.node)?;
    ensure(now == stage.before, || format!("with the injector: {now:?}\nwithout: {:?}", stage.before))?;
    // The same pod, labelled, isn't: so there is something that could have touched these.
    let guarded = manifests::namespace("touched", "llm-guard: enabled");
    stage.apply(&guarded)?;
    let pod = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "server", "namespace": "touched"}, "spec": {"containers": [
        {"name": "ollama", "image": "localhost/ollama:test", "imagePullPolicy": "Never", "ports": [{"containerPort": 11434}]}]}}"#;
    stage.apply(pod)?;
    let made = stage.object("touched", "pod/server")?;
    ensure(made.pointer("/metadata/labels/llm-guard.io~1guarded") == Some(&Value::from("true")), || made.to_string())
}
