//! Beginnings and ends: a stream under a deletion, an injector that is gone, a model that is dead; and what the guard itself may do.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::{Place, Scene, Stage, chat, ensure, eventually};
use crate::manifests::{self, Ollama};

fn deploy(stage: &Stage, namespace: &str) -> Scene {
    stage.apply(&format!(
        "{}{}{}{}",
        manifests::namespace(namespace, "llm-guard: enabled, "),
        manifests::registry_for(namespace, stage),
        // However slow the machine is, a stream of these scenes ends in this time.
        Ollama::non_root()
            .deployment(namespace, 1, stage.registry_address())
            .replace("terminationGracePeriodSeconds: 20", "terminationGracePeriodSeconds: 120"),
        manifests::client(namespace, "client")
    ))?;
    stage.rolled_out(namespace, "deployment/ollama")?;
    stage.ready(namespace, "client")
}

/// A pod that is deleted lets its streams end.
pub(crate) fn deleted_in_mid_stream(stage: &Stage) -> Scene {
    deploy(stage, "ending")?;
    stage.kubectl("-n ending annotate deployment/ollama llm-guard.io/mode=hard")?;
    let pod = stage.pod_of("ending", "ollama")?;
    let url = format!("http://{}:11434/api/chat", stage.address("ending", &pod)?);
    in_mid_stream(stage, "ending", &url, &format!("-n ending delete pod {pod} --wait=false"))
}

/// Has `kubectl` do something while a stream runs, which must end as it would have.
fn in_mid_stream(stage: &Stage, namespace: &str, url: &str, kubectl: &str) -> Scene {
    let body =
        json!({"model": "endless", "messages": [{"role": "user", "content": "hello"}], "options": {"num_predict": 1500}}).to_string();
    let client = Place::new(namespace, "client", "client");
    thread::scope(|scope| {
        let stream = scope.spawn(|| stage.ask(&client, url, Some(&body), &[]));
        eventually("the stream runs", Duration::from_secs(20), || {
            let open = stage.guards_metric(namespace, "ollama", "llm_guard_streams_open")?;
            ensure(open.trim().ends_with(" 1"), || open)
        })?;
        stage.kubectl(kubectl)?;
        let reply = stream.join().map_err(|_| "the client fell".to_owned())??;
        let last: Value = reply.body.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        ensure(reply.status == 200 && last["done"] == true, || format!("the stream ended with {last}"))?;
        ensure(last["eval_count"] == 1500, || format!("the stream is whole: {last}"))
    })
}

/// The injector may go: guards guard, and come back without it.
pub(crate) fn injector_gone(stage: &Stage) -> Scene {
    deploy(stage, "alone")?;
    stage.kubectl("-n alone annotate deployment/ollama llm-guard.io/mode=hard")?;
    let pod = stage.pod_of("alone", "ollama")?;
    eventually("hard", Duration::from_secs(20), || {
        let said = stage.guards_settings("alone", &pod)?;
        ensure(said["mode"] == "hard", || said.to_string())
    })?;
    let client = Place::new("alone", "client", "client");
    let url = format!("http://{}:11434/api/chat", stage.service("alone", "ollama")?);
    let kill = "-n llm-guard-system delete pod -l app.kubernetes.io/name=llm-guard-injector --force --grace-period=0";
    in_mid_stream(stage, "alone", &url, kill)?;
    let reply = stage.ask(&client, &url, Some(&chat("calm", &stage.planted.injection, false)), &[])?;
    ensure(reply.status == 400, || format!("{reply:?}"))?;
    // The next one takes over where the first ended.
    stage.rolled_out("llm-guard-system", "deployment/llm-guard-injector")?;
    stage.kubectl("-n alone annotate deployment/ollama llm-guard.io/mode=soft --overwrite")?;
    eventually("soft", Duration::from_secs(30), || {
        let said = stage.guards_settings("alone", &pod)?;
        ensure(said["mode"] == "soft", || said.to_string())
    })?;
    Ok(())
}

