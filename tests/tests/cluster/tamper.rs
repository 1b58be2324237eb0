//! Settings that somebody put in by hand: no effect, and put right.

use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::{Place, Scene, Stage, chat, ensure, eventually};
use crate::manifests::{self, Ollama};

const PUT_RIGHT: Duration = Duration::from_secs(15);

/// An old, a foreign and an unsigned `ConfigMap`, and none at all.
pub(crate) fn by_hand(stage: &Stage) -> Scene {
    for namespace in ["tampered", "elsewhere"] {
        stage.apply(&format!(
            "{}{}{}{}",
            manifests::namespace(namespace, "llm-guard: enabled"),
            manifests::registry_for(namespace, stage),
            Ollama::non_root().deployment(namespace, 1, stage.registry_address()),
            manifests::client(namespace, "client"),
        ))?;
        stage.rolled_out(namespace, "deployment/ollama")?;
    }
    stage.ready("tampered", "client")?;
    let (map, monitor) = settings(stage, "tampered", "ollama")?;
    stage.kubectl("-n tampered annotate deployment/ollama llm-guard.io/mode=hard")?;
    eventually("hard", PUT_RIGHT, || mode(stage, "tampered", "hard"))?;
    let (_, foreign) = settings(stage, "elsewhere", "ollama")?;
    let (_, hard) = settings(stage, "tampered", "ollama")?;
    ensure(monitor != hard, || "the settings should have changed".into())?;
    let (_, body) = hard.split_once('\n').ok_or("one line")?;
    let softer = body.replace("\"hard\"", "\"monitor\"");
    let unsigned = softer.clone();
    let edited = format!("{}\n{softer}", hard.lines().next().unwrap_or_default());
    let client = Place::new("tampered", "client", "client");
    let url = format!("http://{}:11434/api/chat", stage.service("tampered", "ollama")?);
    let refused = |what: &str| {
        let reply = stage.ask(&client, &url, Some(&chat("calm", &stage.planted.injection, false)), &[])?;
        ensure(reply.status == 400, || format!("{what}: {reply:?}"))
    };
    let tampered = [("old", &monitor), ("foreign", &foreign), ("unsigned", &unsigned), ("edited", &edited)];
    let put_in = |text: &str| {
        let patch = json!({"data": {"settings": text}}).to_string();
        stage.words(&["-n", "tampered", "patch", "configmap", &map, "--type=merge", "-p", &patch]).map(drop)
    };

    // Without the injector nobody puts anything right, so each comes to the guard, which refuses it and stays as it was.
    let pod = stage.pod_of("tampered", "ollama")?;
    let injector = |replicas: u32| stage.kubectl(&format!("-n llm-guard-system scale deployment/llm-guard-injector --replicas={replicas}"));
    injector(0)?;
    stage.kubectl("-n llm-guard-system wait --for=delete pod -l app.kubernetes.io/name=llm-guard-injector --timeout=60s")?;
    let mut errors = Vec::new();
    for (number, (what, text)) in tampered.iter().enumerate() {
        put_in(text)?;
        // The kubelet looks at once at what belongs to a pod that has changed.
        stage.kubectl(&format!("-n tampered annotate pod {pod} looked-at={number} --overwrite"))?;
        let (said, _) = eventually(&format!("{what}: the guard says that it refuses it"), PUT_RIGHT, || {
            let said = stage.guards_settings("tampered", &pod)?;
            let error = said["error"].as_str().unwrap_or_default().to_owned();
            ensure(!error.is_empty() && !errors.contains(&error), || said.to_string())?;
            Ok((said, error))
        })?;
        ensure(said.0["mode"] == "hard", || format!("{what}: {}", said.0))?;
        refused(what)?;
        errors.push(said.1);
    }
    println!("    refused by the guard: {}", errors.join("; "));
    // A guard that starts anew on what was put in has no settings, so it lets nothing through until they are right again.
    restart_guard(stage, "tampered", &pod)?;
    let reply = stage.ask(&client, &url, Some(&chat("calm", "hello", false)), &["--connect-timeout", "5"]);
    ensure(reply.as_ref().map_or(true, |reply| reply.status != 200), || format!("a guard without settings lets through: {reply:?}"))?;
    injector(1)?;
    stage.rolled_out("llm-guard-system", "deployment/llm-guard-injector")?;
    eventually("put right by the injector that is back", Duration::from_mins(1), || mode(stage, "tampered", "hard"))?;
    eventually("guarding again", Duration::from_mins(1), || refused("after the injector is back"))?;

    // With it, all of it is put right.
    for (what, text) in tampered {
        put_in(text)?;
        refused(what)?;
        eventually(&format!("{what}: put right"), PUT_RIGHT, || {
            refused(what)?;
            let (_, now) = settings(stage, "tampered", "ollama")?;
            ensure(&now != text && now.contains("\"hard\""), || "it stands as it was put in".into())
        })?;
        eventually(&format!("{what}: loaded again"), PUT_RIGHT, || mode(stage, "tampered", "hard"))?;
    }
    stage.kubectl(&format!("-n tampered delete configmap {map}"))?;
    refused("deleted")?;
    eventually("deleted: put right", PUT_RIGHT, || settings(stage, "tampered", "ollama").map(|_| ()))?;
    refused("deleted")?;

    // A key that changes under running guards.
    let before = settings(stage, "tampered", "ollama")?.1;
    let injector = stage.pods("llm-guard-system", "app.kubernetes.io/name=llm-guard-injector")?;
    let name = injector.first().and_then(|pod| pod.pointer("/metadata/name")).and_then(Value::as_str).ok_or("no injector")?.to_owned();
    stage.kubectl(&format!("-n llm-guard-system exec {name} -- /llm-guard-injector rotate-key"))?;
    eventually("signed by the next key", PUT_RIGHT, || {
        let now = settings(stage, "tampered", "ollama")?.1;
        let key = |text: &str| text.split(' ').nth(1).map(str::to_owned);
        ensure(key(&now) != key(&before), || "the same key".into())
    })?;
    stage.kubectl("-n tampered annotate deployment/ollama llm-guard.io/mode=soft --overwrite")?;
    eventually("soft under the new key", PUT_RIGHT, || mode(stage, "tampered", "soft"))?;
    Ok(())
}

