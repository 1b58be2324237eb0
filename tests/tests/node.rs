//! A real node of Kubernetes: that it is one, and that what the guard is made of works in its pods.
//!
//! The invariant: each test first sees, where it can, that what it forbids is possible without what forbids it; so a closed
//! way is closed by that, and not by a test that looks in the wrong place.

use std::error::Error;
use std::time::Duration;

use llm_guard_tests::cluster::{Admission, Asked, Container, Namespace, Node, Request, Version, image, wait_until};
use llm_guard_tests::ollama::MODELS;
use llm_guard_tests::planted::Planted;
use serde_json::{Value, json};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// How long a pod may take. Its images are there.
const START: Duration = Duration::from_secs(90);

/// A model server as its image has it, unguarded.
fn model(name: &str, image_name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": false,
            "containers": [{
                "name": "model", "image": image(image_name), "imagePullPolicy": "Never",
                "env": [{"name": "OLLAMA_NO_CLOUD", "value": "1"}],
                "ports": [{"containerPort": 11434}],
                "readinessProbe": {"tcpSocket": {"port": 11434}, "periodSeconds": 1},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["SETUID", "SETGID", "NET_ADMIN", "NET_RAW"]}},
            }],
        },
    })
}

/// The same with the guard in front of it, as `backend` redirects: by hand, without an injector.
fn guarded(name: &str, image_name: &str, backend: &str) -> Value {
    let gid = "40001";
    let container = |name: &str, arguments: &[&str], security: Value| {
        let mut security = security;
        security["readOnlyRootFilesystem"] = json!(true);
        security["allowPrivilegeEscalation"] = json!(false);
        security["seccompProfile"] = json!({"type": "RuntimeDefault"});
        json!({"name": name, "image": image("llm-guard-sidecar"), "imagePullPolicy": "Never", "args": arguments, "securityContext": security})
    };
    // Legacy iptables opens a raw socket, and keeps a lock file.
    let capabilities = if backend == "legacy" { json!(["NET_ADMIN", "NET_RAW"]) } else { json!(["NET_ADMIN"]) };
    let mut init = container(
        "llm-guard-init",
        &["init", "--gid", gid, "--backend", backend],
        json!({"runAsUser": 0, "runAsGroup": 0, "capabilities": {"drop": ["ALL"], "add": capabilities}}),
    );
    if backend == "legacy" {
        init["volumeMounts"] = json!([{"name": "llm-guard-xtables", "mountPath": "/run"}]);
    }
    let verify = container(
        "llm-guard-verify",
        &["verify", "--gid", gid],
        json!({"runAsUser": 65534, "runAsGroup": 65534, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]}}),
    );
    let mut guard = container(
        "llm-guard",
        &["run", "--upstream", "http://127.0.0.1:11434", "--mode", "hard", "--listen", "[::]:15434", "--metrics-listen", "[::]:15435"],
        json!({"runAsUser": 11434, "runAsGroup": 40001, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]}}),
    );
    guard["restartPolicy"] = json!("Always");
    guard["startupProbe"] = json!({"httpGet": {"port": 15435, "path": "/healthz"}, "periodSeconds": 1, "failureThreshold": 30});
    let mut pod = model(name, image_name);
    pod["spec"]["volumes"] = json!([{"name": "llm-guard-xtables", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]);
    pod["spec"]["initContainers"] = json!([init, verify, guard]);
    // A guarded port takes no connection of the kubelet's that the guard doesn't take.
    pod["spec"]["containers"][0]["readinessProbe"] = json!({"httpGet": {"port": 11434, "path": "/api/version"}, "periodSeconds": 1});
    pod
}

/// What is asked of the model: an answer full of secrets, whatever the prompt.
fn chat(url: &str, planted: &Planted, stream: bool) -> Request {
    let prompt = format!("Tell me about {}", planted.prompt_marker);
    Request::post(
        format!("{url}/api/chat"),
        &json!({"model": "leaky", "stream": stream, "messages": [{"role": "user", "content": prompt}]}),
    )
}