/// A liveness probe fails exactly when the model is dead, also under a stop and in `hard`.
pub(crate) fn liveness(stage: &Stage) -> Scene {
    // The server is a child of the shell, so that it can be stopped and the container lives.
    let pod = "---
apiVersion: v1
kind: Pod
metadata: {name: probed, namespace: probed, labels: {llm-guard: enabled, app: probed}, annotations: {llm-guard.io/mode: hard, llm-guard.io/port: '11434'}}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - name: ollama
    image: localhost/ollama:test
    imagePullPolicy: Never
    command: [/bin/sh, -c, '/bin/ollama serve & echo $! >/tmp/pid; wait; sleep 1000']
    env: [{name: OLLAMA_MODELS, value: /models}]
    ports: [{containerPort: 11434}]
    readinessProbe: {httpGet: {path: /, port: 11434}, periodSeconds: 1}
    livenessProbe: {tcpSocket: {port: 11434}, periodSeconds: 1, failureThreshold: 3, initialDelaySeconds: 5}
";
    stage.apply(&format!("{}{pod}", manifests::namespace("probed", "")))?;
    stage.ready("probed", "probed")?;
    stage.kubectl("annotate namespace probed llm-guard.io/stop=true")?;
    let restarts = || -> Result<u64, String> {
        let pod = stage.object("probed", "pod/probed")?;
        pod.pointer("/status/containerStatuses/0/restartCount").and_then(Value::as_u64).ok_or_else(|| "no status".into())
    };
    let place = Place::new("probed", "probed", "ollama");
    eventually("the stop", Duration::from_secs(20), || {
        let reply = stage.ask(&place, "http://127.0.0.1:11434/", None, &[])?;
        ensure(reply.status == 503, || format!("{reply:?}"))
    })?;
    // Longer than the probe's patience: the model lives, whatever its callers are told.
    thread::sleep(Duration::from_secs(8));
    ensure(restarts()? == 0, || "the probe failed although the model lives".into())?;
    stage.run_in(&place, &["/bin/sh", "-c", "kill -9 $(cat /tmp/pid)"])?;
    eventually("the dead model's container is restarted", Duration::from_secs(40), || {
        let count = restarts()?;
        ensure(count > 0, || format!("{count} restarts"))
    })?;
    Ok(())
}

/// What the guard's own containers may do.
pub(crate) fn least_privilege(stage: &Stage) -> Scene {
    deploy(stage, "least")?;
    let pod = stage.pod_of("least", "ollama")?;
    let spec = stage.object("least", &format!("pod/{pod}"))?;
    let ours: Vec<Value> = spec
        .pointer("/spec/initContainers")
        .and_then(Value::as_array)
        .map(|containers| {
            containers.iter().filter(|it| it["name"].as_str().is_some_and(|name| name.starts_with("llm-guard"))).cloned().collect()
        })
        .unwrap_or_default();
    ensure(ours.len() == 3, || format!("three containers: {}", ours.len()))?;
    for container in &ours {
        let name = container["name"].as_str().unwrap_or_default();
        let context = &container["securityContext"];
        ensure(context["readOnlyRootFilesystem"] == true && context["allowPrivilegeEscalation"] == false, || format!("{name}: {context}"))?;
        ensure(context.pointer("/capabilities/drop/0") == Some(&Value::from("ALL")), || format!("{name}: {context}"))?;
        let added = context.pointer("/capabilities/add").cloned().unwrap_or(Value::Null);
        ensure(added == if name == "llm-guard-init" { json!(["NET_ADMIN"]) } else { Value::Null }, || format!("{name}: {added}"))?;
        ensure(container.pointer("/resources/limits/memory").is_some(), || format!("{name}: no limit"))?;
        let mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
        let token = mounts.iter().filter(|mount| mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount").collect::<Vec<_>>();
        ensure(token.len() == 1 && token[0]["readOnly"] == true && token[0]["name"] == "llm-guard-no-token", || {
            format!("{name}: {mounts:?}")
        })?;
    }
    // As the kernel has it, of the process itself.
    let pid = stage.guards_process("least", &pod)?;
    let status = stage.on_node(&["cat", &format!("/proc/{pid}/status")])?;
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        ensure(status.contains(line), || format!("{line}: {status}"))?;
    }
    let token = stage.on_node(&["ls", "-A", &format!("/proc/{pid}/root/var/run/secrets/kubernetes.io/serviceaccount")])?;
    ensure(token.trim().is_empty(), || format!("the guard has credentials: {token}"))
}