/// The name of a deployment's settings, and their text.
pub(crate) fn settings(stage: &Stage, namespace: &str, app: &str) -> Result<(String, String), String> {
    let pod = stage.pod_of(namespace, app)?;
    let pod = stage.object(namespace, &format!("pod/{pod}"))?;
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array).cloned().unwrap_or_default();
    let volume = volumes.iter().find(|volume| volume["name"] == "llm-guard-settings").ok_or("no settings volume")?;
    let sources = volume.pointer("/projected/sources").and_then(Value::as_array).cloned().unwrap_or_default();
    let name = sources.iter().find_map(|source| source.pointer("/configMap/name")?.as_str()).ok_or("no ConfigMap")?.to_owned();
    let map = stage.object(namespace, &format!("configmap/{name}"))?;
    let text = map.pointer("/data/settings").and_then(Value::as_str).ok_or("the ConfigMap has no settings")?;
    Ok((name, text.to_owned()))
}

fn mode(stage: &Stage, namespace: &str, mode: &str) -> Scene {
    let pod = stage.pod_of(namespace, "ollama")?;
    let said = stage.guards_settings(namespace, &pod)?;
    ensure(said["mode"] == mode && said["error"].is_null(), || said.to_string())
}

/// Ends the guard's process, as a machine might, and waits for the one that follows.
pub(crate) fn restart_guard(stage: &Stage, namespace: &str, pod: &str) -> Scene {
    let status = || -> Result<Value, String> {
        let object = stage.object(namespace, &format!("pod/{pod}"))?;
        let statuses = object.pointer("/status/initContainerStatuses").and_then(Value::as_array).cloned().unwrap_or_default();
        statuses.into_iter().find(|status| status["name"] == "llm-guard").ok_or_else(|| "the guard has no status".to_owned())
    };
    let before = status()?;
    let id = before["containerID"].as_str().and_then(|id| id.rsplit('/').next()).ok_or("the guard has no id")?.to_owned();
    stage.node.kill(&id).map_err(|error| error.to_string())?;
    eventually("the guard is started anew", PUT_RIGHT, || {
        let now = status()?;
        ensure(now["restartCount"].as_u64() > before["restartCount"].as_u64() && now.pointer("/state/running").is_some(), || {
            now.to_string()
        })
    })?;
    Ok(())
}