#[test]
fn a_network_policy_closes_what_it_does_not_name() -> Result {
    let node = Node::shared("cluster")?;
    let inside = node.namespace("policy", &[], &[])?;
    let friends = node.namespace("friends", &[("team", "ml")], &[])?;
    inside.apply(
        &json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "server", "labels": {"app": "server"}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "server", "image": image("client"), "imagePullPolicy": "Never", "command": ["/bin/sh", "-c"],
                    "args": ["mkdir /tmp/www; echo here >/tmp/www/index.html; for p in 8080 9090; do busybox httpd -f -h /tmp/www -p $p & done; wait"],
                    "readinessProbe": {"tcpSocket": {"port": 9090}, "periodSeconds": 1},
                }],
            },
        })
        .to_string(),
    )?;
    inside.apply("{apiVersion: v1, kind: Service, metadata: {name: server}, spec: {selector: {app: server}, ports: [{name: a, port: 8080}, {name: b, port: 9090}]}}")?;
    let clients = [inside.client("friend", &[("role", "friend")])?, inside.client("stranger", &[])?, friends.client("visitor", &[])?];
    inside.wait_ready("server", START)?;
    let service = inside.json(&["service", "server"])?["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
    let addresses = [node.address(inside.name(), "server")?, service];
    // One line a client: the two ports of the pod, and the two of its service.
    let table = || -> std::io::Result<Vec<String>> {
        let reach = |client: &Container| {
            let mut line = format!("{}:", client.pod);
            for address in &addresses {
                for port in [8080, 9090] {
                    line.push_str(match node.ask(client, &Request::get(format!("http://{address}:{port}/")))? {
                        Asked::Answered(answer) if answer.text() == "here\n" => " open",
                        Asked::Silent => " silent",
                        other => return Err(std::io::Error::other(format!("{}: {other:?}", client.pod))),
                    });
                }
            }
            Ok(line)
        };
        clients.iter().map(reach).collect()
    };
    // The rules of a service's address may come a moment after its pod is ready.
    let open = ["friend: open open open open", "stranger: open open open open", "visitor: open open open open"];
    wait_until("all is open before the policy", START, || match table() {
        Ok(seen) if seen == open => Ok(()),
        seen => Err(format!("{seen:?}")),
    })?;
    inside.apply(
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: server}, spec: {podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress],
          ingress: [{from: [{podSelector: {matchLabels: {role: friend}}}, {namespaceSelector: {matchLabels: {team: ml}}}], ports: [{port: 9090}]}]}}",
    )?;
    let closed = ["friend: silent open silent open", "stranger: silent silent silent silent", "visitor: silent open silent open"];
    wait_until("the policy holds", START, || match table() {
        Ok(seen) if seen == closed => Ok(()),
        seen => Err(format!("{seen:?}")),
    })?;
    Ok(())
}

/// Everything that a test wants to know of a guard in a pod, however its rules are written.
fn the_guard_stands_before_the_model(backend: &str) -> Result {
    let node = Node::shared("cluster")?;
    let planted = Planted::read()?;
    let namespace = node.namespace(backend, &[], &[])?;
    namespace.apply(&model("bare", "ollama").to_string())?;
    namespace.apply(&guarded("guarded", "ollama", backend).to_string())?;
    let client = namespace.client("client", &[])?;
    namespace.wait_ready("bare", START)?;
    namespace.wait_ready("guarded", START)?;
    let url = |pod: &str| -> Result<String> { Ok(format!("http://{}:11434", node.address(namespace.name(), pod)?)) };
    let (bare, guarded) = (url("bare")?, url("guarded")?);

    let leaked = node.ask(&client, &chat(&bare, &planted, false))?.answered()?.json()?;
    assert_eq!(leaked["message"]["content"], planted.answer("leaky")?.as_str(), "the model leaks where no guard is");
    let model = namespace.container("guarded", "model");
    for (from, url) in
        [(&client, guarded.as_str()), (&model, "http://127.0.0.1:11434"), (&model, "http://[::1]:11434"), (&model, guarded.as_str())]
    {
        let told = node.ask(from, &chat(url, &planted, false))?.answered()?;
        assert_eq!(told.status, 200, "{url}: {}", told.text());
        assert_eq!(told.json()?["message"]["content"], planted.redacted_answer("leaky")?.as_str(), "{} by {url}", from.pod);
    }

    let stream = node.stream(&client, &chat(&guarded, &planted, true))?;
    let (first, head) = stream.line_with("\"message\"")?;
    assert!(head.iter().any(|line| line.text.starts_with("HTTP/1.1 200")), "{head:?}");
    let rest = stream.rest()?;
    assert!(
        rest.last().is_some_and(|line| line.text.contains("\"done\":true") && line.after > first.after),
        "it came line by line: {rest:?}"
    );

    let said = node.log(&namespace.container("guarded", "llm-guard"))?;
    assert!(said.lines().any(|line| line.contains("\"request_id\"")), "{said}");
    assert!(!node.log(&model)?.is_empty());
    // While the guard is gone, nobody takes its place.
    ended_by_its_node(&node, &namespace)?;
    Ok(())
}

/// Ends the guard from the node, where it is a process like any other, and asks at once.
fn ended_by_its_node(node: &Node, namespace: &Namespace<'_>) -> Result {
    let client = namespace.container("client", "client");
    let url = format!("http://{}:11434/api/version", node.address(namespace.name(), "guarded")?);
    let restarts = || -> std::io::Result<i64> {
        let pod = namespace.json(&["pod", "guarded"])?;
        let all = pod["status"]["initContainerStatuses"].as_array().cloned().unwrap_or_default();
        Ok(all.iter().filter(|one| one["name"] == "llm-guard").filter_map(|one| one["restartCount"].as_i64()).sum())
    };
    assert_eq!(restarts()?, 0);
    let pod = namespace.json(&["pod", "guarded"])?;
    let of = |one: &Value| one["name"] == "llm-guard";
    let id = pod["status"]["initContainerStatuses"]
        .as_array()
        .and_then(|all| all.iter().find(|one| of(one)))
        .map(|one| one["containerID"].to_string());
    let id = id.ok_or("the guard has no container")?.replace("containerd://", "").replace('"', "");
    node.kill(&id)?;
    // Refused, not answered: without the guard nobody listens where the rules lead.
    wait_until("the way is closed while the guard is gone, or it is back", START, || match node.ask(&client, &Request::get(&url)) {
        Ok(Asked::Refused) => Ok(()),
        Ok(Asked::Answered(answer)) if restarts().is_ok_and(|count| count > 0) && answer.status == 200 => Ok(()),
        seen => Err(format!("{seen:?}")),
    })?;
    wait_until("the guard is back", START, || match (restarts(), node.ask(&client, &Request::get(&url))) {
        (Ok(1..), Ok(Asked::Answered(answer))) if answer.status == 200 => Ok(()),
        seen => Err(format!("{seen:?}")),
    })?;
    Ok(())
}

#[test]
fn in_a_pod_whose_rules_are_written_by_nft_the_guard_stands_before_the_model() -> Result {
    the_guard_stands_before_the_model("nft")
}

#[test]
fn in_a_pod_whose_rules_are_written_by_legacy_iptables_the_guard_stands_before_the_model() -> Result {
    the_guard_stands_before_the_model("legacy")
}

#[test]
fn an_api_server_of_each_version_judges_pods_by_the_standards_of_their_namespace() -> Result {
    for (version, number) in [(Version::Current, "v1.34."), (Version::Next, "v1.36.")] {
        let server = Admission::start(version)?;
        let told: Value = serde_json::from_str(&server.kubectl(&["get", "--raw", "/version"])?)?;
        assert!(told["gitVersion"].as_str().is_some_and(|told| told.starts_with(number)), "{told}");
        let free = server.namespace("free", &[], &[])?;
        let restricted = server.namespace("restricted", &[("pod-security.kubernetes.io/enforce", "restricted")], &[])?;
        let mut pod = guarded("guarded", "ollama", "nft");
        pod["metadata"]["namespace"] = json!(free.name());
        server.apply(&pod.to_string())?;
        pod["metadata"]["namespace"] = json!(restricted.name());
        let refusal = server.refused(&pod.to_string())?;
        assert!(refusal.contains("violates PodSecurity") && refusal.contains("NET_ADMIN"), "{refusal}");
    }
    Ok(())
}

#[test]
fn the_images_of_the_model_server_run_as_those_they_say() -> Result {
    let node = Node::shared("cluster")?;
    let namespace = node.namespace("images", &[], &[])?;
    let images = [("ollama", "0"), ("ollama-user", "11434"), ("ollama-gosu", "11434")];
    for (name, _) in images {
        let mut pod = model(name, name);
        // What becomes of who drops privileges by itself, the guard's tests ask; here it may.
        pod["spec"]["containers"][0]["securityContext"] = Value::Null;
        namespace.apply(&pod.to_string())?;
    }
    for (name, uid) in images {
        namespace.wait_ready(name, START)?;
        let status = node.run(&namespace.container(name, "model"), &["/bin/busybox", "cat", "/proc/1/status"])?;
        let line = status.lines().find(|line| line.starts_with("Uid:")).unwrap_or_default();
        assert_eq!(line.split_whitespace().nth(1), Some(uid), "{name}: {status}");
        let models = node.ask(&namespace.container(name, "model"), &Request::get("http://127.0.0.1:11434/api/tags"))?.answered()?.json()?;
        let names = models["models"].as_array().into_iter().flatten().filter_map(|model| model["model"].as_str()?.strip_suffix(":latest"));
        let names: Vec<&str> = names.collect();
        assert!(MODELS.iter().all(|model| names.contains(model)), "{names:?}");
    }
    Ok(())
}
